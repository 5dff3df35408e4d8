"""predictions.safetensors for a page: confusion matrix, mistakes and their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.report.mislabelled import MISLABELLED
from mnist_ff.report.packing import packed, rounded
from mnist_ff.runs.directory import MAX_PREDICTIONS_BYTES, PREDICTIONS, Run
from mnist_ff.runs.records import CLASSES, SIDE
from mnist_ff.runs.tensors import FLOAT_TYPES, INTEGER_TYPES, opened_tensors

MAX_IMAGES = 900
"""In a page; 784 bytes each, a third more as base64."""
MAX_WORST = 25


@dataclass(frozen=True)
class Predictions:
    """A network's predictions for the test images, and the pixels of some of them."""

    probabilities: NDArray[np.float32]
    """(N, 10)."""
    predicted: NDArray[np.int64]
    """(N,)."""
    labels: NDArray[np.int64]
    """(N,)."""
    rows: NDArray[np.int64]
    """(K,) the places of the images that were kept, mistakes first, the worst of each kind before the others."""
    images: NDArray[np.uint8]
    """(K, 28, 28)."""


def read_predictions(run: Run) -> Predictions:
    """A run's predictions; of one that kept its 25 worst images only, those. Errors: BadRunError."""
    path = run.file(PREDICTIONS)
    with opened_tensors(path, MAX_PREDICTIONS_BYTES) as saved:
        kept = "kept" if "kept_rows" in saved.keys() else "worst"  # noqa: SIM118 (it is no dict)
        names = {"probabilities": FLOAT_TYPES, "answers": INTEGER_TYPES, "labels": INTEGER_TYPES}
        kinds = {**names, f"{kept}_rows": INTEGER_TYPES, f"{kept}_images": ("U8",)}
        found = [_tensor(saved, name, kind) for name, kind in kinds.items()]
        probabilities, given, labels = found[0].astype(np.float32), found[1].astype(np.int64), found[2].astype(np.int64)
        predictions = Predictions(
            probabilities, given, labels, found[3].astype(np.int64)[:MAX_IMAGES], found[4][:MAX_IMAGES]
        )
        _check(predictions)
    return predictions


def _tensor(saved: Any, name: str, kinds: tuple[str, ...]) -> NDArray[Any]:
    """Errors: ValueError, SafetensorError."""
    if saved.get_slice(name).get_dtype() not in kinds:
        raise ValueError(f"{name} has the wrong type")
    return np.asarray(saved.get_tensor(name))


def _check(found: Predictions) -> None:
    """See that the shapes fit and every number names a class or an image. Errors: ValueError."""
    count = len(found.labels)
    shapes = [found.probabilities.shape, found.predicted.shape, found.rows.shape, found.images.shape]
    if shapes != [(count, CLASSES), (count,), (len(found.images),), (len(found.images), SIDE, SIDE)] or not count:
        raise ValueError("its tensors do not match each other")
    for values, limit in ((found.predicted, CLASSES), (found.labels, CLASSES), (found.rows, count)):
        if values.size and not (values.min() >= 0 and values.max() < limit):
            raise ValueError("it refers to classes or images that do not exist")


def image_part(found: Predictions, data: str) -> dict[str, Any]:
    """The kept images for a page's script, with their predictions; the worst 25 mistakes by their places among them.

    Of MNIST itself those with a wrong label are marked with what people see in them.
    """
    labels, predicted = found.labels[found.rows], found.predicted[found.rows]
    given = found.probabilities[found.rows, labels]
    mistakes = np.flatnonzero(predicted != labels)
    known = {row: _seen(digit) for row, digit in MISLABELLED.items()} if data == "mnist" else {}
    return {
        "pixels": packed(found.images, "u1"),
        "rows": found.rows.tolist(),
        "labels": labels.tolist(),
        "predicted": predicted.tolist(),
        "sure": rounded(found.probabilities[found.rows, predicted], 6),
        "given": rounded(given, 6),
        "really": [known.get(row) for row in found.rows.tolist()],
        "worst": mistakes[np.argsort(given[mistakes], kind="stable")][:MAX_WORST].tolist(),
    }


def _seen(digit: int | None) -> str:
    return "unclear" if digit is None else str(digit)
