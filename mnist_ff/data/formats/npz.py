"""NumPy archives (.npz) with the keys of Keras or MedMNIST. Nothing in them is unpickled."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mnist_ff.data.formats.checks import check_counts, check_size
from mnist_ff.data.formats.contents import PARTS, Found
from mnist_ff.errors import OwnDataError
from mnist_ff.runs.records import MAX_CLASS_NAME, MAX_CLASSES

CLASS_NAMES = "classes"
"""The optional key of the class names."""
KINDS = {
    "Keras": ("x_{}", "y_{}", {"train": "train", "test": "test", "validation": "val"}),
    "MedMNIST": ("{}_images", "{}_labels", {"train": "train", "test": "test", "validation": "val"}),
}
"""Keys of images and labels in each style, and its names of the splits."""
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for archives that are damaged, encrypted or packed in an unknown way."""
LABEL_BYTES = 8
NAME_BYTES = 4 * MAX_CLASS_NAME
"""numpy keeps a letter in four bytes."""


def read_npz(path: Path) -> Found:
    """The arrays of an archive. Errors: OwnDataError, one line that names the file and the array."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _found(archive, path)
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OSError,
    ) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends early"
        raise OwnDataError(f"{path}: not a readable NumPy archive ({reason}); write it with numpy.savez") from None


def _found(archive: zipfile.ZipFile, path: Path) -> Found:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    kind, keys = _kind(set(members), path)
    names = {name: f"{path}: {key}" for name, key in keys.items()}
    arrays: dict[str, NDArray[Any]] = {}
    for name, key in keys.items():  # images before their labels
        images = arrays.get(name.replace("labels", "images"))
        arrays[name] = _Member(archive, members[key], names[name]).read(name, 0 if images is None else len(images))
    title = f"{path.name}, a NumPy archive with {kind}'s keys"
    if CLASS_NAMES not in members:
        return Found(title, arrays, names)
    names[CLASS_NAMES] = f"{path}: {CLASS_NAMES}"
    classes = _Member(archive, members[CLASS_NAMES], names[CLASS_NAMES]).read(CLASS_NAMES)
    return Found(title, arrays, names, tuple(map(str, classes.tolist())))


def _kind(there: set[str], path: Path) -> tuple[str, Mapping[str, str]]:
    """Which keys an archive has, and what it calls each array."""
    wanted = {kind: _keys(kind) for kind in KINDS}
    needed = {kind: {key for name, key in keys.items() if "validation" not in name} for kind, keys in wanted.items()}
    whole = [kind for kind in KINDS if needed[kind] <= there]
    if len(whole) == 1:
        keys = wanted[whole[0]]
        half = {key for name, key in keys.items() if "validation" in name} & there
        if len(half) == 1:
            raise OwnDataError(f"{path}: has {half.pop()} alone; give validation images and labels, or neither")
        return whole[0], {name: key for name, key in keys.items() if key in there}
    forms = " or ".join(
        f"{', '.join(sorted(keys, key=list(wanted[kind].values()).index))}" for kind, keys in needed.items()
    )
    if whole:
        raise OwnDataError(f"{path}: has {forms} both; leave one of them out")
    listed = ", ".join(sorted(there)[:8]) or "no arrays"
    raise OwnDataError(f"{path}: holds {listed}; give {forms}")


def _keys(kind: str) -> dict[str, str]:
    images, labels, words = KINDS[kind]
    keys: dict[str, str] = {}
    for part in PARTS:
        keys |= {f"{part}_images": images.format(words[part]), f"{part}_labels": labels.format(words[part])}
    return keys


class _Member:
    """One array of an archive, read only when its header is plausible and never past what it declares."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> None:
        self._archive, self._info, self._name = archive, info, name

    def read(self, what: str, images: int = 0) -> NDArray[Any]:
        """The array, which Contents calls `what`; labels are of so many images. Errors: OwnDataError."""
        with self._archive.open(self._info) as file:
            shape, in_columns, dtype = self._header(file)
            self._check(what, shape, dtype, images)
            count = 1
            for length in shape:
                count *= length
            declared, there = count * dtype.itemsize, self._info.file_size - file.tell()
            if declared != there:
                raise OwnDataError(
                    f"{self._name}: declares {declared:,} bytes of shape {shape} but has {there:,}; write it again"
                )
            values = np.empty(count, dtype)
            _fill(values.view(np.uint8).data if count and dtype.itemsize else memoryview(b""), file)
        return values.reshape(shape[::-1]).transpose() if in_columns else values.reshape(shape)

    def _header(self, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        try:
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, in_columns, dtype = read(file)
        except (ValueError, KeyError) as error:
            reason = "its version is unknown" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise OwnDataError(f"{self._name}: not an array of NumPy ({reason}); write it with numpy.savez") from None
        if dtype.hasobject:
            raise OwnDataError(
                f"{self._name}: holds Python objects, which are never unpickled; convert it with .astype"
            )
        return shape, in_columns, dtype

    def _check(self, what: str, shape: tuple[int, ...], dtype: np.dtype[Any], images: int) -> None:
        """Errors: OwnDataError for what would take memory for nothing."""
        if what == CLASS_NAMES:
            if dtype.kind not in "US" or len(shape) != 1 or not shape[0] <= MAX_CLASSES or dtype.itemsize > NAME_BYTES:
                raise OwnDataError(
                    f"{self._name}: is {dtype} of shape {shape}; give up to {MAX_CLASSES:,} names of up to "
                    f"{MAX_CLASS_NAME} letters, as numpy.array(['cat', 'dog'])"
                )
        elif what.endswith("_images"):
            check_size(shape, dtype.itemsize, self._name)
        elif dtype.itemsize > LABEL_BYTES or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            raise OwnDataError(
                f"{self._name}: is {dtype} of shape {shape}; give one class number per image, (N,) or (N, 1)"
            )
        else:
            check_counts(images, shape[0], self._name)


def _fill(room: memoryview, file: IO[bytes]) -> None:
    """Read until the room is full, and to the file's end: its checksum is compared there."""
    place = 0
    while place < len(room):
        block = file.read(min(1 << 20, len(room) - place))
        if not block:
            raise EOFError
        room[place : place + len(block)] = block
        place += len(block)
    file.read(1)
