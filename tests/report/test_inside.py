"""The record of a run's hidden layers, and the parts of a page that show it."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from mnist_ff.analysis.calibration import reliability
from mnist_ff.data.load import as_input, load_data
from mnist_ff.models.mlp import MLP
from mnist_ff.report import run_page as module
from mnist_ff.report.hidden import hidden_layers, map_part
from mnist_ff.report.predictions import read_predictions
from mnist_ff.report.run_page import run_page
from mnist_ff.runs.directory import HIDDEN, Run
from mnist_ff.runs.labels import update_labels
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import MNIST_SPEC, Score
from mnist_ff.session.artifacts import save_hidden
from mnist_ff.training import hidden as hidden_module
from mnist_ff.training.evaluation import evaluate
from mnist_ff.training.hidden import HiddenUnits, principal_axes
from tests.report.test_report import facts
from tests.support.mnist import make_split
from tests.support.training import train_without_pictures

QUICK = ("data=mnist_5k", "model.hidden=[16,12]", "trainer.epochs=2", "trainer.device=cpu")


class Convolutional(nn.Module):
    """Two convolutions and two linear layers, activations as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 6, 3, 2)
        self.third, self.last = nn.Linear(6 * 36, 20), nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x[:, None]).relu()).relu()
        return self.last(self.third(input=x.flatten(1)).relu())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_without_pictures(tmp_path_factory.mktemp("inside") / "run", *QUICK)


@pytest.fixture
def copied(made: Path) -> Run:
    shutil.copytree(made, "run")
    return Run(Path("run"))


def test_a_run_records_its_hidden_layers(copied: Run) -> None:
    """The record equals a second forward pass, and the map its first two principal components."""
    saved = load_file(copied.file(HIDDEN))
    test = load_data(copied.config().data, 0).test
    model = MLP([16, 12], "relu", 0.0)
    weights = {name: torch.from_numpy(value) for name, value in load_file(copied.file("model.safetensors")).items()}
    model.load_state_dict(weights)
    values = as_input(test.images).flatten(1)
    with torch.no_grad():
        for number, layer in enumerate(list(model.layers)[:-1]):
            values = layer(values).relu()
            for name, expected in (("mean", values.mean(0)), ("active", (values > 0).float().mean(0))):
                assert saved[f"{number}/layers.{number}/{name}"] == pytest.approx(expected.numpy(), abs=1e-4)
    centred = values - values.mean(0)
    exact = torch.linalg.svd(centred, full_matrices=False).S[:2].square()
    assert np.square(saved["map"]).sum(0) == pytest.approx(exact.numpy(), rel=0.02)
    assert saved["map_variance"] == pytest.approx((exact / centred.square().sum()).numpy(), rel=0.02)
    assert saved["map_rows"].tolist() == list(range(1000))
    assert (saved["images"] == test.images.numpy()[saved["image_rows"]]).all()
    kept = load_file(copied.file("predictions.safetensors"))["kept_rows"]
    assert not set(kept.tolist()) & set(saved["image_rows"].tolist())


def test_any_models_hidden_layers_are_recorded(tmp_path: Path) -> None:
    """Channels of convolutions are units, named after the layer that made them; the score is the same."""
    split, model = make_split(300), Convolutional()
    listener = HiddenUnits(len(split))
    found = evaluate(model, split, listener)
    assert torch.equal(found.probabilities, evaluate(model, split).probabilities)
    layers = listener.layers()
    assert {name: len(layer.mean) for name, layer in layers.items()} == {"first": 4, "second": 216, "third": 20}
    with torch.no_grad():
        first = model.first(as_input(split.images)[:, None]).relu()
    assert layers["first"].mean.numpy() == pytest.approx(first.mean((0, 2, 3)).numpy(), abs=1e-5)
    assert layers["first"].active.numpy() == pytest.approx((first > 0).flatten(2).any(2).float().mean(0).numpy())
    save_hidden(tmp_path / HIDDEN, listener, torch.tensor([3, 5]), split)
    assert load_file(tmp_path / HIDDEN)["map"].shape == (300, 2)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_model_without_hidden_layers_has_no_file(tmp_path: Path) -> None:
    split, model = make_split(50), nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    listener = HiddenUnits(len(split))
    evaluate(model, split, listener)
    save_hidden(tmp_path / HIDDEN, listener, torch.tensor([1]), split)
    assert not (tmp_path / HIDDEN).exists()


