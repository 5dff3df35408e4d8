"""Read the probabilities and labels in predictions.safetensors."""

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
"""Tensors of the validation images, in runs with a validation split. Those of the test images are `probabilities` and
`labels`."""
ROUNDING = 1e-3
"""How far above 1 a probability may be because of rounding, such as to float16."""


class NoProbabilitiesError(BadRunError):
    """The file holds values that are not probabilities."""


@dataclass(frozen=True)
class SavedProbabilities:
    """The saved predictions of a run for its test or validation images."""

    images: Literal["test", "validation"]
    probabilities: NDArray[np.float32]
    """(N, C), from 0 to 1."""
    labels: NDArray[np.int64]
    """(N,), from 0 to C - 1."""


def read_probabilities(run: Run, spec: DataSpec | None = None, most: int | None = None) -> SavedProbabilities:
    """The probabilities and labels of the test images. `spec` is the run's; it is read if not given.

    most: read at most this many probabilities (images times classes), those of the first images.
    Errors: BadRunError, or its subclass NoProbabilitiesError; MissingFileError.
    """
    with opened_tensors(run.file(PREDICTIONS), MAX_PREDICTIONS_BYTES) as saved:
        return _read(run, saved, "test", spec or run.data_spec(), most)


def read_held_out(run: Run, spec: DataSpec | None = None) -> SavedProbabilities:
    """The probabilities and labels of the validation images if the run saved them, else of the test images.

    Errors: BadRunError, MissingFileError.
    """
    with opened_tensors(run.file(PREDICTIONS), MAX_PREDICTIONS_BYTES) as saved:
        has_validation = VALIDATION_PROBABILITIES in set(saved.keys())
        return _read(run, saved, "validation" if has_validation else "test", spec or run.data_spec())


def _read(
    run: Run, saved: Any, images: Literal["test", "validation"], spec: DataSpec, most: int | None = None
) -> SavedProbabilities:
    """Read and check the tensors. Errors: NoProbabilitiesError; ValueError for wrong classes or shapes."""
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
        raise NoProbabilitiesError(f"{path}: not readable ({names[0]} holds values that are not probabilities)")
    return SavedProbabilities(images, np.minimum(probabilities, 1), labels)
