"""Measure the chosen metrics, and leave everything that they can touch as it was."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import nn

from mnist_ff.config.messages import brief_text
from mnist_ff.config.registry import part
from mnist_ff.config.schema import VALIDATION_SCORES, Config
from mnist_ff.data.load import Split
from mnist_ff.engine.chance import aside
from mnist_ff.errors import RunError, type_name
from mnist_ff.models.user_module import modes_kept
from mnist_ff.runs.tables import KEY, MOST_METRIC_COLUMNS


class Metrics:
    """A run's metrics. Their names, NAME or NAME/KEY, are decided the first time and stay the same."""

    def __init__(self, config: Config) -> None:
        self._chosen = config.metrics
        self._monitor = None if config.trainer.monitor in VALIDATION_SCORES else config.trainer.monitor
        self.columns: tuple[str, ...] | None = None
        """The names, in order; None where nothing was measured yet. A resumed run knows those in its epochs.csv."""

    def __call__(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Measure a model on a split. Values may be infinite or NaN.

        Errors: RunError, naming the metric and its file, for a value that is no number, other keys than before, and a
        metric that changes the images.
        """
        values: dict[str, float] = {}
        for name in self._chosen:
            values |= _measured(name, model, split)
        if self.columns is None:
            self._decide(tuple(values))
        assert self.columns is not None
        if values.keys() != set(self.columns):
            raise RunError(_other_keys(values, self.columns))
        return {column: values[column] for column in self.columns}

    def _decide(self, columns: tuple[str, ...]) -> None:
        if len(columns) > MOST_METRIC_COLUMNS:
            raise RunError(f"metrics: have {len(columns):,} values; at most {MOST_METRIC_COLUMNS:,} are recorded")
        if self._monitor is not None and self._monitor not in columns:
            name = self._monitor.partition("/")[0]
            known = [column for column in columns if column.partition("/")[0] == name]
            raise RunError(f"trainer.monitor={self._monitor}: is not measured; metrics={name} has {', '.join(known)}")
        self.columns = columns


def _measured(name: str, model: nn.Module, split: Split) -> dict[str, float]:
    """The values of one metric by column."""
    metric: Callable[[nn.Module, Split], Any] = part("metric", name).build
    where = f"metrics={name} ({_place_of(metric)})"
    before = [tensor._version for tensor in (split.images, split.labels)]
    with undisturbed(model):
        found = metric(model, split)
    if [tensor._version for tensor in (split.images, split.labels)] != before:
        raise RunError(f"{where}: changes the images or labels that it is given; let it work on a copy")
    if not isinstance(found, Mapping):
        return {name: _number(found, where)}
    for key in found:
        if not isinstance(key, str) or not re.fullmatch(KEY, key):
            raise RunError(
                f"{where}: returns the key {brief_text(repr(key))}; a key is 1 to 100 letters, digits, '_', '.' and '-'"
            )
    return {f"{name}/{key}": _number(value, f"{where}: {key}") for key, value in found.items()}


def _number(value: Any, where: str) -> float:
    given = value
    if isinstance(value, torch.Tensor):
        value = value.detach()
    if isinstance(value, torch.Tensor | np.ndarray) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise RunError(f"{where}: is {type_name(given)}; a metric returns a number or a dict of numbers")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _place_of(function: Callable[..., Any]) -> str:
    """A function's file and line, for a message."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "of unknown file" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def _other_keys(values: Mapping[str, float], columns: Sequence[str]) -> str:
    odd = next(column for column in (*values, *columns) if (column in values) != (column in columns))
    name = odd.partition("/")[0]
    where = f"metrics={name} ({_place_of(part('metric', name).build)})"
    does = "returns" if odd in values else "no longer returns"
    return f"{where}: {does} {odd}; a metric must return the same keys after every epoch"


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in evaluation mode without gradients, and torch draws the same numbers each time.

    Afterwards its parameters, buffers, gradients, modes and generators, and torch's, are as they were, whatever
    happened to them.
    """
    parameters = [(one, one.grad, one.requires_grad) for one in model.parameters()]
    tensors = [one.detach() for one, _, _ in parameters]
    copies = [tensor.clone() for tensor in tensors]
    with modes_kept(model), aside(model, tensors[0].device):  # the same images for a metric that picks some
        model.train(False)
        for parameter, _, _ in parameters:
            parameter.grad = None
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, copy in zip(tensors, copies, strict=True):
                    tensor.copy_(copy)
            for (parameter, gradient, trained), tensor in zip(parameters, tensors, strict=True):
                parameter.data = tensor  # where a metric gave it another one; a CUDA graph knows this one's address
                parameter.requires_grad_(trained).grad = gradient
