"""Several digits in one picture: cut apart, in the order in which they are read.

A piece of ink is a digit of its own where it is about as high as the heaviest one, has a fair part of its ink and of
its contrast, and strokes of about the same width. All other pieces belong to the digit beside them, as the bar of a 5
does, or to none. Pieces above each other, or one across the other, are one digit. A picture with one digit gives what
segment.ink_of() gives.

A piece that is wider than high may be two digits that touch. It is cut where a line from top to bottom crosses the
least ink, if both sides are as high as digits. Whether it is one digit or two, its shape does not tell: both are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_ff.images.paper import Mask, Picture
from mnist_ff.images.segment import (
    REACH,
    SPECK,
    NoDigitError,
    Written,
    inked,
    is_of_strokes,
    pieces_of,
    thickened,
    uncut,
    written_in,
)

MOST_DIGITS = 100
"""In a picture; more are noise, or a page of text."""
AS_HIGH = 0.5
"""Of the heaviest digit's height: what another one has at least; and that one of this one."""
AS_HEAVY = 0.12
"""Of the heaviest digit's ink: what another one has at least; a 1 has a third of an 8's."""
AS_DARK = 0.55
"""Of the heaviest digit's mean contrast."""
AS_BOLD = (0.22, 4.5)
"""Of the heaviest digit's width of stroke."""
RULED = (0.065, 0.65)
"""Spread across of the spread along, and width of the heaviest digit's strokes, below both of which a piece is a
printed line, such as a tooth of a comb to write in: those have 0.02 to 0.053 and 0.25 to 0.56, MNIST's ones at least
0.084."""
ACROSS = 0.5
"""Of the narrower of two pieces: what lies above, below or across the other one is part of the same digit."""
STACKED = 0.15
"""Of the height of both: pieces above each other that are nearer are one digit."""
SAME_LINE = 0.5
"""Of the lower of two digits: what their heights share at least when they stand in one line."""
FAR = 4.0
"""Times the higher of two digits: what is farther apart does not set a line's slope."""
WIDE = 0.9
"""Width of its height: what is wider may be digits that touch."""
TOO_WIDE = 1.3
"""Width of its height, which one of fifty of MNIST's digits has: worth a remark."""
CROSSED = 1.7
"""Strokes that a cut between digits crosses at most."""
NARROWEST, WIDEST = 0.12, 1.5
"""Width of its height, of a digit that is cut off."""
MARGIN = 0.15
"""Of a digit's longer side: paper around it, for its threshold."""


@dataclass(frozen=True)
class Part:
    """One digit of a picture, or two and more that may touch."""

    ink: Picture
    """(h, w) from 0, paper, to 1, ink."""
    line: int = 0
    """The line of writing that it stands in, from 0."""
    touching: tuple[Picture, ...] = ()
    """Where it may be digits that touch: the ink of each, from left to right."""
    is_wide: bool = False
    """Whether it is wider than nearly every single digit."""


class TooManyError(NoDigitError):
    """More pieces than digits are read from one picture."""


@dataclass
class _Digit:
    """Pieces that belong together."""

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
        """Become one with another."""
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
    if len(found) > MOST_DIGITS:
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
    return Part(ink, line, _apart(ink), width > TOO_WIDE * height)


def _size(ink: Picture) -> tuple[int, int]:
    """Height and width of what is inked."""
    mask = ink > 0.5 * ink.max()
    height, width = (int(np.ptp(np.flatnonzero(mask.any(axis=axis)))) + 1 if mask.any() else 0 for axis in (1, 0))
    return height, width


def _digits(contrast: Picture, pieces: NDArray[np.int32], count: int) -> list[_Digit]:
    """What counts as a digit of its own, with the small pieces beside it."""
    masses = ndimage.sum_labels(contrast, pieces, np.arange(1, count + 1))
    boxes = ndimage.find_objects(pieces)
    heaviest = float(masses.max())
    alone = [
        _Digit([number + 1], *_edges(boxes[number]), float(masses[number]))
        for number in np.argsort(-masses, kind="stable").tolist()
        if masses[number] >= SPECK * heaviest
    ]
    if len(alone) > 4 * MOST_DIGITS:
        raise TooManyError
    joined = _joined(alone)
    main = max(joined, key=lambda digit: digit.mass)
    like = _Likeness(contrast, pieces, main)
    digits = [digit for digit in joined if digit is main or like.is_digit(digit)]
    for rest in (digit for digit in joined if digit not in digits):
        near = min(digits, key=lambda digit: _distance(digit, rest))
        if _distance(near, rest) <= REACH * max(near.height, near.width) and like.is_ink(rest):
            near.take(rest)
    return digits


