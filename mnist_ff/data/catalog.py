"""What is known of each data set before a byte of it is read. Standard library only."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.config import DataConfig, QMNISTConfig
from mnist_ff.records import SIDE


@dataclass(frozen=True)
class SourceFile:
    """One compressed IDX file and what must stand in it."""

    name: str
    magic: int
    """The IDX header's first word: type and number of dimensions."""
    shape: tuple[int, ...]
    sha256: str | None = None

    @property
    def size(self) -> int:
        """Bytes when decompressed: header and content (labels of type int take four bytes each)."""
        content = 4 if self.magic >> 8 == 0x0C else 1
        for length in self.shape:
            content *= length
        return 4 * (1 + len(self.shape)) + content


@dataclass(frozen=True)
class DataSet:
    """A data set: its title, its torchvision class and its files (train images and labels, test images and labels)."""

    name: str
    title: str
    torchvision_class: str
    files: tuple[SourceFile, ...]
    train_images: int
    test_images: int


def _idx_files(sums: tuple[str | None, ...] = (None,) * 4) -> tuple[SourceFile, ...]:
    return (
        SourceFile("train-images-idx3-ubyte.gz", 0x0803, (60_000, SIDE, SIDE), sums[0]),
        SourceFile("train-labels-idx1-ubyte.gz", 0x0801, (60_000,), sums[1]),
        SourceFile("t10k-images-idx3-ubyte.gz", 0x0803, (10_000, SIDE, SIDE), sums[2]),
        SourceFile("t10k-labels-idx1-ubyte.gz", 0x0801, (10_000,), sums[3]),
    )


MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)

CONTENT_SHA256 = {
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db": "mnist",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5": "mnist",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7": "mnist",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "mnist",
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888": "fashion_mnist",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9": "fashion_mnist",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b": "fashion_mnist",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": "fashion_mnist",
}
"""Decompressed files that are known: all sets name theirs alike, and a mirror may hold the wrong one."""

QMNIST_FILES = (
    SourceFile("qmnist-train-images-idx3-ubyte.gz", 0x0803, (60_000, SIDE, SIDE)),
    SourceFile("qmnist-train-labels-idx2-int.gz", 0x0C02, (60_000, 8)),
    SourceFile("qmnist-test-images-idx3-ubyte.gz", 0x0803, (60_000, SIDE, SIDE)),
    SourceFile("qmnist-test-labels-idx2-int.gz", 0x0C02, (60_000, 8)),
)

DATA_SETS = {
    "mnist": DataSet("mnist", "MNIST", "MNIST", _idx_files(MNIST_SHA256), 60_000, 10_000),
    "fashion_mnist": DataSet("fashion_mnist", "Fashion-MNIST", "FashionMNIST", _idx_files(), 60_000, 10_000),
    "kmnist": DataSet("kmnist", "Kuzushiji-MNIST", "KMNIST", _idx_files(), 60_000, 10_000),
    "qmnist": DataSet("qmnist", "QMNIST", "QMNIST", QMNIST_FILES, 60_000, 60_000),
    "mnist_5k": DataSet("mnist_5k", "5,000 images of MNIST", "", (), 4_000, 1_000),
}


def title_of(name: str, instead_of: str | None) -> str:
    """A data set's name for people; `instead_of` is the one that was asked for and could not be had."""
    title = DATA_SETS[name].title if name in DATA_SETS else name
    return title if instead_of is None else f"{title} instead of {instead_of}"


def training_images(config: DataConfig) -> int:
    """Images left to train on after the validation split, before anything is loaded."""
    total = DATA_SETS[config.name].train_images
    return total - validation_images(config)


def validation_images(config: DataConfig) -> int:
    """Images that the validation split holds out."""
    return round(DATA_SETS[config.name].train_images * config.validation_split)


def cache_root(config: DataConfig) -> Path:
    """Where decoded data sets are kept: data.root, else the user's cache folder."""
    if config.root is not None:
        return Path(config.root).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mnist-ff"


def cache_file(config: DataConfig) -> Path:
    """The one file that holds the decoded images and labels."""
    return cache_root(config) / f"{config.name}.safetensors"


def test_rows(config: DataConfig) -> slice:
    """The part of the test images that is asked for (QMNIST's extra digits begin at 10,000)."""
    extra = isinstance(config, QMNISTConfig) and config.test_part == "extra"
    return slice(10_000, None) if extra else slice(None)
