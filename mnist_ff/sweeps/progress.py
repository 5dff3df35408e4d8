"""Print one line per finished job, with every launcher: a thread watches the run directories.

On a terminal, a line that changes says which jobs are being trained.
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

MAX_WIDTH = 40
"""Maximum width to which job names and values are padded, in characters."""
PROGRESS_POLL_S = 0.3
"""Minimum seconds between two looks at all directories."""
MAX_PROBED = 64
"""Maximum number of unfinished jobs, in their order, that are checked for being trained."""


def varied_keys(jobs: Sequence[Job]) -> list[str]:
    """The keys whose values differ between the jobs."""
    return differing([flat(experiment(job.config)) for job in jobs])[0]


def named(job: Job, keys: Sequence[str]) -> str:
    """A job's values of these keys: 'optimizer.lr=0.01  seed=1'."""
    values = flat(experiment(job.config))
    return "  ".join(f"{key}={brief(values[key])}" for key in keys if key in values)


class JobCounter:
    """Counts the ended jobs of a sweep, over all its launches. A search has several."""

    def __init__(self, of: int, ended: int) -> None:
        self.of, self.ended = of, ended
        self._before, self._began = ended, time.monotonic()
        self._measured = False

    def end(self, seconds: float | None) -> None:
        """Count one more ended job. `seconds` is its time without imports, None if unknown.

        Time is measured from the start of the first job whose time is known, after its imports.
        """
        self.ended += 1
        if not self._measured and seconds is not None:
            self._began, self._measured = max(self._began, time.monotonic() - seconds), True

    def seconds_left(self) -> float | None:
        """The estimated time left, from the mean time per job. None before the first job has ended, and at the end."""
        done = self.ended - self._before
        left = self.of - self.ended
        return (time.monotonic() - self._began) / done * left if done > 0 and left > 0 else None


class Watch:
    """A context manager that prints a line whenever one of the jobs that run in its block ends."""

    comes_back = False
    """Whether a job that SIGUSR2 stopped will be requeued."""
    is_live = False
    """Whether to show on the terminal which jobs are being trained."""
    columns: int | None = None
    """Width of the terminal, to which lines are shortened. None for no limit."""

    def __init__(
        self,
        sweep: Path,
        jobs: Sequence[Job],
        keys: Sequence[str],
        counter: JobCounter,
        say: Callable[[str], None],
        look: Callable[[], None],
    ) -> None:
        """keys: whose values name a job. counter: counts ended jobs. look: called at each look at the directories."""
        self._sweep, self._say, self._look = sweep, say, look
        self._keys, self._counter = keys, counter
        self._widths = _Widths.of(jobs, keys)
        self._waiting = {job.subdir: (job, self._summary_id(job)) for job in jobs}
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
            # less often if there are very many directories
            pause = max(PROGRESS_POLL_S, 20 * (time.monotonic() - began))

    def look(self) -> None:
        """Print a line for each job that has ended since the last look."""
        self._look()
        for job, before in list(self._waiting.values()):
            found = self._summary_id(job)
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
        """The jobs that are being trained: the epoch of a single one, the names of several. Empty if there is none."""
        waiting = [job for job, _ in list(self._waiting.values())[:MAX_PROBED]]
        found = [job for job in waiting if is_locked(self._sweep / job.subdir)]
        if len(found) != 1:
            return f"{len(found)} jobs are training: {', '.join(job.subdir for job in found)}" if found else ""
        (job,) = found
        epochs = 0
        with suppress(MnistError, OSError):  # before the end of the first epoch
            epochs, _ = last_epoch(self._sweep / job.subdir)
        of = job.config.trainer.epochs
        place = count_of(self._counter.ended + 1, self._counter.of)
        parts = [place, f"job {job.subdir}", named(job, self._keys), f"epoch {count_of(min(epochs + 1, of), of)}"]
        return "  ".join(part for part in parts if part)

    def _summary_id(self, job: Job) -> tuple[int, int] | None:
        """Inode and modification time of the job's summary.json, to tell a new one from that before a resume."""
        try:
            found = (self._sweep / job.subdir / "summary.json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _line(self, job: Job, row: Row) -> str:
        """A job's line, with as many parts as fit `columns`, the most important ones first."""
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
    """A finished job's accuracy, and 'not learning' if so. For other jobs the status and the reason."""
    if row.status == Status.FINISHED and row.watched is not None:
        return f"{percent(row.watched.accuracy):>8}{'' if row.not_learning is None else '  not learning'}"
    return f"{row.status}: {row.reason}" if row.reason else row.status


class _Widths(NamedTuple):
    """Widths of the columns for a job's number and its values, in characters."""

    job: int
    name: int

    @classmethod
    def of(cls, jobs: Sequence[Job], keys: Sequence[str]) -> _Widths:
        """The widths of the widest job, at most MAX_WIDTH."""
        return cls(
            min(max((len(job.subdir) for job in jobs), default=0), MAX_WIDTH),
            min(max((len(named(job, keys)) for job in jobs), default=0), MAX_WIDTH),
        )


def _without_imports(path: Path) -> float | None:
    """A run's total seconds without imports. None if its summary does not have them."""
    try:
        summary = Run(path).summary()
    except MnistError:
        return None
    total = None if summary is None else summary.seconds.get("total")
    return None if summary is None or total is None else total - summary.seconds.get("import", 0.0)
