"""Limits that end a run before its last epoch: trainer.max_seconds and trainer.target_accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mnist_ff.config.schema import TrainerConfig
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import EpochRecord, Outcome, Plan, Score, StopReason
from mnist_ff.training.callbacks import Callback


def first_reason(*asked: Callable[[], StopReason | None] | None) -> Callable[[], StopReason | None]:
    """A function that returns the first reason to stop that any of these functions gives, or None."""

    def reason() -> StopReason | None:
        for ask in asked:
            if ask is not None and (found := ask()) is not None:
                return found
        return None

    return reason


def limits_of(config: TrainerConfig) -> list[Clock | TargetAccuracy]:
    """The limits of training without a run directory."""
    target = TargetAccuracy.from_config(config)
    return [Clock(config.max_seconds), *([] if target is None else [target])]


class Clock(Callback):
    """Counts the seconds of training, including those before a resume, and stops it after trainer.max_seconds.

    The loop calls this object for a reason to stop, like an Interruption.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit, self._before = limit, 0.0
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including those before a resume."""
        return self._before if self._began is None else self._before + time.perf_counter() - self._began

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        if self._limit is None or self.seconds < self._limit:
            return None
        return StopReason.time_limit(f"{self._limit:g} s of training (trainer.max_seconds)")

    def resume(self, seconds: float) -> None:
        """Continue from so many seconds."""
        self._before = seconds

    def on_train_begin(self, plan: Plan) -> None:
        self._began = time.perf_counter()

    def on_train_end(self, outcome: Outcome) -> None:
        self._before, self._began = self.seconds, None


class TargetAccuracy(Callback):
    """Stops training when the validation or test accuracy reaches trainer.target_accuracy after an epoch.

    Accuracies are rounded as in epochs.csv, so that a resumed run stops at the same epoch as one without interruption.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self.reached = False
        """Whether any epoch so far reached the target."""
        self._reason: StopReason | None = None

    @classmethod
    def from_config(cls, config: TrainerConfig) -> TargetAccuracy | None:
        """As trainer.target_accuracy says. None if it is not set."""
        return None if config.target_accuracy is None else cls(config.target_accuracy)

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        return self._reason

    def resume(self, part: str, accuracies: Sequence[float | None]) -> None:
        """Replay the accuracies of the epochs before a resume, in order; None for an epoch without evaluation.

        part: 'validation' or 'test'.
        """
        for epoch, accuracy in enumerate(accuracies):
            self._check(epoch, part, accuracy)

    def reached_by(self, unfinished_epoch: Score | None) -> bool:
        """Whether an epoch reached it, or the score of a run that ended within an epoch, None if it did not."""
        return self.reached or (
            unfinished_epoch is not None and float(f"{unfinished_epoch.accuracy:.9g}") >= self._target
        )

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if epoch.watched is not None:
            part, score = epoch.watched
            self._check(epoch.epoch, part, float(f"{score.accuracy:.9g}"))

    def _check(self, epoch: int, part: str, accuracy: float | None) -> None:
        self._reason = None
        if accuracy is not None and accuracy >= self._target:
            self.reached = True
            text = f"{part} accuracy {percent(accuracy)} after epoch {epoch + 1}"
            self._reason = StopReason.target(f"{text} (trainer.target_accuracy={self._target:g})")
