"""Print text, tables, JSON and images to the terminal."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mnist_ff.errors import ConfigError, printable
from mnist_ff.runs.numbers import percent, percent_cell
from mnist_ff.runs.start_up import erase

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnist_ff.runs.records import Score

RAMP = " .:-=+*#%@"
"""Letters for grey values, from paper to ink."""
_documents = 0


def note(text: str) -> None:
    """Print a line to stderr."""
    erase()
    sys.stderr.write(printable(text) + "\n")


def warning(text: str) -> None:
    """Print a warning as one line to stderr."""
    note(f"warning: {text}")


def out(text: str) -> None:
    """Print lines to stdout, for programs and for help: nothing is wrapped or coloured."""
    erase()
    sys.stdout.write("".join(f"{printable(line)}\n" for line in text.splitlines()))


def ask(question: str) -> bool:
    """Ask a yes-or-no question on stderr; only "y" or "yes" is True. Errors: ConfigError if stdin is not a terminal."""
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise ConfigError(f"{question} Nobody can answer here; give --yes")
    sys.stderr.write(printable(f"{question} [y/N] "))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def tell_json(value: Any) -> None:
    """Print one JSON document to stdout, in ASCII without control characters. Errors: ValueError for NaN."""
    global _documents
    out(json.dumps(value, indent=1, allow_nan=False).replace("\x7f", "\\u007f"))
    _documents += 1


def documents() -> int:
    """The number of JSON documents printed so far. A command that fails may have printed one before."""
    return _documents


def tell(console: Console, text: str, style: str | None = None) -> None:
    """Print a line. Names and paths in it are escaped, never read as markup or escape codes, and never cut."""
    erase()
    console.print(printable(text), style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def tell_wrapped(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence, wrapped between words to the terminal's width; in a pipe, in one line.

    Print commands and paths that a user copies with tell() instead.
    """
    room = room_of(console)
    indent = " " * (len(text) - len(text.lstrip()))
    for line in textwrap.wrap(text, room, subsequent_indent=indent, break_on_hyphens=False) if room else [text]:
        tell(console, line, style)


def tell_lines(console: Console, text: str, style: str | None = None) -> None:
    """Print a text of several lines, each as tell() does. Names in it must not contain newlines."""
    for line in text.split("\n"):
        tell(console, line, style)


def complain(text: str, style: str | None = "red") -> None:
    """Print an error message to stderr."""
    tell_lines(Console(stderr=True), text, style)


def tell_picture(console: Console, image: NDArray[np.uint8], colours: bool) -> None:
    """Print an image, see picture()."""
    erase()
    console.print(picture(image, colours), soft_wrap=True)


def tell_rows(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    left: Collection[str] = (),
    spare: Sequence[str] = (),
) -> list[str]:
    """Print a table whose last two columns, a name and a path, are never cut.

    In a narrow terminal the columns of `spare` are left out, first ones first. If that is not enough, each row's path,
    and then its name too, is printed below the row. Returns the columns that were left out.
    """
    cells, room = [[printable(str(cell)) for cell in row] for row in rows], room_of(console)
    for count in range(len(columns), len(columns) - 3, -1):
        kept, left_out = fitting(columns[:count], cells, spare, room)
        shown = [columns[at] for at in kept]
        if room is None or table_width(shown, picked(cells, kept)) <= room:
            break
    heads, lines = table_lines(shown, picked(cells, kept), left)
    for head in heads:
        tell(console, head, "bold")
    for line, row in zip(lines, cells, strict=True):
        tell(console, line)
        for text in row[count:]:
            if text:
                tell(console, f"  {text}")
    return left_out


def tell_table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    left: Collection[str] = (),
    spare: Sequence[str] = (),
    title: str | None = None,
) -> list[str]:
    """Print a table. No cell is cut and no line wrapped, so that paths can be copied.

    The first column and those in `left` are left-aligned, the others right-aligned. A column's name may have several
    lines. In a narrow terminal the columns of `spare` are left out, first ones first; their names are returned.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    kept, left_out = fitting(columns, cells, spare, room_of(console))
    heads, lines = table_lines([columns[at] for at in kept], picked(cells, kept), left)
    if title is not None:
        tell(console, title, "italic")
    for line in heads:
        tell(console, line, "bold")
    for line in lines:
        tell(console, line)
    return left_out


def room_of(console: Console) -> int | None:
    """The width of the terminal in columns; None for a pipe, where lines may have any length."""
    return console.width if console.is_terminal else None


def fitting(
    columns: Sequence[str], cells: Sequence[Sequence[str]], spare: Sequence[str], room: int | None
) -> tuple[list[int], list[str]]:
    """The indices of the columns that fit into `room`, and the names of the spare ones that were left out."""
    left_out: list[str] = []
    while True:
        kept = [at for at, column in enumerate(columns) if column not in left_out]
        more = [column for column in spare if column in columns and column not in left_out]
        if room is None or not more or table_width([columns[at] for at in kept], picked(cells, kept)) <= room:
            return kept, left_out
        left_out.append(more[0])


def picked(cells: Sequence[Sequence[str]], kept: Sequence[int]) -> list[list[str]]:
    """The cells of the columns with these indices."""
    return [[row[at] for at in kept] for row in cells]


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    heads = [[printable(line) for line in column.split("\n")] for column in columns]
    return [max(cell_len(text) for text in (*head, *(row[at] for row in cells))) for at, head in enumerate(heads)]


def table_width(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """The width of a table in terminal columns."""
    return sum(_widths(columns, cells)) + 2 * (len(columns) - 1)


def table_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], left: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """The lines of a table: those of its header, and one for each row. See tell_table()."""
    heads = [[printable(line) for line in column.split("\n")] for column in columns]
    widths = _widths(columns, cells)
    flush = [at == 0 or column in left for at, column in enumerate(columns)]
    above = [[head[number] if number < len(head) else "" for head in heads] for number in range(max(map(len, heads)))]
    return [_line(texts, widths, flush) for texts in above], [_line(row, widths, flush) for row in cells]


def _line(texts: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    """Texts in columns of these widths, two spaces apart."""
    padded = []
    for text, width, flush in zip(texts, widths, left, strict=True):
        space = " " * (width - cell_len(text))
        padded.append(text + space if flush else space + text)
    return "  ".join(padded).rstrip()


def picture(image: NDArray[np.uint8], colours: bool) -> Text:
    """An image, uint8 (H, W) with H even, as H / 2 lines of W letters. Each letter shows two pixels: with `colours` a
    half block in two greys, else a letter of RAMP for their mean."""
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


def accuracy_text(score: Score) -> str:
    """Accuracy in percent, with its 95 % interval and the counts."""
    low, high = score.interval()
    interval = f"95 % interval {percent_cell(low)} to {percent(high)}"
    return f"{percent(score.accuracy)} ({interval}, {score.correct:,} of {score.samples:,})"
