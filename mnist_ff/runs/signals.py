"""Signal handlers set a flag that the training loop polls between chunks. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from mnist_ff.errors import INTERRUPTED, Stopped
from mnist_ff.runs.start_up import erase

if TYPE_CHECKING:
    from mnist_ff.runs.records import StopReason

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Ctrl-C, the end of a terminal, and what schedulers send before they kill."""
SIGACTION_BYTES = 1024
"""C's struct sigaction has 152 on Linux."""


class Interruption:
    """Whether someone asked to stop, and how."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self.received: tuple[str, ...] = ()
        """Names of the signals that this process got, in order."""

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        if self._signal is None:
            return None
        from mnist_ff.runs.records import StopReason

        return StopReason.from_signal(self._signal.name)

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

    A signal that is ignored, as nohup does, stays ignored; all handlers are given back, those of C libraries too.
    Signals belong to the main thread; in another one they are left as they are.
    """
    interruption = interruption or Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    give_back = [_handled(number, interruption._on_signal) for number in heard]
    try:
        yield interruption
    finally:
        for again in give_back:
            again()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Inside the block Ctrl-C ends the process with one line: imports may print its exception, or swallow it.

    Nothing that must be put away may be open there. A caller's own handler, or none, is left as it is.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    again = _handled(signal.SIGINT, end_at_once)
    try:
        yield
    finally:
        again()


def end_at_once(number: int, frame: FrameType | None) -> None:
    """A handler: one line, and the exit code of Ctrl-C."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    erase()
    with suppress(OSError):
        os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED)


def _handled(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> Callable[[], None]:
    """Put a handler in place and return what gives back the one before, of Python or, as faulthandler's, of C."""
    action = _action(number)
    before = signal.signal(number, handler)

    def again() -> None:
        signal.signal(number, signal.SIG_DFL if before is None else before)  # None: Python does not know it
        if action is not None:
            ctypes.CDLL(None).sigaction(int(number), action, None)

    return again


def _action(number: signal.Signals) -> ctypes.Array[ctypes.c_char] | None:
    """What C's sigaction() says of a signal, None on a system without it."""
    if os.name != "posix":
        return None
    action = ctypes.create_string_buffer(SIGACTION_BYTES)
    return action if ctypes.CDLL(None).sigaction(int(number), None, action) == 0 else None
