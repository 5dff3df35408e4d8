"""Facts about each data set: files, hashes, classes. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_ff.config.paths import conf_dir, expanded, user_folder
from mnist_ff.config.registry import Part, names, own_parts, part, parts
from mnist_ff.config.schema import DataConfig, DownloadConfig, FileDataConfig
from mnist_ff.errors import ConfigError, DataError
from mnist_ff.runs.records import MNIST_SPEC, DataSpec


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
class Archive:
    """A zip file at torchvision's address, and the four IDX files in it that make a data set."""

    name: str
    kept_as: str
    """Its name in the cache folder."""
    folder: str
    """Of the four files in it, with a slash."""
    files: tuple[SourceFile, ...]
    split: str
    """What torchvision calls these four."""
    first_label: int = 0


@dataclass(frozen=True)
class DataDescription:
    """A data set's name for people, its numbers of images before a split, and what a network sees of it."""

    title: str
    train_images: int
    test_images: int
    spec: DataSpec = MNIST_SPEC
    validation_images: int = 0
    """Those that the data set has by itself, beside its training images."""
    warnings: tuple[str, ...] = ()
    """What is no fault and yet may spoil a score."""
    sums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each part of data that has no known files."""


@dataclass(frozen=True)
class DataSet(Part):
    """The part of a data set: what is known of it before a byte is read. Its builder returns four uint8 tensors:
    train_images (N, H, W) or (N, C, H, W), train_labels (N,), test_images, test_labels."""

    title: str = ""
    """For people."""
    train_images: int = 0
    test_images: int = 0
    spec: DataSpec = MNIST_SPEC
    describe: Callable[[Any], DataDescription] | None = None
    """From the config, where only the files themselves say it."""
    digits: bool = False
    """Whether the classes are the digits 0 to 9."""
    source: str = ""
    """Where it comes from, where it is not downloaded."""
    torchvision_class: str = ""
    """The class that decodes the files."""
    archive: Callable[[Any], Archive] | None = None
    """From the config, where the files come in one archive."""
    files: tuple[SourceFile, ...] = ()
    """Training images and labels, test images and labels."""
    contents: tuple[str, ...] = ()
    """SHA-256 of the decompressed files, where they are known: all sets in this format name their files alike, and a
    mirror may hold those of another one."""


def data_set(name: str) -> DataSet:
    """A data set by name. Errors: ConfigError."""
    found = part("data", name)
    assert isinstance(found, DataSet)
    return found


def owner_of(content: str) -> str | None:
    """The data set whose file has this SHA-256 when decompressed, where it is known."""
    return next((name for name in parts("data") if content in data_set(name).contents), None)


def instead_of(config: DataConfig) -> str | None:
    """The data set that was asked for and could not be downloaded."""
    found: str | None = getattr(config, "instead_of", None)
    return found


def title_of(name: str, instead_of: str | None) -> str:
    """A data set's name for people; `instead_of` is the one that was asked for and could not be downloaded."""
    title = data_set(name).title if name in names("data") else name
    return title if instead_of is None else f"{title} instead of {instead_of}"


def description(config: DataConfig) -> DataDescription:
    """What is known of a data set without decoding it.

    Errors: ConfigError; DataError, also for images and classes beyond the limits of a DataSpec.
    """
    found = data_set(config.name)
    if found.describe is None:
        return DataDescription(found.title, found.train_images, found.test_images, found.spec)
    described = found.describe(config)
    fault = described.spec.fault()
    if fault is not None:
        raise DataError(f"data={config.name}: {fault}")
    return described


def training_images(config: DataConfig) -> int:
    """Images left to train on after the validation split, before anything is loaded."""
    return description(config).train_images - split_images(config)


def validation_images(config: DataConfig) -> int:
    """Images to validate on: the data set's own, or those that the split holds out. Errors: ConfigError for both."""
    own = description(config).validation_images
    if own and config.validation_split > 0:
        raise ConfigError(
            f"data.validation_split={config.validation_split:g}: the data has {own:,} validation images of its own; "
            "use data.validation_split=0"
        )
    return own or split_images(config)


def split_images(config: DataConfig) -> int:
    """Training images that the validation split holds out."""
    return round(description(config).train_images * config.validation_split)


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
    from mnist_ff.config.yaml_io import read_yaml

    own: dict[str, Any] = {
        "name": name,
        "root": os.environ.get("MNIST_FF_DATA") or None,
        "validation_split": split,
        "mirrors": own_mirrors(name),
        "fallback": None,
    }
    found = part("data", name)
    config = found.config
    defaults = read_yaml(conf_dir() / "data" / f"{name}.yaml") if found.defaults is None else found.defaults
    values = {field.name: own.get(field.name, defaults.get(field.name)) for field in dataclasses.fields(config)}
    made = config(**values)
    assert isinstance(made, DataConfig)
    return made


def own_mirrors(name: str) -> tuple[str, ...]:
    """The mirrors that stand in conf/data, a place of the user's own."""
    from mnist_ff.config.yaml_io import read_yaml

    for file in (name, "_mirrors") if name not in own_parts("data") else ():
        mirrors = read_yaml(conf_dir() / "data" / f"{file}.yaml").get("mirrors")
        if isinstance(mirrors, list):
            return tuple(map(str, mirrors))
    return ()


def in_own_place(config: DataConfig) -> DataConfig:
    """The same images from the user's own places: data.root, data.mirrors and data.path of a run are its maker's
    choice. Without data.path there is none to read."""
    if config.name not in names("data"):  # a user's own, whose file was not given
        return dataclasses.replace(config, root=os.environ.get("MNIST_FF_DATA") or None)
    own = own_data(config.name)
    if isinstance(config, DownloadConfig) and isinstance(own, DownloadConfig):
        return dataclasses.replace(config, root=own.root, mirrors=own.mirrors)
    if isinstance(config, FileDataConfig):
        return dataclasses.replace(config, root=own.root, path=None)
    return dataclasses.replace(config, root=own.root)


def cache_file(config: DataConfig) -> Path:
    """The one file that holds the decoded images and labels."""
    return cache_root(config) / f"{config.cached_as}.safetensors"
