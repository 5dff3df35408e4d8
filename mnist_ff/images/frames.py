"""Detect printed frames around a digit, of any shape.

A frame differs from a digit by what it contains. A piece of ink is a frame if another piece, large enough to be the
digit, lies in its hole. It is an open frame, such as three sides of a box, if that piece lies within its convex hull
and its own ink lies along the hull. If the digit touches the frame, the frame is the ink along the hull, provided that
the hull is a rectangle of thin lines and the rest does not reach from side to side, as the bar of a square 8 does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.floating[Any]]
"""(H, W) floats."""
Mask = NDArray[np.bool_]
Pieces = NDArray[np.int32]
"""(H, W) the label of each pixel's connected component from 1, 0 for paper."""
Boxes = Sequence[tuple[slice, slice]]
"""The bounding box of each piece."""

MIN_DIGIT_SIZE = 0.2
"""Minimum size of a digit in a frame, as a fraction of the frame's longer side. A speck in a 0 is smaller."""
MIN_DIGIT_SIZE_IN_THIN = 0.1
"""The same for a frame with lines thinner than THIN_LINE, which no 0 has."""
THIN_LINE = 0.02
"""Line width, as a fraction of the frame's longer side."""
MIN_ON_HULL = 0.95
"""Minimum fraction of an open frame's ink that lies along its convex hull."""
MAX_FRAMES = 8
"""Maximum number of frames in a picture. A box with double lines is two frames."""
LARGE_PIECE = 0.3
"""Minimum size of a large piece, as a fraction of the largest one's. Dashes are smaller."""
MIN_DASHES = 8
"""Minimum number of dashes in a dashed frame."""
MAX_PIECES = 40
"""Maximum number of pieces that may form a frame together. More are noise."""
MAX_LINE_WIDTH = 0.05
"""Maximum line width of a frame that the digit touches, as a fraction of the frame's longer side; or 1 pixel."""
MIN_RECTANGLE_FILL = 0.9
"""Minimum fraction of its smallest enclosing rectangle that a box with rounded corners fills. An ellipse fills 0.79."""
MIN_OUTLINE_COVERAGE = 0.9
"""Minimum fraction of the hull's outline that a line covers."""
MIN_CONTRAST_RATIO = 2.0
"""Minimum contrast of a digit written across a frame, as a multiple of the frame's contrast."""
CONTRAST_LEVELS = (0.4, 0.2, 0.1)
"""Thresholds, as fractions of the strongest contrast. A frame may be far darker than the digit in it."""
EIGHT_CONNECTED = np.ones((3, 3), dtype=int)
"""Structuring element: pixels that share a corner are connected."""


def without_frames(ink: Picture, least: float) -> Picture:
    """The ink without frames around a digit.

    Args:
        ink: (H, W) floats, paper 0.
        least: The minimum value of ink.
    """
    for _ in range(MAX_FRAMES):
        frame = _first_frame(ink, least)
        if frame is None:
            break
        ink = np.where(frame, 0.0, ink)
    return ink


def _first_frame(ink: Picture, least: float) -> Mask | None:
    peak = float(ink.max())
    labelled = [
        ndimage.label(ink > level * peak, structure=EIGHT_CONNECTED)[0]
        for level in CONTRAST_LEVELS
        if level * peak >= least
    ]
    found = [(pieces, ndimage.find_objects(pieces)) for pieces in labelled]
    for find in (_whole_frames, _broken_frames, _touched_frames):
        for pieces, boxes in found:
            frame = next(find(pieces, boxes), None)
            if frame is not None:
                return np.asarray(frame & ~_digit_on_frame(ink, frame, pieces > 0))
    return None


def _digit_on_frame(ink: Picture, frame: Mask, inked: Mask) -> Mask:
    """The part of a frame that is far darker than the rest and not along its outline: a digit across faint lines."""
    line = frame & inked
    dark = line & (ink > MIN_CONTRAST_RATIO * np.median(ink[line]))
    if not dark.any() or _along_outline(line, 2 * _width(line) + 1)[dark].mean() >= MIN_ON_HULL:
        return np.zeros_like(frame)
    pieces, _ = ndimage.label(dark, structure=EIGHT_CONNECTED)
    sizes = _sizes(ndimage.find_objects(pieces))
    large = np.isin(pieces, np.flatnonzero(sizes >= LARGE_PIECE * sizes.max()) + 1)
    return np.asarray(ndimage.binary_dilation(large))


