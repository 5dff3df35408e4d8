"""Which part of a photograph is paper, and whether the strokes on it are darker or lighter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.floating[Any]]
"""(H, W) floats."""
Mask = NDArray[np.bool_]

MIN_CONTRAST = 0.15
"""Minimum contrast of strokes, in natural log units, in a picture reduced to 32 pixels."""
TABLE_CONTRAST = 1.0
"""Minimum contrast between paper and table, in natural log units. Shadows are usually weaker."""
MIN_SKEWNESS = 0.2
"""Minimum sum of cubed deviations on the paper, as a fraction of the whole picture's. Half a sheet has less."""
MIN_PAPER_AREA = 0.15
"""Minimum area of the paper, as a fraction of the picture."""
MAX_STROKE_WIDTH = 0.24
"""Maximum stroke width, as a fraction of the picture's shorter side. MNIST's strokes are narrower in their 28 x 28."""
MIN_SHEET_FILL = 0.65
"""Minimum fraction of its bounding box that a sheet fills, even rotated and written on."""


def read_paper(light: Picture) -> tuple[bool, Picture]:
    """Whether the strokes are darker than the paper, and the picture with a table around a sheet in the paper's tone.

    Strokes skew the deviations from the local median: the sign of the sum of their cubes says whether strokes are
    darker. Only the paper is measured if something is written on it. One half of an unevenly lit sheet does not count
    as the paper: it differs from the other half by less than a table does, and does not contain the strokes.
    """
    small = shrunk(light, 64)
    total = (_deviation(small) ** 3).sum()
    bright = small > otsu(small)
    has_table = bright.any() and np.median(small[bright]) - np.median(small[~bright]) > TABLE_CONTRAST
    for sheet, paper in _papers(bright):
        deviation = _deviation(_filled(small, paper))
        skewness = (deviation**3).sum()
        if (np.abs(deviation) > MIN_CONTRAST).mean() >= 0.002 and (
            has_table or abs(skewness) > MIN_SKEWNESS * abs(total)
        ):
            return bool(skewness <= 0), _filled(light, _enlarged(paper, light)) if sheet and has_table else light
    return bool(total <= 0), light


def _enlarged(mask: Mask, picture: Picture) -> Mask:
    """A mask of the reduced picture, enlarged to the picture's size."""
    rows, columns = (np.arange(long) * short // long for long, short in zip(picture.shape, mask.shape, strict=True))
    large: Mask = mask[np.ix_(rows, columns)]
    return large


def _deviation(light: Picture) -> Picture:
    """The difference of each pixel from the local median, in the picture reduced to 32 pixels."""
    small = shrunk(light, 32)
    distance: Picture = small - ndimage.median_filter(
        small, size=[max(3, length // 2) for length in small.shape], mode="nearest"
    )
    return distance


def _papers(bright: Mask) -> list[tuple[bool, Mask]]:
    """Candidates for the paper, strokes included, each with whether it is a whole sheet: sheets first, then by size."""
    found = []
    for side in (bright, ~bright):
        pieces, count = ndimage.label(side)
        for number in range(1, count + 1):
            piece = pieces == number
            if piece.mean() >= MIN_PAPER_AREA:
                found.append((_is_sheet(piece), int(piece.sum()), piece))
    found.sort(key=lambda one: one[:2], reverse=True)
    return [
        (sheet, ndimage.binary_erosion(ndimage.binary_fill_holes(piece), iterations=1 + sheet, border_value=1))
        for sheet, _, piece in found
    ]


def _is_sheet(piece: Mask) -> bool:
    """Whether a piece fills most of its bounding box, is wider than a stroke, and does not touch the border."""
    edge = np.concatenate([piece[0], piece[-1], piece[:, 0], piece[:, -1]])
    (box,) = ndimage.find_objects(piece.astype(int))
    if edge.any() or piece[box].mean() <= MIN_SHEET_FILL:
        return False
    return bool(2 * ndimage.distance_transform_edt(piece).max() > MAX_STROKE_WIDTH * min(piece.shape))


def _filled(light: Picture, paper: Mask) -> Picture:
    """The picture with the brightness of the nearest paper pixel wherever there is no paper."""
    rows, columns = ndimage.distance_transform_edt(~paper, return_distances=False, return_indices=True)
    filled: Picture = light[rows, columns]
    return filled


def shrunk(picture: Picture, side: int) -> Picture:
    """The picture reduced by block averaging, so that its longer side is about `side` pixels or fewer."""
    block = -(-max(picture.shape) // side)
    if block == 1:
        return picture.astype(np.float64)
    height, width = (max(1, length // block) for length in picture.shape)
    rows, columns = (min(block, length) for length in picture.shape)
    cut = picture[: height * rows, : width * columns].astype(np.float64)
    blocks: Picture = cut.reshape(height, rows, width, columns).mean(axis=(1, 3))
    return blocks


def otsu(values: Picture) -> float:
    """Otsu's threshold (1979), which minimises the variance within the two classes, from a histogram of 256 bins."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * centres).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between = np.where((below > 0) & (above > 0), between, -1.0)
    best = np.flatnonzero(between == between.max())  # equal in a gap of the histogram: take its middle
    return float((edges[best[0] + 1] + edges[best[-1] + 1]) / 2)
