"""Read files that somebody else may have written: size limits, no links, strict parsing.

A run directory may come from a stranger, a torn disk or another version. Whatever stands in the place of one of its
files, a reader gets checked values or one BadRunError, in bounded time and memory. Standard library only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

from mnist_ff.errors import BadRunError, MissingFileError

MAX_JSON_BYTES = 16 << 20
"""Bytes of a JSON file that is read, unless a reader says otherwise."""
MOST_VALUES = 5_000_000
"""Values in a JSON file that is read: a byte or two may become a hundred in memory."""
DEEPEST = 40
"""Brackets within brackets in a JSON file."""
LARGEST_INTEGER = 1 << 64
PIECE_BYTES = 1 << 16
MAX_TABLE_BYTES = 256 << 20
"""Bytes of a CSV file that is read."""
MAX_ROW_BYTES = 1_000
"""Bytes of a line of up to MAX_ROW_BYTES / MAX_CELL_BYTES cells."""
MAX_CELL_BYTES = 32
SHARES = frozenset(f"{part}_accuracy" for part in ("train", "train_eval", "test", "validation"))
"""Columns whose values are from 0 to 1."""
LARGEST_NUMBER = 1e30
"""Of a loss or a time: of such numbers a mean and a variance can be taken."""
FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY"))


@contextmanager
def opened(path: Path, limit: int | None = None) -> Iterator[BufferedReader]:
    """A regular file of at most `limit` bytes, open for reading; neither a link nor a pipe, which would be waited for.

    Errors: MissingFileError where there is nothing, BadRunError for all else that is no such file.
    """
    with os.fdopen(_descriptor(path, limit)[0], "rb") as file:
        try:
            yield file
        except OSError as error:
            raise BadRunError(f"{path}: cannot be read ({error.strerror})") from None


def _descriptor(path: Path, limit: int | None) -> tuple[int, int]:
    """The same as a descriptor, which the caller closes, and the file's size. Errors: as opened()."""
    try:
        descriptor = os.open(path, FLAGS)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: does not exist") from None
    except OSError as error:
        raise BadRunError(f"{path}: {_why(path, error)}") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or (limit is not None and found.st_size > limit):
        os.close(descriptor)
        what = "is not a file" if not stat.S_ISREG(found.st_mode) else f"is larger than {limit:,} bytes"
        raise BadRunError(f"{path}: {what}")
    return descriptor, found.st_size


def _why(path: Path, error: OSError) -> str:
    """Why a file cannot be opened, in words that follow its name."""
    if error.errno in (errno.ELOOP, errno.EMLINK) and path.is_symlink():
        return "is a symbolic link; a run's files are in its own directory"
    if error.errno == errno.ENXIO:  # a socket
        return "is not a file"
    return f"cannot be read ({error.strerror})"


