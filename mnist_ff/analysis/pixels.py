"""Images of any shape as rows, columns and colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.runs.records import DataSpec

MIDDLE_GREY = 128


def planes(spec: DataSpec) -> tuple[int, int, int]:
    """Channels, height and width of an image; a vector is one line of pixels."""
    channels, height, width = (1, 1, *spec.shape)[-3:]
    return channels, height, width


def picture_of(image: NDArray[Any], spec: DataSpec) -> NDArray[Any]:
    """An image (*shape) as (H, W), or as (H, W, 3) where there are several channels; two are red and green."""
    channels, height, width = planes(spec)
    if channels == 1:
        return image.reshape(height, width)
    missing = np.zeros((3 - channels, height, width), dtype=image.dtype)
    return np.concatenate([image.reshape(channels, height, width), missing]).transpose(1, 2, 0)


def is_ink(images: NDArray[np.uint8], spec: DataSpec) -> bool:
    """Whether images (N, *shape) are to be drawn as ink on paper: one channel on a dark ground, as in MNIST.

    The pixels at the edges say what the ground is; without images it is dark.
    """
    if planes(spec)[0] > 1:
        return False
    pixels = images.reshape(-1, *planes(spec)[1:])
    edges = (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1])
    edge = np.concatenate([line.ravel() for line in edges])
    return edge.size == 0 or float(np.median(edge)) < MIDDLE_GREY
