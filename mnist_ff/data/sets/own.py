"""A user's own data set: what its build() takes and must return."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mnist_ff.config.registry import source_of
from mnist_ff.data.catalog import DataDescription, DataSet
from mnist_ff.errors import DataError, PartError, type_name
from mnist_ff.runs.records import MAX_CLASSES, DataSpec

if TYPE_CHECKING:
    import torch

PARAMETERS = ()
PARTS = ("train", "test", "validation")
NEEDED = ("train_images", "train_labels", "test_images", "test_labels")
OPTIONAL = ("validation_images", "validation_labels", "classes")


def own_part(name: str, config: type[Any]) -> DataSet:
    """The part of a user's class. What is known of it before training is what it builds, which is kept."""
    return DataSet("data", name, config, build, title=name, describe=describe, source="your own part")


def build(config: Any) -> dict[str, torch.Tensor]:
    """The user's images and labels as tensors. Errors: PartError."""
    return _built(config)[0]


def describe(config: Any) -> DataDescription:
    """What a network sees of them. Errors: PartError."""
    return _built(config)[1]


@functools.lru_cache(maxsize=1)
def _built(config: Any) -> tuple[dict[str, torch.Tensor], DataDescription]:
    """What build() returns, checked: built once for all that is asked of it."""
    from mnist_ff.data.arrays import classes_of, pixels_of
    from mnist_ff.data.formats.checks import sums_of

    where = source_of("data", config.name)
    given = config.build()
    if not isinstance(given, Mapping) or not set(NEEDED) <= given.keys() <= {*NEEDED, *OPTIONAL}:
        keys = f"the keys {', '.join(map(str, given))}" if isinstance(given, Mapping) else type_name(given)
        raise PartError(
            f"{where}: build() returned {keys}, not a dict of {', '.join(NEEDED)} and, if you like, "
            f"{', '.join(OPTIONAL)}"
        )
    if len(given.keys() & set(OPTIONAL[:2])) == 1:
        raise PartError(f"{where}: build() returned one of {' and '.join(OPTIONAL[:2])}; give both or neither")
    try:
        tensors = {
            name: (pixels_of if name.endswith("images") else classes_of)(given[name], f"{where}: {name}")
            for name in (*NEEDED, *OPTIONAL[:2])
            if name in given
        }
    except DataError as error:
        raise PartError(str(error)) from None
    spec = _spec(where, tensors, given.get("classes"))
    sums = sums_of({name: tensor.contiguous().numpy() for name, tensor in tensors.items()}, spec.classes)
    train, test, validation = (len(tensors.get(f"{part}_labels", ())) for part in PARTS)
    return tensors, DataDescription(config.name, train, test, spec, validation_images=validation, sums=sums)


def _spec(where: str, tensors: Mapping[str, torch.Tensor], names: Any) -> DataSpec:
    """The shape and class names of these tensors. Errors: PartError where they do not fit each other."""
    parts = [part for part in PARTS if f"{part}_images" in tensors]
    shape = tuple(tensors["train_images"].shape[1:])
    for part in parts:
        found = tuple(tensors[f"{part}_images"].shape[1:])
        if found != shape:
            raise PartError(f"{where}: train images are {shape}, {part} images {found}; make them the same shape")
        images, labels = len(tensors[f"{part}_images"]), len(tensors[f"{part}_labels"])
        if images != labels or not images:
            raise PartError(f"{where}: {part} has {images} images and {labels} labels")
    largest = max(int(tensors[f"{part}_labels"].max()) for part in parts)
    least = min(int(tensors[f"{part}_labels"].min()) for part in parts)
    if names is not None and (isinstance(names, str) or not isinstance(names, Iterable)):
        raise PartError(f"{where}: classes: {type_name(names)}, not a list of names")
    if names is None and largest >= MAX_CLASSES:  # before there are as many names
        raise PartError(f"{where}: a label is {largest}; there may be {MAX_CLASSES:,} classes, from 0")
    classes = tuple(map(str, range(largest + 1) if names is None else names))
    if least < 0 or largest >= len(classes):
        raise PartError(f"{where}: labels are {least} to {largest}, which {len(classes)} classes do not have")
    return DataSpec(shape, classes)
