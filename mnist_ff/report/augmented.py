"""augmented.safetensors to what a page shows: training images, and what the network sees of each."""

from __future__ import annotations

from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from mnist_ff.errors import BadRunError
from mnist_ff.records import CLASSES, SIDE
from mnist_ff.report.packing import packed
from mnist_ff.runs import AUGMENTED, Run

LARGEST = 1 << 20
"""Bytes of the file that are read; those of ten images take 90 KB."""


def augmented_part(run: Run) -> dict[str, Any] | None:
    """Rows of `across` images each, (rows, across, 28, 28) uint8, the training image itself first in its row.

    None for a run whose training images stay as they are. Errors: BadRunError.
    """
    path = run.file(AUGMENTED)
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise ValueError("is no file")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST:,} bytes")
        images = load_file(path)["images"]
        rows, across, *size = images.shape
        if images.dtype != "uint8" or size != [SIDE, SIDE] or not 0 < rows <= CLASSES or across < 2:
            raise ValueError("its tensor is none of images")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise BadRunError(f"{path}: not readable ({str(error).splitlines()[0]})") from None
    return {"across": across, "pixels": packed(images, "u1")}