def test_many_images_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for a third of 2,500 images in blocks of 1,000, every third is kept."""
    monkeypatch.setattr(hidden_module, "MAX_VALUES", 2500 * 20 // 3 + 20)
    split, model = make_split(2500), MLP([20], "tanh", 0.0)
    listener = HiddenUnits(len(split))
    evaluate(model, split, listener)
    last = listener.last_layer()
    assert last is not None
    rows, values = last
    assert rows.tolist() == list(range(0, 2500, 3))
    with torch.no_grad():
        expected = model.layers[0](as_input(split.images[::3]).flatten(1)).tanh()
    assert torch.allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize(("images", "units"), [(400, 30), (50, 1200), (10, 2)])
def test_the_axes_are_the_principal_components(images: int, units: int) -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(images, units, generator=rng) * torch.logspace(0.5, -1, units) + 3
    mean, axes = principal_axes(values)
    assert torch.allclose(axes.t() @ axes, torch.eye(2), atol=1e-4)
    exact = torch.linalg.svd(values - values.mean(0), full_matrices=False).S[:2].square()
    assert ((values - mean) @ axes).square().sum(0).tolist() == pytest.approx(exact.tolist(), rel=0.02)
    assert torch.equal(principal_axes(values)[1], axes)


def test_the_page_shows_what_was_recorded(made: Path) -> None:
    page = (made / "report.html").read_text()
    found, saved = facts(page), load_file(made / HIDDEN)
    assert [layer["name"] for layer in found["layers"]] == ["layers.0", "layers.1"]
    assert [layer["units"] for layer in found["layers"]] == [16, 12]
    assert found["layers"][0]["dead"] == int((saved["0/layers.0/active"] == 0).sum())
    points = np.frombuffer(base64.b64decode(found["map"]["points"]), "<i2").reshape(-1, 2)
    low, high = saved["map"].min(0), saved["map"].max(0)
    assert (points / 32767 + 1) / 2 == pytest.approx((saved["map"] - low) / (high - low), abs=1e-4)
    shares = saved["map_variance"]
    assert f"first component ({percent(shares[0], 1)} of the variance)" in page
    assert f"second component ({percent(shares[1], 1)} of the variance)" in page
    assert found["map"]["image_rows"] == saved["image_rows"].tolist()
    kept = load_file(made / "predictions.safetensors")
    expected = reliability(kept["probabilities"], kept["labels"])
    assert found["calibration"]["ece"] == pytest.approx(expected.ece, abs=1e-6)
    assert found["calibration"]["brier"] == pytest.approx(expected.brier, abs=1e-6)
    assert f"Expected calibration error {percent(expected.ece)}" in page


def test_each_bin_of_the_reliability_diagram_has_an_interval(made: Path) -> None:
    """Wilson's interval of the accuracy, which is wide for bins with few images."""
    for confidence, accuracy, count, low, high in facts((made / "report.html").read_text())["calibration"]["bins"]:
        expected = Score(0.0, accuracy, 0, count).interval()
        assert (low, high) == (
            pytest.approx(max(0.0, expected[0]), abs=1e-5),
            pytest.approx(min(1.0, expected[1]), abs=1e-5),
        )
        assert 0 <= low <= accuracy <= high <= 1, (confidence, count)


def test_a_map_from_before_its_variance_was_recorded(copied: Run) -> None:
    saved = load_file(copied.file(HIDDEN))
    del saved["map_variance"]
    save_file(saved, copied.file(HIDDEN))
    page = run_page(copied)
    assert "first component</span>" in page
    assert facts(page)["map"]["variance"] is None


def test_pages_of_old_runs_have_no_such_sections(copied: Run) -> None:
    copied.file(HIDDEN).unlink()
    page = run_page(copied)
    assert (facts(page)["layers"], facts(page)["map"]) == ([], None)
    assert 'id="inside"' not in page
    assert "hidden.safetensors" not in page


