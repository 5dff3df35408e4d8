"""Which part of a photograph is paper, and whether the strokes on it are darker or lighter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.floating[Any]]
"""(H, W) floats."""
Mask = NDArray[np.bool_]

MARKED = 0.15
"""Contrast of what is written on paper at least, as a natural logarithm, where a picture is 32 pixels wide."""
OTHER = 1.0
"""How much a table differs from the paper, as a natural logarithm, and shadows seldom do."""
HALF_LIT = 0.2
"""Of what stands out in the whole picture: a half of the paper shows less."""
LEAST_PAPER = 0.15
"""Of the picture."""
BROADEST = 0.24
"""Of the picture's shorter side: no stroke of MNIST's is that wide in its 28 x 28."""
SOLID = 0.65
"""Of its box: what a sheet fills, turned and written on."""


def read_paper(light: Picture) -> tuple[bool, Picture]:
    """Whether the strokes are darker than the paper; and the picture, with a table around a sheet in the paper's tone.

    The tail of the distances from the median around is the strokes'. What is around the paper has no say where
    something stands out on it. Half of an unevenly lit sheet is no paper: it differs from the other half by less than
    a table does, and does not hold the strokes.
    """
    small = shrunk(light, 64)
    everywhere = (_tail(small) ** 3).sum()
    bright = small > otsu(small)
    apart = bright.any() and np.median(small[bright]) - np.median(small[~bright]) > OTHER
    for sheet, paper in _papers(bright):
        tail = _tail(_filled(small, paper))
        weight = (tail**3).sum()
        if (np.abs(tail) > MARKED).mean() >= 0.002 and (apart or abs(weight) > HALF_LIT * abs(everywhere)):
            return bool(weight <= 0), _filled(light, _enlarged(paper, light)) if sheet and apart else light
    return bool(everywhere <= 0), light


def _enlarged(mask: Mask, picture: Picture) -> Mask:
    """A small mask of a picture at its size."""
    rows, columns = (np.arange(long) * short // long for long, short in zip(picture.shape, mask.shape, strict=True))
    large: Mask = mask[np.ix_(rows, columns)]
    return large


def _tail(light: Picture) -> Picture:
    """How far each pixel is from the median around."""
    small = shrunk(light, 32)
    distance: Picture = small - ndimage.median_filter(
        small, size=[max(3, length // 2) for length in small.shape], mode="nearest"
    )
    return distance


def _papers(bright: Mask) -> list[tuple[bool, Mask]]:
    """What may be the paper, with its strokes, and whether it is a sheet within the picture: those first, by size."""
    found = []
    for side in (bright, ~bright):
        pieces, count = ndimage.label(side)
        for number in range(1, count + 1):
            piece = pieces == number
            if piece.mean() >= LEAST_PAPER:
                found.append((_is_sheet(piece), int(piece.sum()), piece))
    found.sort(key=lambda one: one[:2], reverse=True)
    return [
        (sheet, ndimage.binary_erosion(ndimage.binary_fill_holes(piece), iterations=1 + sheet, border_value=1))
        for sheet, _, piece in found
    ]


def _is_sheet(piece: Mask) -> bool:
    """Whether a piece fills most of its box, is wider than strokes, and the picture's edges do not cut it."""
    edge = np.concatenate([piece[0], piece[-1], piece[:, 0], piece[:, -1]])
    (box,) = ndimage.find_objects(piece.astype(int))
    if edge.any() or piece[box].mean() <= SOLID:
        return False
    return bool(2 * ndimage.distance_transform_edt(piece).max() > BROADEST * min(piece.shape))


def _filled(light: Picture, paper: Mask) -> Picture:
    """The same with the paper's nearest brightness wherever there is no paper."""
    rows, columns = ndimage.distance_transform_edt(~paper, return_distances=False, return_indices=True)
    filled: Picture = light[rows, columns]
    return filled


def shrunk(picture: Picture, side: int) -> Picture:
    """The picture with its longer side at most about `side`, by averages over whole blocks."""
    block = -(-max(picture.shape) // side)
    if block == 1:
        return picture.astype(np.float64)
    height, width = (max(1, length // block) for length in picture.shape)
    rows, columns = (min(block, length) for length in picture.shape)
    cut = picture[: height * rows, : width * columns].astype(np.float64)
    blocks: Picture = cut.reshape(height, rows, width, columns).mean(axis=(1, 3))
    return blocks


def otsu(values: Picture) -> float:
    """The threshold that cuts values into the two classes of the least spread within (Otsu 1979), in 256 steps."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * centres).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between = np.where((below > 0) & (above > 0), between, -1.0)
    best = np.flatnonzero(between == between.max())  # equal over a gap: its middle
    return float((edges[best[0] + 1] + edges[best[-1] + 1]) / 2)
