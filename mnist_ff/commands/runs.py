"""List the runs and sweeps in outputs/, newest first."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_json, tell_table
from mnist_ff.analysis.rows import Row, collect, read_row
from mnist_ff.config.paths import path_argument
from mnist_ff.errors import BadRunError
from mnist_ff.runs.find import OUTPUTS, run_start, runs_below, sweep_start, sweeps_below
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.reading import is_folder, local_time, why_no_folder

MAX_ROWS_SHOWN = 100
"""Lines of the table in a terminal; --json holds all."""

NARROW_WITHOUT = ("began", "seconds", "data", "name", "status", "accuracy")
"""Columns that a narrow terminal does without, the first ones first. A path mostly holds the date."""


@dataclass(frozen=True)
class Entry:
    """A line of the list: a run, or a sweep with all its jobs."""

    path: Path
    began: tuple[float, float]
    rows: tuple[Row, ...]
    sweep: bool

    @property
    def best(self) -> Row | None:
        """The run with the best accuracy: of the validation images where all have a split, else of the test's."""
        scored = [row for row in self.rows if row.test is not None]
        if scored and all(row.validation is not None for row in scored):
            return max(scored, key=lambda row: row.validation.accuracy if row.validation else 0.0)
        return max(scored, key=lambda row: row.test.accuracy if row.test else 0.0, default=None)

    @property
    def status(self) -> str:
        """finished, or of a sweep: 6 jobs: 5 finished, 1 failed."""
        if not self.sweep:
            return self.rows[0].status
        counts = Counter(row.status for row in self.rows)
        return f"{len(self.rows)} jobs: {', '.join(f'{count} {status}' for status, count in counts.items())}"

    def common(self, key: str) -> Any:
        """The value of a config's key where all runs share it, else None."""
        values = [row.values[key] for row in self.rows if key in row.values]
        return values[0] if values and all(value == values[0] for value in values) else None

    @property
    def seconds(self) -> float | None:
        """Of all runs together."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        return sum(known) if known else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=path_argument,
        default=OUTPUTS,
        metavar="FOLDER",
        help="folder to search (default: outputs)",
    )
    parser.add_argument("--all", action="store_true", help="one line per job instead of one per sweep")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print the list. Errors: BadRunError for a folder that is none."""
    folder: Path = arguments.folder
    if folder != OUTPUTS and not is_folder(folder):
        raise BadRunError(f"{folder}: {why_no_folder(folder)}; mnist-ff runs without a folder lists outputs/")
    entries = found_in(folder, arguments.all)
    if arguments.json:
        tell_json([_json(entry) for entry in entries])
    elif not entries:
        tell(console, f"No runs in {folder}/ yet. mnist-ff train starts one.")
    else:
        _show(entries, console)
    return 0


def found_in(folder: Path, jobs: bool) -> list[Entry]:
    """The runs and sweeps of a folder, the newest first; with `jobs`, a sweep's jobs one by one."""
    sweeps = [] if jobs else sweeps_below(folder)
    apart = [path for path in runs_below(folder) if not any(sweep in path.parents for sweep in sweeps)]
    entries = [Entry(path, run_start(path), (read_row(path),), sweep=False) for path in apart]
    entries += [Entry(sweep, sweep_start(sweep), tuple(collect([sweep])), sweep=True) for sweep in sweeps]
    return sorted(entries, key=lambda entry: entry.began, reverse=True)


def _show(entries: Sequence[Entry], console: Console) -> None:
    rows = [_cells(entry) for entry in entries[:MAX_ROWS_SHOWN]]
    columns = ("began", "status", "accuracy", "data", "seconds", "name", "path")
    left_out = tell_table(console, columns, rows, ("status", "data", "name", "path"), NARROW_WITHOUT)
    if left_out:
        tell(console, f"Columns left out for lack of space: {', '.join(left_out)}. --json has them.", style="dim")
    if len(entries) > MAX_ROWS_SHOWN:
        tell(console, f"and {len(entries) - MAX_ROWS_SHOWN} more; --json lists all")
    for row in (
        row for entry in entries[:MAX_ROWS_SHOWN] if not entry.sweep for row in entry.rows if row.status == "broken"
    ):
        tell(console, f"broken  {row.reason}", style="red")


def _cells(entry: Entry) -> list[str]:
    best, seconds = entry.best, entry.seconds
    data, moment = entry.common("data.name"), local_time(entry.began[0])
    return [
        "?" if moment is None else moment.strftime("%Y-%m-%d %H:%M"),
        entry.status,
        "" if best is None else _accuracy(best),
        "" if data is None else str(data),
        "" if seconds is None else f"{seconds:.1f}",
        str(entry.common("name") or ""),
        str(entry.path),
    ]


def _moment(seconds: float) -> str | None:
    """A time with its offset from UTC; a directory's name may hold a date that has none. None for a time that no
    calendar has."""
    moment = local_time(seconds)
    if moment is None:
        return None
    try:
        return moment.astimezone().isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return moment.isoformat(timespec="seconds")


def _accuracy(best: Row) -> str:
    if best.watched is None:
        return ""
    return f"{percent(best.watched.accuracy)}{' (validation)' if best.validation is not None else ''}"


def _json(entry: Entry) -> dict[str, Any]:
    best = entry.best
    test, validation = (None, None) if best is None else (best.test, best.validation)
    return {
        "path": str(entry.path),
        "kind": "sweep" if entry.sweep else "run",
        "began": _moment(entry.began[0]),
        "status": dict(Counter(row.status for row in entry.rows)) if entry.sweep else entry.rows[0].status,
        "reason": None if entry.sweep else entry.rows[0].reason,
        "test_accuracy": None if test is None else test.accuracy,
        "validation_accuracy": None if validation is None else validation.accuracy,
        "data": entry.common("data.name"),
        "seconds": entry.seconds,
        "name": entry.common("name"),
        **({"jobs": len(entry.rows)} if entry.sweep else {}),
    }
