"""Printed boxes around a digit, whatever their shape: they are no ink.

What tells a box from a digit is what it holds. A piece of ink is a frame where another piece, large enough to be the
digit, lies in its hole; or where that piece lies within its convex hull and the frame's own ink keeps to the hull, as
the three sides of an open box do, and no digit with something written inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
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

HELD = 0.2
"""Of a frame's longer side: a digit in it is that large at least, a speck in a 0 is not."""
HELD_BY_THIN = 0.1
"""The same where the frame's line is thinner than THIN of that side, as no 0's is."""
THIN = 0.02
HUGS = 0.95
"""Of an open frame's ink: the share that keeps to its convex hull."""
MOST = 8
"""Frames in a picture: a box of two lines is two."""
LARGE = 0.3
"""Of the largest piece's size: dashes are smaller."""
DASHES = 8
"""In a dashed frame, at least."""
MANY = 40
"""Pieces that are looked at together; more are noise."""
LEVELS = (0.4, 0.2, 0.1)
"""Of the strongest contrast: a box may be far darker than the digit in it."""
CORNERS = np.ones((3, 3), dtype=int)


def without_frames(ink: Picture, least: float) -> Picture:
    """The same without the boxes around a digit.

    Args:
        ink: (H, W) floats, paper 0.
        least: What may be ink.
    """
    for _ in range(MOST):
        frame = _first_frame(ink, least)
        if frame is None:
            break
        ink = np.where(frame, 0.0, ink)
    return ink


def _first_frame(ink: Picture, least: float) -> Mask | None:
    peak = float(ink.max())
    for level in LEVELS:
        if level * peak < least:
            break
        pieces, _ = ndimage.label(ink > level * peak, structure=CORNERS)
        boxes = ndimage.find_objects(pieces)
        if len(boxes) > 1:
            frame = next(chain(_whole_frames(pieces, boxes), _broken_frames(pieces, boxes)), None)
            if frame is not None:
                return frame
    return None


def _whole_frames(pieces: Pieces, boxes: Boxes) -> Iterator[Mask]:
    """The pixels of each frame of one piece, with the soft edge of its lines; the largest first."""
    sizes = _sizes(boxes)
    order = np.argsort(-sizes, kind="stable")
    for outer in order:
        inner = [one for one in order if _within(boxes[one], boxes[outer]) and one != outer]
        inner = [one for one in inner if sizes[one] >= max(3, HELD_BY_THIN * sizes[outer])]
        if not inner:
            continue
        piece = np.pad(pieces[boxes[outer]] == outer + 1, 1)
        width = _width(piece)
        held = HELD_BY_THIN if width < THIN * sizes[outer] else HELD
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
    groups = [np.isin(pieces, beside)] if 3 <= len(beside) <= MANY else []
    if len(small) >= DASHES:
        dashes = np.isin(pieces, small)
        reach = float(np.median(sizes[small - 1]))
        joined, _ = ndimage.label(ndimage.distance_transform_edt(~dashes) <= reach)
        around = [one + 1 for one, box in enumerate(ndimage.find_objects(joined)) if _within(boxes[digit], box)]
        groups += [dashes & (joined == one) for one in around[:MOST]]
    for group in groups:
        width = _width(np.pad(group, 1))
        if _surrounds(group, inner, width):
            yield _with_edge(group, pieces > 0, width)


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
        lines: NDArray[np.float64] = ConvexHull(np.argwhere(piece)).equations
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
