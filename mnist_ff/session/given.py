"""Data and a model given from Python, registered as data=arrays and model=module while they train.

A config file with these names cannot build them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import nn

from mnist_ff.config.registry import GIVEN, Part, register, unregister
from mnist_ff.config.schema import DataConfig, ModelConfig
from mnist_ff.data.catalog import DataDescription, DataSet
from mnist_ff.data.load import Data
from mnist_ff.models.user_module import restored, taken_by, to_train
from mnist_ff.runs.records import MNIST_SPEC, DataSpec

SOURCE = "given from Python"


@dataclass(frozen=True)
class ArraysConfig(DataConfig):
    """Images and labels given from Python."""

    sha256: Annotated[str, "SHA-256 of the images and labels"]


@dataclass(frozen=True)
class ModuleConfig(ModelConfig):
    """A torch.nn.Module given from Python."""

    type: Annotated[str, "its class"]


@contextmanager
def given_parts(data: Data | None, model: object | None) -> Iterator[list[str]]:
    """Inside the block data=arrays and model=module are the given objects. Yields the overrides that choose them.

    After the block the module is as before except for its weights. Errors: ConfigError if the model is no nn.Module.
    """
    with ExitStack() as stack:
        parts: list[Part] = [] if data is None else [_data_part(data)]
        if model is not None:
            parts.append(_model_part(model, stack))
        for part in parts:
            register(part)
            stack.callback(unregister, part)
        yield [f"{part.group}={part.name}" for part in parts]


def _data_part(data: Data) -> DataSet:
    tensors = _tensors(data)
    held_out = 0 if data.validation is None else len(data.validation)
    known = DataDescription(data.title, len(data.train), len(data.test), data.spec, held_out)
    name = GIVEN["data"]
    return DataSet(
        "data",
        name,
        ArraysConfig,
        lambda config: tensors,
        defaults={"name": name, "root": None, "validation_split": 0.0, "sha256": digest(tensors)},
        source=SOURCE,
        title=name,
        describe=lambda config: known,
    )


def _tensors(data: Data) -> dict[str, torch.Tensor]:
    """The data in the form that a data set's builder returns, on the CPU."""
    splits = {"train": data.train, "test": data.test, "validation": data.validation}
    there = {name: split for name, split in splits.items() if split is not None}
    images = {f"{name}_images": split.images.cpu() for name, split in there.items()}
    return images | {f"{name}_labels": split.labels.cpu() for name, split in there.items()}


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of tensors with their names, dtypes and shapes."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()


def _model_part(model: object, stack: ExitStack) -> Part:
    """The part of a module. The module is trained in place, and restored when `stack` is closed."""
    name, cls = GIVEN["model"], type(model)
    found: dict[DataSpec, DataSpec] = {}

    def taken(spec: DataSpec) -> DataSpec:
        assert isinstance(model, nn.Module)
        if spec not in found:  # only once, before training
            found[spec] = taken_by(model, spec)
        return found[spec]

    def build(config: Any, spec: DataSpec, seed: int, device: torch.device) -> nn.Module:
        if device.type == "meta":  # only names and shapes of its tensors are needed
            assert isinstance(model, nn.Module)
            return model
        network = to_train(model, seed, device, spec)
        stack.enter_context(restored(network))
        return network

    if not isinstance(model, nn.Module):
        to_train(model, 0, torch.device("cpu"), MNIST_SPEC)  # raises the ConfigError
    defaults = {"name": name, "type": f"{cls.__module__}.{cls.__qualname__}"}
    return Part("model", name, ModuleConfig, build, defaults=defaults, source=SOURCE, taken=taken)
