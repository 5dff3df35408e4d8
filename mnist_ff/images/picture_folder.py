"""Find the pictures in a folder and its subfolders, and the files that are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.errors import ConfigError
from mnist_ff.images.image_io import PICTURE_SUFFIXES

MAX_PICTURES = 100_000
"""Pictures that one command takes."""
MAX_NAMED = 5
"""Skipped files that are named. Of the others only the number is given."""


@dataclass(frozen=True)
class Pictures:
    """Pictures that were found, and files that were skipped."""

    files: tuple[Path, ...]
    """Folder by folder, sorted by name."""
    skipped: tuple[str, ...] = ()
    """'PATH: REASON' of each skipped file and folder, without hidden ones."""


def find_pictures(path: Path) -> Pictures:
    """The file itself, or the pictures in a folder and its subfolders.

    Hidden files and folders are left out. Links to folders are not followed, because they may form a loop.
    Errors: ConfigError for a path with no picture, or with more than MAX_PICTURES.
    """
    if not path.is_dir():
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise ConfigError(f"{path}: {what}; give PNG or JPEG files, or a folder with them")
        return Pictures((path,))
    files: list[Path] = []
    skipped: list[str] = []
    for place, why in _visible_files(path):
        if why is not None:
            skipped.append(f"{place}: {why}")
            continue
        files.append(place)
        if len(files) > MAX_PICTURES:
            raise ConfigError(f"{path}: holds more than {MAX_PICTURES:,} pictures; give its folders one at a time")
    if not files:
        raise ConfigError(f"{path}: contains no image files ({', '.join(PICTURE_SUFFIXES)})")
    return Pictures(tuple(files), tuple(skipped))


def _visible_files(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Every visible file below a folder, each with the reason to skip it, or None."""
    unreadable: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from ((Path(root, name), "a link to a folder; not followed") for name in folders if _is_link(root, name))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name), _reason_to_skip(Path(root, name))
        while unreadable:
            yield _reason_unreadable(unreadable.pop())
    yield from map(_reason_unreadable, unreadable)


def _reason_unreadable(error: OSError) -> tuple[Path, str]:
    return Path(str(error.filename)), error.strerror or "cannot be read"


def _is_link(root: str, name: str) -> bool:
    return Path(root, name).is_symlink()


def _reason_to_skip(file: Path) -> str | None:
    if file.suffix.lower() not in PICTURE_SUFFIXES:
        return "not a PNG or JPEG file"
    return None if file.is_file() else "not a regular file"


def skipped_lines(skipped: Sequence[str]) -> list[str]:
    """Messages on skipped files: the first MAX_NAMED by name, then how many more."""
    named = [f"skipped {line}" for line in skipped[:MAX_NAMED]]
    more = len(skipped) - len(named)
    return [*named, f"skipped {more:,} more"] if more else named


def class_folders(folder: Path, classes: Sequence[str]) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The subfolders of a folder, each with the class that it is named after, and the files beside them, which are
    skipped.

    A folder is named after a class or its number. Case is ignored, and "_" or "-" may stand for a space or "/".
    Errors: ConfigError naming the classes for any other name, or if there is no subfolder.
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
    for spelled in (str, _normalized):
        found = [label for label, known in enumerate(classes) if spelled(known) == spelled(name)]
        if len(found) == 1:
            return found[0]
    first = [label for label, known in enumerate(classes) if _normalized(known.partition("/")[0]) == _normalized(name)]
    if len(first) == 1:
        return first[0]
    return int(name) if name.isascii() and name.isdigit() and int(name) < len(classes) else None


def _normalized(name: str) -> str:
    return "".join("-" if letter in "/_ " else letter for letter in name.casefold())
