"""Data and a model that Python gives: parts of a config while they train. Nothing can build them again from its file,
which says so by their names, data=arrays and model=module."""

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
    """Images and labels that Python gave."""

    sha256: Annotated[str, "SHA-256 of the images and labels"]


@dataclass(frozen=True)
class ModuleConfig(ModelConfig):
    """A torch.nn.Module that Python gave."""

    type: Annotated[str, "its class"]


@contextmanager
def given_parts(data: Data | None, model: object | None) -> Iterator[list[str]]:
    """Inside the block data=arrays and model=module stand for what is given. Yields the overrides that choose them.

    After it the module is what it was but for its weights. Errors: ConfigError for a model that is no module.
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
    """The data as a data set's builder returns it, on the CPU."""
    splits = {"train": data.train, "test": data.test, "validation": data.validation}
    there = {name: split for name, split in splits.items() if split is not None}
    images = {f"{name}_images": split.images.cpu() for name, split in there.items()}
    return images | {f"{name}_labels": split.labels.cpu() for name, split in there.items()}


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of tensors with their names, types and shapes."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()


def _model_part(model: object, stack: ExitStack) -> Part:
    """The part of a module, which is trained in place and given back by `stack`."""
    name, cls = GIVEN["model"], type(model)
    found: dict[DataSpec, DataSpec] = {}

    def taken(spec: DataSpec) -> DataSpec:
        assert isinstance(model, nn.Module)
        if spec not in found:  # once, before anything is trained
            found[spec] = taken_by(model, spec)
        return found[spec]

    def build(config: Any, spec: DataSpec, seed: int, device: torch.device) -> nn.Module:
        if device.type == "meta":  # only its names and shapes are asked for
            assert isinstance(model, nn.Module)
            return model
        network = to_train(model, seed, device, spec)
        stack.enter_context(restored(network))
        return network

    if not isinstance(model, nn.Module):
        to_train(model, 0, torch.device("cpu"), MNIST_SPEC)  # says what it is
    defaults = {"name": name, "type": f"{cls.__module__}.{cls.__qualname__}"}
    return Part("model", name, ModuleConfig, build, defaults=defaults, source=SOURCE, taken=taken)
