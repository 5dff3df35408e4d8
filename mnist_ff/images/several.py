"""Several digits in one picture: cut apart, in the order in which they are read.

A piece is a connected component of ink. It is a digit of its own if its height, ink, contrast and stroke width are
similar to those of the heaviest digit. Any other piece is joined to the digit beside it, such as the bar of a 5, or
dropped. Pieces that overlap horizontally and lie close above each other are one digit. A picture with one digit gives
the same as segment.ink_of().

A wide piece may be two digits that touch. It is cut along the path from top to bottom that crosses the least ink, if
both halves are as high as digits. The shape does not tell whether it is one digit or two, so both are returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_ff.images.paper import Mask, Picture
from mnist_ff.images.segment import (
    MAX_PIECE_GAP,
    MIN_PIECE_MASS,
    NoDigitError,
    Written,
    inked,
    is_of_strokes,
    pieces_of,
    thickened,
    uncut,
    written_in,
)

MAX_DIGITS = 100
"""Digits in one picture. More are noise, or a page of text."""
MIN_HEIGHT = 0.5
"""Minimum ratio of the heights of a digit and the heaviest digit, whichever of them is taller."""
MIN_INK = 0.12
"""Minimum ink of a digit, as a fraction of the heaviest digit's. A 1 has a third of the ink of an 8."""
MIN_CONTRAST = 0.55
"""Minimum mean contrast of a digit, as a fraction of the heaviest digit's."""
MIN_STROKE_WIDTH, MAX_STROKE_WIDTH = 0.22, 4.5
"""Stroke width of a digit, as multiples of the heaviest digit's."""
MAX_LINE_SPREAD, MAX_LINE_WIDTH = 0.065, 0.65
"""A piece below both is a printed line, such as the tooth of a comb to write in: its standard deviation across divided
by that along, and its stroke width as a fraction of the heaviest digit's. Measured: teeth have 0.02 to 0.053 and 0.25
to 0.56, MNIST's ones a spread of at least 0.084."""
MIN_OVERLAP = 0.5
"""Minimum horizontal overlap of two pieces of one digit, as a fraction of the narrower one's width."""
MAX_STACK_GAP = 0.15
"""Maximum vertical gap between two pieces of one digit, as a fraction of their height together."""
SAME_HEIGHT = 0.7
"""Minimum ratio of the heights, the smaller by the larger, of two pieces that show each other to be whole digits."""
MIN_LINE_OVERLAP = 0.5
"""Minimum vertical overlap of two neighbours in one line, as a fraction of the shorter one's height."""
MAX_NEIGHBOUR_GAP = 4.0
"""Maximum horizontal gap between two neighbours in one line, as a multiple of the taller one's height."""
WIDE = 0.9
"""Width divided by height from which ink may be digits that touch."""
VERY_WIDE = 1.3
"""Width divided by height that one of fifty MNIST digits exceeds. Such a digit is reported as wide."""
MAX_CUT = 1.7
"""Maximum ink that a cut between digits crosses, in stroke widths."""
MIN_CUT_WIDTH, MAX_CUT_WIDTH = 0.12, 1.5
"""Width divided by height of a digit that was cut off."""
MARGIN = 0.15
"""Margin around a digit when its threshold is computed, as a fraction of its longer side."""


@dataclass(frozen=True)
class Part:
    """One digit of a picture, or two and more that may touch."""

    ink: Picture
    """(h, w) from 0, paper, to 1, ink."""
    line: int = 0
    """The number of its line of writing, from 0 at the top."""
    touching: tuple[Picture, ...] = ()
    """If it may be digits that touch: the ink of each, from left to right."""
    is_wide: bool = False
    """Whether it is wider than nearly all single digits (VERY_WIDE)."""


class TooManyError(NoDigitError):
    """A picture has more than MAX_DIGITS digits."""


@dataclass
class _Digit:
    """One or several pieces that form a digit: their numbers, bounding box in pixels, sum of contrast, and line."""

    numbers: list[int]
    top: int
    bottom: int
    left: int
    right: int
    mass: float
    line: int = 0

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def take(self, other: _Digit) -> None:
        """Add another one's pieces."""
        self.numbers += other.numbers
        self.top, self.bottom = min(self.top, other.top), max(self.bottom, other.bottom)
        self.left, self.right = min(self.left, other.left), max(self.right, other.right)
        self.mass += other.mass


def digits_of(brightness: Picture) -> list[Part]:
    """The digits of a picture, from left to right and line by line.

    Args:
        brightness: (H, W) floats from 0, black, to 1, white.

    Errors: NoDigitError; TooManyError.
    """
    written = written_in(brightness)
    contrast = written.contrast if written.is_drawn else uncut(written.contrast)
    pieces, count = pieces_of(contrast)
    found = _digits(contrast, pieces, count)
    if len(found) > MAX_DIGITS:
        raise TooManyError
    inks = [_ink(written, contrast, pieces, digit) for digit in found] if len(found) > 1 else []
    if not any(map(is_of_strokes, inks)):
        return [_part(written.ink, 0)]
    _set_lines(found)
    places = [(digit.line, digit.left + digit.right) for digit in found]
    order = sorted(range(len(found)), key=places.__getitem__)
    return [_part(inks[number], found[number].line) for number in order]


def _part(ink: Picture, line: int) -> Part:
    height, width = _size(ink)
    return Part(ink, line, _apart(ink), width > VERY_WIDE * height)


def _size(ink: Picture) -> tuple[int, int]:
    """Height and width of the ink's bounding box, in pixels."""
    mask = ink > 0.5 * ink.max()
    height, width = (int(np.ptp(np.flatnonzero(mask.any(axis=axis)))) + 1 if mask.any() else 0 for axis in (1, 0))
    return height, width


def _digits(contrast: Picture, pieces: NDArray[np.int32], count: int) -> list[_Digit]:
    """The digits, each with the small pieces near it."""
    masses = ndimage.sum_labels(contrast, pieces, np.arange(1, count + 1))
    boxes = ndimage.find_objects(pieces)
    heaviest = float(masses.max())
    single = [
        _Digit([number + 1], *_edges(boxes[number]), float(masses[number]))
        for number in np.argsort(-masses, kind="stable").tolist()
        if masses[number] >= MIN_PIECE_MASS * heaviest
    ]
    if len(single) > 4 * MAX_DIGITS:
        raise TooManyError
    joined = _joined(single)
    main = max(joined, key=lambda digit: digit.mass)
    similarity = _Similarity(contrast, pieces, main)
    digits = [digit for digit in joined if digit is main or similarity.is_digit(digit)]
    for other in (digit for digit in joined if digit not in digits):
        nearest = min(digits, key=lambda digit: _distance(digit, other))
        if _distance(nearest, other) <= MAX_PIECE_GAP * max(nearest.height, nearest.width) and similarity.is_ink(other):
            nearest.take(other)
    return digits


