"""Warn once if other programs slow down training on the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from mnist_ff.engine.cores import waited_for_cores
from mnist_ff.engine.step import Step, StepAround, never

TIMES_SLOWER = 3.0
"""How many times slower than at the start steps must be for a warning."""
MIN_CHUNKS, WINDOW_S = 5, 1.0
"""Size of the windows whose median times are compared: at least so many chunks, and so many seconds."""
MIN_WAITING = 0.1
"""Minimum fraction of the time that threads must have waited for a core. Otherwise other programs are not the cause."""


class WatchedStep(StepAround):
    """A step that compares its time with that at the start of training. Time between two calls does not count.

    The first chunk is left out, because it includes setup. `warn` is called at most once, with how many times slower
    the steps have become. `waited` returns the seconds for which this process has waited for a core so far, or None if
    the system does not tell; then the time of the steps alone decides.
    """

    def __init__(
        self,
        step: Step,
        warn: Callable[[float], None],
        clock: Callable[[], float] = time.perf_counter,
        waited: Callable[[], float | None] | None = None,
    ) -> None:
        super().__init__(step)
        self._warn, self._clock = warn, clock
        self._waited = waited_for_cores if waited is None else waited
        self._first = True
        self._baseline: float | None = None
        self._has_warned = False
        self._begin_window()

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        began = self._clock()
        metrics = super().__call__(rows, stopped, rates)
        seconds = self._clock() - began
        if self._first:
            self._first = False
            self._begin_window()
        elif not self._has_warned and len(metrics):
            self._add(seconds, seconds / len(metrics))
        return metrics

    def _add(self, seconds: float, per_batch: float) -> None:
        self._seconds += seconds
        self._chunks.append(per_batch)
        if len(self._chunks) < MIN_CHUNKS or self._seconds < WINDOW_S:
            return
        now = statistics.median(self._chunks)
        if self._baseline is None:
            self._baseline = now
        elif now >= TIMES_SLOWER * self._baseline and self._is_kept_waiting():
            self._has_warned = True
            self._warn(now / self._baseline)
        self._begin_window()

    def _is_kept_waiting(self) -> bool:
        waited = self._waited()
        if waited is None or self._waited_before is None:
            return True
        return waited - self._waited_before >= MIN_WAITING * self._seconds

    def _begin_window(self) -> None:
        self._chunks: list[float] = []
        self._seconds = 0.0
        self._waited_before = self._waited()
