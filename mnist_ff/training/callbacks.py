"""Callbacks: observers of training that receive numbers and return nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from mnist_ff.config.schema import VALIDATION_SCORES, TrainerConfig
from mnist_ff.files import GrowingFile
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import counted, loss_text, percent, score_text
from mnist_ff.runs.records import (
    BatchRecord,
    EpochRecord,
    Outcome,
    Plan,
    Position,
    Score,
    StopKind,
    StopReason,
)
from mnist_ff.runs.tables import (
    BATCH_COLUMNS,
    BATCHES,
    EPOCH_COLUMNS,
    EPOCHS,
    batch_row,
    epoch_row,
    metric_columns,
    with_columns,
)


class Callback:
    """Base of observers: override what you want to hear. Events come in Keras's order, batches a chunk at a time.

    Epochs and batches count from 0 here and in batches.csv and epochs.csv; all that people read counts from 1.
    """

    _asked_to_stop: str | None = None

    def stop_training(self, reason: str = "") -> None:
        """Ask for the end of training, from within any event; `reason` is recorded in summary.json.

        The loop asks after each chunk and each epoch: the chunk that was heard is kept, a new one is not begun.
        """
        object.__setattr__(self, "_asked_to_stop", " ".join(str(reason).split()))  # a dataclass may be frozen

    def on_train_begin(self, plan: Plan) -> None:
        """Before the first step."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch's first step; epochs count from 0."""

    def on_batch_end(self, batch: BatchRecord) -> None:
        """After a step, once for every batch, in order."""

    def on_chunk_end(self, batch: BatchRecord) -> None:
        """After the last batch of a chunk was heard: the model stands where this batch left it."""

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """After an epoch's evaluation."""

    def on_train_end(self, outcome: Outcome) -> None:
        """After the last step, also where training was stopped early."""


class LossHistory(Callback):
    """Collects the loss of every batch, as the tutorial's callback of that name does."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_begin(self, plan: Plan) -> None:
        self.losses = []

    def on_batch_end(self, batch: BatchRecord) -> None:
        self.losses.append(batch.loss)


class RunWriter(Callback):
    """Writes batches.csv and epochs.csv into a run directory, a chunk's rows at once."""

    def __init__(self, batches: GrowingFile, epochs: GrowingFile, metrics: tuple[str, ...] = ()) -> None:
        self._batches = batches
        self._epochs = epochs
        self._metrics = metrics  # those that epochs.csv has columns for

    @classmethod
    @contextmanager
    def opened(cls, run: Run, resumed: bool = False) -> Iterator[RunWriter]:
        """A writer whose files are closed at the end of the block; new ones, or going on after what is there."""
        with (
            closing(GrowingFile(run.file(BATCHES), new=not resumed)) as batches,
            closing(GrowingFile(run.file(EPOCHS), new=not resumed)) as epochs,
        ):
            if not resumed:
                batches.write(",".join(BATCH_COLUMNS) + "\n")
                epochs.write(",".join(EPOCH_COLUMNS) + "\n")
                batches.flush()
                epochs.flush()
            yield cls(batches, epochs, metric_columns(run.path) if resumed else ())

    def secure(self, sync: Callable[[int], object] = os.fsync) -> list[str]:
        """See that all rows so far are there and survive a power cut; also after the block. Returns what was put right.

        sync: as GrowingFile.secure() takes it. Errors: OSError.
        """
        return [wrong for file in (self._batches, self._epochs) if (wrong := file.secure(sync)) is not None]

    def on_batch_end(self, batch: BatchRecord) -> None:
        self._batches.write(batch_row(batch))

    def on_chunk_end(self, batch: BatchRecord) -> None:
        self._batches.flush()

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if epoch.metrics and not self._metrics:  # the first that were measured decide the columns
            self._metrics = metrics = tuple(epoch.metrics)
            self._epochs.rewrite(lambda table: with_columns(table, metrics))
        self._epochs.write(epoch_row(epoch, self._metrics))
        self._epochs.flush()


class EpochLines(Callback):
    """Says one plain line an epoch, like Keras's verbose=2; a shorter one where a terminal has few `columns`.

    Epochs of a single batch have a line only where they are scored.
    """

    def __init__(self, say: Callable[[str], None], columns: int | None = None) -> None:
        self._say, self._columns = say, columns
        self._epochs = 0
        self._of_one_batch = False

    def on_train_begin(self, plan: Plan) -> None:
        self._epochs, self._of_one_batch = plan.epochs, plan.batches == 1

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if self._of_one_batch and epoch.watched is None:
            return
        head = f"epoch {epoch.epoch + 1:>{len(str(self._epochs))}}/{self._epochs}"
        loss, accuracy = loss_text(epoch.train_loss), percent(epoch.train_accuracy)
        part, score = epoch.watched or ("train", None)
        scored = "" if score is None else f"  {part} {score_text(score)}"
        brief = f"  {part} loss {loss}, {accuracy}" if score is None else f"  {part} {brief_score(score)}"
        forms = (
            f"{head}  {epoch.seconds:.1f} s  train loss {loss}, accuracy {accuracy}{scored}",
            f"{head}  {epoch.seconds:.1f} s  train loss {loss}, {accuracy}{'' if score is None else brief}",
            f"{head}{brief}",
        )
        fitting = [form for form in forms if self._columns is None or len(form) <= self._columns]
        self._say((fitting or forms[-1:])[0])


