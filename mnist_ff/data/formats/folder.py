"""Folders of pictures, one per class: PNG and JPEG files to arrays."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.data.formats.checks import check_size
from mnist_ff.data.formats.contents import Found
from mnist_ff.errors import ConfigError, OwnDataError
from mnist_ff.images.centre import centred
from mnist_ff.images.image_io import PICTURE_SUFFIXES, is_coloured, read_brightness, read_pixels
from mnist_ff.images.segment import NoDigitError, ink_of

FOLDERS = {"train": ("train",), "test": ("test",), "validation": ("val", "validation")}
"""Allowed names of the folder of each split."""
PARTED = ("train", "test")
KINDS = ("images", "labels")
DIFFERENT = "they need one size; set data.size=PIXELS to resize them"


@dataclass(frozen=True)
class Reading:
    """How pictures are read."""

    test_split: float | None
    """Fraction of each class's pictures that are test images, of a folder without parts."""
    side: int | None
    coloured: bool | None
    """None: as the pictures are."""
    as_digits: bool


@dataclass(frozen=True)
class Pictures:
    """The files of a folder by part and class, in the order of their rows."""

    classes: tuple[str, ...]
    parts: Mapping[str, tuple[tuple[Path, int], ...]]
    """Each with its class's number."""
    folders: Mapping[str, Path]
    """The folder of each split, for messages."""

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [path for pictures in self.parts.values() for path, _ in pictures]


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts class 2 before class 10."""
    words = re.split(r"(\d+)", name)
    return tuple(int(word) if place % 2 else word.casefold() for place, word in enumerate(words)), name


def list_pictures(root: Path, reading: Reading) -> Pictures:
    """The pictures of a folder: train/CLASS/ and test/CLASS/, or CLASS/ with a test split. Errors: OwnDataError."""
    if not root.is_dir():
        raise OwnDataError(f"{root}: is not a folder; give one with a folder of pictures for each class")
    names = {path.name for path in _folders(root)}
    if names >= set(PARTED):
        return _parted(root, names, reading)
    if reading.test_split is None:
        lacking = [name for name in PARTED if name not in names]
        raise OwnDataError(
            f"{root}: has no folder {' or '.join(lacking)}; give both, or one folder for each class and "
            "data.test_split, such as 0.2"
        )
    classes = _classes([root])
    parts: dict[str, list[tuple[Path, int]]] = {"train": [], "test": []}
    for number, name in enumerate(classes):
        files = _files(root / name)
        tested = set(sorted(files, key=_order)[: round(len(files) * reading.test_split)])
        for path in files:
            parts["test" if path in tested else "train"].append((path, number))
    return Pictures(classes, {part: tuple(found) for part, found in parts.items()}, dict.fromkeys(parts, root))


def _order(path: Path) -> bytes:
    """A shuffle that depends on the picture's own name alone: a split stays when pictures are added."""
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode(errors="surrogateescape")).digest()


def _parted(root: Path, names: set[str], reading: Reading) -> Pictures:
    if reading.test_split is not None:
        raise OwnDataError(f"{root}: has test images of its own; leave out data.test_split={reading.test_split:g}")
    folders = {part: root / word for part, words in FOLDERS.items() for word in words if word in names}
    classes = _classes(list(folders.values()))
    parts = {
        part: tuple((path, number) for number, name in enumerate(classes) for path in _files(folder / name))
        for part, folder in folders.items()
    }
    return Pictures(classes, parts, folders)


def _classes(folders: Sequence[Path]) -> tuple[str, ...]:
    return tuple(sorted({path.name for folder in folders for path in _folders(folder)}, key=natural))


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _files(folder: Path) -> list[Path]:
    """A class's pictures by name. Errors: OwnDataError for a file that is none."""
    if not folder.is_dir():
        return []
    files = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)
    for path in files:
        if path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file():
            raise OwnDataError(f"{path}: is not a PNG or JPEG file; a class's folder holds pictures only")
    return files


def read_folder(root: Path, pictures: Pictures, reading: Reading) -> Found:
    """The pictures as arrays. Errors: OwnDataError, one line that names the file."""
    read = _reader(pictures, reading)
    arrays: dict[str, NDArray[Any]] = {}
    names = names_in(pictures, root)
    shape: tuple[int, ...] | None = None
    for part, found in pictures.parts.items():
        arrays[f"{part}_labels"] = np.array([number for _, number in found], np.int64)
        images = np.zeros((0, 1, 1), np.uint8)
        for row, (path, _) in enumerate(found):
            pixels = _read(read, path)
            if shape is None:
                shape = pixels.shape
                first = path
            if pixels.shape != shape:
                raise OwnDataError(f"{path}: is {_size(pixels.shape)}, but {first} is {_size(shape)}; {DIFFERENT}")
            if row == 0:
                check_size((len(found), *shape), 1, names[f"{part}_images"])
                images = np.empty((len(found), *shape), np.uint8)
            images[row] = pixels
        arrays[f"{part}_images"] = images
    return Found(title_of(root), arrays, names, pictures.classes)


def title_of(root: Path) -> str:
    """What the data set is, for people."""
    return f"{root.name}, a folder of pictures"


def names_in(pictures: Pictures, root: Path) -> dict[str, str]:
    """What messages call each array and the classes."""
    folders = {f"{part}_{what}": str(folder) for part, folder in pictures.folders.items() for what in KINDS}
    return {**folders, "classes": str(root)}


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[-1]} x {shape[-2]}"


def _read(read: Callable[[Path], NDArray[np.uint8]], path: Path) -> NDArray[np.uint8]:
    try:
        return read(path)
    except NoDigitError:
        raise OwnDataError(f"{path}: no digit found for data.prepare=digit; leave the picture out") from None
    except ConfigError as error:
        raise OwnDataError(f"{error}; repair it or leave it out") from None


def _reader(pictures: Pictures, reading: Reading) -> Callable[[Path], NDArray[np.uint8]]:
    if reading.as_digits:
        return lambda path: centred(ink_of(read_brightness(path)))
    coloured = reading.coloured
    if coloured is None:
        coloured = any(_read_header(path) for path in pictures.files)
    size = None if reading.side is None else (reading.side, reading.side)
    return lambda path: read_pixels(path, coloured, size)


def _read_header(path: Path) -> bool:
    try:
        return is_coloured(path)
    except ConfigError as error:
        raise OwnDataError(f"{error}; repair it or leave it out") from None
