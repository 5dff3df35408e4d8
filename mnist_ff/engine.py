"""Train on row numbers; return losses that are still on the device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mnist_ff.data.load import Split, as_input


class Step(Protocol):
    """Trains on a chunk of batches."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Train on `rows` (R,) int64, batch after batch; return (batches, 2) on the device: loss, right answers."""


class EagerSteps:
    """The plain loop, for any module: gather, forward, backward, update, one batch after another."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, split: Split, batch_size: int) -> None:
        self.model = model
        self.optimizer = optimizer
        self.split = split
        self.batch_size = batch_size

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        self.model.train()
        return torch.stack([self._step(batch) for batch in torch.split(rows, self.batch_size)])

    def _step(self, rows: torch.Tensor) -> torch.Tensor:
        """One update; returns (2,): the batch's mean loss and its count of right answers."""
        images = self.split.images.index_select(0, rows)
        labels = self.split.labels.index_select(0, rows)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(as_input(images))
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            return torch.stack([loss, (logits.argmax(1) == labels).sum().to(loss.dtype)])


def build_steps(model: nn.Module, optimizer: Optimizer, split: Split, batch_size: int) -> Step:
    """The step for these parts."""
    return EagerSteps(model, optimizer, split, batch_size)
