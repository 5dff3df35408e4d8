"""predictions.safetensors: a run's probabilities and labels, as reports, comparisons and predictions read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnist_ff.runs.directory import MAX_PREDICTIONS, MAX_PREDICTIONS_BYTES, PREDICTIONS, Run
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import FLOAT_TYPES, INTEGER_TYPES, Wanted, check_tensors, opened_tensors

VALIDATION_PROBABILITIES, VALIDATION_LABELS = "validation_probabilities", "validation_labels"
"""Tensors of a run with a validation split, beside `probabilities` and `labels` of the test images."""


@dataclass(frozen=True)
class SavedProbabilities:
    """What a run's network said of images that it was not trained on."""

    images: Literal["test", "validation"]
    """Which images these are."""
    probabilities: NDArray[np.float32]
    """(N, C), from 0 to 1."""
    labels: NDArray[np.int64]
    """(N,), from 0 to C - 1."""


def read_probabilities(run: Run, spec: DataSpec | None = None) -> SavedProbabilities:
    """The test images' probabilities and labels; `spec` is the run's, read where it is not given.

    Errors: BadRunError, MissingFileError.
    """
    with opened_tensors(run.file(PREDICTIONS), MAX_PREDICTIONS_BYTES) as saved:
        return _read(saved, "test", spec or run.data_spec())


def read_held_out(run: Run, spec: DataSpec | None = None) -> SavedProbabilities:
    """Those of the validation images where the run kept them, else of the test images.

    Errors: BadRunError, MissingFileError.
    """
    with opened_tensors(run.file(PREDICTIONS), MAX_PREDICTIONS_BYTES) as saved:
        has_validation = VALIDATION_PROBABILITIES in set(saved.keys())
        return _read(saved, "validation" if has_validation else "test", spec or run.data_spec())


def _read(saved: Any, images: Literal["test", "validation"], spec: DataSpec) -> SavedProbabilities:
    """Errors: ValueError for tensors that are not probabilities of these classes and their labels."""
    names = ("probabilities", "labels") if images == "test" else (VALIDATION_PROBABILITIES, VALIDATION_LABELS)
    classes = len(spec.classes)
    wanted = (Wanted(FLOAT_TYPES, (None, classes)), Wanted(INTEGER_TYPES, (None,)))
    check_tensors(saved, dict(zip(names, wanted, strict=True)))
    counts = {saved.get_slice(name).get_shape()[0] for name in names}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(f"{names[0]} and {names[1]} do not match each other")
    if max(counts) > MAX_PREDICTIONS:
        raise ValueError(f"more than {MAX_PREDICTIONS:,} predictions")
    probabilities = np.asarray(saved.get_tensor(names[0])).astype(np.float32)
    labels = np.asarray(saved.get_tensor(names[1])).astype(np.int64)
    if not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError("it refers to classes that do not exist")
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):  # false for NaN too
        raise ValueError(f"{names[0]} holds numbers that are no probabilities")
    return SavedProbabilities(images, probabilities, labels)
