"""Print the list of runs to the terminal. Score, status, name and path are shown at every width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_rows, tell_wrapped
from mnist_ff.analysis.run_list import Entry
from mnist_ff.runs.numbers import MISSING, percent_cell
from mnist_ff.runs.reading import local_time

MAX_ROWS_SHOWN = 100
"""Rows printed without --limit; --json has all of them."""
MAX_NOTE_LENGTH = 200
"""Letters printed of a note."""
SPARE = ("seconds", "data", "began", "tags", "val. (%)")
"""Columns that a narrow terminal leaves out, first ones first. The date is usually in the path too."""
OPTIONAL = ("tags", "val. (%)")
"""Columns that are left out if they are empty for all runs."""


def show(entries: Sequence[Entry], more: int, console: Console) -> None:
    """Print the table, the notes, and why broken runs are broken. `more` is the number of entries not in the table."""
    columns = ["began", "status", "test (%)", "val. (%)", "data", "seconds", "tags", "name", "path"]
    rows = [_cells(entry) for entry in entries]
    for name in OPTIONAL:
        column = columns.index(name)
        if all(row[column] in ("", MISSING) for row in rows):
            columns.pop(column)
            rows = [row[:column] + row[column + 1 :] for row in rows]
    left_out = tell_rows(console, columns, rows, ("status", "data", "tags", "name", "path"), SPARE)
    if left_out:
        tell_wrapped(console, f"Without {', '.join(left_out)} for lack of space; --json has them.", style="dim")
    if more:
        tell(console, f"and {more:,} more; --limit N shows N, --json lists all")
    for entry in entries:
        if entry.labels.note is not None:
            tell(console, f"note  {entry.path}: {_brief(entry.labels.note)}")
    for row in (row for entry in entries if not entry.sweep for row in entry.rows if row.status == "broken"):
        tell(console, f"broken  {row.reason}", style="red")


def _cells(entry: Entry) -> list[str]:
    best, seconds, moment = entry.best, entry.seconds, local_time(entry.began[0])
    validation = None if best is None else best.validation
    return [
        "?" if moment is None else moment.strftime("%Y-%m-%d %H:%M"),
        entry.status,
        percent_cell(None if best is None or best.test is None else best.test.accuracy),
        percent_cell(None if validation is None else validation.accuracy),
        str(entry.common("data.name") or MISSING),
        MISSING if seconds is None else f"{seconds:.1f}",
        ",".join(entry.labels.tags),
        entry.name or "",
        str(entry.path),
    ]


def _brief(text: str) -> str:
    return text if len(text) <= MAX_NOTE_LENGTH else f"{text[:MAX_NOTE_LENGTH]}..."
