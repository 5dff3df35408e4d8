"""A sweep's stop sign: a file that its jobs look at, in whatever process or on whatever machine they run."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

from mnist_ff.errors import BadRunError
from mnist_ff.files import write_text
from mnist_ff.runs.reading import read_bytes
from mnist_ff.runs.records import StopReason
from mnist_ff.runs.signals import Interruption

STOP = ".stop"
LARGEST = 4096
"""Bytes of a sign that is read."""
AFTER_AN_ERROR = "a failed job (sweep.on_error=stop)"
LOOK_EVERY = 0.5
"""Seconds between two looks of a job in training."""


def ask_to_stop(sweep: Path, reason: str) -> None:
    """Put up the sign: a signal's name ends the running jobs too, AFTER_AN_ERROR lets them end by themselves."""
    if reason_to_stop(sweep) in (None, AFTER_AN_ERROR):
        with suppress(OSError):  # a full disk must not keep a sweep from ending
            write_text(sweep / STOP, reason)


def reason_to_stop(sweep: Path) -> str | None:
    """What the sign says, or None."""
    try:
        return read_bytes(sweep / STOP, LARGEST).decode("utf-8", "replace")[:100] or None
    except BadRunError:
        return None


def go_on(sweep: Path) -> None:
    """Take the sign down."""
    with suppress(FileNotFoundError):
        (sweep / STOP).unlink()


def signal_named(reason: str | None) -> signal.Signals | None:
    """The signal that a sign names, if it does."""
    return next((known for known in signal.Signals if known.name == reason), None)


class StopSign(Interruption):
    """The question of a job's loop: a signal of its own, or the sweep's sign."""

    def __init__(self, sweep: Path) -> None:
        super().__init__()
        self._sweep = sweep
        self._looked = time.monotonic()

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        now = time.monotonic()
        if self._signal is None and now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._signal = signal_named(reason_to_stop(self._sweep))
        return super().__call__()
