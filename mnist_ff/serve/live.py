"""A run while it trains: the rows added to its files since a viewer's last event, and its status."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnist_ff.analysis.rows import Row, read_row
from mnist_ff.config.registry import names
from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import data_set, training_images
from mnist_ff.errors import BadRunError, MissingFileError, MnistError
from mnist_ff.report.curves import epoch_curves
from mnist_ff.runs.directory import Run
from mnist_ff.runs.lock import is_locked
from mnist_ff.runs.reading import MAX_ROW_BYTES, MAX_TABLE_BYTES, is_folder, opened, parse_row
from mnist_ff.runs.records import Score
from mnist_ff.runs.tables import BATCH_COLUMNS, BATCHES, EPOCHS

READ_BYTES = 1 << 20
"""Bytes of batches.csv that are read at a time: about 25,000 rows."""
MAX_POINTS = 16_384
"""Points of the loss curve when a viewer opens the page. With more rows, each point is the mean of several rows."""
ROW_BYTES = 38
"""Typical size of a row, to estimate the number of rows."""
CHECKSUM_BYTES = 64
"""Bytes before a viewer's position that its checksum covers."""
MAX_EPOCHS = 400
"""Points of the curves with a point per epoch; longer ones are thinned."""
EPOCH_FIELDS = tuple(f"{part}_{what}" for part in ("train", "test", "validation") for what in ("loss", "accuracy"))
HEADER = ",".join(BATCH_COLUMNS).encode()
UNREADABLE = ("broken", "removed")
"""Statuses whose reason is shown in place of faults in single files."""
UNFINISHED = ("running", "not started")
"""The statuses of runs that have not ended."""
WATCHED = ("config.yaml", "summary.json", EPOCHS, "environment.json")
"""The files, apart from batches.csv, from which a run's status and curves are read."""


