"""Warn of a training loss that stays at chance level or rises above its start, and name the likely cause.

Chance level is the loss of always predicting the class frequencies: the entropy of the labels, ln 10 = 2.303 for ten
equally frequent classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev

import torch

from mnist_ff.config.schema import Config
from mnist_ff.runs.numbers import loss_text, percent
from mnist_ff.runs.records import BatchRecord, EpochRecord, Plan
from mnist_ff.training.callbacks import Callback

MIN_BATCHES = 30
"""Minimum number of batches to judge whether the loss stays at chance level."""
MIN_BATCHES_FAR_ABOVE = 16
"""Minimum number of batches to judge whether the loss is far above its start, which is less uncertain."""
AT_CHANCE = 0.99
"""Fraction of chance level from which the loss counts as at chance level."""
ABOVE_START = 1.5
"""Multiple of the larger of start and chance level from which the loss counts as far above its start."""
RISE = 0.25
"""The same for a model that began below chance level: the rise above its start, as a fraction of chance level."""
MIN_CHANCE_LOSS = 0.1
"""Minimum chance level. Below it nearly all images are of one class, and nothing is judged."""
MIN_SIGMAS = 3.0
"""Minimum difference of two means to count as a trend, in standard errors."""
MIN_RATE = 0.1
"""Minimum learning rate of judged batches, as a fraction of optimizer.lr: no warm-up and no end of a decay."""


class LossWatch(Callback):
    """Judges the training losses after each epoch and warns once.

    Losses are collected over as many epochs as a judgement needs. A loss that falls is fine, however high it is.
    """

    def __init__(self, config: Config, labels: torch.Tensor, classes: int, warn: Callable[[str], None]) -> None:
        shares = torch.bincount(labels.flatten(), minlength=classes).double() / max(1, labels.numel())
        self._chance_loss = float(torch.special.entr(shares).sum())
        self._majority = float(shares.max())
        self._classes, self._config, self._warn = classes, config, warn
        self._losses: list[float] = []
        self._correct = self._samples = 0
        self._first: list[float] = []
        self._warned = False
        self.found: str | None = None
        """What is wrong with the losses that were judged last, for summary.json; None if the loss is fine."""
        self._min_rate = 0.0

    def on_train_begin(self, plan: Plan) -> None:
        self._min_rate = MIN_RATE * plan.learning_rate

    def on_batch_end(self, batch: BatchRecord) -> None:
        if batch.lr >= self._min_rate:
            self._losses.append(batch.loss)
            self._correct += batch.correct
            self._samples += batch.samples

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if len(self._losses) >= MIN_BATCHES_FAR_ABOVE and self._chance_loss >= MIN_CHANCE_LOSS:
            self._judge(epoch.epoch, is_enough=len(self._losses) >= MIN_BATCHES)

    def _judge(self, epoch: int, is_enough: bool) -> None:
        """Judge the losses and clear them. Unless there are enough, they are kept if nothing is wrong."""
        losses = self._losses
        first = self._first or losses[: max(1, len(losses) // 10)]
        late = losses[len(losses) // 2 :]
        what = self._far_above_start(first[0], late) or (self._at_chance(first, losses, late) if is_enough else None)
        if what is None and not is_enough:
            return
        accuracy = self._correct / self._samples
        self.found = what and f"after epoch {epoch + 1} the training loss is {loss_text(fmean(late))}{what[0]}"
        if what is not None and not self._warned:
            self._warned = True
            self._warn(f"{self.found}, accuracy {percent(accuracy)}; {what[1]}")
        self._first, self._losses, self._correct, self._samples = first, [], 0, 0

    def _far_above_start(self, start: float, late: Sequence[float]) -> tuple[str, str] | None:
        """The message and the likely cause if the loss rose far above its start, else None."""
        mean = fmean(late)
        was_trained = start < AT_CHANCE * self._chance_loss  # such as a resumed run
        limit = start + RISE * self._chance_loss if was_trained else ABOVE_START * max(self._chance_loss, start)
        if mean <= limit:
            return None
        return f", above its start at {loss_text(start)}", f"{self._lr} is likely too large"

    def _at_chance(
        self, first: Sequence[float], losses: Sequence[float], late: Sequence[float]
    ) -> tuple[str, str] | None:
        """The message and the likely causes if the loss stays at chance level, else None."""
        mean, accuracy = fmean(late), self._correct / self._samples
        noise = 2 * math.sqrt(self._majority * (1 - self._majority) / self._samples)
        guesses = accuracy <= self._majority + noise and mean >= 0.9 * self._chance_loss
        quarter = len(losses) // 4
        if not (mean >= AT_CHANCE * self._chance_loss or guesses) or _falls(
            losses[quarter : 2 * quarter], losses[-quarter:]
        ):
            return None
        message = f", no better than chance ({loss_text(self._chance_loss)} for {self._classes} classes)"
        if not _differ(first, late):
            return (
                message,
                f"{self._lr} is likely too small, or see model.activation and the labels of the data",
            )
        return message, f"{self._lr} is likely too large, or see model.activation and the labels of the data"

    @property
    def _lr(self) -> str:
        return f"optimizer.lr={self._config.optimizer.lr:g}"


def _standard_error(losses: Sequence[float]) -> float:
    """The standard error of the mean."""
    return pstdev(losses) / math.sqrt(len(losses)) if losses else 0.0


def _differ(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two means differ beyond noise."""
    return abs(fmean(first) - fmean(second)) > MIN_SIGMAS * math.hypot(_standard_error(first), _standard_error(second))


def _falls(first: Sequence[float], second: Sequence[float]) -> bool:
    return fmean(second) < fmean(first) and _differ(first, second)
