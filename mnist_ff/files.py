"""Files that are either complete or absent: written to a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """A temporary path in the same folder; when the block ends well it becomes `path`, else it is removed.

    It must be written where it is, not replaced: this process holds it, and whoever removes leftovers sees that.
    What stood at `path` before is kept as `keep`, if that is given; at every moment one of the two is whole.

    Errors: OSError when the folder cannot be written or the disk is full, or `path` is a device; it is then as before.
    """
    _refuse_device(path)
    descriptor, temporary = _temporary(path)
    try:
        hold(descriptor)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def _refuse_device(path: Path) -> None:
    """A rename would put a file in the place of /dev/full. Errors: OSError."""
    with suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise OSError(errno.EINVAL, "is a device", os.fspath(path))


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, open, with the rights that the user's umask leaves."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_BINARY"))
    while True:
        # a name of the longest length has no room for more
        temporary = path.parent / f".{path.name[:50]}.{secrets.token_hex(4)}.tmp"
        with suppress(FileExistsError):
            return os.open(temporary, flags, 0o666), temporary


def own_file(path: str, flags: int) -> int:
    """An opener for open(): an error where the path is a link, which then is not followed, or no regular file."""
    odd = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe would wait for its reader
    try:
        descriptor = os.open(path, flags | odd, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:  # what such a pipe answers
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise OSError(errno.EINVAL, "is not a regular file", path)


def first_link(folder: Path, known: str) -> Path | None:
    """The first link in a folder or anywhere below it, but for those whose path's end matches `known`."""
    for place, folders, files in os.walk(folder):
        for name in (*sorted(files), *sorted(folders)):
            path = Path(place, name)
            if path.is_symlink() and not path.match(known):
                return path
    return None


def remove_leftovers(folder: Path, pattern: str = ".*.tmp") -> None:
    """Remove the temporary files that killed processes left in `folder`; those of a process at work stay."""
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process holds it
            descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if hold(descriptor) or time.time() - os.fstat(descriptor).st_mtime > ABANDONED_S:
                    path.unlink()
            finally:
                os.close(descriptor)


ABANDONED_S = 3600
"""Age in seconds of a temporary file that nobody writes any more, on a disk without locks."""


def hold(descriptor: int) -> bool:
    """Hold an open file until it is closed, as a process's end does; False where the disk has no locks.

    Errors: OSError when another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows, which removes no open file
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Put texts by name into a folder, which is made. Errors: OSError."""
    if texts:
        folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


MAX_REMEMBERED_BYTES = 64 << 20
"""Bytes of a growing file that are kept in memory: more than a million rows."""


class GrowingFile:
    """A text file that this process alone adds lines to. What it wrote is remembered, and written again when something
    else has cut, changed, replaced or removed the file. A link in its place is never followed.

    Errors: OSError, from every method.
    """

    def __init__(self, path: Path, new: bool) -> None:
        """Create the file, or append to it."""
        self.path = path
        self._content: bytearray | None = bytearray() if new else bytearray(path.read_bytes())
        self._size = len(self._content or b"")
        self._descriptor: int | None = self._opened(os.O_CREAT | os.O_EXCL if new else 0)
        self._seen = self._status()
        self._touched = False
        self._pending: list[str] = []

    def write(self, text: str) -> None:
        """Add text, which flush(), secure() and close() hand to the system."""
        self._pending.append(text)

    def flush(self) -> None:
        """Hand over what was added: a kill loses nothing of it after this."""
        if not self._pending:
            return
        assert self._descriptor is not None
        data = "".join(self._pending).encode()
        self._pending.clear()
        if self._content is not None:
            self._content += data
            if len(self._content) > MAX_REMEMBERED_BYTES:
                self._content = None
        self._size += len(data)
        self._touched |= self._status().st_mtime_ns != self._seen.st_mtime_ns
        while data:
            data = data[os.write(self._descriptor, data) :]
        self._seen = self._status()

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Put another text in the place of what was added so far, whole or not at all."""
        self.flush()
        if self._content is None:
            raise OSError(errno.EFBIG, "is too long to be rewritten", self.path)
        self._content = bytearray(change(self._content.decode()).encode())
        self._size = len(self._content)
        self._write_anew(self._content)

    def _write_anew(self, content: bytearray) -> None:
        write_bytes(self.path, bytes(content))
        was_open = self._descriptor is not None
        self.close()
        self._descriptor = self._opened(0)
        self._seen, self._touched = self._status(), False
        if not was_open:
            self.close()

    def secure(self, sync: Callable[[int], object] = os.fsync) -> str | None:
        """See that all is there and survives a power cut. Returns what was found wrong and put right, or None.

        sync: does the latter to an open file, or takes a duplicate of its descriptor to do it later.
        Errors: OSError too where it cannot be put right.
        """
        self.flush()
        wrong = self._wrong()
        if wrong is not None:
            if self._content is None:
                raise OSError(errno.EIO, f"{wrong} by another program, and is too long to be rewritten", self.path)
            self._write_anew(self._content)
        elif self._descriptor is not None:
            sync(self._descriptor)
        return None if wrong is None else f"{self.path}: {wrong} by another program; all its rows were rewritten"

    def close(self) -> None:
        """Write no more; secure() still looks after the file."""
        if self._descriptor is None:
            return
        try:
            self.flush()
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self, flags: int) -> int:
        return own_file(os.fspath(self.path), os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | flags)

    def _status(self) -> os.stat_result:
        assert self._descriptor is not None
        return os.fstat(self._descriptor)

    def _wrong(self) -> str | None:
        """What became of the file, as "was cut"."""
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            return "was removed"
        if (now.st_dev, now.st_ino) != (self._seen.st_dev, self._seen.st_ino):
            return "was replaced"
        if now.st_size != self._size:
            return "was cut" if now.st_size < self._size else "was added to"
        touched = self._touched or now.st_mtime_ns != self._seen.st_mtime_ns
        if touched and self._content is not None and self.path.read_bytes() != self._content:
            return "was changed"
        return None