def check_file(path: Path, limit: int | None = None) -> int:
    """See that a path is a regular file, and return its size. Errors: as opened()."""
    with opened(path, limit) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a file. Errors: as opened()."""
    descriptor, size = _descriptor(path, limit)
    try:
        content = os.read(descriptor, min(size, limit, PIECE_BYTES) + 1)
        if len(content) > min(size, PIECE_BYTES) or len(content) < size:  # the file is long, grows or was cut
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content += file.read(max(0, min(size + PIECE_BYTES, limit) + 1 - len(content)))
    except OSError as error:
        raise BadRunError(f"{path}: cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise BadRunError(f"{path}: is larger than {limit:,} bytes")
    return content


def head_of(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file, or all of a shorter one. Errors: as opened()."""
    descriptor, _ = _descriptor(path, None)
    try:
        return os.read(descriptor, size)
    except OSError as error:
        raise BadRunError(f"{path}: cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)


def read_text(path: Path, limit: int) -> str:
    """The content of a file in UTF-8. Errors: as opened()."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRunError(f"{path}: is not text ({error.reason})") from None


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """The values of a JSON file: numbers are finite, and brackets not nested without end. Errors: as opened()."""
    return json_values(path, read_bytes(path, limit))


def json_values(path: Path, content: bytes) -> Any:
    """The same of a content that was read from `path`."""
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise BadRunError(f"{path}: holds more than {MOST_VALUES:,} values")
    try:
        values = json.loads(content)
        _check_values(values)
    except RecursionError:
        raise BadRunError(f"{path}: not readable as JSON (it is nested too deeply)") from None
    except ValueError as error:  # also of a text that is no UTF-8
        raise BadRunError(f"{path}: not readable as JSON ({error})") from None
    return values


def _check_values(values: Any) -> None:
    """Errors: ValueError for a number that is not finite or endless, RecursionError for too many levels."""
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                inner += value.values()
            elif kind is list:
                inner += value
            elif kind is float and not math.isfinite(value):
                raise ValueError("a number is not finite")
            elif kind is int and not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
                raise ValueError("an integer has more than 64 bits")
        if not inner:
            return
        level = inner
    raise RecursionError


def read_object(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The values of a JSON file that holds one object. Errors: as opened()."""
    values = read_json(path, limit)
    if not isinstance(values, dict):
        raise BadRunError(f"{path}: is not a JSON object")
    return values


class Fields:
    """The fields of a JSON object, each with its type checked when it is asked for. Errors: ValueError naming it."""

    def __init__(self, values: Any, name: str = "") -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{name or 'it'} is not an object")
        self.values, self._prefix = values, f"{name}." if name else ""

    def _get(self, key: str, kinds: tuple[type, ...], what: str, null: bool) -> Any:
        if key not in self.values:
            raise ValueError(f"{self._prefix}{key} is missing")
        value = self.values[key]
        good = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if not good and not (null and value is None):
            raise ValueError(f"{self._prefix}{key} is not {what}")
        return value

    def text(self, key: str) -> str:
        """A text."""
        value: str = self._get(key, (str,), "a text", False)
        return value

    def text_or_null(self, key: str) -> str | None:
        """A text or null."""
        value: str | None = self._get(key, (str,), "a text", True)
        return value

    def whole(self, key: str) -> int:
        """A whole number of at least 0."""
        value: int = self._get(key, (int,), "an integer", False)
        if value < 0:
            raise ValueError(f"{self._prefix}{key} is below 0")
        return value

    def whole_or_null(self, key: str) -> int | None:
        """A whole number of at least 0, or null."""
        return None if key in self.values and self.values[key] is None else self.whole(key)

    def number(self, key: str) -> float:
        """A finite number of a size that can be reckoned with."""
        value = float(self._get(key, (int, float), "a number", False))
        if not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:  # nor NaN
            raise ValueError(f"{self._prefix}{key} is not a possible number")
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value: bool = self._get(key, (bool,), "true or false", False)
        return value

    def share(self, key: str) -> float:
        """A number from 0 to 1."""
        value = self.number(key)
        if not 0 <= value <= 1:
            raise ValueError(f"{self._prefix}{key} is not from 0 to 1")
        return value

    def items(self, key: str) -> list[Any]:
        """A list."""
        value: list[Any] = self._get(key, (list,), "a list", False)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        found = self._get(key, (list,), "a list of texts", False)
        if not all(isinstance(text, str) for text in found):
            raise ValueError(f"{self._prefix}{key} is not a list of texts")
        return tuple(found)

    def fields(self, key: str) -> Fields:
        """An object within."""
        return Fields(self._get(key, (dict,), "an object", False), f"{self._prefix}{key}")

    def fields_or_null(self, key: str) -> Fields | None:
        """An object within, or null."""
        return None if self._get(key, (dict,), "an object", True) is None else self.fields(key)

    def check_known(self, keys: Collection[str]) -> None:
        """See that there are no other fields than these."""
        for key in self.values:
            if key not in keys:
                raise ValueError(f"{self._prefix}{key} is not a known field")


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[list[float | None]]:
    """The rows of a CSV file of numbers, one at a time, None where a cell is empty.

    What follows the last line's end is left out: a process that was killed leaves a torn row.
    Errors: as opened(); BadRunError for other columns, a cell that is no number, or an accuracy outside 0 to 1.
    """
    for line in read_lines(path, columns):
        if line.endswith(b"\n") and line.strip():
            yield parse_row(path, line, columns)


def parse_row(path: Path, line: bytes, columns: tuple[str, ...]) -> list[float | None]:
    """The numbers of a line of a CSV file. Errors: as read_rows()."""
    try:
        row = [float(cell) if cell else None for cell in line.rstrip(b"\r\n").split(b",")]
    except ValueError:
        raise BadRunError(f"{path}: a cell is not a number") from None
    if len(row) != len(columns):
        raise BadRunError(f"{path}: a row has {len(row)} cells, not {len(columns)}")
    for column, cell in zip(columns, row, strict=True):
        if cell is not None and not 0 <= cell <= 1 and column in SHARES:
            raise BadRunError(f"{path}: {column} is not from 0 to 1")
    return row


def read_lines(path: Path, columns: tuple[str, ...]) -> Iterator[bytes]:
    """The lines of a CSV file with these columns, after the first, each with its end. Errors: as opened()."""
    head = ",".join(columns)
    with opened(path, MAX_TABLE_BYTES) as file:
        if file.readline(max(MAX_ROW_BYTES, len(head) + 3)).rstrip(b"\r\n").decode("utf-8", "replace") != head:
            raise BadRunError(f"{path}: its columns are not {head}")
        yield from lines_of(path, file, len(columns))


def lines_of(path: Path, file: BufferedReader, columns: int) -> Iterator[bytes]:
    """The next lines of a CSV file with this many columns, each with its newline. Errors: BadRunError."""
    limit = max(MAX_ROW_BYTES, MAX_CELL_BYTES * columns)
    while line := file.readline(limit):
        if len(line) == limit:
            raise BadRunError(f"{path}: a line is longer than {limit:,} bytes")
        yield line


def first_line_of(path: Path, limit: int) -> str:
    """A table's first line without its end, at most `limit` bytes of it. Errors: as opened()."""
    with opened(path, MAX_TABLE_BYTES) as file:
        return file.readline(limit).rstrip(b"\r\n").decode("utf-8", "replace")


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, as hex digits, read piece by piece. Errors: as opened()."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(folder: Path) -> list[Path]:
    """What a folder holds. Errors: BadRunError where it cannot be listed."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise BadRunError(f"{folder}: cannot be listed ({error.strerror})") from None


def is_taken(path: Path) -> bool:
    """Whether anything stands there: a file, a folder, a link that leads nowhere. What cannot be seen does not."""
    return os.path.lexists(path)


def is_file(path: Path) -> bool:
    """Whether a regular file stands there, and no link. Unlike Path.is_file() it never fails."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder stands there, through a link too. Unlike Path.is_dir() it never fails."""
    return os.path.isdir(path)


def why_no_folder(path: Path) -> str:
    """Why a path is no folder, in words that follow it. Errors: OSError for one that is too long or that circles."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is a broken symbolic link" if os.path.islink(path) else "does not exist"
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        return f"cannot be read ({error.strerror})"
    return "is not a directory"


def written_at(path: Path) -> float:
    """When a file was last written, in seconds since 1970; 0 where that cannot be told."""
    try:
        return os.lstat(path).st_mtime
    except (OSError, ValueError):
        return 0.0


def local_time(seconds: float) -> datetime | None:
    """A file's time as the clock on the wall shows it; None before the year 1 and after 9999, which a disk may hold."""
    try:
        return datetime.fromtimestamp(seconds)
    except (ValueError, OverflowError, OSError):
        return None
