"""Centre a digit like MNIST: scaled to 20 x 20, centre of mass in the middle of 28 x 28."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.runs.records import SIDE

BOX = 20
"""Longer side of the scaled digit, in pixels."""
TIE = 1e-9
"""Added before rounding down, so that ties round up everywhere. Ties between two grey levels or positions are common,
and the last bits of a sum differ between matrix libraries and the report's script."""


def centred(ink: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Prepare a digit as MNIST was (Y. LeCun, C. Cortes: 'size normalized to fit in a 20x20 pixel box while preserving
    their aspect ratio', then 'translating the image so as to position' the centre of mass at the middle of 28 x 28).

    The report's page does the same, in the same order of steps. The box that holds all ink is scaled by area averaging,
    so that every output pixel is the mean of what it covers; the shift is a whole number of pixels, and the box stays
    within the field.

    Args:
        ink: (H, W) floats from 0, paper, to 1, ink.

    Returns:
        (28, 28) uint8. Paper alone gives zeros.
    """
    field = np.zeros((SIDE, SIDE), dtype=np.uint8)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if rows.size == 0:
        return field
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
    scale = BOX / max(digit.shape)
    height, width = (max(1, int(side * scale + 0.5)) for side in digit.shape)
    small = _averages(digit.shape[0], height) @ digit @ _averages(digit.shape[1], width).T
    top = _offset(small.sum(axis=1))
    left = _offset(small.sum(axis=0))
    field[top : top + height, left : left + width] = np.floor(np.clip(small, 0, 1) * 255 + 0.5 + TIE)
    return field


def _averages(before: int, after: int) -> NDArray[np.float64]:
    """(after, before) weights: the part of each source pixel that a target pixel covers, summing to 1 a row."""
    edges = np.arange(after + 1) * before / after
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(before)[None, :]
    covered = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None)
    weights: NDArray[np.float64] = covered * (after / before)
    return weights


def _offset(mass: NDArray[np.float64]) -> int:
    """The start of a row or column of masses, so that their centre, counted in pixels from 0, is nearest to 14.

    Measured: nearly all MNIST images have theirs in [13.5, 14.5), half a pixel right of and below the field's centre.
    """
    centre = float((mass * np.arange(mass.size)).sum() / mass.sum())
    return int(min(max(np.floor(SIDE / 2 - centre + 0.5 + TIE), 0), SIDE - mass.size))
