"""Numbers to text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mnist_ff.records import Score


def printable(text: str) -> str:
    """A text of one line in which a terminal finds no command: what cannot be printed is a space."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def score_text(score: Score) -> str:
    """A score as the tutorial prints it: [loss, accuracy]."""
    return f"[{score.loss:.6f}, {score.accuracy:.4f}]"


def accuracy_text(score: Score) -> str:
    """Accuracy in percent with its 95 % interval."""
    low, high = score.interval()
    return f"{score.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, {score.correct:,} of {score.samples:,})"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A plain table; every column but the first is right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*[str(cell) for cell in row])
    return made
