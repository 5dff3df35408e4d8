"""The identity of a run for its trackers: kept after a resume or a move, new for a copy."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mnist_ff.errors import BadRunError
from mnist_ff.files import write_text
from mnist_ff.runs.directory import Run
from mnist_ff.runs.reading import read_json, read_text

IDENTITY = "tracking.id"
"""16 hex digits."""
TRACKING = "tracking.json"
"""Which directory that identity belongs to, and from which step on each tracker hears of the run."""
MAX_IDENTITY_BYTES = 1 << 16
"""Bytes of these files that are read."""


@dataclass(frozen=True)
class Identity:
    """What trackers know a run by, and what they are to know of it."""

    name: str
    since: dict[str, int]
    """The first step that each tracker, by its title, is to have heard."""
    copied: Path | None = None
    """The directory that this one was just found to be a copy of."""


@dataclass(frozen=True)
class _Place:
    """A directory, as well as a later process can know it again."""

    identity: str
    directory: str
    inode: int
    """The same after a move within a disk, and on every machine that mounts it; another after a copy."""
    machine: str
    """A digest; empty where the system has no name for it."""
    since: dict[str, int] = field(default_factory=dict)


def identify(run: Run, titles: Iterable[str], first_step: int) -> Identity:
    """The run's identity, the saved one or a new one, for trackers that hear of it from `first_step` on.

    Both are saved. A tracker that was there before keeps its first step; one that is left out loses it.
    Errors: OSError.
    """
    name, before, copied = _saved_name(run), _saved_place(run), None
    if before is not None and before.identity == name:
        copied = _original(run, before)
    else:  # a directory of before this was noted, or not ours: it belongs where it is
        before = None
    if name is None or copied is not None:
        name = secrets.token_hex(8)
        write_text(run.file(IDENTITY), name + "\n")
    known = {} if before is None else before.since
    since = {title: min(known.get(title, first_step), first_step) for title in titles}
    here = run.path.resolve()
    place = _Place(name, str(here), here.stat().st_ino, _machine(), since)
    if place != before:
        write_text(run.file(TRACKING), json.dumps(asdict(place), indent=1) + "\n")
    return Identity(name, since, copied)


def _original(run: Run, before: _Place) -> Path | None:
    """The directory that this one is a copy of; None: it is the one that was there before, perhaps moved."""
    there, here = Path(before.directory), run.path.resolve()
    if there != here and _is_another(there, here, before.identity):
        return there
    if here.stat().st_ino == before.inode:
        return None
    machine = _machine()
    if machine and before.machine and machine != before.machine:  # nobody can look whether it still is there
        return there
    if there == here:  # put back from a backup
        return None
    # moved from another disk, or one of several copies of a directory that is gone
    beside = (path for folder in {here.parent, there.parent} for path in _entries(folder))
    return next((path for path in beside if _is_another(path, here, before.identity)), None)


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _is_another(there: Path, here: Path, identity: str) -> bool:
    """Whether another directory than `here` holds this identity."""
    with suppress(OSError, ValueError):
        return _saved_name(Run(there)) == identity and not there.samefile(here)
    return False


def _saved_name(run: Run) -> str | None:
    text = (_text(run.file(IDENTITY)) or "").strip()
    return text if re.fullmatch(r"[0-9a-f]{16}", text) else None


def _saved_place(run: Run) -> _Place | None:
    """What tracking.json says; None if it is missing or invalid."""
    try:
        values = read_json(run.file(TRACKING), MAX_IDENTITY_BYTES)
        place = _Place(**values)
        directory, since = place.directory, place.since.items()
    except (BadRunError, TypeError, AttributeError):
        return None
    texts = all(isinstance(text, str) for text in (place.identity, directory, place.machine))
    steps = all(isinstance(title, str) and _whole(step) for title, step in since)
    good = texts and steps and _whole(place.inode) and directory.isprintable() and os.path.isabs(directory)
    return place if good else None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(path: Path) -> str | None:
    """A small file's text; None for what is none."""
    with suppress(BadRunError):
        return read_text(path, MAX_IDENTITY_BYTES)
    return None


def _machine() -> str:
    """This machine's own name as a digest: the name itself is not for others."""
    text = (_text(Path("/etc/machine-id").resolve()) or "").strip()
    return hashlib.sha256(f"mnist-ff {text}".encode()).hexdigest()[:16] if text else ""
