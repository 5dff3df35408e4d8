"""Images of any shape for a page: their look, and small versions of large ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.analysis.pixels import is_ink, planes
from mnist_ff.runs.records import DataSpec

LONGEST_SIDE = 64
"""Pixels of an image in a page; a larger one is shrunk."""
WIDEST = 3.0
"""Of an image's sides on a page, the longer one to the shorter."""


def shrunk(images: NDArray[Any], spec: DataSpec) -> NDArray[Any]:
    """Images (N, ...) as (N, C, h, w) with sides of at most LONGEST_SIDE: each pixel is the mean of a square."""
    small = images.reshape(len(images), *planes(spec))
    step = _step(spec)
    for axis in (-2, -1) if step > 1 else ():
        starts = np.arange(0, small.shape[axis], step)
        counts = np.diff([*starts, small.shape[axis]])
        sums = np.add.reduceat(small, starts, axis=axis, dtype=np.float32)
        small = sums / (counts[:, None] if axis == -2 else counts)
    return small


def small_size(spec: DataSpec) -> int:
    """Numbers in an image as shrunk() returns it."""
    channels, height, width = planes(spec)
    step = _step(spec)
    return channels * math.ceil(height / step) * math.ceil(width / step)


def look_of(spec: DataSpec, images: NDArray[np.uint8] | None) -> dict[str, Any]:
    """How a page's script draws images (N, *shape): their size as shrunk() makes them, and whether as ink."""
    channels, height, width = planes(spec)
    step = _step(spec)
    return {
        "channels": channels,
        "height": math.ceil(height / step),
        "width": math.ceil(width / step),
        "aspect": round(min(max(width / height, 1 / WIDEST), WIDEST), 4),
        "ink": channels == 1 if images is None else is_ink(images, spec),
    }


def _step(spec: DataSpec) -> int:
    """Pixels of an image in a row of one in the page."""
    return math.ceil(max(planes(spec)[1:]) / LONGEST_SIDE)