def _whole_frames(pieces: Pieces, boxes: Boxes) -> Iterator[Mask]:
    """Masks of frames that are one piece, with the soft edges of their lines, the largest first."""
    sizes = _sizes(boxes)
    edges = np.array([(rows.start, columns.start, -rows.stop, -columns.stop) for rows, columns in boxes])
    order = np.argsort(-sizes, kind="stable")
    for outer in order[: np.count_nonzero(sizes > 4)]:
        within = (edges >= edges[outer]).all(axis=1) & (sizes >= max(3, MIN_DIGIT_SIZE_IN_THIN * sizes[outer]))
        inner = [one for one in order[within[order]] if one != outer]
        if not inner:
            continue
        piece = np.pad(pieces[boxes[outer]] == outer + 1, 1)
        width = _width(piece)
        held = MIN_DIGIT_SIZE_IN_THIN if width < THIN_LINE * sizes[outer] else MIN_DIGIT_SIZE
        inner = [one for one in inner if sizes[one] >= held * sizes[outer]]
        others = [np.pad(pieces[boxes[outer]] == one + 1, 1) for one in inner]
        if any(_holds(piece, other, width) for other in others):
            yield _with_soft_edge(pieces == outer + 1, pieces > 0, width)


def _broken_frames(pieces: Pieces, boxes: Boxes) -> Iterator[Mask]:
    """Masks of frames of several pieces, such as dashes, dots or corners: all pieces beside the largest one, or groups
    of small pieces near each other."""
    sizes = _sizes(boxes)
    digit = int(sizes.argmax())
    small = np.flatnonzero((sizes < LARGE_PIECE * sizes[digit]) & (sizes > 1)) + 1
    inner = pieces == digit + 1
    beside = [one for one in range(1, len(boxes) + 1) if one != digit + 1]
    groups = [np.isin(pieces, beside)] if 3 <= len(beside) <= MAX_PIECES else []
    if len(small) >= MIN_DASHES:
        dashes = np.isin(pieces, small)
        reach = float(np.median(sizes[small - 1]))
        joined, _ = ndimage.label(ndimage.distance_transform_edt(~dashes) <= reach)
        around = [one + 1 for one, box in enumerate(ndimage.find_objects(joined)) if _within(boxes[digit], box)]
        groups += [dashes & (joined == one) for one in around[:MAX_FRAMES]]
    for group in groups:
        width = _width(np.pad(group, 1))
        hull = _hull(group) if _surrounds(group, inner, width) else None
        if hull is not None:
            bits = np.isin(pieces, np.flatnonzero(sizes < LARGE_PIECE * sizes[digit]) + 1)
            bits[bits] = np.abs(_depth(hull, bits)) < 2 * width + 1  # a dot at a corner may be far from the others
            yield _with_soft_edge(group | bits, pieces > 0, width)


def _touched_frames(pieces: Pieces, boxes: Boxes) -> Iterator[Mask]:
    """Masks of frames that the digit touches, so that both are one piece."""
    sizes = _sizes(boxes)
    for number in map(int, np.flatnonzero(sizes >= max(20, LARGE_PIECE * sizes.max()))):
        piece = np.pad(pieces[boxes[number]] == number + 1, 1)
        corners = _rectangle(piece)
        width = _width(piece) if corners is not None else 0.0
        if (
            corners is None
            or width >= max(MAX_LINE_WIDTH * sizes[number], 1.5)
            or not _is_outlined(piece, corners, width)
        ):
            continue
        reach = int(np.ceil(1.5 * width + 1))
        line = piece & _along_outline(piece, reach)
        rest, count = ndimage.label(piece & ~line, structure=EIGHT_CONNECTED)
        if count == 0:
            continue
        left = ndimage.find_objects(rest)
        inside = left[int(_sizes(left).argmax())]
        apart = inside[1].stop - inside[1].start < piece.shape[1] - 2 * reach - 4
        if apart and max(side.stop - side.start for side in inside) >= MIN_DIGIT_SIZE * sizes[number]:
            frame = np.zeros(pieces.shape, dtype=bool)
            frame[boxes[number]] = line[1:-1, 1:-1]
            yield _with_soft_edge(frame, pieces > 0, width)


