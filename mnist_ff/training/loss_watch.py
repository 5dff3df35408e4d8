"""Notice a training whose loss is no better than chance, or worse than at its start, and say the likely key."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev

import torch

from mnist_ff.config.schema import Config
from mnist_ff.runs.numbers import loss_text, percent
from mnist_ff.runs.records import BatchRecord, EpochRecord, Plan
from mnist_ff.training.callbacks import Callback

FEWEST_BATCHES = 30
"""Batches from which on a loss that stays at chance level is judged; fewer say too little."""
FEWEST_FAR_ABOVE = 16
"""Batches from which on a loss far above its start is; there is less doubt about it."""
NEAR_CHANCE, FAR_ABOVE, CLEARLY_WORSE = 0.99, 1.5, 0.25
"""A loss is at chance level from this share of it on, far above it from that multiple on, and clearly worse than at the
start where it rose by this share of chance level."""
SMALLEST_CHANCE = 0.1
"""Chance level below which nothing is judged: nearly all images are of one class."""
SURE = 3.0
"""Standard errors by which two means must differ to be a trend."""
WARMED_UP = 0.1
"""Batches below this share of optimizer.lr are not judged: a warm-up, or the end of a decay."""


class LossWatch(Callback):
    """Judges the losses of each window of batches, which ends with an epoch, and warns once.

    A loss that falls is learning, however high it is. It reads numbers that are there anyway.
    """

    def __init__(self, config: Config, labels: torch.Tensor, classes: int, warn: Callable[[str], None]) -> None:
        shares = torch.bincount(labels.flatten(), minlength=classes).double() / max(1, labels.numel())
        self._chance = float(torch.special.entr(shares).sum())
        self._majority = float(shares.max())
        self._classes, self._config, self._warn = classes, config, warn
        self._losses: list[float] = []
        self._correct = self._samples = 0
        self._first: list[float] = []
        self._warned = False
        self.found: str | None = None
        """What the last window that could be judged looks like: None where something is learned."""
        self._least_rate = 0.0

    def on_train_begin(self, plan: Plan) -> None:
        self._least_rate = WARMED_UP * plan.learning_rate

    def on_batch_end(self, batch: BatchRecord) -> None:
        if batch.lr >= self._least_rate:
            self._losses.append(batch.loss)
            self._correct += batch.correct
            self._samples += batch.samples

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if len(self._losses) >= FEWEST_FAR_ABOVE and self._chance >= SMALLEST_CHANCE:
            self._judge(epoch.epoch, whole=len(self._losses) >= FEWEST_BATCHES)

    def _judge(self, epoch: int, whole: bool) -> None:
        """Judge the losses so far; a window that is not whole yet goes on unless something is wrong."""
        losses = self._losses
        first = self._first or losses[: max(1, len(losses) // 10)]
        late = losses[len(losses) // 2 :]
        what = self._worse(first[0], late) or (self._at_chance(first, losses, late) if whole else None)
        if what is None and not whole:
            return
        accuracy = self._correct / self._samples
        self.found = what and f"after epoch {epoch + 1} the training loss is {loss_text(fmean(late))}{what[0]}"
        if what is not None and not self._warned:
            self._warned = True
            self._warn(f"{self.found}, accuracy {percent(accuracy)}; {what[1]}")
        self._first, self._losses, self._correct, self._samples = first, [], 0, 0

    def _worse(self, start: float, late: Sequence[float]) -> tuple[str, str] | None:
        """Where the loss rose far above its start: what to say of it, and the likely key."""
        now = fmean(late)
        knew = start < NEAR_CHANCE * self._chance  # a model that was trained before
        least = start + CLEARLY_WORSE * self._chance if knew else FAR_ABOVE * max(self._chance, start)
        if now <= least:
            return None
        return f", above its start at {loss_text(start)}", f"{self._rate} is likely too large"

    def _at_chance(
        self, first: Sequence[float], losses: Sequence[float], late: Sequence[float]
    ) -> tuple[str, str] | None:
        """Where the loss stays at chance level: what to say of it, and the likely keys."""
        now, accuracy = fmean(late), self._correct / self._samples
        noise = 2 * math.sqrt(self._majority * (1 - self._majority) / self._samples)
        guesses = accuracy <= self._majority + noise and now >= 0.9 * self._chance
        quarter = len(losses) // 4
        if not (now >= NEAR_CHANCE * self._chance or guesses) or _falls(
            losses[quarter : 2 * quarter], losses[-quarter:]
        ):
            return None
        said = f", no better than chance ({loss_text(self._chance)} for {self._classes} classes)"
        if not _differ(first, late):
            return said, f"{self._rate} is likely too small, or see model.activation and the labels of the data"
        return said, f"{self._rate} is likely too large, or see model.activation and the labels of the data"

    @property
    def _rate(self) -> str:
        return f"optimizer.lr={self._config.optimizer.lr:g}"


def _error(losses: Sequence[float]) -> float:
    """The standard error of their mean."""
    return pstdev(losses) / math.sqrt(len(losses)) if losses else 0.0


def _differ(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two means differ beyond noise."""
    return abs(fmean(first) - fmean(second)) > SURE * math.hypot(_error(first), _error(second))


def _falls(first: Sequence[float], second: Sequence[float]) -> bool:
    return fmean(second) < fmean(first) and _differ(first, second)
