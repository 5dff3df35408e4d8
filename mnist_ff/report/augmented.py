"""augmented.safetensors for a page: training images and their augmented versions."""

from __future__ import annotations

from typing import Any

from mnist_ff.errors import BadRunError, MissingFileError
from mnist_ff.report.packing import packed
from mnist_ff.runs.directory import AUGMENTED, Run
from mnist_ff.runs.records import CLASSES, SIDE
from mnist_ff.runs.tensors import Wanted, read_tensors

MAX_AUGMENTED_BYTES = 1 << 20
"""Bytes of the file that are read; those of ten images take 90 KB."""


def augmented_part(run: Run) -> dict[str, Any] | None:
    """Rows of `across` images each, (rows, across, 28, 28) uint8, the training image itself first in its row.

    None for a run whose training images stay as they are. Errors: BadRunError.
    """
    path = run.file(AUGMENTED)
    try:
        images = read_tensors(path, MAX_AUGMENTED_BYTES, {"images": Wanted(("U8",), (None, None, SIDE, SIDE))})[
            "images"
        ]
    except MissingFileError:
        return None
    rows, across = images.shape[:2]
    if not 0 < rows <= CLASSES or across < 2:
        raise BadRunError(f"{path}: not readable (its tensor does not hold images)")
    return {"across": across, "pixels": packed(images, "u1")}
