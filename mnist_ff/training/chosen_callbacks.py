"""Run users' callbacks, given in the config or from Python, with a read-only view of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn

from mnist_ff.config.registry import part
from mnist_ff.config.schema import CallbacksConfig
from mnist_ff.errors import RunError
from mnist_ff.runs.records import BatchRecord, EpochRecord, Outcome, Plan, StopReason
from mnist_ff.training.callbacks import Callback

READ_ONLY = "the model is read-only in a callback; work on a copy: tensor.clone()"
STOP_IS_A_METHOD = "stop_training is a method; call self.stop_training('why') to stop"
Fact = TypeVar("Fact")


class ModelView(Mapping[str, torch.Tensor]):
    """A model's parameters by name after an epoch. Each is copied when it is first read.

    Changing a copy does not change the model; close() reports it as a mistake.
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
        """End the view and free its copies. Returns the name of a parameter whose copy was changed, or None."""
        changed = next((name for name, copy in self._read.items() if not _same(copy, self._parameters[name])), None)
        self._parameters, self._read, self._is_open = {}, {}, False
        return changed


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether all bytes are equal, so that NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (tensor.detach().contiguous().view(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


class ChosenCallback(Callback):
    """Wraps a callback that was chosen with callbacks=[NAME] or given from Python, and gives it a view of the model.

    The loop asks reason_to_stop(). An exception of the callback stops training, too, and the callback gets no more
    events; raise_failure() raises it again when everything so far is recorded and saved. Changing the view's copies
    counts as an exception, a RunError.
    """

    def __init__(self, name: str, callback: Callback, model: nn.Module) -> None:
        self._name, self._callback, self._model = name, callback, model
        self._failure: BaseException | None = None

    def reason_to_stop(self) -> StopReason | None:
        """Why the callback stops training, by stop_training() or an exception; None if it does not."""
        if self._failure is not None:
            return StopReason.from_callback(self._name, type(self._failure).__name__)
        asked = self._callback._asked_to_stop
        return None if asked is None else StopReason.from_callback(self._name, asked)

    def raise_failure(self) -> None:
        """Raise the callback's exception, if there was one."""
        if self._failure is not None:
            raise self._failure

    def on_train_begin(self, plan: Plan) -> None:
        self._failure = None
        object.__setattr__(self._callback, "_asked_to_stop", None)  # it may come from an earlier training
        self._tell(self._callback.on_train_begin, plan)

    def on_epoch_begin(self, epoch: int) -> None:
        self._tell(self._callback.on_epoch_begin, epoch)

    def on_batch_end(self, batch: BatchRecord) -> None:
        self._tell(self._callback.on_batch_end, batch)

    def on_chunk_end(self, batch: BatchRecord) -> None:
        self._tell(self._callback.on_chunk_end, batch)

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        self._tell(self._show, epoch)

    def on_train_end(self, outcome: Outcome) -> None:
        self._tell(self._callback.on_train_end, outcome)

    def _show(self, epoch: EpochRecord) -> None:
        view = ModelView(self._model)
        self._callback.on_epoch_end(dataclasses.replace(epoch, model=view))
        changed = view.close()
        if changed is not None:
            raise RunError(f"callbacks={self._name}: changed {changed} in epoch.model; {READ_ONLY}")

    def _tell(self, event: Callable[[Fact], None], fact: Fact) -> None:
        if self._failure is not None:
            return
        try:
            event(fact)
            if not callable(self._callback.stop_training):
                raise RunError(f"callbacks={self._name}: {STOP_IS_A_METHOD}")
        except (Exception, SystemExit) as error:  # not Stopped: a signal ends the process
            self._failure = error


def with_view(callbacks: Iterable[Callback], model: nn.Module) -> list[Callback]:
    """Wrap callbacks that were given from Python, named by their classes."""
    return [ChosenCallback(type(callback).__name__, callback, model) for callback in callbacks]


def chosen_callbacks(config: CallbacksConfig, model: nn.Module) -> list[Callback]:
    """The callbacks that a config chooses, in the registry's order. Errors: those of their builders."""
    made: list[tuple[str, Any]] = [(name, part("callback", name).build(keys)) for name, keys in config]
    return [ChosenCallback(name, callback, model) for name, callback in made]
