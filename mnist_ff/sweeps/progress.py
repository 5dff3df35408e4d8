"""One progress line per job, for every launcher: a thread watches the run directories.

On a terminal the last line says which jobs are being trained.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mnist_ff.analysis.ranking import brief, differing
from mnist_ff.analysis.rows import Row, read_row
from mnist_ff.config.convert import experiment, flat
from mnist_ff.errors import MnistError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.jobs import Job
from mnist_ff.runs.lock import is_locked
from mnist_ff.runs.numbers import duration, percent
from mnist_ff.runs.progress_line import count_of
from mnist_ff.runs.records import Status, StopReason
from mnist_ff.runs.start_up import erase, going_on
from mnist_ff.runs.tables import last_epoch

WIDEST = 40
"""Columns of what a job is named by, at most: longer ones stand out."""
PROGRESS_POLL_S = 0.3
"""Seconds between two looks at all directories."""
LOOKED_AT = 64
"""Of the jobs that have not ended, so many are asked whether they are being trained: the next ones in their order."""


def varied_keys(jobs: Sequence[Job]) -> list[str]:
    """The keys that tell jobs apart."""
    return differing([flat(experiment(job.config)) for job in jobs])[0]


def named(job: Job, keys: Sequence[str]) -> str:
    """A job by its values of these keys."""
    values = flat(experiment(job.config))
    return "  ".join(f"{key}={brief(values[key])}" for key in keys if key in values)


class JobCounter:
    """How far a sweep is, over all its launches: a search has many."""

    def __init__(self, of: int, ended: int) -> None:
        self.of, self.ended = of, ended
        self._before, self._began = ended, time.monotonic()
        self._measured = False

    def end(self, seconds: float | None) -> None:
        """One more job has ended, which took so many seconds beside its imports.

        The clock begins as the first job of which that is known: what is imported before it is imported once.
        """
        self.ended += 1
        if not self._measured and seconds is not None:
            self._began, self._measured = max(self._began, time.monotonic() - seconds), True

    def seconds_left(self) -> float | None:
        """By the pace so far; None at the end, and before the first."""
        done = self.ended - self._before
        left = self.of - self.ended
        return (time.monotonic() - self._began) / done * left if done > 0 and left > 0 else None


class Watch:
    """Says when jobs end; a context, inside which the jobs run."""

    comes_back = False
    """Whether a job that was stopped by SIGUSR2 has not ended."""
    is_live = False
    """Whether a line on the terminal says which jobs are being trained, until something is printed."""
    columns: int | None = None
    """Of the terminal: a line has no more than fits."""

    def __init__(
        self,
        sweep: Path,
        jobs: Sequence[Job],
        keys: Sequence[str],
        counter: JobCounter,
        say: Callable[[str], None],
        look: Callable[[], None],
    ) -> None:
        """`jobs` are launched, named by their `keys` and counted in `counter`; `look` is called at each look too."""
        self._sweep, self._say, self._look = sweep, say, look
        self._keys, self._counter = keys, counter
        self._widths = _Widths.of(jobs, keys)
        self._waiting = {job.subdir: (job, self._ending(job)) for job in jobs}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep progress", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self.look()
        if self.is_live:
            erase()

    def _run(self) -> None:
        pause = PROGRESS_POLL_S
        while not self._end.wait(pause):
            began = time.monotonic()
            self.look()
            if self.is_live and (text := self.in_training()):
                going_on(text)
            # ten thousand directories are looked at less often
            pause = max(PROGRESS_POLL_S, 20 * (time.monotonic() - began))

    def look(self) -> None:
        """Say a line for each job that has ended since the last look."""
        self._look()
        for job, before in list(self._waiting.values()):
            found = self._ending(job)
            if found is None or found == before:
                continue
            row = read_row(self._sweep / job.subdir, job.subdir, job)
            stop = StopReason.from_summary(row.status, row.reason)
            if self.comes_back and stop is not None and stop.signal_name == "SIGUSR2":
                self._waiting[job.subdir] = job, found
                self._say(f"job {job.subdir} was stopped by SIGUSR2; it continues after requeueing")
                continue
            del self._waiting[job.subdir]
            self._counter.end(_without_imports(self._sweep / job.subdir))
            self._say(self._line(job, row))

    def in_training(self) -> str:
        """The jobs that are being trained: of one its epochs so far, of several their names; empty where none is."""
        waiting = [job for job, _ in list(self._waiting.values())[:LOOKED_AT]]
        found = [job for job in waiting if is_locked(self._sweep / job.subdir)]
        if len(found) != 1:
            return f"{len(found)} jobs are training: {', '.join(job.subdir for job in found)}" if found else ""
        (job,) = found
        epochs = 0
        with suppress(MnistError, OSError):  # its first epoch has not ended
            epochs, _ = last_epoch(self._sweep / job.subdir)
        of = job.config.trainer.epochs
        place = count_of(self._counter.ended + 1, self._counter.of)
        parts = [place, f"job {job.subdir}", named(job, self._keys), f"epoch {count_of(min(epochs + 1, of), of)}"]
        return "  ".join(part for part in parts if part)

    def _ending(self, job: Job) -> tuple[int, int] | None:
        """Which summary.json is there; one of before a resume does not count."""
        try:
            found = (self._sweep / job.subdir / "summary.json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _line(self, job: Job, row: Row) -> str:
        """The job's line, with as many of its parts as fit: how it ended, the time left, what it is, its seconds."""
        left = self._counter.seconds_left()
        parts = {
            "place": count_of(self._counter.ended, self._counter.of),
            "job": f"job {job.subdir:<{self._widths.job}}",
            "name": f"{named(job, self._keys):<{self._widths.name}}",
            "end": _end(row),
            "seconds": "" if row.seconds is None else f"{row.seconds:>6.1f} s",
            "left": "" if left is None else f"ETA {duration(left):>7}",
        }
        room, kept = self.columns or sys.maxsize, list[str]()
        for name in ("place", "end", "left", "job", "name", "seconds"):
            if parts[name] and sum(len(parts[other]) + 2 for other in kept) + len(parts[name]) <= room:
                kept.append(name)
        return "  ".join(parts[name] for name in parts if name in kept or name == "end").rstrip()


def _end(row: Row) -> str:
    """How a job ended: its accuracy and whether it learned nothing, or its status and why."""
    if row.status == Status.FINISHED and row.watched is not None:
        return f"{percent(row.watched.accuracy):>8}{'' if row.not_learning is None else '  not learning'}"
    return f"{row.status}: {row.reason}" if row.reason else row.status


class _Widths(NamedTuple):
    """Of columns that all lines have in common."""

    job: int
    name: int

    @classmethod
    def of(cls, jobs: Sequence[Job], keys: Sequence[str]) -> _Widths:
        """The widest of these jobs, unless one is very wide."""
        return cls(
            min(max((len(job.subdir) for job in jobs), default=0), WIDEST),
            min(max((len(named(job, keys)) for job in jobs), default=0), WIDEST),
        )


def _without_imports(path: Path) -> float | None:
    """The seconds that a run took beside its imports; None where its summary does not say."""
    try:
        summary = Run(path).summary()
    except MnistError:
        return None
    total = None if summary is None else summary.seconds.get("total")
    return None if summary is None or total is None else total - summary.seconds.get("import", 0.0)
