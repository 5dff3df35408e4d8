"""One progress line per job, for every launcher: a thread watches the run directories."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mnist_ff.analysis.ranking import brief, differing
from mnist_ff.analysis.rows import Row, read_row
from mnist_ff.config.convert import experiment, flat
from mnist_ff.runs.jobs import Job
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import Status, StopReason

PROGRESS_POLL_S = 0.3
"""Seconds between two looks at all directories."""


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

    def seconds_left(self) -> float | None:
        """By the pace so far; None at the end, and before the first."""
        done = self.ended - self._before
        left = self.of - self.ended
        return (time.monotonic() - self._began) / done * left if done > 0 and left > 0 else None


class Watch:
    """Says when jobs end; a context, inside which the jobs run."""

    comes_back = False
    """Whether a job that was stopped by SIGUSR2 has not ended."""

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

    def _run(self) -> None:
        pause = PROGRESS_POLL_S
        while not self._end.wait(pause):
            began = time.monotonic()
            self.look()
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
            self._counter.ended += 1
            self._say(self._line(job, row))

    def _ending(self, job: Job) -> tuple[int, int] | None:
        """Which summary.json is there; one of before a resume does not count."""
        try:
            found = (self._sweep / job.subdir / "summary.json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _line(self, job: Job, row: Row) -> str:
        of = self._counter.of
        parts = [f"{self._counter.ended:>{len(str(of))}}/{of}", f"job {job.subdir}"]
        name = named(job, self._keys)
        parts += [name] if name else []
        if row.status == Status.FINISHED and row.watched is not None:
            parts.append(percent(row.watched.accuracy))
        else:
            parts.append(f"{row.status}: {row.reason}" if row.reason else row.status)
        parts += [] if row.seconds is None else [f"{row.seconds:.1f} s"]
        left = self._counter.seconds_left()
        parts += [] if left is None else [f"ETA {duration(left)}"]
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """0:05, 12:34, 1:02:03."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
