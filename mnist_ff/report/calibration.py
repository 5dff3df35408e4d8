"""Whether the probabilities of a run's predictions can be trusted, for a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_ff.analysis.calibration import THRESHOLDS, reliability
from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import MAX_PREDICTIONS_BYTES, PREDICTIONS, Run
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import FLOAT_TYPES, INTEGER_TYPES, Wanted, check_tensors, opened_tensors

MOST_NUMBERS = 20_000_000
"""Probabilities that are read; of more, those of the first images."""
CURVE = tuple(sorted({*THRESHOLDS, *(place / 50 for place in range(50))}))
"""Top probabilities at which the page says how many images are answered."""


def calibration_part(run: Run, spec: DataSpec) -> dict[str, Any] | None:
    """Bins of the reliability diagram, ECE, Brier score and coverage; None where the numbers are no probabilities.

    Errors: BadRunError.
    """
    classes = len(spec.classes)
    wanted = {"probabilities": Wanted(FLOAT_TYPES, (None, classes)), "labels": Wanted(INTEGER_TYPES, (None,))}
    path = run.file(PREDICTIONS)
    with opened_tensors(path, MAX_PREDICTIONS_BYTES) as saved:
        check_tensors(saved, wanted)
        parts = [saved.get_slice(name) for name in wanted]
        counts = {part.get_shape()[0] for part in parts}
        count = min(min(counts), MOST_NUMBERS // classes)
        if len(counts) > 1 or not count:
            raise ValueError("its tensors do not match each other")
        probabilities, labels = (np.asarray(part[:count]) for part in parts)
    if not (labels.min() >= 0 and labels.max() < classes):
        raise BadRunError(f"{path}: not readable (it refers to classes that do not exist)")
    if not (probabilities.min() >= 0 and probabilities.max() <= 1.001):  # NaN is neither
        return None
    found = reliability(np.minimum(probabilities, 1), labels, thresholds=CURVE)
    return {
        "images": found.images,
        "ece": round(found.ece, 6),
        "brier": round(found.brier, 6),
        "bins": [[one.confidence, one.accuracy, one.count] for one in found.bins if one.count],
        "coverage": [[one.threshold, one.share, one.accuracy] for one in found.coverage],
    }
