"""What is known of each data set before a byte of it is read. No torch."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mnist_ff.config.paths import conf_dir, expanded, user_folder
from mnist_ff.config.schema import DataConfig, DownloadConfig, MNIST5kConfig, MNISTConfig, QMNISTConfig
from mnist_ff.config.yaml_io import read_yaml
from mnist_ff.runs.records import SIDE


@dataclass(frozen=True)
class SourceFile:
    """One compressed IDX file and what must stand in it."""

    name: str
    magic: int
    """The IDX header's first word: type and number of dimensions."""
    shape: tuple[int, ...]
    sha256: str | None = None
    """Of the compressed file."""
    content_sha256: str | None = None
    """Of what is in it, where a compressed file may be another: it says when and by what it was compressed."""

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


Sums: TypeAlias = "tuple[str | None, str | None, str | None, str | None]"
UNKNOWN: Sums = (None, None, None, None)


def _idx_files(sums: Sums = UNKNOWN, contents: Sums = UNKNOWN) -> tuple[SourceFile, ...]:
    return (
        SourceFile("train-images-idx3-ubyte.gz", 0x0803, (60_000, SIDE, SIDE), sums[0], contents[0]),
        SourceFile("train-labels-idx1-ubyte.gz", 0x0801, (60_000,), sums[1], contents[1]),
        SourceFile("t10k-images-idx3-ubyte.gz", 0x0803, (10_000, SIDE, SIDE), sums[2], contents[2]),
        SourceFile("t10k-labels-idx1-ubyte.gz", 0x0801, (10_000,), sums[3], contents[3]),
    )


MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)

FASHION_CONTENT_SHA256 = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
"""Of the decompressed files: Debian's package dataset-fashion-mnist compresses the same bytes again."""

KMNIST_SHA256 = (
    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
)
"""As tensorflow/datasets has them in url_checksums/kmnist.txt; QMNIST's in qmnist.txt."""

QMNIST_FILES = (
    SourceFile(
        "qmnist-train-images-idx3-ubyte.gz",
        0x0803,
        (60_000, SIDE, SIDE),
        "9e26a7bf1683614e065d7b76460ccd52807165b3f22561fb782bd9f38c52b51d",
    ),
    SourceFile(
        "qmnist-train-labels-idx2-int.gz",
        0x0C02,
        (60_000, 8),
        "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f",
    ),
    SourceFile(
        "qmnist-test-images-idx3-ubyte.gz",
        0x0803,
        (60_000, SIDE, SIDE),
        "43fc22bf7498b8fc98de98369d72f752d0deabc280a43a7bcc364ab19e57b375",
    ),
    SourceFile(
        "qmnist-test-labels-idx2-int.gz",
        0x0C02,
        (60_000, 8),
        "9fbcbe594c3766fdf4f0b15c5165dc0d1e57ac604e01422608bb72c906030d06",
    ),
)

MNIST_CONTENT_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)

CONTENT_SHA256 = {
    **dict.fromkeys(MNIST_CONTENT_SHA256, "mnist"),
    **dict.fromkeys(FASHION_CONTENT_SHA256, "fashion_mnist"),
}
"""Decompressed files that are known: all sets name theirs alike, and a mirror may hold the wrong one."""

DATA_SETS = {
    "mnist": DataSet("mnist", "MNIST", "MNIST", _idx_files(MNIST_SHA256), 60_000, 10_000),
    "fashion_mnist": DataSet(
        "fashion_mnist", "Fashion-MNIST", "FashionMNIST", _idx_files(contents=FASHION_CONTENT_SHA256), 60_000, 10_000
    ),
    "kmnist": DataSet("kmnist", "Kuzushiji-MNIST", "KMNIST", _idx_files(KMNIST_SHA256), 60_000, 10_000),
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
    """Where decoded data sets are kept: data.root, else the user's cache folder. Errors: ConfigError without a home."""
    if config.root is not None:
        return Path(expanded("data.root", config.root))
    remedy = "set the data folder with data.root=FOLDER or the environment variable MNIST_FF_DATA"
    return user_folder("cache", f"data={config.name}", remedy)


def own_data(name: str, split: float = 0.0) -> DataConfig:
    """A data set as this user has it, whatever a run directory says: from the user's cache, else from their mirrors.

    `split` is the share of the training images that is held out.
    """
    common: dict[str, Any] = {"name": name, "root": os.environ.get("MNIST_FF_DATA") or None, "validation_split": split}
    if name == "mnist_5k":
        return MNIST5kConfig(**common, instead_of=None)
    common["mirrors"] = own_mirrors(name)
    if name == "mnist":
        return MNISTConfig(**common, fallback=None)
    if name == "qmnist":
        return QMNISTConfig(**common, test_part="all")
    return DownloadConfig(**common)


def own_mirrors(name: str) -> tuple[str, ...]:
    """The mirrors that stand in conf/data, a place of the user's own."""
    for file in (name, "_mirrors"):
        mirrors = read_yaml(conf_dir() / "data" / f"{file}.yaml").get("mirrors")
        if isinstance(mirrors, list):
            return tuple(map(str, mirrors))
    return ()


def in_own_place(config: DataConfig) -> DataConfig:
    """The same images from the user's own places: data.root and data.mirrors of a run are its maker's choice."""
    own = own_data(config.name)
    if isinstance(config, DownloadConfig) and isinstance(own, DownloadConfig):
        return dataclasses.replace(config, root=own.root, mirrors=own.mirrors)
    return dataclasses.replace(config, root=own.root)


def cache_file(config: DataConfig) -> Path:
    """The one file that holds the decoded images and labels."""
    return cache_root(config) / f"{config.name}.safetensors"


def test_rows(config: DataConfig) -> slice:
    """The part of the test images that is asked for (QMNIST's extra digits begin at 10,000)."""
    extra = isinstance(config, QMNISTConfig) and config.test_part == "extra"
    return slice(10_000, None) if extra else slice(None)
