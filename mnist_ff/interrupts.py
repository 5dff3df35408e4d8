"""Signals as a question that the loop asks between chunks, instead of an exception anywhere. Standard library only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mnist_ff.errors import Stopped

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
"""Ctrl-C, and what schedulers send before they kill."""


class Interruption:
    """Whether someone asked to stop, and how."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self.received: tuple[str, ...] = ()
        """Names of the signals that this process got, in order."""

    def __call__(self) -> str | None:
        """The reason to stop, or None."""
        return None if self._signal is None else f"stopped by {self._signal.name}"

    @property
    def signal_name(self) -> str | None:
        """The signal's name, or None."""
        return None if self._signal is None else self._signal.name

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it; 0 without one."""
        return 0 if self._signal is None else 128 + self._signal.value

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Asked twice: end at once. Schedulers send SIGTERM and SIGUSR2 as a pair, which is asking once.
        if self._signal is not None and (number == signal.SIGINT or signal.Signals(number).name in self.received):
            raise Stopped(128 + number)
        self._signal = self._signal or signal.Signals(number)
        self.received += (signal.Signals(number).name,)


@contextmanager
def interruptible(interruption: Interruption | None = None) -> Iterator[Interruption]:
    """Inside the block the first signal is an answer to the loop's question, the second raises Stopped.

    Signals belong to the main thread; in another one they are left as they are.
    """
    interruption = interruption or Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = [(number, signal.signal(number, interruption._on_signal)) for number in numbers]
    try:
        yield interruption
    finally:
        for number, handler in before:
            signal.signal(number, handler)
