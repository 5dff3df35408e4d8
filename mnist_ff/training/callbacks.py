"""Callbacks: observers of training. They receive numbers and return nothing."""

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
    """Base class of callbacks: override the events that you need.

    Events come in Keras's order. Batches are trained in chunks: on_batch_end() is called for all batches of a chunk
    when the chunk is done. Epochs and batches count from 0 here and in batches.csv and epochs.csv, and from 1 in all
    output for people.
    """

    _asked_to_stop: str | None = None

    def stop_training(self, reason: str = "") -> None:
        """Stop training before the next chunk of batches. May be called in any event; everything so far is kept.

        `reason` is recorded in summary.json.
        """
        object.__setattr__(self, "_asked_to_stop", " ".join(str(reason).split()))  # a dataclass may be frozen

    def on_train_begin(self, plan: Plan) -> None:
        """Before the first step."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch's first step; epochs count from 0."""

    def on_batch_end(self, batch: BatchRecord) -> None:
        """After a step, once for every batch, in order."""

    def on_chunk_end(self, batch: BatchRecord) -> None:
        """After on_batch_end() of a chunk's last batch: the model has been trained up to this batch."""

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        """After an epoch's evaluation."""

    def on_train_end(self, outcome: Outcome) -> None:
        """After the last step, also if training was stopped early."""


class LossHistory(Callback):
    """Collects the loss of every batch, as the tutorial's callback of that name does."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_begin(self, plan: Plan) -> None:
        self.losses = []

    def on_batch_end(self, batch: BatchRecord) -> None:
        self.losses.append(batch.loss)


class RunWriter(Callback):
    """Writes batches.csv and epochs.csv into a run directory, one chunk at a time."""

    def __init__(self, batches: GrowingFile, epochs: GrowingFile, metrics: tuple[str, ...] = ()) -> None:
        self._batches = batches
        self._epochs = epochs
        self._metrics = metrics  # the metrics that have a column in epochs.csv

    @classmethod
    @contextmanager
    def opened(cls, run: Run, resumed: bool = False) -> Iterator[RunWriter]:
        """A writer whose files are closed at the end of the block. A resumed run appends to its files."""
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
        """Make sure that all rows so far are on disk. May be called after the block of opened(), too.

        sync: as in GrowingFile.secure(). Returns a message for each file that had to be repaired. Errors: OSError.
        """
        return [wrong for file in (self._batches, self._epochs) if (wrong := file.secure(sync)) is not None]

    def on_batch_end(self, batch: BatchRecord) -> None:
        self._batches.write(batch_row(batch))

    def on_chunk_end(self, batch: BatchRecord) -> None:
        self._batches.flush()

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if epoch.metrics and not self._metrics:  # the first epoch with metrics decides the columns
            self._metrics = metrics = tuple(epoch.metrics)
            self._epochs.rewrite(lambda table: with_columns(table, metrics))
        self._epochs.write(epoch_row(epoch, self._metrics))
        self._epochs.flush()


class EpochLines(Callback):
    """Prints one plain line per epoch, like Keras's verbose=2; a shorter one on a terminal with few `columns`.

    If an epoch is a single batch, only epochs that are evaluated have a line.
    """

    def __init__(self, say: Callable[[str], None], columns: int | None = None) -> None:
        self._say, self._columns = say, columns
        self._epochs = 0
        self._has_one_batch = False

    def on_train_begin(self, plan: Plan) -> None:
        self._epochs, self._has_one_batch = plan.epochs, plan.batches == 1

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        if self._has_one_batch and epoch.watched is None:
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
    """A score in its short form: loss 0.0612, 98.47 %."""
    return f"loss {loss_text(score.loss)}, {percent(score.accuracy)}"


class MetricWarnings(Callback):
    """Warns once for each metric that is not finite."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._warned: set[str] = set()

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        for name, value in epoch.metrics.items():
            if not math.isfinite(value) and name not in self._warned:
                self._warned.add(name)
                self._warn(f"{name} is {value} after epoch {epoch.epoch + 1}; its cell in {EPOCHS} is empty")


class Checkpoint(Callback):
    """Saves the training state at the start, after epochs, every trainer.checkpoint_every batches, and at the end."""

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
        self._saved = -1  # the step is the same, but the epoch has been evaluated since
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
    """Reports each epoch's validation score to a search, and keeps its decision until the loop asks for it.

    A callback does not stop training itself: the loop calls this object for a reason to stop, like an Interruption.
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
    """Keras's EarlyStopping: a reason to stop when a validation score has not improved for `patience` epochs.

    A callback does not stop training itself: the loop calls this object for a reason to stop, like an Interruption.
    resume() replays earlier epochs. Scores are rounded as in epochs.csv, so that a resumed run stops at the same epoch
    as one without interruption.
    """

    def __init__(self, monitor: str, patience: int | None, min_delta: float, mode: str | None = None) -> None:
        self._monitor = monitor
        self._sign = -1 if mode == "max" or (mode is None and monitor.endswith("accuracy")) else 1
        self._patience = patience
        self._min_delta = min_delta
        self._best = math.inf
        self.best_epoch: int | None = None
        """The epoch with the best score so far, from 0. None before the first score."""
        self._seen = 0
        self._planned = 0

    @classmethod
    def from_config(cls, config: TrainerConfig) -> EarlyStopping | None:
        """As trainer.patience and trainer.keep_best say. None if neither is set."""
        if config.patience is None and not config.keep_best:
            return None
        return cls(config.monitor, config.patience, config.min_delta, config.monitor_mode)

    def __call__(self) -> StopReason | None:
        """The reason to stop, or None. Always None after the last epoch, where training ends anyway."""
        if self._patience is None or self.best_epoch is None or self._seen >= self._planned:
            return None
        waited = self._seen - 1 - self.best_epoch
        if waited < max(self._patience, 1):  # as in Keras, a patience of 0 means 1
            return None
        named = self._monitor.replace("_", " ") if self._monitor in VALIDATION_SCORES else self._monitor
        return StopReason.early_stopping(
            f"no better {named} in {counted(waited, 'epoch')} after epoch {self.best_epoch + 1}"
        )

    def resume(self, scores: Sequence[float], epochs: int) -> None:
        """Replay the monitored scores of the epochs before a resume, in order. `epochs` is the total planned."""
        self._planned = epochs
        for score in scores:
            self._add_score(score)

    def on_train_begin(self, plan: Plan) -> None:
        self._planned = plan.epochs

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        assert epoch.validation is not None
        scores = {"validation_loss": epoch.validation.loss, "validation_accuracy": epoch.validation.accuracy}
        self._add_score(float(f"{(scores | dict(epoch.metrics))[self._monitor]:.9g}"))

    def _add_score(self, score: float) -> None:
        cost = self._sign * score
        if math.isfinite(cost) and cost < self._best - self._min_delta:  # else epochs.csv has an empty cell
            self._best, self.best_epoch = cost, self._seen
        self._seen += 1
