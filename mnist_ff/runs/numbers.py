"""Numbers as people read them, in one style on the terminal, in Markdown and on pages."""

from __future__ import annotations

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
