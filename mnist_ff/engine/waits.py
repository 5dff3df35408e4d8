"""How long threads spin while a training runs: as long as is fastest where cores are free, briefly where they are not.

How long libgomp's threads spin is settled as it is loaded, but for one rule: while it has more threads than there are
cores, they spin for 1,000 turns at most (gomp_throttled_spin_count_var in GCC's libgomp/env.c). So a second team of
threads, which sleep and do nothing, makes the first one's waits brief, and its end makes them long again. No result
depends on it: how many threads share a product stays the same.
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

LOOK_S = 0.1
"""Seconds between two looks at how long threads have waited for a core."""
BUSY, FREE = 0.2, 0.05
"""Shares of the time that threads have waited for a core, in all: from the first on other programs need the cores;
below the second they do not. Beside one busy process it is 0.46 and more, alone below 0.03 but for rare moments."""
FREE_S = 0.5
"""How long they must have been free."""
MOST_CORES = 64
"""A team is not made for more: libgomp ends the process where a limit on threads or memory keeps one from it."""


class Team(Protocol):
    """What makes waits brief while it is there."""

    there: bool

    def start(self) -> None:
        """Make waits brief. Errors: RuntimeError where the system has no room for its threads."""

    def end(self) -> None:
        """Make them long again."""


class SleepingTeam:
    """One thread more in libgomp's count than this process may use cores: asleep until end(), or until this object is
    gone."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.there = False
        self._library = library
        self._over = threading.Event()
        weakref.finalize(self, self._over.set)

    def start(self) -> None:
        """Return when they are counted. Errors: RuntimeError where the system has no room for them."""
        count, counted = len(os.sched_getaffinity(0)) + 1, threading.Event()
        _check_room(count)
        self._over.clear()
        words = (self._library, count, counted, self._over)
        self._first = threading.Thread(target=_sleep_as_a_team, args=words, name="sleeping team", daemon=True)
        self._first.start()
        counted.wait()
        self.there = True

    def end(self) -> None:
        """Return when they are gone."""
        self._over.set()
        self._first.join()
        self.there = False


def _check_room(count: int) -> None:
    """See that so many threads can be started: libgomp ends the process where they cannot. Errors: RuntimeError."""
    over = threading.Event()
    try:
        for _ in range(count):
            threading.Thread(target=over.wait, daemon=True).start()
    finally:
        over.set()


def _sleep_as_a_team(library: ctypes.CDLL, threads: int, counted: threading.Event, over: threading.Event) -> None:
    """libgomp keeps the threads of a parallel region for the next one of the same thread, and counts them until then.

    The region calls free(NULL) on each, which does nothing.
    """
    with suppress(AttributeError):  # no such function on Windows; signals are the main thread's
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
    library.GOMP_parallel(nothing, None, ctypes.c_uint(threads), ctypes.c_uint(0))
    counted.set()
    over.wait()


def sleeping_team() -> SleepingTeam | None:
    """For the libgomp that torch has loaded.

    None where it has another library, the user has chosen how to wait, or there are more than MOST_CORES.
    """
    path = None if chosen_by_user() else _libgomp()
    if path is None or len(os.sched_getaffinity(0)) > MOST_CORES:
        return None
    try:
        library = ctypes.CDLL(path)
        library.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return None
    return SleepingTeam(library)


def _libgomp() -> str | None:
    """The file that this process has mapped, torch's own first."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found = {parts[5] for line in lines if len(parts := line.split(None, 5)) == 6 and "/libgomp" in parts[5]}
    return max(found, key=lambda path: "torch" in path, default=None)


class AdaptedStep(StepAround):
    """A step beside which a team is started when other programs need the cores, and ended when they no longer do."""

    def __init__(
        self,
        step: Step,
        team: Team,
        clock: Callable[[], float] = time.perf_counter,
        waited: Callable[[], float | None] = waited_for_cores,
    ) -> None:
        """waited: seconds that this process's threads have waited for a core so far, None where nobody tells."""
        super().__init__(step)
        self._team, self._clock, self._waited = team, clock, waited
        self._since, self._waited_before, self._free = clock(), waited(), 0.0
        self._has_room = True

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        metrics = super().__call__(rows, stopped, rates)
        now = self._clock()
        if now - self._since >= LOOK_S:
            self._look(now)
        return metrics

    def _look(self, now: float) -> None:
        waited, seconds = self._waited(), now - self._since
        before, self._waited_before, self._since = self._waited_before, waited, now
        if waited is None or before is None or torch.get_num_threads() == 1:  # which waits for no other
            return
        share = max(waited - before, 0.0) / seconds
        if not self._team.there:
            if share >= BUSY and self._has_room:
                self._free = 0.0
                try:
                    self._team.start()
                except RuntimeError:
                    self._has_room = False
            return
        self._free = self._free + seconds if share < FREE else 0.0
        if self._free >= FREE_S:
            self._team.end()
