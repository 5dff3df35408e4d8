"""Callbacks: observers of training that receive numbers and return nothing."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from mnist_ff.config.schema import VALIDATION_SCORES, TrainerConfig
from mnist_ff.files import GrowingFile
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import loss_text, percent, score_text
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
    """Base of observers: override what you want to hear. Events come in Keras's order, batches a chunk at a time."""

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
    """Says one plain line an epoch, like Keras's verbose=2."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._epochs = 0

    def on_train_begin(self, plan: Plan) -> None:
        self._epochs = plan.epochs

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        line = f"epoch {epoch.epoch + 1:>{len(str(self._epochs))}}/{self._epochs}  {epoch.seconds:.1f} s"
        line += f"  train loss {loss_text(epoch.train_loss)}, accuracy {percent(epoch.train_accuracy)}"
        watched = epoch.watched
        if watched is not None:
            part, score = watched
            line += f"  {part} {score_text(score)}"
        self._say(line)


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


ROOM_FOR_ALL = 72
"""Columns of a terminal that "epoch 20/20", its bar, batch, loss, speed and time left need."""


class ProgressBar(Callback):
    """A live bar for a terminal: epoch, batch, loss, samples a second, time left; in a narrow one the first three."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._narrow = progress.console.width < ROOM_FOR_ALL
        self._began = time.perf_counter()
        self._samples = 0
        self._plan: Plan | None = None

    @classmethod
    @contextmanager
    def shown(cls, console: Console) -> Iterator[ProgressBar]:
        """A bar that is drawn inside the block and leaves no trace after it."""
        texts = (TextColumn("{task.description}"), TextColumn("{task.fields[facts]}"))
        left = TimeRemainingColumn(table_column=Column(no_wrap=True))  # the bar alone gives way
        columns = texts if console.width < ROOM_FOR_ALL else (texts[0], BarColumn(), texts[1], left)
        with Progress(*columns, console=console, transient=True) as progress:
            yield cls(progress, progress.add_task("training", total=None, facts=""))

    def on_train_begin(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.perf_counter()
        self._progress.update(self._task, total=plan.steps)

    def on_batch_end(self, batch: BatchRecord) -> None:
        assert self._plan is not None
        self._samples += batch.samples
        rate = self._samples / max(time.perf_counter() - self._began, 1e-9)
        speed = "" if self._narrow else f"  {rate:,.0f} samples/s"
        self._progress.update(
            self._task,
            completed=batch.step + 1,
            description=f"epoch {batch.epoch + 1}/{self._plan.epochs}",
            facts=f"batch {batch.batch + 1}/{self._plan.batches}  loss {batch.loss:.4f}{speed}",
        )


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
        return StopReason.early_stopping(f"no better {named} in {waited} epochs after epoch {self.best_epoch + 1}")

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
