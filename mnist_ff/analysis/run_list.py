"""The runs and sweeps of a folder, newest first. Files are read on access to an entry's attributes."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.analysis.rows import Row, collect, read_row
from mnist_ff.runs.find import run_start, runs_and_sweeps, runs_below, sweep_start
from mnist_ff.runs.labels import Labels, labels_of
from mnist_ff.runs.names import name_of
from mnist_ff.runs.reading import local_time


@dataclass(frozen=True)
class Entry:
    """A line of the list: a run, or a sweep with all its jobs."""

    path: Path
    sweep: bool = False

    @functools.cached_property
    def began(self) -> tuple[float, float]:
        """When it began, in seconds since 1970, and a second number that orders runs of the same second."""
        return sweep_start(self.path) if self.sweep else run_start(self.path)

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """The run, or every job of the sweep."""
        return tuple(collect([self.path])) if self.sweep else (read_row(self.path),)

    @functools.cached_property
    def labels(self) -> Labels:
        """The tags and note."""
        return labels_of(self.path)

    @functools.cached_property
    def name(self) -> str | None:
        """The run's name, or the name that all jobs of a sweep share. A config that was read is not read again."""
        known = self.sweep or ("rows" in self.__dict__ and self.rows[0].values)
        name: str | None = self.common("name") if known else name_of(self.path)
        return name

    @property
    def best(self) -> Row | None:
        """The run with the best validation accuracy if all have a validation split, else the best test accuracy."""
        scored = [row for row in self.rows if row.test is not None]
        if scored and all(row.validation is not None for row in scored):
            return max(scored, key=lambda row: row.validation.accuracy if row.validation else 0.0)
        return max(scored, key=lambda row: row.test.accuracy if row.test else 0.0, default=None)

    @property
    def status(self) -> str:
        """A run's status, such as "finished"; for a sweep "6 jobs: 5 finished, 1 failed"."""
        if not self.sweep:
            return self.rows[0].status
        counts = Counter(row.status for row in self.rows)
        return f"{len(self.rows)} jobs: {', '.join(f'{count} {status}' for status, count in counts.items())}"

    def common(self, key: str) -> Any:
        """The value of a config key if all runs share it, else None."""
        values = [row.values[key] for row in self.rows if key in row.values]
        return values[0] if values and all(value == values[0] for value in values) else None

    @property
    def seconds(self) -> float | None:
        """The total time of all runs, in seconds."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        return sum(known) if known else None


def found_in(folder: Path, jobs: bool) -> list[Entry]:
    """The runs and sweeps of a folder, newest first. With `jobs`, the jobs of sweeps instead of the sweeps."""
    found = ((run, False) for run in runs_below(folder)) if jobs else runs_and_sweeps(folder)
    entries = [Entry(path, sweep) for path, sweep in found]
    return sorted(entries, key=lambda entry: entry.began, reverse=True)


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values."""
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
        "name": entry.name,
        "tags": list(entry.labels.tags),
        "note": entry.labels.note,
        **({"jobs": len(entry.rows)} if entry.sweep else {}),
    }


def _moment(seconds: float) -> str | None:
    """A time in ISO format with its UTC offset, without it for a date that has none. None for an impossible time."""
    moment = local_time(seconds)
    if moment is None:
        return None
    try:
        return moment.astimezone().isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return moment.isoformat(timespec="seconds")
