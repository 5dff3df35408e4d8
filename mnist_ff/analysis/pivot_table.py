"""Print pivot tables to the terminal, in blocks of as many columns as fit."""

from __future__ import annotations

from rich.console import Console

from mnist_ff.analysis.console import picked, room_of, table_lines, table_width, tell, tell_wrapped
from mnist_ff.analysis.pivot import Pivot, pivot_of, value_text
from mnist_ff.analysis.ranking import Ranking


def show_pivots(console: Console, ranking: Ranking, rows: str, columns: str) -> None:
    """Print a pivot table for each set of test images."""
    for table in ranking.tables:
        if ranking.parts:
            tell(console, f"{table.title}:", style="bold underline")
        found = pivot_of(table, rows, columns)
        if found is None:
            tell(console, "no run has a rank")
            continue
        _print(console, found)
        for line in found.notes:
            tell_wrapped(console, line, style="dim")


def _print(console: Console, found: Pivot) -> None:
    head = found.rows.replace(".", ".\n")
    values = [value_text(value) for value in found.column_values]
    cells = [[value_text(value), *line] for value, line in zip(found.row_values, found.texts, strict=True)]
    heads = [head, *values]
    room = room_of(console)
    at = 1
    while at < len(heads):
        last = at + 1
        while last < len(heads) and (room is None or _width(heads, cells, at, last + 1) <= room):
            last += 1
        kept = [0, *range(at, last)]
        above, lines = table_lines([heads[column] for column in kept], picked(cells, kept), head)
        for line in above:
            tell(console, line, style="bold")
        for line in lines:
            tell(console, line)
        at = last


def _width(heads: list[str], cells: list[list[str]], first: int, last: int) -> int:
    kept = [0, *range(first, last)]
    return table_width([heads[column] for column in kept], picked(cells, kept))
