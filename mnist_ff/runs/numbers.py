"""Format numbers for people, in one style on the terminal, in Markdown and on pages."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ff.runs.records import Score

MISSING = "-"
"""Shown for a missing value."""
EXACT_BELOW = 1e15
"""Larger numbers have no digits after the point that mean anything."""


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A number with so many digits after the point, rounded as JavaScript's toFixed(): a tie goes away from zero, where
    Python's own format goes to the even digit. Pages and terminal then show the same: 94.63 for 94.625."""
    if not abs(value) < EXACT_BELOW:
        return f"{value:{sign}.{digits}f}"
    return f"{Decimal(float(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):{sign}f}"


def percent(share: float | None, digits: int | None = 2) -> str:
    """A fraction from 0 to 1 as percent: 98.47 %. With `digits=None`, up to six significant digits: 12.5 %."""
    if share is None:
        return MISSING
    return f"{100 * share:.6g} %" if digits is None else f"{fixed(100 * share, digits)} %"


def percent_change(share: float | None, digits: int = 1) -> str:
    """A fraction as a percent change, with its sign: +1.3 %."""
    return MISSING if share is None else f"{fixed(100 * share, digits, '+')} %"


def percent_cell(share: float | None, digits: int = 2) -> str:
    """A fraction as percent without the unit, for columns that name it in their head: 98.47."""
    return MISSING if share is None else fixed(100 * share, digits)


def loss_text(loss: float | None) -> str:
    """A loss with four digits: 0.0612."""
    return MISSING if loss is None else fixed(loss, 4)


def score_text(score: Score) -> str:
    """A score in one line: loss 0.0612, accuracy 98.47 %."""
    return f"loss {loss_text(score.loss)}, accuracy {percent(score.accuracy)}"


def duration(seconds: float) -> str:
    """Seconds, rounded up, as 0:05, 12:34 or 1:02:03; from 100 hours on as 123 h."""
    whole = math.ceil(seconds - 1e-6)
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours:,} h"
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def counted(number: int, noun: str) -> str:
    """A number with its noun in singular or plural: 1 job, 2 jobs, 4,000 images, 3 batches."""
    plural = f"{noun}{'es' if noun.endswith(('tch', 's', 'x')) else 's'}"
    return f"{number:,} {noun if number == 1 else plural}"
