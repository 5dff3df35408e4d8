"""Detect printed boxes around a digit, of any shape.

What tells a box from a digit is what it holds. A piece of ink is a frame where another piece, large enough to be the
digit, lies in its hole; or where that piece lies within its convex hull and the frame's own ink keeps to the hull, as
the three sides of an open box do, and no digit with something written inside. Where the digit touches its box, the
box is what lies along the hull, if that is a rectangle of thin lines and what is left does not reach from side to
side, as the bar of a square 8 does.
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
"""(H, W) the number of each pixel's piece from 1, 0 for paper."""
Boxes = Sequence[tuple[slice, slice]]
"""The box of each piece."""

HELD_SHARE = 0.2
"""Of a frame's longer side: a digit in it is that large at least, a speck in a 0 is not."""
HELD_SHARE_OF_THIN = 0.1
"""The same where the frame's line is thinner than THIN of that side, as no 0's is."""
THIN = 0.02
HUGS = 0.95
"""Of an open frame's ink: the share that keeps to its convex hull."""
MAX_FRAMES = 8
"""Frames in a picture: a box of two lines is two."""
LARGE = 0.3
"""Of the largest piece's size: dashes are smaller."""
DASHES = 8
"""In a dashed frame, at least."""
MAX_PIECES = 40
"""Pieces that are looked at together; more are noise."""
FINE = 0.05
"""Of a box's longer side: the line of one that the digit touches is thinner, or one pixel wide."""
RECTANGLE = 0.9
"""Of the least rectangle around it: what a box with rounded corners fills at least; an ellipse fills 0.79."""
CLOSED = 0.9
"""Of a hull's outline: what a line covers."""
DARKER = 2.0
"""Times a frame's own contrast: what is as dark as that in it is written on it."""
CONTRAST_LEVELS = (0.4, 0.2, 0.1)
"""Of the strongest contrast: a box may be far darker than the digit in it."""
CORNERS = np.ones((3, 3), dtype=int)


def without_frames(ink: Picture, least: float) -> Picture:
    """The same without the boxes around a digit.

    Args:
        ink: (H, W) floats, paper 0.
        least: What may be ink.
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
        ndimage.label(ink > level * peak, structure=CORNERS)[0] for level in CONTRAST_LEVELS if level * peak >= least
    ]
    found = [(pieces, ndimage.find_objects(pieces)) for pieces in labelled]
    for find in (_whole_frames, _broken_frames, _touched_frames):
        for pieces, boxes in found:
            frame = next(find(pieces, boxes), None)
            if frame is not None:
                return np.asarray(frame & ~_written(ink, frame, pieces > 0))
    return None


def _written(ink: Picture, frame: Mask, inked: Mask) -> Mask:
    """The part of a frame that is far darker than the rest and not along its outline: a digit across faint lines."""
    line = frame & inked
    dark = line & (ink > DARKER * np.median(ink[line]))
    if not dark.any() or _along_outline(line, 2 * _width(line) + 1)[dark].mean() >= HUGS:
        return np.zeros_like(frame)
    pieces, _ = ndimage.label(dark, structure=CORNERS)
    sizes = _sizes(ndimage.find_objects(pieces))
    large = np.isin(pieces, np.flatnonzero(sizes >= LARGE * sizes.max()) + 1)
    return np.asarray(ndimage.binary_dilation(large))


def _whole_frames(pieces: Pieces, boxes: Boxes) -> Iterator[Mask]:
    """The pixels of each frame of one piece, with the soft edge of its lines; the largest first."""
    sizes = _sizes(boxes)
    edges = np.array([(rows.start, columns.start, -rows.stop, -columns.stop) for rows, columns in boxes])
    order = np.argsort(-sizes, kind="stable")
    for outer in order[: np.count_nonzero(sizes > 4)]:
        within = (edges >= edges[outer]).all(axis=1) & (sizes >= max(3, HELD_SHARE_OF_THIN * sizes[outer]))
        inner = [one for one in order[within[order]] if one != outer]
        if not inner:
            continue
        piece = np.pad(pieces[boxes[outer]] == outer + 1, 1)
        width = _width(piece)
        held = HELD_SHARE_OF_THIN if width < THIN * sizes[outer] else HELD_SHARE
        inner = [one for one in inner if sizes[one] >= held * sizes[outer]]
        others = [np.pad(pieces[boxes[outer]] == one + 1, 1) for one in inner]
        if any(_holds(piece, other, width) for other in others):
            yield _with_edge(pieces == outer + 1, pieces > 0, width)


def _broken_frames(pieces: Pieces, boxes: Boxes) -> Iterator[Mask]:
    """The same of frames of several pieces, as of dashes, dots or corners: all that is beside the largest piece, or
    only what is near each other."""
    sizes = _sizes(boxes)
    digit = int(sizes.argmax())
    small = np.flatnonzero((sizes < LARGE * sizes[digit]) & (sizes > 1)) + 1
    inner = pieces == digit + 1
    beside = [one for one in range(1, len(boxes) + 1) if one != digit + 1]
    groups = [np.isin(pieces, beside)] if 3 <= len(beside) <= MAX_PIECES else []
    if len(small) >= DASHES:
        dashes = np.isin(pieces, small)
        reach = float(np.median(sizes[small - 1]))
        joined, _ = ndimage.label(ndimage.distance_transform_edt(~dashes) <= reach)
        around = [one + 1 for one, box in enumerate(ndimage.find_objects(joined)) if _within(boxes[digit], box)]
        groups += [dashes & (joined == one) for one in around[:MAX_FRAMES]]
    for group in groups:
        width = _width(np.pad(group, 1))
        hull = _hull(group) if _surrounds(group, inner, width) else None
        if hull is not None:
            bits = np.isin(pieces, np.flatnonzero(sizes < LARGE * sizes[digit]) + 1)
            bits[bits] = np.abs(_depth(hull, bits)) < 2 * width + 1  # a dot at a corner may be far from the others
            yield _with_edge(group | bits, pieces > 0, width)


def _touched_frames(pieces: Pieces, boxes: Boxes) -> Iterator[Mask]:
    """The same of boxes that are one piece with the digit, which touches a line."""
    sizes = _sizes(boxes)
    for number in map(int, np.flatnonzero(sizes >= max(20, LARGE * sizes.max()))):
        piece = np.pad(pieces[boxes[number]] == number + 1, 1)
        corners = _rectangle(piece)
        width = _width(piece) if corners is not None else 0.0
        if corners is None or width >= max(FINE * sizes[number], 1.5) or not _is_outlined(piece, corners, width):
            continue
        reach = int(np.ceil(1.5 * width + 1))
        line = piece & _along_outline(piece, reach)
        rest, count = ndimage.label(piece & ~line, structure=CORNERS)
        if count == 0:
            continue
        left = ndimage.find_objects(rest)
        inside = left[int(_sizes(left).argmax())]
        apart = inside[1].stop - inside[1].start < piece.shape[1] - 2 * reach - 4
        if apart and max(side.stop - side.start for side in inside) >= HELD_SHARE * sizes[number]:
            frame = np.zeros(pieces.shape, dtype=bool)
            frame[boxes[number]] = line[1:-1, 1:-1]
            yield _with_edge(frame, pieces > 0, width)


def _along_outline(piece: Mask, reach: float) -> Mask:
    """A piece's pixels that are less than `reach` inside its convex hull."""
    along = np.zeros_like(piece)
    hull = _hull(piece)
    if hull is not None:
        along[piece] = _depth(hull, piece) < reach
    return along


