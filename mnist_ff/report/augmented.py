"""augmented.safetensors for a page: training images and their augmented versions."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_ff.errors import BadRunError, MissingFileError
from mnist_ff.report.images import shrunk, small_size
from mnist_ff.report.packing import packed
from mnist_ff.runs.directory import AUGMENTED, Run
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import Wanted, read_tensors

MAX_AUGMENTED_BYTES = 8 << 20
"""Bytes of the file that are read; ten rows of ten MNIST images take 80 KB."""
MAX_ROWS = 10
PAGE_BYTES = 400_000
"""Of the images in a page."""


def augmented_part(run: Run, spec: DataSpec) -> dict[str, Any] | None:
    """Rows of `across` images each, (rows, across, *shape) uint8, the training image itself first in its row.

    None for a run whose training images stay as they are. Errors: BadRunError.
    """
    path = run.file(AUGMENTED)
    try:
        wanted = {"images": Wanted(("U8",), (None, None, *spec.shape))}
        images = read_tensors(path, MAX_AUGMENTED_BYTES, wanted)["images"]
    except MissingFileError:
        return None
    rows, across = images.shape[:2]
    if not 0 < rows <= MAX_ROWS or across < 2:
        raise BadRunError(f"{path}: not readable (its tensor does not hold images)")
    shown = images[: max(1, PAGE_BYTES // (across * small_size(spec)))]
    pixels = np.rint(shrunk(shown.reshape(-1, *spec.shape), spec))
    return {"across": across, "pixels": packed(pixels, "u1")}