@dataclass(frozen=True)
class Position:
    """A viewer's position in batches.csv. As text it is the id of a server-sent event."""

    offset: int = 0
    """Bytes already sent as points."""
    checksum: int = 0
    """CRC-32 of up to CHECKSUM_BYTES before the offset; it differs when the file has been rewritten."""
    rows_per_point: int = 1

    def __str__(self) -> str:
        return f"{self.offset}.{self.checksum:08x}.{self.rows_per_point}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """The position that a viewer sent; None if the text is not a position."""
        found = re.fullmatch(r"(\d{1,12})\.([0-9a-f]{8})\.(\d{1,6})", text)
        if found is None or not int(found[3]):
            return None
        return cls(int(found[1]), int(found[2], 16), int(found[3]))


@dataclass(frozen=True)
class NewPoints:
    """New points of the loss curve, and the position after them."""

    position: Position
    again: bool = False
    """Whether the file was rewritten: the points begin at its start, and the viewer must drop those that it has."""
    more: bool = False
    """Whether further rows can be read at once."""
    steps: tuple[int, ...] = ()
    """The number of batches done at each point: the first batch is 1."""
    losses: tuple[float | None, ...] = ()
    last: tuple[float | None, ...] | None = None
    """The last row, with the columns BATCH_COLUMNS."""


def read_new_points(path: Path, position: Position, over: bool) -> NewPoints:
    """The next points of batches.csv, from at most READ_BYTES of it. An incomplete last line is left for the next call,
    and so are rows that do not fill a point, unless the run is over.

    Errors: BadRunError for a file that is not a valid batches.csv.
    """
    with opened(path, MAX_TABLE_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        start = max(0, position.offset - CHECKSUM_BYTES)
        file.seek(start)
        before = file.read(position.offset - start)
        again = len(before) < position.offset - start or zlib.crc32(before) != position.checksum
        if again or not position.offset:
            fitting = 1 << max(0, math.ceil(math.log2(max(1, size / ROW_BYTES / MAX_POINTS))))
            keep = not again and position.rows_per_point > 1
            position, before = Position(rows_per_point=position.rows_per_point if keep else fitting), b""
        file.seek(position.offset)
        content = file.read(READ_BYTES)
        at_end = position.offset + len(content) >= os.fstat(file.fileno()).st_size
    end = content.rfind(b"\n") + 1
    lines = content[:end].splitlines(keepends=True)
    if len(content) - end > MAX_ROW_BYTES:
        raise BadRunError(f"{path}: a line is longer than {MAX_ROW_BYTES:,} bytes")
    if lines and not position.offset and lines[0].rstrip() != HEADER:
        raise BadRunError(f"{path}: its columns are not {HEADER.decode()}")
    header, size = 0 if position.offset else min(1, len(lines)), position.rows_per_point
    count = len(lines) - header
    taken = lines[: header + (count if over and at_end else count // size * size)]
    after = position.offset + sum(map(len, taken))
    checksum = zlib.crc32((before + b"".join(taken[-CHECKSUM_BYTES:]))[-CHECKSUM_BYTES:])
    rows = [parse_row(path, line, BATCH_COLUMNS) for line in taken[header:]]
    new = NewPoints(replace(position, offset=after, checksum=checksum), again, not at_end and bool(taken))
    return _with_points(new, rows)


def _with_points(new: NewPoints, rows: Sequence[Sequence[float | None]]) -> NewPoints:
    """`new` with a point for every `rows_per_point` rows: the mean of their losses."""
    if not rows:
        return new
    step, loss, size = BATCH_COLUMNS.index("step"), BATCH_COLUMNS.index("loss"), new.position.rows_per_point
    groups = [rows[first : first + size] for first in range(0, len(rows), size)]
    steps = tuple(_as_count(group[-1][step]) + 1 for group in groups)
    losses = tuple(_mean([row[loss] for row in group]) for group in groups)
    return replace(new, steps=steps, losses=losses, last=tuple(rows[-1]))


def _as_count(value: float | None) -> int:
    """A value from a file as a count; 0 if it cannot be one."""
    return int(value) if value is not None and 0 <= value < 1 << 53 else 0


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of values from a file; None if one of them is missing or not finite."""
    total = math.fsum(value for value in values if value is not None and math.isfinite(value))
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    return float(f"{total / len(values):.{9 if len(values) == 1 else 6}g}")


def epoch_points(run: Run) -> dict[str, Any] | None:
    """The curves with a point per epoch, at most about MAX_EPOCHS; epochs count from 1. Errors: BadRunError."""
    curves = epoch_curves(run)
    if curves is None:
        return None
    step = math.ceil(len(curves["columns"]["epoch"]) / MAX_EPOCHS)
    thin = {name: cells[::-step][::-1] for name, cells in curves["columns"].items()}
    points: dict[str, Any] = {name: thin[name] for name in EPOCH_FIELDS if name in thin}
    return {"epoch": [_as_count(epoch) + 1 for epoch in thin["epoch"]], "part": curves["part"], **points}