def _along_outline(piece: Mask, reach: float) -> Mask:
    """The pixels of a piece less than `reach` pixels inside its convex hull."""
    along = np.zeros_like(piece)
    hull = _hull(piece)
    if hull is not None:
        along[piece] = _depth(hull, piece) < reach
    return along


def _rectangle(piece: Mask) -> NDArray[np.float64] | None:
    """(N, 2) the corners of a piece's convex hull in order, or None if it is not nearly a rectangle."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(np.argwhere(piece & ~ndimage.binary_erosion(piece)))
    except QhullError:
        return None
    corners: NDArray[np.float64] = hull.points[hull.vertices]
    spans = [np.ptp(corners @ (row, column)) * np.ptp(corners @ (-column, row)) for row, column, _ in hull.equations]
    return corners if hull.volume > MIN_RECTANGLE_FILL * min(spans) else None  # in the plane the volume is the area


def _is_outlined(piece: Mask, corners: NDArray[np.float64], width: float) -> bool:
    """Whether a piece has lines along the whole outline of its hull."""
    following = np.roll(corners, -1, axis=0)
    near = ndimage.distance_transform_edt(~piece) <= width
    sides = np.linspace(corners, following, max(piece.shape)).round().astype(int)
    covered = near[sides[..., 0], sides[..., 1]].mean(axis=0)
    return bool(np.average(covered, weights=np.hypot(*(following - corners).T)) > MIN_OUTLINE_COVERAGE)


def _sizes(boxes: Boxes) -> NDArray[np.int64]:
    """The longer side of each bounding box, in pixels."""
    return np.array([max(side.stop - side.start for side in box) for box in boxes])


def _within(inner: tuple[slice, slice], outer: tuple[slice, slice]) -> bool:
    return all(
        large.start <= small.start and small.stop <= large.stop for small, large in zip(inner, outer, strict=True)
    )


def _width(piece: Mask) -> float:
    """The median width of a piece's lines, in pixels."""
    depth = ndimage.distance_transform_edt(piece)
    ridge = (depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))
    return 2 * float(np.median(depth[ridge])) - 1


def _holds(piece: Mask, other: Mask, width: float) -> bool:
    """Whether one piece is a frame around the other."""
    holes = ndimage.binary_fill_holes(piece) & ~piece
    return bool(holes[other].all()) or _surrounds(piece, other, width)


def _surrounds(piece: Mask, other: Mask, width: float) -> bool:
    """Whether a piece lies along its convex hull, and the other one within that hull."""
    hull = _hull(piece)
    if hull is None or _depth(hull, other).min() <= 0:
        return False
    return bool((_depth(hull, piece) < 2 * width + 1).mean() >= MIN_ON_HULL)


def _hull(piece: Mask) -> NDArray[np.float64] | None:
    """(N, 3) the lines of a piece's convex hull, each a normal and an offset. None if the pixels are collinear."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        lines: NDArray[np.float64] = ConvexHull(np.argwhere(piece & ~ndimage.binary_erosion(piece))).equations
    except QhullError:
        return None
    return lines


def _depth(hull: NDArray[np.float64], piece: Mask) -> NDArray[np.float64]:
    """The distance of each pixel of a piece to the hull, in pixels: positive inside, negative outside."""
    depth: NDArray[np.float64] = -(np.argwhere(piece) @ hull[:, :2].T + hull[:, 2]).max(axis=1)
    return depth


def _with_soft_edge(frame: Mask, inked: Mask, width: float) -> Mask:
    """A frame with the pixels that its blur darkens, except those nearer to other ink."""
    reach = max(2.0, width, max(frame.shape) / 100)
    apart = ndimage.distance_transform_edt(~frame)
    others = inked & ~frame
    if not others.any():
        return np.asarray(apart <= reach)
    return np.asarray((apart <= reach) & (apart < ndimage.distance_transform_edt(~others)))
