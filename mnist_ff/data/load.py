"""Load data sets as tensors, split into training, validation and test images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch

from mnist_ff.config.registry import Part, part
from mnist_ff.config.schema import DataConfig, DownloadConfig
from mnist_ff.data import catalog
from mnist_ff.data.download import UnavailableError, downloaded
from mnist_ff.data.seeds import generator
from mnist_ff.errors import DataError
from mnist_ff.runs.records import CLASSES, MNIST_SPEC, DataSpec


@dataclass(frozen=True)
class Split:
    """Images and their labels, on one device.

    images: (N, H, W), (N, C, H, W) or vectors (N, D), uint8 or float32 in [0, 1]; labels: (N,) int64.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: int = CLASSES
    """Number of classes. Labels are 0 to classes - 1."""

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """In one line, without the pixels."""
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"Split({len(self):,} images of {shape}, {self.images.dtype}, {self.images.device})"

    def batches(self, size: int = 1_000) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches in order: images float32 in [0, 1], and labels (B,) int64."""
        for images, labels in zip(torch.split(self.images, size), torch.split(self.labels, size), strict=True):
            yield as_input(images), labels

    def to(self, device: torch.device) -> Split:
        """The same split on another device."""
        return dataclasses.replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def viewed(self, shape: tuple[int, ...]) -> Split:
        """A view with another image shape, such as flat vectors."""
        return dataclasses.replace(self, images=self.images.reshape(-1, *shape))

    def some(self, count: int, seed: int) -> Split:
        """A random subset of `count` rows, or the whole split if it has no more."""
        if count >= len(self):
            return self
        rows = torch.randperm(len(self), generator=generator(seed, "some"))[:count].to(self.labels.device)
        return dataclasses.replace(self, images=self.images[rows], labels=self.labels[rows])

    def first(self, rows: int) -> Split:
        """The first `rows` rows."""
        return dataclasses.replace(self, images=self.images[:rows], labels=self.labels[:rows])


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Images (B, *shape) as float32 inputs of a network: uint8 pixels are scaled to [0, 1], floats are unchanged."""
    return images.float().mul_(1 / 255) if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class Facts:
    """Information about data beyond its tensors."""

    title: str | None = None
    """The name of the data for people, if its files have one."""
    sums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each part. A run records them."""
    warnings: tuple[str, ...] = ()
    """Properties that are valid but may distort a score."""


@dataclass(frozen=True)
class Data:
    """A data set, split into training, validation and test images."""

    name: str
    train: Split
    test: Split
    validation: Split | None = None
    instead_of: str | None = None
    """The requested data set, if it could not be downloaded."""
    spec: DataSpec = MNIST_SPEC
    facts: Facts = Facts()

    def to(self, device: torch.device) -> Data:
        """The same data on another device."""
        validation = None if self.validation is None else self.validation.to(device)
        train, test = self.train.to(device), self.test.to(device)
        return dataclasses.replace(self, train=train, test=test, validation=validation)

    def viewed(self, shape: tuple[int, ...]) -> Data:
        """A view with another image shape. `spec` keeps the data's own shape."""
        validation = None if self.validation is None else self.validation.viewed(shape)
        return dataclasses.replace(
            self, train=self.train.viewed(shape), test=self.test.viewed(shape), validation=validation
        )

    @property
    def title(self) -> str:
        """The data set's name for people, and that of the one for which it stands in."""
        return self.facts.title or catalog.title_of(self.name, self.instead_of)

    @property
    def own_title(self) -> str:
        """The data set's name for people."""
        return self.facts.title or catalog.title_of(self.name, None)

    def __repr__(self) -> str:
        """In one line: a notebook that shows this object would else show all of its pixels."""
        parts = {"training": self.train, "validation": self.validation, "test": self.test}
        counts = ", ".join(f"{len(split):,} {part}" for part, split in parts.items() if split is not None)
        shape = " x ".join(map(str, self.spec.shape))
        return f"Data({self.title}: {counts} images of {shape}, {len(self.spec.classes)} classes)"


def ensure(config: DataConfig) -> DataConfig:
    """Download the data set if necessary, and return the config to load.

    That is `config`, or its fallback's if the download fails and a fallback is allowed.
    Errors: DataError with each mirror's reason.
    """
    if not isinstance(config, DownloadConfig):
        return config
    try:
        downloaded(config)
    except UnavailableError as error:
        fallback: str | None = getattr(config, "fallback", None)
        if fallback is None:
            raise
        return _fallback(config, part("data", fallback), error)
    return config


def _fallback(config: DownloadConfig, other: Part, error: DataError) -> DataConfig:
    common = {"root": config.root, "validation_split": config.validation_split}
    subset = other.config(name=other.name, instead_of=config.name, **common)  # type: ignore[call-arg]
    assert isinstance(subset, DataConfig)
    try:
        other.build(subset)
    except DataError as second:
        raise DataError(f"{error}\nand its fallback: {second}") from None
    return subset


def load_data(config: DataConfig, seed: int) -> Data:
    """Load a data set on the CPU; the validation split is stratified by class and drawn from `seed`.

    Errors: DataError if it cannot be downloaded or the split leaves a class without images.
    """
    tensors = part("data", config.name).build(config)
    held_out = catalog.validation_images(config)
    known = catalog.description(config)
    classes = len(known.spec.classes)
    train, test = _split(tensors, "train", classes), _split(tensors, "test", classes)
    facts = Facts(None if catalog.data_set(config.name).describe is None else known.title, known.sums, known.warnings)
    data = Data(config.name, train, test, instead_of=catalog.instead_of(config), spec=known.spec, facts=facts)
    if config.validation_split == 0:
        return dataclasses.replace(data, validation=_split(tensors, "validation", classes) if held_out else None)
    kept, held = stratified_rows(train.labels, held_out, seed, classes)
    parts = [Split(train.images[rows], train.labels[rows], train.classes) for rows in (kept, held)]
    return dataclasses.replace(data, train=parts[0], validation=parts[1])


def _split(tensors: Mapping[str, torch.Tensor], part: str, classes: int) -> Split:
    return Split(tensors[f"{part}_images"], tensors[f"{part}_labels"].long(), classes)


def stratified_rows(labels: torch.Tensor, held_out: int, seed: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows to keep and rows to hold out, both ascending, stratified by class with the largest-remainder method."""
    rng = generator(seed, "validation")
    counts = torch.bincount(labels, minlength=classes)
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
