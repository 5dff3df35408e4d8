"""The callbacks that a config chooses or Python gives, and what they may see of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import nn

from mnist_ff.config.registry import part
from mnist_ff.config.schema import CallbacksConfig
from mnist_ff.errors import RunError
from mnist_ff.runs.records import BatchRecord, EpochRecord, Outcome, Plan
from mnist_ff.training.callbacks import Callback

READ_ONLY = "the model is read-only in a callback; work on a copy: tensor.clone()"


class ModelView(Mapping[str, torch.Tensor]):
    """A model's parameters by name, as they are after an epoch: a copy of each, made when it is read.

    Nothing that is done to a copy reaches the model; changed() finds it nevertheless.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = dict(model.named_parameters())
        self._read: dict[str, torch.Tensor] = {}
        self._is_open = True

    def __getitem__(self, name: str) -> torch.Tensor:
        if not self._is_open:
            raise RuntimeError(f"{name}: epoch.model can be read in on_epoch_end only")
        if name not in self._read:
            self._read[name] = self._parameters[name].detach().clone()
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __setitem__(self, name: str, value: object) -> NoReturn:
        raise TypeError(READ_ONLY)

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError(READ_ONLY)

    def close(self) -> str | None:
        """Show no more, and hold on to nothing. Returns the name of a parameter that was changed, or None."""
        changed = next((name for name, copy in self._read.items() if not _same(copy, self._parameters[name])), None)
        self._parameters, self._read, self._is_open = {}, {}, False
        return changed


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether all bytes are equal: a NaN is itself."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (tensor.detach().contiguous().view(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


class ChosenCallback(Callback):
    """Tells a callback that callbacks=[NAME] chose, or that Python gave, what happens, with a view of the model.

    Errors: RunError where it changes what the view shows, and whatever it raises.
    """

    def __init__(self, name: str, callback: Callback, model: nn.Module) -> None:
        self._name, self._callback, self._model = name, callback, model

    def on_train_begin(self, plan: Plan) -> None:
        self._callback.on_train_begin(plan)

    def on_epoch_begin(self, epoch: int) -> None:
        self._callback.on_epoch_begin(epoch)

    def on_batch_end(self, batch: BatchRecord) -> None:
        self._callback.on_batch_end(batch)

    def on_chunk_end(self, batch: BatchRecord) -> None:
        self._callback.on_chunk_end(batch)

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        view = ModelView(self._model)
        self._callback.on_epoch_end(dataclasses.replace(epoch, model=view))
        changed = view.close()
        if changed is not None:
            raise RunError(f"callbacks={self._name}: changed {changed} in epoch.model; {READ_ONLY}")

    def on_train_end(self, outcome: Outcome) -> None:
        self._callback.on_train_end(outcome)


def with_view(callbacks: Iterable[Callback], model: nn.Module) -> list[Callback]:
    """Callbacks that Python gave, named by their classes."""
    return [ChosenCallback(type(callback).__name__, callback, model) for callback in callbacks]


def chosen_callbacks(config: CallbacksConfig, model: nn.Module) -> list[Callback]:
    """The callbacks that a config chooses, in the registry's order. Errors: those of their builders."""
    made: list[tuple[str, Any]] = [(name, part("callback", name).build(keys)) for name, keys in config]
    return [ChosenCallback(name, callback, model) for name, callback in made]
