"""predictions.safetensors for a page: predictions, labels, and the images of some of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.report.images import shrunk, small_size
from mnist_ff.report.mislabelled import MISLABELLED
from mnist_ff.report.packing import packed, rounded
from mnist_ff.runs.directory import MAX_PREDICTIONS_BYTES, PREDICTIONS, Run
from mnist_ff.runs.predictions import check_lengths
from mnist_ff.runs.records import MNIST_SPEC, DataSpec
from mnist_ff.runs.tensors import FLOAT_TYPES, INTEGER_TYPES, Wanted, check_tensors, opened_tensors

MAX_IMAGES = 900
"""In a page."""
IMAGE_BYTES, IMAGE_BYTES_ALONE = 900 * 784, 1_800_000
"""Of the images in a page, beside a network and without one; a third more as base64."""
MAX_KEPT = 10_000
"""Images of the file that are looked at."""
MAX_WORST = 25


@dataclass(frozen=True)
class Predictions:
    """A network's predictions for the test images, and some of these with their probabilities and pixels."""

    spec: DataSpec
    predicted: NDArray[np.int64]
    """(N,)."""
    labels: NDArray[np.int64]
    """(N,)."""
    rows: NDArray[np.int64]
    """(K,) the places of the images that were kept, mistakes first, the worst of each kind before the others."""
    probabilities: NDArray[np.float32]
    """(K, C) of the kept images."""
    images: NDArray[np.uint8]
    """(K, *shape)."""


def read_predictions(run: Run, spec: DataSpec, room: int = IMAGE_BYTES) -> Predictions:
    """A run's predictions, with as many images as `room` bytes hold; an old run kept its 25 worst.

    Errors: BadRunError.
    """
    with opened_tensors(run.file(PREDICTIONS), MAX_PREDICTIONS_BYTES) as saved:
        kept = "kept" if "kept_rows" in saved.keys() else "worst"  # noqa: SIM118 (it is no dict)
        _check_shapes(saved, kept, spec)
        predicted, labels = (np.asarray(saved.get_tensor(name)).astype(np.int64) for name in ("answers", "labels"))
        count = min(MAX_KEPT, saved.get_slice(f"{kept}_rows").get_shape()[0])
        rows = _picked(saved, f"{kept}_rows", np.arange(count)).astype(np.int64)
        for values, limit in ((predicted, len(spec.classes)), (labels, len(spec.classes)), (rows, len(labels))):
            if values.size and not (values.min() >= 0 and values.max() < limit):
                raise ValueError("it refers to classes or images that do not exist")
        probabilities = _picked(saved, "probabilities", rows).astype(np.float32)
        sure = probabilities[np.arange(len(rows)), predicted[rows]]
        places = _shown(predicted[rows] == labels[rows], sure, min(MAX_IMAGES, room // small_size(spec)))
        images = _picked(saved, f"{kept}_images", places)
    return Predictions(spec, predicted, labels, rows[places], probabilities[places], images)


def _check_shapes(saved: Any, kept: str, spec: DataSpec) -> None:
    """Errors: ValueError for tensors of other types and shapes, or of different lengths."""
    numbers = Wanted(INTEGER_TYPES, (None,))
    same = {"probabilities": Wanted(FLOAT_TYPES, (None, len(spec.classes))), "answers": numbers, "labels": numbers}
    own = {f"{kept}_rows": numbers, f"{kept}_images": Wanted(("U8",), (None, *spec.shape))}
    check_tensors(saved, {**same, **own})
    check_lengths(saved, *same)
    if len({saved.get_slice(name).get_shape()[0] for name in own}) > 1:  # none where an old run made no mistake
        raise ValueError(f"{' and '.join(own)} do not match each other")


def _picked(saved: Any, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows of a tensor, without reading the others."""
    part = saved.get_slice(name)
    none = np.zeros((0, *part.get_shape()[1:]), dtype=np.uint8)  # a slice of no rows is an error
    return np.concatenate([part[row : row + 1] for row in rows.tolist()] or [none])


def _shown(right: NDArray[np.bool_], sure: NDArray[np.float32], room: int) -> NDArray[np.int64]:
    """Places of the images that fit in, in order: a fifth of them the least confident correct ones."""
    if len(right) <= room:
        return np.arange(len(right))
    doubtful = np.flatnonzero(right)
    doubtful = doubtful[np.argsort(sure[doubtful], kind="stable")][: room // 5]
    return np.sort(np.concatenate([np.flatnonzero(~right)[: room - len(doubtful)], doubtful]))


def image_part(found: Predictions, data: str) -> dict[str, Any]:
    """The images for a page's script, with their predictions; the worst 25 mistakes by their places among them.

    Of MNIST itself those with a wrong label are marked with what people see in them.
    """
    labels, predicted, places = found.labels[found.rows], found.predicted[found.rows], np.arange(len(found.rows))
    given = found.probabilities[places, labels]
    mistakes = np.flatnonzero(predicted != labels)
    is_mnist = data == "mnist" and found.spec == MNIST_SPEC
    known = {row: _seen(digit) for row, digit in MISLABELLED.items()} if is_mnist else {}
    return {
        "pixels": packed(np.rint(shrunk(found.images, found.spec)), "u1"),
        "rows": found.rows.tolist(),
        "labels": labels.tolist(),
        "predicted": predicted.tolist(),
        "sure": rounded(found.probabilities[places, predicted], 6),
        "given": rounded(given, 6),
        "really": [known.get(row) for row in found.rows.tolist()],
        "worst": mistakes[np.argsort(given[mistakes], kind="stable")][:MAX_WORST].tolist(),
    }


def images_note(found: Predictions) -> str:
    """One sentence on which images can be seen."""
    right, shown_right = found.predicted == found.labels, found.predicted[found.rows] == found.labels[found.rows]
    wrong, shown = int((~right).sum()), int((~shown_right).sum())
    if not wrong:
        return "There are no mistakes. The least confident correct predictions are included."
    if shown < wrong:
        return f"{shown:,} of {wrong:,} mistakes are included, the worst of each cell."
    all_classes = set(found.labels[right].tolist()) == set(found.labels[found.rows][shown_right].tolist())
    which = " of each class" if all_classes else ""
    return f"All {wrong:,} mistakes are included, and the least confident correct predictions{which}."


def _seen(digit: int | None) -> str:
    return "unclear" if digit is None else str(digit)
