"""Reliability of predicted probabilities: calibration, coverage, and the threshold of an unsure prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15
"""Bins of the reliability diagram, the same number as in the metric `calibration`."""
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Confidence thresholds (least top probabilities) of the coverage table."""
TARGET = 0.995
"""Accuracy that the predictions above the threshold must have."""
MIN_IMAGES = 20
"""With fewer images, no threshold is chosen."""
ROWS_AT_ONCE = 100_000
"""Images per block when squared errors are summed, to limit memory."""


@dataclass(frozen=True)
class Bin:
    """The images whose top probability lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean top probability; None for an empty bin."""
    accuracy: float | None


@dataclass(frozen=True)
class Coverage:
    """The result of answering only images with a top probability of at least `threshold`."""

    threshold: float
    images: int
    """Number of answered images."""
    share: float
    """Answered images as a share of all, 0 to 1."""
    accuracy: float | None
    """Accuracy on the answered images; None without any."""


@dataclass(frozen=True)
class Reliability:
    """How well predicted probabilities match the accuracy of the predictions."""

    images: int
    ece: float
    """Expected calibration error (Guo et al. 2017), 0 to 1: the absolute difference between a bin's accuracy and its
    mean top probability, averaged over the bins with their numbers of images as weights."""
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
    """Whether a threshold reaches the target; if not, every prediction is unsure and `value` is 1."""
    images: int
    """Number of held-out images on which the threshold was chosen."""
    share: float
    """Sure predictions as a share of these images, 0 to 1."""
    accuracy: float | None
    """Accuracy of the sure predictions; None without any."""

    def unsure(self, top: float) -> bool:
        """Whether a prediction with this top probability is unsure."""
        return not self.reached or top < self.value


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS, thresholds: Sequence[float] = THRESHOLDS
) -> Reliability:
    """Calibration of probabilities (N, C) for images with labels (N,), and coverage at `thresholds`.

    Bins have equal width and include their upper edge. Errors: ValueError for wrong shapes, or without images.
    """
    found, truth = _checked(probabilities, labels)
    top, right = _top(found, truth)
    bin_of = np.clip(np.ceil(top * bins).astype(np.int64), 1, bins) - 1
    counts, confidence, correct = (
        np.bincount(bin_of, weights, minlength=bins) for weights in (None, top, right.astype(np.float64))
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
    """The smallest confidence threshold at which the predictions above it reach the accuracy `target`.

    The images must be held out from training. This is the reject option of Chow (1970) on the largest softmax
    probability, chosen on a risk-coverage curve (Geifman and El-Yaniv 2017). The threshold is the top probability of
    the least confident answered image; without mistakes, the lowest top probability of all images.

    To exclude luck, at least 1 / (1 - target) images must be answered (200 for 99.5 %), or half of the images if there
    are fewer than twice as many. If no threshold reaches the target, as in a network at chance level, every prediction
    is unsure. None for fewer than MIN_IMAGES images.

    Errors: ValueError for wrong shapes, or a target outside (0, 1].
    """
    if not 0 < target <= 1:
        raise ValueError(f"target {target} is not in (0, 1]")
    top, right = _top(*_checked(probabilities, labels))
    if len(top) < MIN_IMAGES:
        return None
    order = np.argsort(-top, kind="stable")
    top, accuracy = top[order], np.cumsum(right[order]) / np.arange(1, len(top) + 1)
    last_of_equals = np.append(top[1:] < top[:-1], True)  # images of equal confidence are answered together
    answered = np.flatnonzero(last_of_equals & (accuracy >= target)) + 1
    answered = answered[answered >= min(_min_answered(target), (len(top) + 1) // 2)]
    if not len(answered):
        return Threshold(1.0, target, False, len(top), 0.0, None)
    most = int(answered[-1])
    return Threshold(float(top[most - 1]), target, True, len(top), most / len(top), float(accuracy[most - 1]))


def _min_answered(target: float) -> float:
    """The number of images among which one mistake still meets the target."""
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
