"""A run as it goes on: the rows that were added to its files since a viewer last looked, and how it stands."""

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

PIECE_BYTES = 1 << 20
"""Of batches.csv that are read at once, about 25,000 rows."""
MOST_POINTS = 16_384
"""Of the rows that are there when a viewer comes; of more, each point is the mean of several."""
ROW_BYTES = 38
"""Of a usual row."""
MARK_BYTES = 64
"""Before a viewer's place, that must be as they were."""
MOST_EPOCHS = 400
"""Points of the curves per epoch."""
EPOCH_FIELDS = tuple(f"{part}_{what}" for part in ("train", "test", "validation") for what in ("loss", "accuracy"))
HEAD = ",".join(BATCH_COLUMNS).encode()
OVER = ("running", "not started")
"""Statuses of runs that go on; all others have ended."""
WATCHED = ("config.yaml", "summary.json", EPOCHS, "environment.json")
"""Files of which a change is a change of how a run stands."""


@dataclass(frozen=True)
class Place:
    """Where in batches.csv a viewer stands."""

    offset: int = 0
    mark: int = 0
    """A checksum of the bytes before: of a file that was written anew others stand there."""
    size: int = 1
    """Rows of a point."""

    def __str__(self) -> str:
        return f"{self.offset}.{self.mark:08x}.{self.size}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """The place that a viewer says it stands at; None for what is none."""
        found = re.fullmatch(r"(\d{1,12})\.([0-9a-f]{8})\.(\d{1,6})", text)
        if found is None or not int(found[3]):
            return None
        return cls(int(found[1]), int(found[2], 16), int(found[3]))


@dataclass(frozen=True)
class Piece:
    """Some points of the loss curve, and where the next ones begin."""

    place: Place
    again: bool = False
    """Whether it begins from the file's beginning: what the viewer has is void."""
    more: bool = False
    """Whether there is more to read at once."""
    steps: tuple[int, ...] = ()
    """Batches done at each point, counted from 1."""
    losses: tuple[float | None, ...] = ()
    last: tuple[float | None, ...] | None = None
    """The last row, as BATCH_COLUMNS."""


