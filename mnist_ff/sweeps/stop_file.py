"""A sweep's stop file, which its jobs look for, in whatever process or on whatever machine they run."""

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
LARGEST_STOP_BYTES = 4096
"""Maximum size of a stop file that is read."""
AFTER_AN_ERROR = "a failed job (sweep.on_error=stop)"
STOP_POLL_S = 0.5
"""Seconds between two looks of a job in training."""


def ask_to_stop(sweep: Path, reason: str) -> None:
    """Write the file: a signal's name ends the running jobs too, AFTER_AN_ERROR lets them end by themselves."""
    if reason_to_stop(sweep) in (None, AFTER_AN_ERROR):
        with suppress(OSError):  # a full disk must not keep a sweep from ending
            write_text(sweep / STOP, reason)


def reason_to_stop(sweep: Path) -> str | None:
    """What the file says, or None."""
    try:
        return read_bytes(sweep / STOP, LARGEST_STOP_BYTES).decode("utf-8", "replace")[:100] or None
    except BadRunError:
        return None


def clear_stop(sweep: Path) -> None:
    """Remove the file."""
    with suppress(FileNotFoundError):
        (sweep / STOP).unlink()


def signal_named(reason: str | None) -> signal.Signals | None:
    """The signal that a stop file names, if it does."""
    return next((known for known in signal.Signals if known.name == reason), None)


class StopFile(Interruption):
    """Whether a job is to stop: for a signal of its own, or the sweep's stop file."""

    def __init__(self, sweep: Path) -> None:
        super().__init__()
        self._sweep = sweep
        self._looked = time.monotonic()

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        now = time.monotonic()
        if self._signal is None and now - self._looked >= STOP_POLL_S:
            self._looked = now
            self._signal = signal_named(reason_to_stop(self._sweep))
        return super().__call__()
