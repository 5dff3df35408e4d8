"""The pictures in a folder and all folders in it, and what is skipped there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.errors import ConfigError
from mnist_ff.images.image_io import PICTURE_SUFFIXES

MOST_PICTURES = 100_000
"""In one command."""
NAMED = 5
"""Skipped files that are named; of more, their number."""


@dataclass(frozen=True)
class Pictures:
    """What was found."""

    files: tuple[Path, ...]
    """Folder by folder, each by name."""
    skipped: tuple[str, ...] = ()
    """Path and reason of each file and folder that is left out; hidden ones are not among them."""


def find_pictures(path: Path) -> Pictures:
    """The file itself, or the pictures in a folder and the folders in it.

    Hidden files and folders are left out, and links to folders are not followed, so that no loop is walked. Errors:
    ConfigError for a path with no picture, or with more than MOST_PICTURES.
    """
    if not path.is_dir():
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise ConfigError(f"{path}: {what}; give PNG or JPEG files, or a folder with them")
        return Pictures((path,))
    files: list[Path] = []
    skipped: list[str] = []
    for place, why in _walked(path):
        if why is not None:
            skipped.append(f"{place}: {why}")
            continue
        files.append(place)
        if len(files) > MOST_PICTURES:
            raise ConfigError(f"{path}: holds more than {MOST_PICTURES:,} pictures; give its folders one at a time")
    if not files:
        raise ConfigError(f"{path}: contains no image files ({', '.join(PICTURE_SUFFIXES)})")
    return Pictures(tuple(files), tuple(skipped))


def _walked(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Every visible file below a folder, and why it is not taken."""
    closed: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from ((Path(root, name), "a link to a folder; not followed") for name in folders if _is_link(root, name))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name), _why_not(Path(root, name))
        while closed:
            yield _closed(closed.pop())
    yield from map(_closed, closed)


def _closed(error: OSError) -> tuple[Path, str]:
    return Path(str(error.filename)), error.strerror or "cannot be read"


def _is_link(root: str, name: str) -> bool:
    return Path(root, name).is_symlink()


def _why_not(file: Path) -> str | None:
    if file.suffix.lower() not in PICTURE_SUFFIXES:
        return "not a PNG or JPEG file"
    return None if file.is_file() else "not a regular file"


def skipped_lines(skipped: Sequence[str]) -> list[str]:
    """What to say of skipped files: the first by name, and how many more."""
    named = [f"skipped {line}" for line in skipped[:NAMED]]
    more = len(skipped) - len(named)
    return [*named, f"skipped {more:,} more"] if more else named


def class_folders(folder: Path, classes: Sequence[str]) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The folders of a folder, each with the class that its name says; and what beside them is skipped.

    A name is a class's name, in upper or lower case and with "_" or "-" where no folder can have a "/", or its number.
    Errors: ConfigError naming the classes for any other name, or where there is no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is not a folder; --labels needs a folder with a folder for each class")
    try:
        inside = sorted(place for place in folder.iterdir() if not place.name.startswith("."))
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    folders = [place for place in inside if place.is_dir()]
    known = ", ".join(classes[:40]) + (", ..." if len(classes) > 40 else "")
    if not folders:
        raise ConfigError(f"{folder}: has no folders; --labels needs a folder for each class: {known}")
    named = [(place, _class_of(place.name, classes)) for place in folders]
    unknown = [place.name for place, label in named if label is None]
    if unknown:
        raise ConfigError(f"{folder}: {', '.join(unknown[:5])}: not a class of this run, whose classes are {known}")
    skipped = tuple(f"{place}: lies in no class folder" for place in inside if not place.is_dir())
    return [(place, label) for place, label in named if label is not None], skipped


def _class_of(name: str, classes: Sequence[str]) -> int | None:
    for spelled in (str, _plain):
        found = [label for label, known in enumerate(classes) if spelled(known) == spelled(name)]
        if len(found) == 1:
            return found[0]
    first = [label for label, known in enumerate(classes) if _plain(known.partition("/")[0]) == _plain(name)]
    if len(first) == 1:
        return first[0]
    return int(name) if name.isascii() and name.isdigit() and int(name) < len(classes) else None


def _plain(name: str) -> str:
    return "".join("-" if letter in "/_ " else letter for letter in name.casefold())