def brief_score(score: Score) -> str:
    """A score where room is short: loss 0.0612, 98.47 %."""
    return f"loss {loss_text(score.loss)}, {percent(score.accuracy)}"


class MetricWarnings(Callback):
    """Says once of each metric that it was not finite."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._told: set[str] = set()

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        for name, value in epoch.metrics.items():
            if not math.isfinite(value) and name not in self._told:
                self._told.add(name)
                self._warn(f"{name} is {value} after epoch {epoch.epoch + 1}; its cell in {EPOCHS} is empty")


class Checkpoint(Callback):
    """Saves the training state at the start, at epochs' ends, every so many batches if asked, and where it stopped."""

    def __init__(self, save: Callable[[Position], None]) -> None:
        self._save = save
        self._plan: Plan | None = None
        self._epoch = 0
        self._batches: list[BatchRecord] = []
        self._saved = -1  # steps at the last save

    def on_train_begin(self, plan: Plan) -> None:
        self._plan = plan
        self._epoch, self._batches = plan.start.epoch, list(plan.start.batches)
        self._saved = plan.first_step
        if plan.first_step == 0:
            self._save_now()

    def on_epoch_begin(self, epoch: int) -> None:
        assert self._plan is not None
        self._epoch = epoch
        self._batches = list(self._plan.start.batches) if epoch == self._plan.start.epoch else []

    def on_batch_end(self, batch: BatchRecord) -> None:
        self._batches.append(batch)

    def on_chunk_end(self, batch: BatchRecord) -> None:
        assert self._plan is not None
        every = self._plan.checkpoint_every
        if every is not None and (batch.batch + 1) % every == 0:
            self._save_now()

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        assert self._plan is not None
        self._epoch, self._batches = epoch.epoch + 1, []
        self._saved = -1  # the same step, but the epoch's evaluation is behind it
        if self._plan.saves(epoch.epoch):
            self._save_now()

    def on_train_end(self, outcome: Outcome) -> None:
        if outcome.steps != self._saved:
            self._save_now()

    def _save_now(self) -> None:
        assert self._plan is not None
        self._save(Position(self._epoch, tuple(self._batches)))
        self._saved = self._epoch * self._plan.batches + len(self._batches)


class Pruning(Callback):
    """Reports each epoch's validation score to a search, and holds its verdict until the loop asks for it.

    A callback stops nothing itself: the loop calls this object, as it calls an Interruption.
    """

    def __init__(self, report: Callable[[int, Score], str | None]) -> None:
        self._report = report
        self._reason: StopReason | None = None
        self._epochs = 0

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None."""
        return self._reason

    def on_train_begin(self, plan: Plan) -> None:
        self._epochs = plan.epochs

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        done = epoch.epoch + 1
        reason = None if epoch.validation is None else self._report(done, epoch.validation)
        if done < self._epochs:  # after the last one there is nothing left to save
            self._reason = None if reason is None else StopReason(StopKind.PRUNING, reason)


class EarlyStopping(Callback):
    """Keras's EarlyStopping: asks to stop when a validation score has not improved for `patience` epochs.

    A callback stops nothing itself: the loop calls this object, as it calls an Interruption. resume() replays the
    epochs before, and scores are compared as epochs.csv holds them, so that a resumed run decides as an unbroken one.
    """

    def __init__(self, monitor: str, patience: int | None, min_delta: float, mode: str | None = None) -> None:
        self._monitor = monitor
        self._sign = -1 if mode == "max" or (mode is None and monitor.endswith("accuracy")) else 1
        self._patience = patience
        self._min_delta = min_delta
        self._best = math.inf
        self.best_epoch: int | None = None
        """The epoch, from 0, of the best score so far; None before there is one."""
        self._seen = 0
        self._planned = 0

    @classmethod
    def from_config(cls, config: TrainerConfig) -> EarlyStopping | None:
        """What trainer.patience and trainer.keep_best ask for; None where neither does."""
        if config.patience is None and not config.keep_best:
            return None
        return cls(config.monitor, config.patience, config.min_delta, config.monitor_mode)

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None. After the last epoch there is none: it was not early."""
        if self._patience is None or self.best_epoch is None or self._seen >= self._planned:
            return None
        waited = self._seen - 1 - self.best_epoch
        if waited < max(self._patience, 1):  # as Keras does, which takes a patience of 0 for 1
            return None
        named = self._monitor.replace("_", " ") if self._monitor in VALIDATION_SCORES else self._monitor
        return StopReason.early_stopping(
            f"no better {named} in {counted(waited, 'epoch')} after epoch {self.best_epoch + 1}"
        )

    def resume(self, scores: Sequence[float], epochs: int) -> None:
        """Hear the monitored score of each epoch before this process, in order, and how many are planned in all."""
        self._planned = epochs
        for score in scores:
            self._hear(score)

    def on_train_begin(self, plan: Plan) -> None:
        self._planned = plan.epochs

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        assert epoch.validation is not None
        scores = {"validation_loss": epoch.validation.loss, "validation_accuracy": epoch.validation.accuracy}
        self._hear(float(f"{(scores | dict(epoch.metrics))[self._monitor]:.9g}"))

    def _hear(self, score: float) -> None:
        cost = self._sign * score
        if math.isfinite(cost) and cost < self._best - self._min_delta:  # an infinite one is an empty cell for a resume
            self._best, self.best_epoch = cost, self._seen
        self._seen += 1
