"""The calibration of a run's predicted probabilities, as data for a page."""

from __future__ import annotations

from typing import Any

from mnist_ff.analysis.calibration import THRESHOLDS, Bin, reliability
from mnist_ff.runs.directory import Run
from mnist_ff.runs.intervals import wilson_interval
from mnist_ff.runs.predictions import NoProbabilitiesError, read_probabilities
from mnist_ff.runs.records import DataSpec

MAX_NUMBERS = 20_000_000
"""Probabilities read from predictions.safetensors; with more, only those of the first images are read."""
CURVE = tuple(sorted({*THRESHOLDS, *(step / 50 for step in range(50))}))
"""Confidence thresholds at which the page shows the share of images answered."""


def _bin(one: Bin) -> list[Any]:
    """Mean confidence, accuracy, number of images, and the limits of the accuracy's 95 % interval."""
    low, high = (min(max(end, 0.0), 1.0) for end in wilson_interval(one.accuracy or 0.0, one.count))
    return [one.confidence, one.accuracy, one.count, round(low, 6), round(high, 6)]


def calibration_part(run: Run, spec: DataSpec) -> dict[str, Any] | None:
    """Bins of the reliability diagram, ECE, Brier score and coverage; None for a file without probabilities.

    Errors: BadRunError.
    """
    try:
        saved = read_probabilities(run, spec, MAX_NUMBERS)
    except NoProbabilitiesError:
        return None
    found = reliability(saved.probabilities, saved.labels, thresholds=CURVE)
    return {
        "images": found.images,
        "ece": round(found.ece, 6),
        "brier": round(found.brier, 6),
        "bins": [_bin(one) for one in found.bins if one.count],
        "coverage": [[one.threshold, one.share, one.accuracy] for one in found.coverage],
    }
