"""Small generated data of any shape and class count, in each of the formats of own data."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


def patterns(count: int, classes: int, shape: tuple[int, ...], seed: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Learnable images, (count, *shape) uint8, channels last: each class has its own bright row and column."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 80, (count, *shape)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label % shape[0]] = 255
        image[:, label * 3 // shape[0] % shape[1]] = 200
    return images, labels.astype(np.int64)


def keras_arrays(classes: int = 26, shape: tuple[int, ...] = (28, 28), per_class: int = 10) -> dict[str, NDArray[Any]]:
    """Arrays with Keras's keys: `per_class` images of each class to train, a fourth of that to test."""
    x_train, y_train = patterns(classes * per_class, classes, shape, 1)
    x_test, y_test = patterns(classes * max(1, per_class // 4), classes, shape, 2)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def medmnist_arrays(classes: int = 5, shape: tuple[int, ...] = (32, 32, 3)) -> dict[str, NDArray[Any]]:
    """Arrays with MedMNIST's keys, labels (N, 1) as it has them."""
    arrays: dict[str, NDArray[Any]] = {}
    for seed, (part, count) in enumerate({"train": 20, "val": 4, "test": 6}.items()):
        images, labels = patterns(classes * count, classes, shape, seed)
        arrays |= {f"{part}_images": images, f"{part}_labels": labels[:, None].astype(np.uint8)}
    return arrays


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """An archive as numpy.savez writes it."""
    np.savez_compressed(path, **arrays)
    return path


def write_pictures(root: Path, classes: Sequence[str], sizes: Sequence[int], colour: bool, per_class: int = 6) -> Path:
    """PNG files in train/ and test/, whose sizes alternate."""
    for seed, part in enumerate(("train", "test")):
        count = per_class * len(classes)
        for number, size in enumerate(sizes):
            images, labels = patterns(count, len(classes), (size, size, 3) if colour else (size, size), seed)
            for row in range(number, count, len(sizes)):
                folder = root / part / classes[labels[row]]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[row]).save(folder / f"{row}.png")
    return root


def idx_bytes(values: NDArray[Any]) -> bytes:
    """An IDX file of unsigned bytes."""
    header = struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_idx_files(folder: Path, arrays: Mapping[str, NDArray[Any]], packed: bool) -> Path:
    """Keras's arrays as MNIST's four files."""
    folder.mkdir(exist_ok=True)
    for part, word in (("train", "train"), ("test", "t10k")):
        for key, stem in ((f"x_{part}", f"{word}-images-idx3-ubyte"), (f"y_{part}", f"{word}-labels-idx1-ubyte")):
            content = idx_bytes(arrays[key])
            path = folder / f"{stem}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder
