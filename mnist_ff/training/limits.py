"""Limits that end a run before its last epoch: seconds of training, and an accuracy that is enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mnist_ff.config.schema import TrainerConfig
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import EpochRecord, Outcome, Plan, Score, StopReason
from mnist_ff.training.callbacks import Callback


def first_reason(*asked: Callable[[], StopReason | None] | None) -> Callable[[], StopReason | None]:
    """What asks each of these in turn whether training should stop."""

    def reason() -> StopReason | None:
        for ask in asked:
            if ask is not None and (found := ask()) is not None:
                return found
        return None

    return reason


def limits_of(config: TrainerConfig) -> list[Clock | TargetAccuracy]:
    """The limits of a training without a run directory."""
    target = TargetAccuracy.from_config(config)
    return [Clock(config.max_seconds), *([] if target is None else [target])]


class Clock(Callback):
    """Counts the seconds of training, those before a resume too, and asks to stop after trainer.max_seconds.

    The loop calls this object, as it calls an Interruption.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit, self._before = limit, 0.0
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, of all processes of the run."""
        return self._before if self._began is None else self._before + time.perf_counter() - self._began

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        if self._limit is None or self.seconds < self._limit:
            return None
        return StopReason.time_limit(f"{self._limit:g} s of training (trainer.max_seconds)")

    def resume(self, seconds: float) -> None:
        """Go on from the seconds of the processes before this one."""
        self._before = seconds

    def on_train_begin(self, plan: Plan) -> None:
        self._began = time.perf_counter()

    def on_train_end(self, outcome: Outcome) -> None:
        self._before, self._began = self.seconds, None


class TargetAccuracy(Callback):
    """Asks to stop when the watched accuracy reaches trainer.target_accuracy at the end of an epoch.

    Accuracies are compared as epochs.csv holds them, so that a resumed run decides as an unbroken one.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self.reached = False
        """Whether an epoch so far reached it."""
        self._reason: StopReason | None = None

    @classmethod
    def from_config(cls, config: TrainerConfig) -> TargetAccuracy | None:
        """None without a target."""
        return None if config.target_accuracy is None else cls(config.target_accuracy)

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        return self._reason

    def resume(self, part: str, accuracies: Sequence[float | None]) -> None:
        """Hear the accuracy of each epoch before this process, in order; None where an epoch was not scored."""
        for epoch, accuracy in enumerate(accuracies):
            self._hear(epoch, part, accuracy)

    def reached_by(self, score: Score) -> bool:
        """Whether an epoch so far reached it, or this score of a run that ended within an epoch does."""
        return self.reached or float(f"{score.accuracy:.9g}") >= self._target

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if epoch.watched is not None:
            part, score = epoch.watched
            self._hear(epoch.epoch, part, float(f"{score.accuracy:.9g}"))

    def _hear(self, epoch: int, part: str, accuracy: float | None) -> None:
        self._reason = None
        if accuracy is not None and accuracy >= self._target:
            self.reached = True
            text = f"{part} accuracy {percent(accuracy)} after epoch {epoch + 1}"
            self._reason = StopReason.target(f"{text} (trainer.target_accuracy={self._target:g})")
