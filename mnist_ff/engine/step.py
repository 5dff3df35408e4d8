"""The Step protocol: trains on chunks of batches and returns losses that are still on the device.

A *batch step* trains on one batch and writes its log-probabilities to a tensor on the device. A *step* is what fit()
calls: it trains on a chunk of batches, one after another or as replays of a CUDA graph, and computes the metrics of
all of them at once. Neither waits for the device.
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
    """A description of a step."""

    engine: str
    """eager, fused or graph."""
    triton: str | None = None
    """The version of Triton if the step runs Triton kernels."""
    notes: tuple[str, ...] = ()
    """Messages on what is slower than it could be, and why."""


Named = Callable[[str], AbstractContextManager[object]]
"""The name of a part of a batch step to a context manager that is open while the part runs."""
PARTS_OF_A_STEP = ("load", "augment", "forward", "loss", "backward", "update")
"""The names of these parts."""
_NOTHING = nullcontext()


def unnamed(name: str) -> AbstractContextManager[object]:
    """Does nothing."""
    return _NOTHING


@dataclass(frozen=True)
class StepOptions:
    """Options of training on a batch, besides model, optimizer and images."""

    precision: torch.dtype = torch.float32
    """torch.float32, or torch.bfloat16 for bf16 products (accumulated in fp32) with fp32 weights, loss and update."""
    objective: Objective = PLAIN
    augment: Augment | None = None
    updates: Updates | None = None
    """What is done before and after each update, if anything."""
    named: Named = unnamed
    """Opened around each part of a batch step; for a CUDA graph only while it is captured."""


PLAIN_OPTIONS = StepOptions()


class Step(Protocol):
    """Trains on a chunk of batches."""

    @property
    def info(self) -> StepInfo:
        """A description of the step."""

    def prepare(self, images: int) -> None:
        """Do the setup for a chunk of this many images in advance, such as capturing CUDA graphs."""

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = ..., rates: Sequence[float] = ...
    ) -> torch.Tensor:
        """Train on `rows` (R,) int64, batch after batch; return (batches, 2) on the device: loss, correct predictions.

        `stopped` is called after each batch, by GraphSteps after each replay of up to 25 batches. If it returns a
        reason, the step ends there, with the metrics of fewer batches.
        `rates` are the batches' learning rates. Without them the optimizer keeps its own.
        """


def never() -> None:
    """Returns None: no reason to stop."""


def products_dtype(precision: str) -> torch.dtype:
    """The dtype of matrix products by trainer.precision. tf32 is a mode of float32."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


class StepAround:
    """Base class of steps that wrap another step."""

    def __init__(self, step: Step) -> None:
        self._step = step

    @property
    def info(self) -> StepInfo:
        """The description of the wrapped step."""
        return self._step.info

    def prepare(self, images: int) -> None:
        """See Step."""
        self._step.prepare(images)

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        """See Step."""
        return self._step(rows, stopped, rates)


def batch_metrics(log_probs: torch.Tensor, labels: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Each batch's mean loss and number of correct predictions, (batches, 2), from log-probabilities (R, K)."""
    losses = log_probs.gather(1, labels[:, None])[:, 0].neg_()
    correct = (log_probs.argmax(1) == labels).float()
    whole, rest = divmod(len(labels), batch_size)
    cut = whole * batch_size
    metrics = torch.empty(whole + (rest > 0), 2, device=log_probs.device)
    if whole:
        metrics[:whole, 0] = losses[:cut].view(whole, batch_size).mean(1)
        metrics[:whole, 1] = correct[:cut].view(whole, batch_size).sum(1)
    if rest:
        metrics[whole, 0] = losses[cut:].mean()
        metrics[whole, 1] = correct[cut:].sum()
    return metrics


class Steps:
    """A step that trains one batch after another. The optimizer is needed if learning rates are given."""

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
