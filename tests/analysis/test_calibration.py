"""Calibration of saved probabilities, and the threshold of an unsure prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnist_ff.analysis.calibration import BINS, Reliability, reliability, threshold
from mnist_ff.data.load import Split
from mnist_ff.training.metrics.calibration import calibration


def with_tops(tops: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of two classes with these top probabilities, and labels that make these predictions right."""
    return np.stack([tops, 1 - tops], axis=1), np.where(right, 0, 1)


def test_reliability_equals_the_metric_of_training() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2_000, 10, generator=generator) * 3
    labels = torch.randint(0, 10, (2_000,), generator=generator)
    split = Split(torch.arange(2_000, dtype=torch.uint8)[:, None, None].expand(2_000, 1, 1).contiguous(), labels)

    class Told(torch.nn.Module):
        done = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.done += len(images)
            return logits[self.done - len(images) : self.done]

    expected = calibration(Told(), split)
    found = reliability(logits.double().softmax(1).numpy(), labels.numpy())
    assert found.ece == pytest.approx(expected["ece"], rel=1e-12)
    assert found.brier == pytest.approx(expected["brier"], rel=1e-12)
    assert found.images == sum(part.count for part in found.bins) == 2_000


def test_bins_include_their_upper_edge_and_empty_ones_are_none() -> None:
    tops = np.array([0.6, 0.6, 0.60001, 1.0])
    found = reliability(*with_tops(tops, np.array([True, False, True, False])), bins=5)
    assert [part.count for part in found.bins] == [0, 0, 2, 1, 1]
    assert (found.bins[2].accuracy, found.bins[2].confidence) == (0.5, pytest.approx(0.6))
    assert (found.bins[0].accuracy, found.bins[0].confidence) == (None, None)
    assert (found.bins[4].low, found.bins[4].high) == (0.8, 1.0)
    assert found.ece == pytest.approx((2 * 0.1 + 0.39999 + 1.0) / 4)
    assert found.brier == pytest.approx(2 * (0.4**2 + 0.6**2 + 0.39999**2 + 1) / 4)


def test_coverage_is_share_and_accuracy_at_or_above_each_threshold() -> None:
    found = reliability(
        *with_tops(np.array([0.6, 0.7, 0.9, 0.95]), np.array([False, True, True, True])), thresholds=(0, 0.7, 0.91, 1)
    )
    assert [(row.images, row.share, row.accuracy) for row in found.coverage] == [
        (4, 1.0, 0.75), (3, 0.75, 1.0), (1, 0.25, 1.0), (0, 0.0, None),
    ]  # fmt: skip


def test_many_images_are_summed_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(4), size=1_000).astype(np.float32)
    labels = random.integers(0, 4, size=1_000)
    whole = reliability(probabilities, labels)
    before = probabilities.copy()
    monkeypatch.setattr("mnist_ff.analysis.calibration.ROWS_AT_ONCE", 7)
    assert reliability(probabilities, labels).brier == pytest.approx(whole.brier, rel=1e-12)
    assert np.array_equal(before, probabilities)


@pytest.mark.parametrize(
    ("probabilities", "labels"), [(np.ones((0, 2)), np.ones(0)), (np.ones(3), np.ones(3)), (np.ones((3, 2)), [1, 0])]
)
def test_wrong_shapes_are_an_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    for function in (reliability, threshold):
        with pytest.raises(ValueError, match="are not"):
            function(probabilities, labels)


def test_threshold_is_the_smallest_at_which_the_target_is_met() -> None:
    """Of 1,000 images, half of the 100 least confident ones and 4 of the others are wrong."""
    tops = np.linspace(0.5, 0.999, 1_000)
    right = np.ones(1_000, dtype=bool)
    right[:100:2] = False
    right[[300, 500, 700, 999]] = False
    found = threshold(*with_tops(tops, right))
    assert found is not None
    assert found.reached
    assert found.accuracy is not None
    assert found.accuracy >= 0.995
    answered = tops >= found.value
    assert found.share == answered.mean()
    assert found.accuracy == right[answered].mean()
    for lower in tops[tops < found.value]:
        assert right[tops >= lower].mean() < 0.995
    assert found.unsure(np.nextafter(found.value, 0))
    assert not found.unsure(found.value)


def test_images_of_the_same_confidence_are_answered_together() -> None:
    tops = np.array([0.9] * 300 + [0.8] * 300)
    right = np.array([True] * 300 + [True, False] * 150)
    found = threshold(*with_tops(tops, right))
    assert found is not None
    assert (found.value, found.share, found.accuracy) == (0.9, 0.5, 1.0)


def test_without_mistakes_the_threshold_is_the_lowest_confidence_seen() -> None:
    found = threshold(*with_tops(np.linspace(0.7, 1, 50), np.ones(50, dtype=bool)))
    assert found is not None
    assert (found.value, found.share, found.accuracy) == (0.7, 1.0, 1.0)
    assert found.unsure(0.69)


@pytest.mark.parametrize("images", [20, 60, 399, 1_000, 20_000])
def test_a_network_at_chance_is_unsure_of_everything(images: int) -> None:
    """Also with probabilities of 1, and if its most confident predictions are right by chance."""
    random = np.random.default_rng(images)
    for tops in (np.ones(images), random.uniform(0.1, 1, size=images)):
        probabilities = np.concatenate([tops[:, None], np.repeat((1 - tops[:, None]) / 9, 9, axis=1)], axis=1)
        found = threshold(probabilities, random.integers(0, 10, size=images))
        assert found is not None
        assert not found.reached
        assert (found.value, found.share, found.accuracy) == (1.0, 0.0, None)
        assert found.unsure(1.0)


def test_a_handful_of_images_gives_no_threshold() -> None:
    assert threshold(*with_tops(np.linspace(0.7, 1, 19), np.ones(19, dtype=bool))) is None


def test_a_confident_mistake_does_not_stop_the_search() -> None:
    """Mislabelled images are often among the most confident mistakes."""
    tops = np.linspace(0.5, 1, 2_000)
    right = np.ones(2_000, dtype=bool)
    right[[1_999, 1_998]] = False
    found = threshold(*with_tops(tops, right))
    assert found is not None
    assert found.share == 1.0


def test_the_threshold_holds_for_other_images() -> None:
    """The threshold of a calibrated network, chosen on half of the images and checked on the other half."""
    random = np.random.default_rng(0)
    tops = 1 - random.beta(0.3, 4, size=20_000) / 2
    right = random.uniform(size=20_000) < tops
    found = threshold(*with_tops(tops[:10_000], right[:10_000]))
    assert found is not None
    answered = tops[10_000:] >= found.value
    assert right[10_000:][answered].mean() == pytest.approx(0.995, abs=0.003)


@pytest.mark.parametrize("target", [0, 1.1, math.nan])
def test_a_target_outside_of_its_range_is_an_error(target: float) -> None:
    with pytest.raises(ValueError, match="target"):
        threshold(np.ones((30, 2)) / 2, np.zeros(30), target)


def test_a_target_of_one_allows_no_mistake() -> None:
    tops = np.linspace(0.5, 1, 100)
    right = np.ones(100, dtype=bool)
    right[10] = False
    found = threshold(*with_tops(tops, right), target=1.0)
    assert found is not None
    assert (found.share, found.value) == (0.89, tops[11])


def test_the_default_bins_are_those_of_the_metric() -> None:
    found: Reliability = reliability(np.full((5, 10), 0.1), np.zeros(5))
    assert len(found.bins) == BINS == 15
    assert (found.bins[1].low, found.bins[1].count) == (1 / 15, 5)