def _rectangle(piece: Mask) -> NDArray[np.float64] | None:
    """(N, 2) the corners of a piece's convex hull, in turn, if that is nearly a rectangle."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(np.argwhere(piece & ~ndimage.binary_erosion(piece)))
    except QhullError:
        return None
    corners: NDArray[np.float64] = hull.points[hull.vertices]
    spans = [np.ptp(corners @ (row, column)) * np.ptp(corners @ (-column, row)) for row, column, _ in hull.equations]
    return corners if hull.volume > RECTANGLE * min(spans) else None  # in the plane the volume is the area


def _is_outlined(piece: Mask, corners: NDArray[np.float64], width: float) -> bool:
    """Whether a piece has a line from corner to corner."""
    following = np.roll(corners, -1, axis=0)
    near = ndimage.distance_transform_edt(~piece) <= width
    sides = np.linspace(corners, following, max(piece.shape)).round().astype(int)
    covered = near[sides[..., 0], sides[..., 1]].mean(axis=0)
    return bool(np.average(covered, weights=np.hypot(*(following - corners).T)) > CLOSED)


def _sizes(boxes: Boxes) -> NDArray[np.int64]:
    """The longer side of each box."""
    return np.array([max(side.stop - side.start for side in box) for box in boxes])


def _within(inner: tuple[slice, slice], outer: tuple[slice, slice]) -> bool:
    return all(
        large.start <= small.start and small.stop <= large.stop for small, large in zip(inner, outer, strict=True)
    )


def _width(piece: Mask) -> float:
    """The usual width of a piece's lines, in pixels."""
    depth = ndimage.distance_transform_edt(piece)
    ridge = (depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))
    return 2 * float(np.median(depth[ridge])) - 1


def _holds(piece: Mask, other: Mask, width: float) -> bool:
    """Whether one piece is a frame around the other."""
    holes = ndimage.binary_fill_holes(piece) & ~piece
    return bool(holes[other].all()) or _surrounds(piece, other, width)


def _surrounds(piece: Mask, other: Mask, width: float) -> bool:
    """Whether a piece keeps to its convex hull, and the other one lies within that."""
    hull = _hull(piece)
    if hull is None or _depth(hull, other).min() <= 0:
        return False
    return bool((_depth(hull, piece) < 2 * width + 1).mean() >= HUGS)


def _hull(piece: Mask) -> NDArray[np.float64] | None:
    """(N, 3) the lines of a piece's convex hull, each a normal and an offset; None for a straight line of pixels."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        lines: NDArray[np.float64] = ConvexHull(np.argwhere(piece & ~ndimage.binary_erosion(piece))).equations
    except QhullError:
        return None
    return lines


def _depth(hull: NDArray[np.float64], piece: Mask) -> NDArray[np.float64]:
    """How far inside the hull each pixel of a piece is; negative outside."""
    depth: NDArray[np.float64] = -(np.argwhere(piece) @ hull[:, :2].T + hull[:, 2]).max(axis=1)
    return depth


def _with_edge(frame: Mask, inked: Mask, width: float) -> Mask:
    """A frame with what its blur darkens, as far as nothing else that is inked is nearer."""
    reach = max(2.0, width, max(frame.shape) / 100)
    apart = ndimage.distance_transform_edt(~frame)
    others = inked & ~frame
    if not others.any():
        return np.asarray(apart <= reach)
    return np.asarray((apart <= reach) & (apart < ndimage.distance_transform_edt(~others)))
