"""The lock of a run or sweep directory: its file .lock, which one process holds at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist_ff.errors import RunError
from mnist_ff.runs.reading import is_file

LOCK = ".lock"
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
