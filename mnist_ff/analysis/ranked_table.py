"""The ranked tables on a terminal: rank, name, score and path fit whatever its width, other columns give way."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console

from mnist_ff.analysis.console import fitting, picked, room_of, table_lines, table_width, tell, tell_wrapped
from mnist_ff.analysis.formats import Table, counted, legend, table_of
from mnist_ff.analysis.labels import group_labels
from mnist_ff.analysis.ranking import Ranking

MOST_ROWS = 100
"""Of a table in a terminal; the files hold all."""
LEFT = ("name", "path", "rank", "status")
"""Columns that begin at the left."""
SHORTEST_NAME = 12
"""Letters to which a name is cut in the middle."""


def show_tables(console: Console, ranking: Ranking) -> None:
    """Print a table for each set of test images, then the runs that did not finish, and how many there are of each
    status."""
    labels = group_labels(ranking)
    for table in ranking.tables:
        if ranking.parts:
            tell(console, f"{table.title}:", style="bold underline")
        own, labels = labels[: len(table.groups)], labels[len(table.groups) :]
        _show_ranked(console, table, table_of(table, own))
    if ranking.parts:
        tell_wrapped(
            console, "The runs were evaluated on different test images; each set has its own ranking.", style="dim"
        )
    bad = table_of(ranking).bad
    for status, reason, keys, path in bad[:MOST_ROWS]:
        tell(console, f"{status}  {path}  {keys}  {reason}", style="red" if status != "not started" else None)
    if len(bad) > MOST_ROWS:
        tell(console, f"and {len(bad) - MOST_ROWS} more")
    tell(console, counted(ranking))


def _show_ranked(console: Console, ranking: Ranking, made: Table) -> None:
    if not made.ranked:
        return
    left_out = print_ranked(console, made)
    if left_out:
        said = f"Columns left out for lack of space: {', '.join(left_out)}. --csv and --json have them."
        tell_wrapped(console, said, style="dim")
    if len(made.ranked) > MOST_ROWS:
        tell(console, f"and {len(made.ranked) - MOST_ROWS} more; see sweep.csv, or use --csv")
    for line in legend(ranking):
        tell_wrapped(console, line, style="dim")


def print_ranked(console: Console, made: Table) -> list[str]:
    """Print the columns that there is room for; returns the names of those left out.

    Where even rank, name, score and path do not fit, a long name is cut in the middle, and after that the path stands
    in a line of its own, whole, so that it can be copied.
    """
    room = room_of(console)
    rows = made.ranked[:MOST_ROWS]
    heads = [in_lines(column) for column in made.columns]
    kept, gone = fitting(heads, rows, [in_lines(column) for column in made.spare], room)
    heads, rows = [heads[place] for place in kept], picked(rows, kept)
    if room is not None and table_width(heads, rows) > room and "name" in heads:
        rows = _with_short_names(rows, heads, room)
    paths: list[str] = []
    if room is not None and table_width(heads, rows) > room:
        paths, heads, rows = [row[-1] for row in rows], heads[:-1], [row[:-1] for row in rows]
        if table_width(heads, rows) > room and "name" in heads:
            rows = _with_short_names(rows, heads, room)
    above, lines = table_lines(heads, rows, LEFT)
    for line in above:
        tell(console, line, style="bold")
    for place, line in enumerate(lines):
        tell(console, line)
        if paths:
            tell(console, f"  {paths[place]}")
    return [column for column in made.columns if in_lines(column) in gone]


def _with_short_names(rows: Sequence[Sequence[str]], heads: Sequence[str], room: int) -> list[list[str]]:
    """The rows with names cut so that lines fit; as they are where that cannot be, or names would become the same."""
    at = list(heads).index("name")
    longest = max(cell_len(row[at]) for row in rows)
    length = longest - (table_width(heads, rows) - room)
    short = [_shortened(row[at], max(SHORTEST_NAME, length)) for row in rows]
    if len(set(short)) < len({row[at] for row in rows}):
        return [list(row) for row in rows]
    return [[*row[:at], name, *row[at + 1 :]] for row, name in zip(rows, short, strict=True)]


def _shortened(name: str, length: int) -> str:
    """A name without its middle; its end, which often has a number, stays."""
    if cell_len(name) <= length:
        return name
    begin, end = name, name
    while cell_len(begin) > (length - 1) - (length - 1) // 3:
        begin = begin[:-1]
    while cell_len(end) > (length - 1) // 3:
        end = end[1:]
    return f"{begin}…{end}"


def in_lines(column: str) -> str:
    """A column's name in several lines makes it narrow."""
    return column.replace(".", ".\n").replace(" ", "\n")