def read_on(path: Path, place: Place, over: bool) -> Piece:
    """The next points of batches.csv, of at most PIECE_BYTES. A line without its end waits for it, and rows wait until
    they are enough for a point, unless the run is over.

    Errors: BadRunError for a file that is none of a run's.
    """
    with opened(path, MAX_TABLE_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        start = max(0, place.offset - MARK_BYTES)
        file.seek(start)
        before = file.read(place.offset - start)
        again = len(before) < place.offset - start or zlib.crc32(before) != place.mark
        if again or not place.offset:
            points = 1 << max(0, math.ceil(math.log2(max(1, size / ROW_BYTES / MOST_POINTS))))
            place, before = Place(size=points if again or place.size == 1 else place.size), b""
        file.seek(place.offset)
        content = file.read(PIECE_BYTES)
        at_end = place.offset + len(content) >= os.fstat(file.fileno()).st_size
    end = content.rfind(b"\n") + 1
    lines = content[:end].splitlines(keepends=True)
    if len(content) - end > MAX_ROW_BYTES:
        raise BadRunError(f"{path}: a line is longer than {MAX_ROW_BYTES:,} bytes")
    if lines and not place.offset and lines[0].rstrip() != HEAD:
        raise BadRunError(f"{path}: its columns are not {HEAD.decode()}")
    head = 0 if place.offset else min(1, len(lines))
    whole = len(lines) - head if over and at_end else (len(lines) - head) // place.size * place.size
    taken = lines[: head + whole]
    after = place.offset + sum(map(len, taken))
    mark = zlib.crc32((before + b"".join(taken[-MARK_BYTES:]))[-MARK_BYTES:])
    rows = [parse_row(path, line, BATCH_COLUMNS) for line in taken[head:]]
    piece = Piece(replace(place, offset=after, mark=mark), again, not at_end and bool(taken))
    return _with_points(piece, rows)


def _with_points(piece: Piece, rows: Sequence[Sequence[float | None]]) -> Piece:
    """The mean loss of each `size` rows."""
    if not rows:
        return piece
    step, loss = BATCH_COLUMNS.index("step"), BATCH_COLUMNS.index("loss")
    groups = [rows[first : first + piece.place.size] for first in range(0, len(rows), piece.place.size)]
    steps = tuple(_whole(group[-1][step]) + 1 for group in groups)
    losses = tuple(_mean([row[loss] for row in group]) for group in groups)
    return replace(piece, steps=steps, losses=losses, last=tuple(rows[-1]))


def _whole(value: float | None) -> int:
    """A count from a file that may hold any number."""
    return int(value) if value is not None and 0 <= value < 1 << 53 else 0


def _mean(values: Sequence[float | None]) -> float | None:
    """Of values from a file; None where one of them is none, or not finite."""
    total = math.fsum(value for value in values if value is not None and math.isfinite(value))
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    return float(f"{total / len(values):.{9 if len(values) == 1 else 6}g}")


def epoch_points(run: Run) -> dict[str, Any] | None:
    """The curves per epoch, thinned; epochs count from 1. Errors: BadRunError."""
    curves = epoch_curves(run)
    if curves is None:
        return None
    step = math.ceil(len(curves["columns"]["epoch"]) / MOST_EPOCHS)
    thin = {name: cells[::-step][::-1] for name, cells in curves["columns"].items()}
    points: dict[str, Any] = {name: thin[name] for name in EPOCH_FIELDS if name in thin}
    return {"epoch": [_whole(epoch) + 1 for epoch in thin["epoch"]], "part": curves["part"], **points}


class Follower:
    """What one viewer of a run has been told, and what is new."""

    def __init__(self, path: Path, place: Place | None = None) -> None:
        self._run, self._place = Run(path), place or Place()
        self._seen: tuple[Any, ...] | None = None
        self._epochs_seen: Any = None
        self._row: Row | None = None
        self._per_epoch: int | None = None
        self._fault: str | None = None
        self._first = place is None
        self.over = False
        """Whether the run has ended, and the viewer has been told everything."""
        self.more = False
        """Whether there is more to tell at once."""

    @property
    def place(self) -> Place:
        """Where the viewer stands now."""
        return self._place

    def look(self) -> list[tuple[str, Any]]:
        """What is new, as events: their names and values."""
        seen = self._state()
        changed = seen != self._seen
        if changed:
            self._seen, self._row = seen, self._read()
        assert self._row is not None
        ended = self._row.status not in OVER
        events, before = [], (self._per_epoch, self._fault)
        events += self._batches(ended)
        events += self._epochs(seen)
        if changed or before != (self._per_epoch, self._fault):
            events.append(("status", self._status(self._row, ended)))
        self.over = ended and not self.more
        return events

    def _read(self) -> Row:
        """The run as a row; of one whose directory has gone, that it has."""
        if is_folder(self._run.path):
            return read_row(self._run.path)
        return Row(self._run.path.name, self._run.path, "removed", "its directory is not there any more")

    def _state(self) -> tuple[Any, ...]:
        """What tells whether anything but batches.csv has changed."""
        stats = tuple(signature(self._run.file(name)) for name in WATCHED)
        ended = stats[WATCHED.index("summary.json")] is not None
        return (*stats, not ended and is_locked(self._run.path))

    def _batches(self, ended: bool) -> list[tuple[str, Any]]:
        try:
            piece = read_on(self._run.file(BATCHES), self._place, ended)
        except MissingFileError:
            self.more = False
            return []
        except BadRunError as error:
            self.more, self._fault = False, str(error)
            return []
        again = piece.again or self._first
        self._first, self._place, self.more = False, piece.place, piece.more
        if piece.last is None and not again:
            return []
        told: dict[str, Any] = {"again": again, "size": piece.place.size, "steps": piece.steps, "losses": piece.losses}
        if piece.last is not None:
            self._measure(piece.last)
            told |= {"epoch": _whole(piece.last[1]) + 1, "batch": _whole(piece.last[2]) + 1}
        return [("batches", told)]

    def _measure(self, row: Sequence[float | None]) -> None:
        """Batches of an epoch, from a row of a later one than the first."""
        step, epoch, batch = map(_whole, row[:3])
        if epoch:
            self._per_epoch = max(1, (step - batch) // epoch)

    def _epochs(self, seen: tuple[Any, ...]) -> list[tuple[str, Any]]:
        state = seen[WATCHED.index(EPOCHS)]
        if state == self._epochs_seen:
            return []
        self._epochs_seen = state
        try:
            points = epoch_points(self._run)
        except MissingFileError:
            return []
        except BadRunError as error:
            self._fault = str(error)
            return []
        return [] if points is None else [("epochs", points)]

    def _status(self, row: Row, ended: bool) -> dict[str, Any]:
        """How the run stands."""
        of_epochs = self._epochs_meant(row)
        per_epoch = self._per_epoch or self._planned()
        return {
            "status": row.status,
            "reason": self._fault or row.reason,
            "over": ended,
            "epochs": row.epochs,
            "of_epochs": of_epochs,
            "per_epoch": per_epoch,
            "seconds": row.seconds,
            "test": _score(row.test),
            "validation": _score(row.validation),
        }

    def _epochs_meant(self, row: Row) -> int | None:
        """Epochs that the run is to have: the config's, or what the last resume that changed them says."""
        epochs = row.values.get("trainer.epochs")
        with suppress(BadRunError, TypeError, AttributeError):
            for resume in self._run.environment().get("history", ()):
                epochs = resume.get("changes", {}).get("trainer.epochs", epochs)
        return epochs if isinstance(epochs, int) else None

    def _planned(self) -> int | None:
        """Batches of an epoch of a known data set, before one has ended. No file of the data is asked for: a directory
        from elsewhere may name any."""
        with suppress(MnistError, ArithmeticError):
            config: Config = self._run.config()
            if config.data.name in names("data") and data_set(config.data.name).describe is None:
                return math.ceil(training_images(config.data) / config.trainer.batch_size)
        return None


def _score(score: Score | None) -> dict[str, float] | None:
    return None if score is None else {"loss": score.loss, "accuracy": score.accuracy}


def signature(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
