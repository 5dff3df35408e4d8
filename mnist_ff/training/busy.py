"""Notice that other programs slow a training on the CPU down, and say so once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from mnist_ff.engine.cores import waited_for_cores
from mnist_ff.engine.step import Step, StepAround, never

TIMES_SLOWER = 3.0
FEWEST_CHUNKS, WINDOW_S = 5, 1.0
"""What is compared are medians over at least so many chunks that took at least so long together."""
WAITING = 0.1
"""The least share of the time that threads must have waited for a core: a step may be slower by itself."""


class WatchedStep(StepAround):
    """A step whose seconds are compared with those at its start; what is done between two calls does not count.

    The first chunk is left out: much is set up in it. `warn` is called at most once, with how many times slower the
    steps have become. `waited` tells the seconds that this process has waited for a core so far, None where the system
    does not tell: then time alone decides.
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
        self._usual: float | None = None
        self._told = False
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
        elif not self._told and len(metrics):
            self._hear(seconds, seconds / len(metrics))
        return metrics

    def _hear(self, seconds: float, per_batch: float) -> None:
        self._seconds += seconds
        self._chunks.append(per_batch)
        if len(self._chunks) < FEWEST_CHUNKS or self._seconds < WINDOW_S:
            return
        now = statistics.median(self._chunks)
        if self._usual is None:
            self._usual = now
        elif now >= TIMES_SLOWER * self._usual and self._is_kept_waiting():
            self._told = True
            self._warn(now / self._usual)
        self._begin_window()

    def _is_kept_waiting(self) -> bool:
        waited = self._waited()
        if waited is None or self._waited_before is None:
            return True
        return waited - self._waited_before >= WAITING * self._seconds

    def _begin_window(self) -> None:
        self._chunks: list[float] = []
        self._seconds = 0.0
        self._waited_before = self._waited()
