"""The Step protocol: trains on chunks of batches and returns losses that are still on the device.

A *batch step* trains on one batch and leaves its log-probabilities in a place on the device. A *step* is what fit()
calls: it trains on a chunk of batches, one after another or as replays of a CUDA graph, and computes the metrics of
all of them at once. Neither ever waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.optim import Optimizer

from mnist_ff.data.augment.build import Augment
from mnist_ff.data.load import Split
from mnist_ff.optim.objective import PLAIN, Objective
from mnist_ff.optim.optimizers import set_rate
from mnist_ff.optim.weight_updates import Updates

BatchStep = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""(rows (B,) int64, labels (B,) int64, log_probs (B, K) float32): train on the rows, write the log-probabilities."""


@dataclass(frozen=True)
class StepInfo:
    """What a step says about itself."""

    engine: str
    """eager, fused or graph."""
    triton: str | None = None
    """The version of Triton whose kernels it runs, if it does."""
    notes: tuple[str, ...] = ()
    """What is slower than it could be, and why."""


Named = Callable[[str], AbstractContextManager[object]]
"""A part of a batch step, one of PARTS_OF_A_STEP, to a block in which it is done."""
PARTS_OF_A_STEP = ("load", "augment", "forward", "loss", "backward", "update")
_NOTHING = nullcontext()


def unnamed(name: str) -> AbstractContextManager[object]:
    """For a step whose parts nobody asks for."""
    return _NOTHING


@dataclass(frozen=True)
class StepOptions:
    """How a batch is trained on, beside model, optimizer and images."""

    precision: torch.dtype = torch.float32
    """torch.float32, or torch.bfloat16 for bf16 products (accumulated in fp32) with fp32 weights, loss and update."""
    objective: Objective = PLAIN
    augment: Augment | None = None
    updates: Updates | None = None
    """What is done before and after each update, where something is."""
    named: Named = unnamed
    """Hears which part of a batch step is being done; of a CUDA graph when it is captured."""


PLAIN_OPTIONS = StepOptions()


class Step(Protocol):
    """Trains on a chunk of batches."""

    @property
    def info(self) -> StepInfo:
        """What it says about itself."""

    def prepare(self, images: int) -> None:
        """Do now what the first chunk of this many images would wait for, such as capturing CUDA graphs."""

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = ..., rates: Sequence[float] = ...
    ) -> torch.Tensor:
        """Train on `rows` (R,) int64, batch after batch; return (batches, 2) on the device: loss, correct predictions.

        `stopped` is asked after each batch, by GraphSteps after each replay of up to 25; when it answers, training
        ends there and the metrics are those of fewer batches.
        `rates` are the batches' learning rates; without them the optimizer keeps its own.
        """


def never() -> None:
    """No reason to stop."""


def products_dtype(precision: str) -> torch.dtype:
    """The type in which trainer.precision has the matrix products; tf32 is a mode of float32's."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


class StepAround:
    """A step that does something around another one."""

    def __init__(self, step: Step) -> None:
        self._step = step

    @property
    def info(self) -> StepInfo:
        """What the step says about itself."""
        return self._step.info

    def prepare(self, images: int) -> None:
        """As the step does."""
        self._step.prepare(images)

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        """As the step does."""
        return self._step(rows, stopped, rates)


def batch_metrics(log_probs: torch.Tensor, labels: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Each batch's mean loss and number of correct predictions, (batches, 2), from log-probabilities (R, K)."""
    losses = log_probs.gather(1, labels[:, None])[:, 0].neg_()
    right = (log_probs.argmax(1) == labels).float()
    whole, rest = divmod(len(labels), batch_size)
    cut = whole * batch_size
    metrics = torch.empty(whole + (rest > 0), 2, device=log_probs.device)
    if whole:
        metrics[:whole, 0] = losses[:cut].view(whole, batch_size).mean(1)
        metrics[:whole, 1] = right[:cut].view(whole, batch_size).sum(1)
    if rest:
        metrics[whole, 0] = losses[cut:].mean()
        metrics[whole, 1] = right[cut:].sum()
    return metrics


class Steps:
    """Batch after batch. The optimizer is needed where rates are given."""

    def __init__(
        self,
        batch_step: BatchStep,
        split: Split,
        batch_size: int,
        optimizer: Optimizer | None = None,
        info: StepInfo = StepInfo("eager"),
    ) -> None:
        self.info = info
        self._batch_step = batch_step
        self._optimizer = optimizer
        self._labels, self._classes = split.labels, split.classes
        self._batch_size = batch_size

    def prepare(self, images: int) -> None:
        """Nothing needs preparing."""

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        labels = self._labels.index_select(0, rows)
        log_probs = torch.empty(len(rows), self._classes, device=rows.device)
        parts = (torch.split(tensor, self._batch_size) for tensor in (rows, labels, log_probs))
        done = 0
        for number, batch in enumerate(zip(*parts, strict=True)):
            if rates:
                assert self._optimizer is not None
                set_rate(self._optimizer, rates[number])
            self._batch_step(*batch)
            done += len(batch[0])
            if stopped() is not None:
                break
        return batch_metrics(log_probs[:done], labels[:done], self._batch_size)
