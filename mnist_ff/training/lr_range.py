"""The learning-rate range test (Smith 2015): the learning rate grows with every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from mnist_ff.engine.step import Step, never
from mnist_ff.runs.records import StopReason

SMOOTHING = 0.98
"""Weight of the past in the smoothed loss, fastai's."""
EXPLODED = 4.0
"""The test ends where the smoothed loss is this many times its least, as in fastai."""


def rates(first: float, last: float, count: int) -> list[float]:
    """`count` learning rates from `first` to `last`, each the same factor above the one before."""
    if count == 1:
        return [first]
    return [first * (last / first) ** (place / (count - 1)) for place in range(count)]


def try_rates(
    step: Step,
    order: Callable[[int], torch.Tensor],
    batch_size: int,
    tried: Sequence[float],
    stopped: Callable[[], StopReason | None] = never,
) -> list[float]:
    """Train a batch at each of the rates; return the batches' own losses, fewer where the loss exploded.

    `order` gives an epoch's rows, (N,) int64 on the device. The host waits for every loss, which fit() never does:
    the next rate must not be tried on a network that is lost.
    """
    losses: list[float] = []
    smoothed = Smoothed()
    batches = (rows for epoch in range(len(tried)) for rows in torch.split(order(epoch), batch_size))
    for rate, rows in zip(tried, batches, strict=False):
        loss = float(step(rows, rates=(rate,))[0, 0])
        if not math.isfinite(loss):
            break
        losses.append(loss)
        if smoothed.add(loss) > EXPLODED * smoothed.least or stopped() is not None:
            break
    return losses


class Smoothed:
    """An exponential mean without the pull of its first value (as Adam's bias correction)."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0
        self.least = math.inf

    def add(self, value: float) -> float:
        """The mean with one more value."""
        self._sum = SMOOTHING * self._sum + (1 - SMOOTHING) * value
        self._weight = SMOOTHING * self._weight + 1 - SMOOTHING
        mean = self._sum / self._weight
        self.least = min(self.least, mean)
        return mean


def smoothed_losses(losses: Sequence[float]) -> list[float]:
    """The smoothed loss at each batch."""
    smoothed = Smoothed()
    return [smoothed.add(loss) for loss in losses]


def suggestion(tried: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the smoothed loss falls most steeply over the rate's logarithm, before its least.

    The smoothed loss lags behind, so this lies above the steepest place of the raw one: where training is fast and
    not yet at its edge. None where the loss never fell.
    """
    smoothed = smoothed_losses(losses)
    lowest = smoothed.index(min(smoothed)) if smoothed else 0
    if lowest < 2:
        return None
    slopes = [
        (smoothed[place + 1] - smoothed[place - 1]) / math.log(tried[place + 1] / tried[place - 1])
        for place in range(1, lowest)
    ]
    steepest = min(slopes)
    return tried[slopes.index(steepest) + 1] if steepest < 0 else None
