"""predictions.safetensors: a run's probabilities and labels, as reports, comparisons and predictions read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import MAX_PREDICTIONS, MAX_PREDICTIONS_BYTES, PREDICTIONS, Run
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import FLOAT_TYPES, INTEGER_TYPES, Wanted, check_tensors, opened_tensors

VALIDATION_PROBABILITIES, VALIDATION_LABELS = "validation_probabilities", "validation_labels"
"""Tensors of a run with a validation split, beside `probabilities` and `labels` of the test images."""
ROUNDING = 1e-3
"""How far above 1 a probability may be: float16 and other devices round."""


class NoProbabilitiesError(BadRunError):
    """The file's numbers are no probabilities."""


@dataclass(frozen=True)
class SavedProbabilities:
    """What a run's network said of images that it was not trained on."""

    images: Literal["test", "validation"]
    """Which images these are."""
    probabilities: NDArray[np.float32]
    """(N, C), from 0 to 1."""
    labels: NDArray[np.int64]
    """(N,), from 0 to C - 1."""


def read_probabilities(run: Run, spec: DataSpec | None = None, most: int | None = None) -> SavedProbabilities:
    """The test images' probabilities and labels; `spec` is the run's, read where it is not given.

    most: probabilities that are read; of more, those of the first images.
    Errors: BadRunError, NoProbabilitiesError among them; MissingFileError.
    """
    with opened_tensors(run.file(PREDICTIONS), MAX_PREDICTIONS_BYTES) as saved:
        return _read(run, saved, "test", spec or run.data_spec(), most)


def read_held_out(run: Run, spec: DataSpec | None = None) -> SavedProbabilities:
    """Those of the validation images where the run kept them, else of the test images.

    Errors: BadRunError, MissingFileError.
    """
    with opened_tensors(run.file(PREDICTIONS), MAX_PREDICTIONS_BYTES) as saved:
        has_validation = VALIDATION_PROBABILITIES in set(saved.keys())
        return _read(run, saved, "validation" if has_validation else "test", spec or run.data_spec())


def _read(
    run: Run, saved: Any, images: Literal["test", "validation"], spec: DataSpec, most: int | None = None
) -> SavedProbabilities:
    """Errors: NoProbabilitiesError; ValueError for tensors that do not fit these classes or each other."""
    names = ("probabilities", "labels") if images == "test" else (VALIDATION_PROBABILITIES, VALIDATION_LABELS)
    classes = len(spec.classes)
    wanted = (Wanted(FLOAT_TYPES, (None, classes)), Wanted(INTEGER_TYPES, (None,)))
    check_tensors(saved, dict(zip(names, wanted, strict=True)))
    counts = {saved.get_slice(name).get_shape()[0] for name in names}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(f"{names[0]} and {names[1]} do not match each other")
    if max(counts) > MAX_PREDICTIONS:
        raise ValueError(f"more than {MAX_PREDICTIONS:,} predictions")
    count = max(counts) if most is None else max(1, min(max(counts), most // classes))
    probabilities = np.asarray(saved.get_slice(names[0])[:count]).astype(np.float32)
    labels = np.asarray(saved.get_slice(names[1])[:count]).astype(np.int64)
    if not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError("it refers to classes that do not exist")
    if not (probabilities.min() >= 0 and probabilities.max() <= 1 + ROUNDING):  # false for NaN too
        path = run.file(PREDICTIONS)
        raise NoProbabilitiesError(f"{path}: not readable ({names[0]} holds numbers that are no probabilities)")
    return SavedProbabilities(images, np.minimum(probabilities, 1), labels)
