"""Format numbers for people, in one style on the terminal, in Markdown and on pages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ff.runs.records import Score

MISSING = "-"
"""Shown for a missing value."""


def percent(share: float | None, digits: int | None = 2) -> str:
    """A fraction from 0 to 1 as percent: 98.47 %. With `digits=None`, up to six significant digits: 12.5 %."""
    if share is None:
        return MISSING
    return f"{100 * share:.6g} %" if digits is None else f"{100 * share:.{digits}f} %"


def percent_change(share: float | None, digits: int = 1) -> str:
    """A fraction as a percent change, with its sign: +1.3 %."""
    return MISSING if share is None else f"{100 * share:+.{digits}f} %"


def percent_cell(share: float | None, digits: int = 2) -> str:
    """A fraction as percent without the unit, for columns that name it in their head: 98.47."""
    return MISSING if share is None else f"{100 * share:.{digits}f}"


def loss_text(loss: float | None) -> str:
    """A loss with four digits: 0.0612."""
    return MISSING if loss is None else f"{loss:.4f}"


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
