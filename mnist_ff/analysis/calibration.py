"""Reliability of predicted probabilities: calibration, coverage, and the threshold of an unsure prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15
"""Of the reliability diagram, as in the metric `calibration`."""
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Top probabilities at which the coverage is told."""
TARGET = 0.995
"""Accuracy that sure predictions must have."""
FEWEST = 20
"""Images below which no threshold is chosen."""
ROWS_AT_ONCE = 100_000
"""Images whose squares are summed at a time, for the sake of memory."""


@dataclass(frozen=True)
class Bin:
    """The images whose top probability lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Their mean top probability; None where there are none."""
    accuracy: float | None


@dataclass(frozen=True)
class Coverage:
    """What remains when only images with a top probability of at least `threshold` are answered."""

    threshold: float
    images: int
    share: float
    """Of all images."""
    accuracy: float | None
    """Among the answered; None where there are none."""


@dataclass(frozen=True)
class Reliability:
    """Whether predicted probabilities tell how often predictions are correct."""

    images: int
    ece: float
    """Expected calibration error (Guo et al. 2017), 0 to 1: the mean over the images of the difference between a bin's
    accuracy and its mean top probability."""
    brier: float
    """Brier score (Brier 1950), 0 to 2: the mean squared distance of the probabilities to the one-hot label."""
    bins: tuple[Bin, ...]
    coverage: tuple[Coverage, ...]


@dataclass(frozen=True)
class Threshold:
    """The top probability below which a prediction is unsure."""

    value: float
    target: float
    """Accuracy that the sure predictions must have."""
    reached: bool
    """Whether they have it; if not, every prediction is unsure and `value` is 1."""
    images: int
    """Held-out images that it was chosen on."""
    share: float
    """Of these, how many are answered for sure."""
    accuracy: float | None
    """Among the sure ones; None where there are none."""

    def unsure(self, top: float) -> bool:
        """Whether a prediction with this top probability is unsure."""
        return not self.reached or top < self.value


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS, thresholds: Sequence[float] = THRESHOLDS
) -> Reliability:
    """Reliability of probabilities (N, C) for images with these labels (N,); coverage at `thresholds`.

    Bins have equal width and hold their upper edge. Errors: ValueError for arrays of other shapes, or of no images.
    """
    found, truth = _checked(probabilities, labels)
    top, right = _top(found, truth)
    places = np.clip(np.ceil(top * bins).astype(np.int64), 1, bins) - 1
    counts, confidence, correct = (
        np.bincount(places, weights, minlength=bins) for weights in (None, top, right.astype(np.float64))
    )
    brier = sum(_squares(block, kept) for block, kept in _blocks(found, truth))
    return Reliability(
        images=len(truth),
        ece=float(np.abs(confidence - correct).sum()) / len(truth),
        brier=brier / len(truth),
        bins=tuple(
            Bin(
                number / bins,
                (number + 1) / bins,
                int(counts[number]),
                _mean(float(confidence[number]), int(counts[number])),
                _mean(float(correct[number]), int(counts[number])),
            )
            for number in range(bins)
        ),
        coverage=_coverage(top, right, thresholds),
    )


def threshold(probabilities: ArrayLike, labels: ArrayLike, target: float = TARGET) -> Threshold | None:
    """The smallest top probability such that the images that have at least as much are `target` accurate.

    The images must be held out from training. This is the reject option of Chow (1970) on the largest softmax
    probability, chosen on a risk-coverage curve (Geifman and El-Yaniv 2017). The value is that of the least confident
    image that is answered: without mistakes it is the lowest top probability that was seen at all.

    So that luck is not taken for reliability, at least 1 / (1 - target) images must be answered (200 of them for
    99.5 %), or half of a set with fewer than twice as many. Where that cannot be had, as in a network at chance, every
    prediction is unsure. Sets with fewer than FEWEST images tell nothing: None.

    Errors: ValueError for arrays of other shapes, or a target outside of 0 to 1.
    """
    if not 0 < target <= 1:
        raise ValueError(f"target {target} is not in (0, 1]")
    top, right = _top(*_checked(probabilities, labels))
    if len(top) < FEWEST:
        return None
    order = np.argsort(-top, kind="stable")
    top, accuracy = top[order], np.cumsum(right[order]) / np.arange(1, len(top) + 1)
    last_of_equals = np.append(top[1:] < top[:-1], True)  # images of the same confidence are answered together
    answered = np.flatnonzero(last_of_equals & (accuracy >= target)) + 1
    answered = answered[answered >= min(_least(target), (len(top) + 1) // 2)]
    if not len(answered):
        return Threshold(1.0, target, False, len(top), 0.0, None)
    most = int(answered[-1])
    return Threshold(float(top[most - 1]), target, True, len(top), most / len(top), float(accuracy[most - 1]))


def _least(target: float) -> float:
    """Images that must be answered before one mistake among them is in keeping with the target."""
    return math.inf if target == 1 else round(1 / (1 - target))


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]]:
    found, truth = np.asarray(probabilities), np.asarray(labels)
    if found.ndim != 2 or truth.shape != found.shape[:1] or not found.size:
        raise ValueError(f"probabilities of shape {found.shape} and labels of shape {truth.shape} are not (N, C), (N,)")
    return found, truth.astype(np.int64)


def _top(found: NDArray[np.floating[Any]], truth: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The top probability of each image, and whether its class is the label."""
    return found.max(axis=1).astype(np.float64), found.argmax(axis=1) == truth


def _blocks(
    found: NDArray[np.floating[Any]], truth: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    for start in range(0, len(truth), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        yield found[rows].astype(np.float64), truth[rows]


def _squares(block: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The sum of squared distances to the one-hot labels. Changes the block."""
    block[np.arange(len(labels)), labels] -= 1
    return float(np.square(block).sum())


def _coverage(top: NDArray[np.float64], right: NDArray[np.bool_], thresholds: Sequence[float]) -> tuple[Coverage, ...]:
    rows = []
    for at_least in thresholds:
        answered = top >= at_least
        count = int(answered.sum())
        rows.append(Coverage(at_least, count, count / len(top), _mean(int((answered & right).sum()), count)))
    return tuple(rows)


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