class Follower:
    """Keeps track of what one viewer of a run has been sent, and finds what is new."""

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self._run, self._position = Run(path), position or Position()
        self._seen: tuple[Any, ...] | None = None
        self._epochs_seen: Any = None
        self._row: Row | None = None
        self._per_epoch: int | None = None
        self._faults: dict[str, str] = {}
        self._first = position is None
        self.over = False
        """Whether the run has ended and everything has been sent."""
        self.more = False
        """Whether `look` can return more events at once."""

    @property
    def position(self) -> Position:
        """The position after the events that `look` has returned."""
        return self._position

    def look(self) -> list[tuple[str, Any]]:
        """The new events: pairs of a name and a JSON value."""
        seen = self._state()
        changed = seen != self._seen
        if changed:
            self._seen, self._row = seen, self._read()
        assert self._row is not None
        ended = self._row.status not in UNFINISHED
        events, before = [], (self._per_epoch, dict(self._faults))
        events += self._batches(ended)
        events += self._epochs(seen)
        if changed or before != (self._per_epoch, self._faults):
            events.append(("status", self._status(self._row, ended)))
        self.over = ended and not self.more
        return events

    def _read(self) -> Row:
        """The run as a row, with the status "removed" if its directory is gone."""
        if is_folder(self._run.path):
            return read_row(self._run.path)
        return Row(self._run.path.name, self._run.path, "removed", "its directory does not exist any more")

    def _state(self) -> tuple[Any, ...]:
        """A value that changes when anything but batches.csv does."""
        stats = tuple(signature(self._run.file(name)) for name in WATCHED)
        ended = stats[WATCHED.index("summary.json")] is not None
        return (*stats, not ended and is_locked(self._run.path))

    def _batches(self, ended: bool) -> list[tuple[str, Any]]:
        self._faults.pop(BATCHES, None)
        try:
            new = read_new_points(self._run.file(BATCHES), self._position, ended)
        except MissingFileError:
            self.more = False
            return []
        except BadRunError as error:
            self.more, self._faults[BATCHES] = False, str(error)
            return []
        again = new.again or self._first
        self._first, self._position, self.more = False, new.position, new.more
        if new.last is None and not again:
            return []
        size = new.position.rows_per_point
        told: dict[str, Any] = {"again": again, "size": size, "steps": new.steps, "losses": new.losses}
        if new.last is not None:
            self._count_batches(new.last)
            told |= {"epoch": _as_count(new.last[1]) + 1, "batch": _as_count(new.last[2]) + 1}
        return [("batches", told)]

    def _count_batches(self, row: Sequence[float | None]) -> None:
        """Compute the number of batches per epoch from a row; the first epoch's rows do not tell it."""
        step, epoch, batch = map(_as_count, row[:3])
        if epoch:
            self._per_epoch = max(1, (step - batch) // epoch)

    def _epochs(self, seen: tuple[Any, ...]) -> list[tuple[str, Any]]:
        state = seen[WATCHED.index(EPOCHS)]
        if state == self._epochs_seen:
            return []
        self._epochs_seen = state
        self._faults.pop(EPOCHS, None)
        try:
            points = epoch_points(self._run)
        except MissingFileError:
            return []
        except BadRunError as error:
            self._faults[EPOCHS] = str(error)
            return []
        return [] if points is None else [("epochs", points)]

    def _status(self, row: Row, ended: bool) -> dict[str, Any]:
        """The value of a `status` event."""
        of_epochs = self._planned_epochs(row)
        per_epoch = self._per_epoch or self._planned_batches()
        return {
            "status": row.status,
            "reason": row.reason if row.status in UNREADABLE else next(iter(self._faults.values()), row.reason),
            "over": ended,
            "epochs": row.epochs,
            "of_epochs": of_epochs,
            "per_epoch": per_epoch,
            "seconds": row.seconds,
            "test": _score(row.test),
            "validation": _score(row.validation),
        }

    def _planned_epochs(self, row: Row) -> int | None:
        """The number of epochs that the run will have: the config's, or that of the last resume that changed it."""
        epochs = row.values.get("trainer.epochs")
        with suppress(BadRunError, TypeError, AttributeError):
            for resume in self._run.environment().get("history", ()):
                epochs = resume.get("changes", {}).get("trainer.epochs", epochs)
        return epochs if isinstance(epochs, int) else None

    def _planned_batches(self) -> int | None:
        """Batches per epoch of a known data set, before one epoch has ended. No data file is opened: a run directory
        from elsewhere may name any file."""
        with suppress(MnistError, ArithmeticError):
            config: Config = self._run.config()
            if config.data.name in names("data") and data_set(config.data.name).describe is None:
                return math.ceil(training_images(config.data) / config.trainer.batch_size)
        return None


def _score(score: Score | None) -> dict[str, float] | None:
    return None if score is None else {"loss": score.loss, "accuracy": score.accuracy}


def signature(path: Path) -> tuple[int, int, int] | None:
    """Modification time, size and inode: they change when the file does. None if there is no such file."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
