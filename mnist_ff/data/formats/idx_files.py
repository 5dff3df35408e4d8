"""MNIST's four IDX files with images of any height and width, plain or compressed."""

from __future__ import annotations

import gzip
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.data.formats.checks import check_counts, check_size
from mnist_ff.data.formats.contents import Found
from mnist_ff.data.idx_format import IMAGES, LABELS, content, read_header
from mnist_ff.errors import OwnDataError

STEMS = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""The files' names; a dot before idx is as common as a dash."""


def idx_paths(folder: Path) -> dict[str, Path]:
    """The four files in a folder. Errors: OwnDataError for one that is missing, or there twice."""
    paths = {}
    for name, stem in STEMS.items():
        spellings = [stem, stem.replace("-idx", ".idx")]
        there = [path for word in spellings for path in (folder / word, folder / f"{word}.gz") if path.is_file()]
        if len(there) != 1:
            what = f"no {stem} or {stem}.gz" if not there else f"both {there[0].name} and {there[1].name}"
            raise OwnDataError(f"{folder}: has {what}; it needs each of the four IDX files once, as MNIST's are named")
        paths[name] = there[0]
    return paths


def read_idx_folder(folder: Path) -> Found:
    """The arrays of the four files. Errors: OwnDataError, one line that names the file."""
    paths = idx_paths(folder)
    arrays: dict[str, NDArray[Any]] = {}
    for name, path in paths.items():  # images before their labels
        images = arrays.get(name.replace("labels", "images"))
        arrays[name] = _read(path, None if images is None else len(images))
    return Found(f"{folder.name}, four IDX files", arrays, {name: str(path) for name, path in paths.items()})


def _read(path: Path, labels: int | None) -> NDArray[Any]:
    """Images, or as many `labels` as there are images."""
    try:
        with gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _array(file, str(path), labels)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends early"
        raise OwnDataError(f"{path}: {reason}; give an IDX file of unsigned bytes") from None


def _array(file: BufferedIOBase, name: str, labels: int | None) -> NDArray[np.uint8]:
    shape = read_header(file, IMAGES if labels is None else LABELS)
    if labels is None:
        check_size(shape, 1, name)
    else:
        check_counts(labels, shape[0], name)
    size = 1
    for length in shape:
        size *= length
    values, place = np.empty(size, np.uint8), 0
    for block in content(file, size):
        values[place : place + len(block)] = np.frombuffer(block, np.uint8)
        place += len(block)
    return values.reshape(shape)
