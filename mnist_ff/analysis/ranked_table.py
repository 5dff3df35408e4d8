"""Print ranked tables to the terminal. A narrow one leaves out columns, but never rank, name, score and path."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console

from mnist_ff.analysis.console import fitting, picked, room_of, table_lines, table_width, tell, tell_wrapped
from mnist_ff.analysis.formats import Table, counted, legend, table_of
from mnist_ff.analysis.labels import group_labels
from mnist_ff.analysis.ranking import Ranking

MAX_ROWS = 100
"""Rows printed of a table; sweep.csv and --csv have all of them."""
LEFT = ("name", "path", "rank", "status")
"""Left-aligned columns."""
MIN_NAME_LENGTH = 12
"""A name is not cut to fewer letters."""


def show_tables(console: Console, ranking: Ranking) -> None:
    """Print a table for each set of test images, the runs that did not finish, and the number of runs by status."""
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
    for status, reason, keys, path in bad[:MAX_ROWS]:
        tell(console, f"{status}  {path}  {keys}  {reason}", style="red" if status != "not started" else None)
    if len(bad) > MAX_ROWS:
        tell(console, f"and {len(bad) - MAX_ROWS} more")
    tell(console, counted(ranking))


def _show_ranked(console: Console, ranking: Ranking, made: Table) -> None:
    if not made.ranked:
        return
    left_out = print_ranked(console, made)
    if left_out:
        said = f"Columns left out for lack of space: {', '.join(left_out)}. --csv and --json have them."
        tell_wrapped(console, said, style="dim")
    if len(made.ranked) > MAX_ROWS:
        tell(console, f"and {len(made.ranked) - MAX_ROWS} more; see sweep.csv, or use --csv")
    for line in legend(ranking):
        tell_wrapped(console, line, style="dim")


def print_ranked(console: Console, made: Table) -> list[str]:
    """Print the columns that fit, and return the names of those left out.

    If not even rank, name, score and path fit, long names are cut in the middle. If that is not enough, or if there is
    room for a key only without the path, each path is printed on a line of its own, so that it can be copied, and the
    other columns have the whole width.
    """
    room = room_of(console)
    heads, rows = [in_lines(column) for column in made.columns], made.ranked[:MAX_ROWS]
    spare = [in_lines(column) for column in made.spare]
    shown, cells, gone = _fitting(heads, rows, spare, room)
    keys, paths = {in_lines(key) for key in made.keys}, list[str]()
    if room is not None and (table_width(shown, cells) > room or keys & {*gone}):
        without_path = _fitting(heads[:-1], [row[:-1] for row in rows], spare, room)
        if table_width(shown, cells) > room or len(keys & {*without_path[2]}) < len(keys & {*gone}):
            (shown, cells, gone), paths = without_path, [row[-1] for row in rows]
    above, lines = table_lines(shown, cells, LEFT)
    for line in above:
        tell(console, line, style="bold")
    for number, line in enumerate(lines):
        tell(console, line)
        if paths:
            tell(console, f"  {paths[number]}")
    return [column for column in made.columns if in_lines(column) in gone]


def _fitting(
    heads: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str], room: int | None
) -> tuple[list[str], list[list[str]], Collection[str]]:
    """The columns that fit with their cells, names cut where nothing else helps, and the columns left out."""
    kept, gone = fitting(heads, rows, spare, room)
    shown, cells = [heads[column] for column in kept], [list(row) for row in picked(rows, kept)]
    if room is not None and table_width(shown, cells) > room and "name" in shown:
        cells = _with_short_names(cells, shown, room)
    return shown, cells, gone


def _with_short_names(rows: Sequence[Sequence[str]], heads: Sequence[str], room: int) -> list[list[str]]:
    """The rows with names cut so that lines fit. They stay as they are if cut names would not differ."""
    at = list(heads).index("name")
    longest = max(cell_len(row[at]) for row in rows)
    length = longest - (table_width(heads, rows) - room)
    short = [_shortened(row[at], max(MIN_NAME_LENGTH, length)) for row in rows]
    if len(set(short)) < len({row[at] for row in rows}):
        return [list(row) for row in rows]
    return [[*row[:at], name, *row[at + 1 :]] for row, name in zip(rows, short, strict=True)]


def _shortened(name: str, length: int) -> str:
    """A name cut in the middle, as its end often has a number."""
    if cell_len(name) <= length:
        return name
    begin, end = name, name
    while cell_len(begin) > (length - 1) - (length - 1) // 3:
        begin = begin[:-1]
    while cell_len(end) > (length - 1) // 3:
        end = end[1:]
    return f"{begin}…{end}"


def in_lines(column: str) -> str:
    """A column's name broken into several lines, which makes the column narrow."""
    return column.replace(".", ".\n").replace(" ", "\n")
