"""labels.json: the tags and the note that people give a run or sweep, in a file of its own."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.errors import BadRunError, ConfigError, MissingFileError, RunError
from mnist_ff.files import hold, remove_leftovers, write_text
from mnist_ff.runs.directory import Run
from mnist_ff.runs.reading import Fields, read_object

LABELS = "labels.json"
MAX_LABELS_BYTES = 64 << 10
MOST_TAGS, LONGEST_TAG, LONGEST_NOTE = 50, 60, 2_000
"""Tags of a run, letters of a tag, letters of a note."""

LONGEST_WAIT_S, POLL_S = 10.0, 0.02
"""For another process that changes them, and between two looks."""


@dataclass(frozen=True)
class Labels:
    """What people noted of a run."""

    tags: tuple[str, ...] = ()
    """In alphabetical order, each once."""
    note: str | None = None
    """One line."""

    def __post_init__(self) -> None:
        """Errors: ValueError, in words that follow the place where it stands."""
        for tag in self.tags:
            if not re.fullmatch(rf"[^\s,-][^\s,]{{0,{LONGEST_TAG - 1}}}", tag) or not tag.isprintable():
                raise ValueError(
                    f"the tag {tag[:LONGEST_TAG]!r}; give up to {LONGEST_TAG} letters without spaces and commas, the "
                    "first one no hyphen"
                )
        if len(self.tags) > MOST_TAGS:
            raise ValueError(f"{len(self.tags)} tags; a run has at most {MOST_TAGS}")
        if self.note is not None and not (0 < len(self.note) <= LONGEST_NOTE and self.note.isprintable()):
            raise ValueError(f"the note has {len(self.note):,} letters; give one line of 1 to {LONGEST_NOTE:,}")


def read_labels(directory: Path) -> Labels:
    """A run's or sweep's tags and note; none where it has no such file, as in directories that are older than it.

    Errors: BadRunError for a file that holds something else.
    """
    path = directory / LABELS
    try:
        values = Fields(read_object(path, MAX_LABELS_BYTES))
        tags = values.texts("tags") if "tags" in values.values else ()
        note = values.text_or_null("note") if "note" in values.values else None
        return Labels(tuple(sorted(set(tags))), note)
    except MissingFileError:
        return Labels()
    except ValueError as error:
        raise BadRunError(f"{path}: not a run's labels ({error})") from None


def labels_of(directory: Path) -> Labels:
    """The same for lists: none where the file cannot be read."""
    try:
        return read_labels(directory)
    except BadRunError:
        return Labels()


def changed_labels(
    directory: Path, add: tuple[str, ...] = (), remove: tuple[str, ...] = (), note: str | None = None
) -> Labels:
    """Write a run's or sweep's labels with tags added or removed, or with another note; an empty note is none.

    Errors: ConfigError for a tag or note that is none; BadRunError; RunError where it cannot be written.
    """
    with _alone(directory):
        before = read_labels(directory)
        tags = tuple(sorted({*before.tags, *add} - {*remove}))
        try:
            labels = Labels(tags, before.note if note is None else note or None)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if labels != before:
            _write(directory, labels)
    return labels


def _write(directory: Path, labels: Labels) -> None:
    Run(directory).check_place()
    values = {"tags": list(labels.tags), "note": labels.note}
    try:
        remove_leftovers(directory, f".{LABELS}.*.tmp")
        write_text(directory / LABELS, json.dumps(values, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{directory / LABELS}: {error.strerror}") from None


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait for another process that changes the same labels, where the disk has locks: each would undo the other's
    change. The directory itself is locked, as a run in training has its .lock. Errors: RunError."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:  # Windows opens no folder; what else is wrong is said by who reads or writes
        yield
        return
    try:
        deadline = time.monotonic() + LONGEST_WAIT_S
        while not _held(descriptor):
            if time.monotonic() > deadline:
                raise RunError(f"{directory}: another process changes its labels; try again")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _held(descriptor: int) -> bool:
    try:
        hold(descriptor)
    except OSError:
        return False
    return True