HOSTILE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "rows beyond the images": lambda good: {"map_rows": good["map_rows"] + 100_000},
    "rows below zero": lambda good: {"image_rows": good["image_rows"] - 5_000},
    "fewer rows": lambda good: {"map_rows": good["map_rows"][:5]},
    "other images": lambda good: {"images": good["images"][:, :5]},
    "not finite": lambda good: {"map": good["map"] * np.nan},
    "three axes": lambda good: {"map": np.zeros((1000, 3), np.float32)},
    "a map beyond reckoning": lambda good: {"map": np.full((1000, 2), 1e308)},
    "a layer without a length": lambda good: {"0/layers.0/mean": np.ones((), np.float32)},
    "a mean beyond reckoning": lambda good: {"0/layers.0/mean": np.full(16, 1e308)},
    "activity above 1": lambda good: {"0/layers.0/active": good["0/layers.0/active"] + 7},
    "mean of text": lambda good: {"0/layers.0/mean": np.zeros(16, np.uint8)},
    "units that differ": lambda good: {"0/layers.0/mean": np.zeros(3, np.float32)},
    "a layer that is markup": lambda good: {"0/<script>alert(1)<b>/mean": np.zeros(3, np.float32)},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_spoil_their_part_only(change: Callable[[dict[str, Any]], dict[str, Any]], copied: Run) -> None:
    good = load_file(copied.file(HIDDEN))
    save_file({**good, **change(good)}, copied.file(HIDDEN))
    page = run_page(copied)
    assert "alert(1)" not in page
    assert ("hidden.safetensors: not readable" in page) == (change is not HOSTILE["a layer that is markup"])
    assert facts(page)["images"] is not None
    assert facts(page)["calibration"] is not None


def test_a_map_of_one_point_is_one_point(copied: Run) -> None:
    save_file({**load_file(copied.file(HIDDEN)), "map": np.full((1000, 2), 5e-324)}, copied.file(HIDDEN))
    assert set(base64.b64decode(facts(run_page(copied))["map"]["points"])) == {0}


def test_invalid_probabilities_have_no_calibration(copied: Run) -> None:
    good = load_file(copied.file("predictions.safetensors"))
    for spoilt in (good["probabilities"] * np.nan, good["probabilities"] + 5, -good["probabilities"]):
        save_file({**good, "probabilities": spoilt}, copied.file("predictions.safetensors"))
        page = run_page(copied)
        assert facts(page)["calibration"] is None
        assert 'id="calibration"' not in page


def test_the_map_is_left_out_first(copied: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = facts(run_page(copied))
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", len(run_page(copied)) - 1)
    page = run_page(copied)
    assert facts(page)["map"] is None
    assert facts(page)["network"] == whole["network"]
    assert "with the map of the test images, so it is not included" in page


def test_images_of_noise_are_fewer_in_the_sheet(copied: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.report import hidden as part

    monkeypatch.setattr(part, "SHEET_BYTES", 20_000)
    saved = load_file(copied.file(HIDDEN))
    found = map_part(copied, MNIST_SPEC, read_predictions(copied, MNIST_SPEC))
    assert found is not None
    assert 0 < len(found["image_rows"]) < len(saved["image_rows"])
    assert len(found["sheet"]) <= 20_000
    assert len(hidden_layers(copied)) == 2


def test_a_constant_learning_rate_is_a_line_of_text(made: Path) -> None:
    page = (made / "report.html").read_text()
    assert '<p id="constant-lr">0.001 in every batch.</p>' in page
    assert 'id="lr-chart"' not in page
    assert facts(page)["batches"]["lr"] is None


def test_the_head_shows_data_and_seed(made: Path) -> None:
    page = (made / "report.html").read_text()
    assert "<dt>seed</dt><dd>0</dd>" in page
    assert "4,000 training, 1,000 test images</dd>" in page
    assert "images a second; " in page


def test_the_head_shows_tags_and_note(copied: Run) -> None:
    assert "<dt>tags</dt>" not in run_page(copied)
    update_labels(copied.path, add=("baseline", "<b>bold"), note="with & without")
    page = run_page(copied)
    assert "<dt>tags</dt><dd>&lt;b&gt;bold, baseline</dd>" in page
    assert "<dt>note</dt><dd>with &amp; without</dd>" in page
    copied.file("labels.json").write_text("[]")
    assert "<dt>tags</dt>" not in run_page(copied)


def test_without_mistakes_there_is_no_heading(copied: Run) -> None:
    good = load_file(copied.file("predictions.safetensors"))
    save_file({**good, "labels": good["answers"]}, copied.file("predictions.safetensors"))
    page = run_page(copied)
    assert "The worst mistakes" not in page
    assert "There are no mistakes." in page
