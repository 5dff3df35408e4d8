"""Ctrl-C as a question that the loop asks between chunks, instead of an exception anywhere. Standard library only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether someone asked to stop, and how."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def __call__(self) -> str | None:
        """The reason to stop, or None."""
        return self._reason

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._reason is not None:  # asked twice: end at once
            raise KeyboardInterrupt
        self._reason = f"stopped by {signal.Signals(number).name}"


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Inside the block the first Ctrl-C is an answer to the loop's question, the second raises KeyboardInterrupt.

    Signals belong to the main thread; in another one Ctrl-C is left as it is.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGINT, interruption._on_signal)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
