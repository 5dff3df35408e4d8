"""The lock of a run or sweep directory: its file .lock, which one process holds at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist_ff.errors import BadRunError, RunError
from mnist_ff.runs.reading import is_file, opened

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
POLL_S = 0.05
"""Seconds between two attempts."""
LOCK_TIMEOUT_S = 1.0
"""How long to wait for a directory: is_locked() holds it for a moment."""


@contextmanager
def locked(folder: Path, busy: str, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold a directory for this process. Errors: RunError, which says `busy` where another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise RunError(f"{folder}: {busy}") from None
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path, timeout_s: float = 0) -> bool:
    """Whether another process holds a directory. Writes nothing there; False where it cannot be told."""
    if not is_file(folder / LOCK):  # FileLock opens it for writing, and would follow a link
        return False
    if fcntl is not None:
        return _is_flocked(folder / LOCK, timeout_s)
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _is_flocked(lock: Path, timeout_s: float) -> bool:
    """As `is_locked`, with a shared lock on a file opened for reading: this works in folders of other users, and
    several processes may ask at once."""
    deadline = time.monotonic() + timeout_s
    try:
        with opened(lock) as file:
            while True:
                try:
                    fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        return True
                    time.sleep(POLL_S)
                else:
                    return False
    except (BadRunError, OSError):
        return False
