"""labels.json: the tags and note that a user gives a run or sweep."""

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
MAX_TAGS, MAX_TAG_LENGTH, MAX_NOTE_LENGTH = 50, 60, 2_000
"""Limits: tags of a run, letters of a tag, letters of a note."""
LOCK_TIMEOUT_S, POLL_S = 10.0, 0.02
"""Seconds to wait for another process that changes the labels, and seconds between two attempts."""


@dataclass(frozen=True)
class Labels:
    """The tags and note of a run or sweep."""

    tags: tuple[str, ...] = ()
    """In alphabetical order, each once."""
    note: str | None = None
    """One line."""

    def __post_init__(self) -> None:
        """Check the values. Errors: ValueError, with a message to append to a path or option."""
        for tag in self.tags:
            if not re.fullmatch(rf"[^\s,-][^\s,]{{0,{MAX_TAG_LENGTH - 1}}}", tag) or not tag.isprintable():
                raise ValueError(
                    f"the tag {tag[:MAX_TAG_LENGTH]!r}; give up to {MAX_TAG_LENGTH} letters without spaces and commas, "
                    "the first one no hyphen"
                )
        if len(self.tags) > MAX_TAGS:
            raise ValueError(f"{len(self.tags)} tags; a run has at most {MAX_TAGS}")
        if self.note is not None and not (0 < len(self.note) <= MAX_NOTE_LENGTH and self.note.isprintable()):
            raise ValueError(f"the note has {len(self.note):,} letters; give one line of 1 to {MAX_NOTE_LENGTH:,}")


def read_labels(directory: Path) -> Labels:
    """Read a run's or sweep's tags and note; empty if it has no labels.json.

    Errors: BadRunError for an invalid file.
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
    """As `read_labels`, but empty if the file cannot be read: for lists of runs."""
    try:
        return read_labels(directory)
    except BadRunError:
        return Labels()


def update_labels(
    directory: Path, add: tuple[str, ...] = (), remove: tuple[str, ...] = (), note: str | None = None
) -> Labels:
    """Add or remove tags of a run or sweep, or replace its note; an empty note removes it. Returns the new labels.

    Errors: ConfigError for an invalid tag or note; BadRunError; RunError if the file cannot be written.
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
    """Lock the labels, so that no other process's change is lost. Does nothing on disks without locks.

    The directory itself is locked: .lock belongs to the training. Errors: RunError after LOCK_TIMEOUT_S.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:  # Windows cannot open folders; other errors are reported when the file is read or written
        yield
        return
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
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
