"""Numbers as people read them, in one style on the terminal, in Markdown and on pages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ff.runs.records import Score

MISSING = "-"
"""What stands where there is no number."""


def percent(share: float | None, digits: int | None = 2) -> str:
    """A share from 0 to 1 in percent, with its unit: 98.47 %. Without `digits` as many as it has: 12.5 %."""
    if share is None:
        return MISSING
    return f"{100 * share:.6g} %" if digits is None else f"{100 * share:.{digits}f} %"


def percent_change(share: float | None, digits: int = 1) -> str:
    """The same with its sign: +1.3 %."""
    return MISSING if share is None else f"{100 * share:+.{digits}f} %"


def percent_cell(share: float | None, digits: int = 2) -> str:
    """The same for a column whose head has the unit: 98.47."""
    return MISSING if share is None else f"{100 * share:.{digits}f}"


def loss_text(loss: float | None) -> str:
    """A loss with four digits: 0.0612."""
    return MISSING if loss is None else f"{loss:.4f}"


def score_text(score: Score) -> str:
    """A score in one line: loss 0.0612, accuracy 98.47 %."""
    return f"loss {loss_text(score.loss)}, accuracy {percent(score.accuracy)}"


def duration(seconds: float) -> str:
    """Seconds, rounded up to whole ones: 0:05, 12:34, 1:02:03; from a hundred hours on 123 h."""
    whole = math.ceil(seconds - 1e-6)
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours:,} h"
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def counted(number: int, noun: str) -> str:
    """A number of things: 1 job, 2 jobs, 4,000 images, 3 batches."""
    plural = f"{noun}{'es' if noun.endswith(('tch', 's', 'x')) else 's'}"
    return f"{number:,} {noun if number == 1 else plural}"
