"""Numbers to text for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_ff.records import Score

RAMP = " .:-=+*#%@"
"""Letters from paper to ink."""


def note(text: str) -> None:
    """A remark in one line on stderr, where it is in no program's way."""
    sys.stderr.write(printable(text) + "\n")


def tell(console: Console, text: str, style: str | None = None) -> None:
    """Print a line as it is, names and paths in it: neither markup nor a terminal's commands, and never cut."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


def picture(image: NDArray[np.uint8], colours: bool) -> Text:
    """An image of (H, W), H even, as lines of W letters, each two pixels high: half blocks in greys, or a letter as
    dark as the mean of its two pixels."""
    if not colours:
        means = (image[0::2].astype(int) + image[1::2]) * len(RAMP) // 512
        return Text("\n".join("".join(RAMP[level] for level in row).rstrip() for row in means))
    text = Text()
    for upper, lower in zip(image[0::2].tolist(), image[1::2].tolist(), strict=True):
        for top, bottom in zip(upper, lower, strict=True):
            text.append("▀", style=f"rgb({top},{top},{top}) on rgb({bottom},{bottom},{bottom})")
        text.append("\n")
    text.rstrip()
    return text


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
    """A plain table of texts in which nothing is markup; every column but the first is right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*[Text(printable(str(cell))) for cell in row])
    return made
