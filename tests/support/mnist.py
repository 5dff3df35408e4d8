"""The real MNIST where there is a copy of it, and images that need none."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnist_ff.data.load import Split

FOUR_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def mirror_folder() -> Path | None:
    """A folder with the real MNIST: MNIST_FF_MIRROR, or shared/mnist beside the checkout."""
    named = os.environ.get("MNIST_FF_MIRROR")
    beside = Path(__file__).resolve().parents[3] / "shared" / "mnist"
    for folder in [Path(named)] if named else [beside]:
        if all((folder / name).is_file() for name in FOUR_FILES):
            return folder
    return None


MIRROR = mirror_folder()


def mnist_test_images() -> NDArray[np.uint8]:
    """The real test images, (10000, 28, 28)."""
    return _idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)


def mnist_test_labels() -> NDArray[np.uint8]:
    """Their labels, (10000,)."""
    return _idx("t10k-labels-idx1-ubyte.gz", 8)


def _idx(name: str, header: int) -> NDArray[np.uint8]:
    assert MIRROR is not None
    return np.frombuffer(gzip.decompress((MIRROR / name).read_bytes()), np.uint8, offset=header)


def mirror_or_skip() -> Path:
    """The folder with the real MNIST, or a skip."""
    if MIRROR is None:
        pytest.skip("no copy of MNIST: neither MNIST_FF_MIRROR nor ../shared/mnist has the four files")
    return MIRROR


def make_split(samples: int, seed: int = 0) -> Split:
    """Random images whose label is written into their pixels, so that a network can learn it."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (samples,), generator=rng)
    images = torch.randint(0, 128, (samples, 28, 28), generator=rng, dtype=torch.uint8)
    images[torch.arange(samples), labels * 2, :] = 255
    return Split(images, labels)


def random_split(shape: tuple[int, ...], classes: int, samples: int, seed: int = 0) -> Split:
    """Random images of any shape; each class has a place of its own in them, as far as there is room."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(128, (samples, *shape), generator=rng, dtype=torch.uint8)
    labels = torch.arange(samples) % classes
    images.flatten(1)[torch.arange(samples), labels % images[0].numel()] = 255
    return Split(images, labels, classes)