def _edges(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    return box[0].start, box[0].stop, box[1].start, box[1].stop


def _joined(alone: Sequence[_Digit]) -> list[_Digit]:
    """Pieces that are one digit by their places, taken together until none is left to take."""
    joined = list(alone)
    changed = True
    while changed:
        changed = False
        for place, first in enumerate(joined):
            second = next((other for other in joined[place + 1 :] if _are_one(first, other)), None)
            if second is not None:
                first.take(second)
                joined.remove(second)
                changed = True
                break
    return joined


def _are_one(first: _Digit, second: _Digit) -> bool:
    """Whether two pieces lie across each other, or one close above the other."""
    shared = min(first.right, second.right) - max(first.left, second.left)
    if shared < ACROSS * min(first.width, second.width):
        return False
    gap = max(first.top, second.top) - min(first.bottom, second.bottom)
    both = max(first.bottom, second.bottom) - min(first.top, second.top)
    return gap <= 0 or gap <= STACKED * both


def _distance(first: _Digit, second: _Digit) -> int:
    return max(
        first.top - second.bottom, second.top - first.bottom, first.left - second.right, second.left - first.right
    )


class _Likeness:
    """What a digit has in common with the heaviest one of its picture."""

    def __init__(self, contrast: Picture, pieces: NDArray[np.int32], main: _Digit) -> None:
        self._contrast, self._pieces, self._main = contrast, pieces, main
        self._dark, self._bold = self._facts(main)

    def _facts(self, digit: _Digit) -> tuple[float, float]:
        """Mean contrast, and the width of the strokes."""
        inside, mask = self._contrast[digit.top : digit.bottom, digit.left : digit.right], self._mask(digit)
        return float(inside[mask].mean()), _stroke(mask)

    def is_ink(self, digit: _Digit) -> bool:
        """Whether it is as dark as ink."""
        return self._facts(digit)[0] >= AS_DARK * self._dark

    def is_digit(self, digit: _Digit) -> bool:
        """Whether it is as large, as dark and as bold as a digit."""
        main = self._main
        if not (digit.mass >= AS_HEAVY * main.mass and AS_HIGH * main.height <= digit.height <= main.height / AS_HIGH):
            return False
        dark, bold = self._facts(digit)
        if bold < RULED[1] * self._bold and _spread(self._mask(digit)) < RULED[0]:
            return False
        return dark >= AS_DARK * self._dark and AS_BOLD[0] * self._bold <= bold <= AS_BOLD[1] * self._bold

    def _mask(self, digit: _Digit) -> Mask:
        rows, columns = slice(digit.top, digit.bottom), slice(digit.left, digit.right)
        return np.isin(self._pieces[rows, columns], digit.numbers)


def _stroke(mask: Mask) -> float:
    """The usual width of strokes, in pixels."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    ridge = (depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))
    return 2 * float(np.median(depth[ridge])) - 1


def _spread(mask: Mask) -> float:
    """How far a piece spreads across its longest direction, of how far along it: 0 of a thin straight line, 1 of a
    round spot."""
    across, along = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T.astype(np.float64)))
    return float(np.sqrt(max(0.0, across) / along)) if along > 0 else 1.0


def _set_lines(digits: Sequence[_Digit]) -> None:
    """Number the lines from the top. Neighbours whose heights overlap stand in one, also where it rises or falls."""
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
    return shared >= SAME_LINE * min(first.height, second.height) and apart <= FAR * high


def _ink(written: Written, contrast: Picture, pieces: NDArray[np.int32], digit: _Digit) -> Picture:
    """A digit's ink, without that of its neighbours."""
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
    """The inks of digits that may touch in this one, from left to right; none where it is not wide, or has no cut."""
    mask = ink > 0.5 * ink.max()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return ()
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    if width < wide * height:
        return ()
    low = int(columns[0] + NARROWEST * height)
    high = int(columns[-1] + 1 - NARROWEST * height)
    side = _left_of_cut(ink / ink.max(), low, high, CROSSED * _stroke(mask))
    if side is None:
        return ()
    halves = [np.where(side, ink, 0.0), np.where(side, 0.0, ink)]
    found: list[Picture] = []
    for half in halves:
        kept = half > 0.5 * ink.max()
        if not kept.any():
            return ()
        tall, broad = _size(kept)
        if tall < AS_HIGH * height or broad < NARROWEST * tall:
            return ()
        further = _apart(half, TOO_WIDE)
        if not further and broad > WIDEST * tall:
            return ()
        found += further or [half]
    return tuple(found)


def _left_of_cut(ink: Picture, low: int, high: int, most: float) -> Mask | None:
    """What lies left of the line from top to bottom, between two columns, that crosses the least ink; None where that
    is more than `most` pixels of it."""
    if high - low < 3:
        return None
    part = ink[:, low:high] + 0.002  # a short way, where there is no ink
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
