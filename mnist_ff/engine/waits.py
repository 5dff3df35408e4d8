"""Adapt how long waiting threads spin during training: long if cores are free, briefly if other programs need them.

libgomp fixes the spin time when it is loaded, with one exception: while it has more threads than there are cores,
threads spin for at most 1,000 turns (gomp_throttled_spin_count_var in GCC's libgomp/env.c). So a second team of threads
that only sleep makes the waits of the first one brief, and its end makes them long again. Results do not depend on it:
the number of threads that share a product stays the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch

from mnist_ff.engine.cores import waited_for_cores
from mnist_ff.engine.spinning import chosen_by_user
from mnist_ff.engine.step import Step, StepAround, never

CHECK_S = 0.1
"""Seconds between two checks of how long threads have waited for a core."""
BUSY_FRACTION, FREE_FRACTION = 0.2, 0.05
"""Time that threads have waited for a core, as a fraction of the elapsed time. Cores count as busy from the first one,
as free below the second. Measured: at least 0.46 beside one busy process, nearly always below 0.03 alone."""
FREE_S = 0.5
"""Seconds for which the cores must have been free to end the sleeping team."""
MAX_CORES = 64
"""Maximum number of cores for which a team is started: libgomp ends the process if it cannot create all threads."""


class Team(Protocol):
    """Something that makes waits brief while it exists."""

    there: bool

    def start(self) -> None:
        """Make waits brief. Errors: RuntimeError if the system cannot create the threads."""

    def end(self) -> None:
        """Make them long again."""


class SleepingTeam:
    """A team of libgomp threads, one more than there are cores for this process. They sleep until end(), or until this
    object is deleted."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.there = False
        self._library = library
        self._over = threading.Event()
        weakref.finalize(self, self._over.set)

    def start(self) -> None:
        """Start the threads and wait until libgomp counts them. Errors: RuntimeError if they cannot be created."""
        count, counted = len(os.sched_getaffinity(0)) + 1, threading.Event()
        _check_room(count)
        self._over.clear()
        words = (self._library, count, counted, self._over)
        self._first = threading.Thread(target=_sleep_as_a_team, args=words, name="sleeping team", daemon=True)
        self._first.start()
        counted.wait()
        self.there = True

    def end(self) -> None:
        """End the threads and wait for them."""
        self._over.set()
        self._first.join()
        self.there = False


def _check_room(count: int) -> None:
    """Check that so many threads can be created: otherwise libgomp ends the process. Errors: RuntimeError."""
    over = threading.Event()
    try:
        for _ in range(count):
            threading.Thread(target=over.wait, daemon=True).start()
    finally:
        over.set()


def _sleep_as_a_team(library: ctypes.CDLL, threads: int, counted: threading.Event, over: threading.Event) -> None:
    """Run an empty parallel region, whose threads libgomp keeps and counts for the next region, then sleep.

    The region calls free(NULL) on each thread, which does nothing.
    """
    with suppress(AttributeError):  # Windows lacks it; signals are for the main thread
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
    library.GOMP_parallel(nothing, None, ctypes.c_uint(threads), ctypes.c_uint(0))
    counted.set()
    over.wait()


def sleeping_team() -> SleepingTeam | None:
    """A team for the libgomp that torch has loaded.

    None if torch uses another library, the user has set the spin time, or there are more than MAX_CORES cores.
    """
    path = None if chosen_by_user() else _libgomp()
    if path is None or len(os.sched_getaffinity(0)) > MAX_CORES:
        return None
    try:
        library = ctypes.CDLL(path)
        library.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return None
    return SleepingTeam(library)


def _libgomp() -> str | None:
    """The path of the libgomp that this process has mapped, preferably torch's own."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found = {parts[5] for line in lines if len(parts := line.split(None, 5)) == 6 and "/libgomp" in parts[5]}
    return max(found, key=lambda path: "torch" in path, default=None)


class AdaptedStep(StepAround):
    """A step that starts a team when other programs need the cores, and ends it when they are free again."""

    def __init__(
        self,
        step: Step,
        team: Team,
        clock: Callable[[], float] = time.perf_counter,
        waited: Callable[[], float | None] = waited_for_cores,
    ) -> None:
        """waited: returns the seconds for which threads of this process have waited for a core, or None if unknown."""
        super().__init__(step)
        self._team, self._clock, self._waited = team, clock, waited
        self._since, self._waited_before, self._free = clock(), waited(), 0.0
        self._has_room = True

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        metrics = super().__call__(rows, stopped, rates)
        now = self._clock()
        if now - self._since >= CHECK_S:
            self._check(now)
        return metrics

    def _check(self, now: float) -> None:
        waited, seconds = self._waited(), now - self._since
        before, self._waited_before, self._since = self._waited_before, waited, now
        if waited is None or before is None or torch.get_num_threads() == 1:  # a single thread never waits for others
            return
        fraction = max(waited - before, 0.0) / seconds
        if not self._team.there:
            if fraction >= BUSY_FRACTION and self._has_room:
                self._free = 0.0
                try:
                    self._team.start()
                except RuntimeError:
                    self._has_room = False
            return
        self._free = self._free + seconds if fraction < FREE_FRACTION else 0.0
        if self._free >= FREE_S:
            self._team.end()