def _edges(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    return box[0].start, box[0].stop, box[1].start, box[1].stop


def _joined(single: Sequence[_Digit]) -> list[_Digit]:
    """The pieces, joined by their positions for as long as any two belong to one digit."""
    pieces = [replace(piece) for piece in single]  # as they were: joined ones grow
    joined = list(single)
    changed = True
    while changed:
        changed = False
        for place, first in enumerate(joined):
            second = next((other for other in joined[place + 1 :] if _are_one(first, other, pieces)), None)
            if second is not None:
                first.take(second)
                joined.remove(second)
                changed = True
                break
    return joined


def _are_one(first: _Digit, second: _Digit, pieces: Sequence[_Digit]) -> bool:
    """Whether two pieces overlap horizontally, and overlap vertically or lie close above each other.

    Two digits of different lines may lie as close. They are told apart by their neighbours among all pieces.
    """
    shared = min(first.right, second.right) - max(first.left, second.left)
    if shared < MIN_OVERLAP * min(first.width, second.width):
        return False
    gap = max(first.top, second.top) - min(first.bottom, second.bottom)
    both = max(first.bottom, second.bottom) - min(first.top, second.top)
    if gap > MAX_STACK_GAP * both:
        return False
    return gap <= 0 or not (_has_own_line(first, second, pieces) or _has_own_line(second, first, pieces))


def _has_own_line(digit: _Digit, other: _Digit, pieces: Sequence[_Digit]) -> bool:
    """Whether a piece of about the digit's height stands beside it, and not beside the other one, which is no less
    than half as high: then the digit is whole. The halves of a broken digit have no such neighbour."""
    if min(digit.height, other.height) < MIN_HEIGHT * max(digit.height, other.height):
        return False
    return any(
        (one.left >= digit.right or one.right <= digit.left)
        and min(one.height, digit.height) >= SAME_HEIGHT * max(one.height, digit.height)
        and _in_line(one, digit)
        and not _in_line(one, other)
        for one in pieces
    )


def _distance(first: _Digit, second: _Digit) -> int:
    return max(
        first.top - second.bottom, second.top - first.bottom, first.left - second.right, second.left - first.right
    )


class _Similarity:
    """Compares digits with the heaviest one in the picture."""

    def __init__(self, contrast: Picture, pieces: NDArray[np.int32], main: _Digit) -> None:
        self._contrast, self._pieces, self._main = contrast, pieces, main
        self._contrast_of_main, self._stroke_width_of_main = self._measured(main)

    def _measured(self, digit: _Digit) -> tuple[float, float]:
        """The mean contrast, and the stroke width in pixels."""
        inside, mask = self._contrast[digit.top : digit.bottom, digit.left : digit.right], self._mask(digit)
        return float(inside[mask].mean()), _stroke(mask)

    def is_ink(self, digit: _Digit) -> bool:
        """Whether its contrast is similar."""
        return self._measured(digit)[0] >= MIN_CONTRAST * self._contrast_of_main

    def is_digit(self, digit: _Digit) -> bool:
        """Whether its size, contrast and stroke width are similar, and it is no printed line."""
        main = self._main
        if not (
            digit.mass >= MIN_INK * main.mass and MIN_HEIGHT * main.height <= digit.height <= main.height / MIN_HEIGHT
        ):
            return False
        contrast, stroke_width = self._measured(digit)
        if stroke_width < MAX_LINE_WIDTH * self._stroke_width_of_main and _spread(self._mask(digit)) < MAX_LINE_SPREAD:
            return False
        return (
            contrast >= MIN_CONTRAST * self._contrast_of_main
            and MIN_STROKE_WIDTH * self._stroke_width_of_main
            <= stroke_width
            <= MAX_STROKE_WIDTH * self._stroke_width_of_main
        )

    def _mask(self, digit: _Digit) -> Mask:
        rows, columns = slice(digit.top, digit.bottom), slice(digit.left, digit.right)
        return np.isin(self._pieces[rows, columns], digit.numbers)


def _stroke(mask: Mask) -> float:
    """The median stroke width, in pixels."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    ridge = (depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))
    return 2 * float(np.median(depth[ridge])) - 1


def _spread(mask: Mask) -> float:
    """The ratio of the standard deviations across and along a piece's principal axis: 0 for a thin straight line, 1
    for a disc."""
    across, along = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T.astype(np.float64)))
    return float(np.sqrt(max(0.0, across) / along)) if along > 0 else 1.0


def _set_lines(digits: Sequence[_Digit]) -> None:
    """Number the lines from the top. Neighbours that overlap vertically share a line, which may thus be sloped."""
    for number, digit in enumerate(digits):
        digit.line = number
    for first in digits:
        for second in digits:
            if first.line != second.line and _in_line(first, second):
                old = second.line
                for digit in digits:
                    digit.line = first.line if digit.line == old else digit.line
    lines = {digit.line for digit in digits}
    heights = {line: np.mean([one.top + one.bottom for one in digits if one.line == line]) for line in lines}
    order = {line: place for place, line in enumerate(sorted(lines, key=lambda line: heights[line]))}
    for digit in digits:
        digit.line = order[digit.line]


def _in_line(first: _Digit, second: _Digit) -> bool:
    shared = min(first.bottom, second.bottom) - max(first.top, second.top)
    apart = max(first.left, second.left) - min(first.right, second.right)
    high = max(first.height, second.height)
    return shared >= MIN_LINE_OVERLAP * min(first.height, second.height) and apart <= MAX_NEIGHBOUR_GAP * high


def _ink(written: Written, contrast: Picture, pieces: NDArray[np.int32], digit: _Digit) -> Picture:
    """A digit's ink, without its neighbours' ink."""
    margin = 1 if written.is_drawn else max(2, int(MARGIN * max(digit.height, digit.width)))
    rows = slice(max(0, digit.top - margin), digit.bottom + margin)
    columns = slice(max(0, digit.left - margin), digit.right + margin)
    inside, numbers = contrast[rows, columns], pieces[rows, columns]
    own = np.isin(numbers, digit.numbers)
    others = (numbers > 0) & ~own
    if others.any():
        nearer = ndimage.distance_transform_edt(~own) < ndimage.distance_transform_edt(~others)
        inside = np.where(nearer, inside, 0.0)
    if written.is_drawn:
        return inside
    return thickened(inked(inside))


def _apart(ink: Picture, wide: float = WIDE) -> tuple[Picture, ...]:
    """The inks of the digits that may touch in this ink, from left to right. Empty if it is narrower than `wide` (width
    divided by height) or there is no good cut."""
    mask = ink > 0.5 * ink.max()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return ()
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    if width < wide * height:
        return ()
    low = int(columns[0] + MIN_CUT_WIDTH * height)
    high = int(columns[-1] + 1 - MIN_CUT_WIDTH * height)
    side = _left_of_path(ink / ink.max(), low, high, MAX_CUT * _stroke(mask))
    if side is None:
        return ()
    halves = [np.where(side, ink, 0.0), np.where(side, 0.0, ink)]
    found: list[Picture] = []
    for half in halves:
        kept = half > 0.5 * ink.max()
        if not kept.any():
            return ()
        tall, broad = _size(kept)
        if tall < MIN_HEIGHT * height or broad < MIN_CUT_WIDTH * tall:
            return ()
        further = _apart(half, VERY_WIDE)
        if not further and broad > MAX_CUT_WIDTH * tall:
            return ()
        found += further or [half]
    return tuple(found)


def _left_of_path(ink: Picture, low: int, high: int, most: float) -> Mask | None:
    """A mask of the pixels left of the cheapest path from top to bottom between two columns, found by dynamic
    programming. None if it crosses more than `most` pixels of ink."""
    if high - low < 3:
        return None
    part = ink[:, low:high] + 0.002  # prefer the shorter path where there is no ink
    costs = np.empty_like(part)
    costs[0] = part[0]
    for row in range(1, len(part)):
        before = np.pad(costs[row - 1], 1, constant_values=np.inf)
        costs[row] = part[row] + np.minimum(before[1:-1], np.minimum(before[:-2], before[2:]) + 0.001)
    column = int(costs[-1].argmin())
    if costs[-1, column] > most + 0.004 * len(part):
        return None
    left = np.zeros(ink.shape, dtype=bool)
    for row in range(len(part) - 1, -1, -1):
        left[row, : low + column + 1] = True
        if row:
            start = max(0, column - 1)
            column = start + int(costs[row - 1, start : column + 2].argmin())
    return left
