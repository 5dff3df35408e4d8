"""Records of batches, epochs and runs. Standard library only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any

from mnist_ff.runs.intervals import wilson_interval

CLASSES = 10
SIDE = 28
"""An image's height and width."""
INPUTS = SIDE * SIDE
EARLY_PREFIX, SIGNAL_PREFIX, TIME_PREFIX, TARGET_PREFIX = (
    "early stopping",
    "stopped by ",
    "time limit",
    "target reached",
)
"""First words of a summary's `cause` when early stopping, a signal, the time limit or the target ended training."""
CALLBACK_PREFIX = "stopped by callback "
"""First words of `cause` when a callback asked to stop."""


MAX_SIDE, MAX_CHANNELS, MAX_CLASSES = 256, 3, 1_000
"""Limits of a DataSpec: pixels of an image's height and width, its channels, and classes; there are at least two."""
MAX_CLASS_NAME = 80
"""Characters of a class's name."""


@dataclass(frozen=True)
class DataSpec:
    """What a network sees of a data set."""

    shape: tuple[int, ...]
    """Of one image: (H, W), (C, H, W), or (D,) for vectors given from Python."""
    classes: tuple[str, ...]
    """Names in the order of their numbers."""

    @property
    def inputs(self) -> int:
        """Numbers in one image."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether there are rows and columns of pixels, unlike in a plain vector."""
        return len(self.shape) > 1

    @property
    def text(self) -> str:
        """For people, such as '28 x 28 and 10 classes'."""
        return f"{' x '.join(map(str, self.shape))} and {len(self.classes):,} classes"

    def name_of(self, label: int) -> str:
        """A class for people: its number, and its name where that is another text."""
        number, name = str(label), self.classes[label]
        return number if name == number else f"{number} {name}"

    def why_other(self, found: DataSpec) -> str | None:
        """Why a network for this data cannot take images of `found`, or None where it can."""
        if self.shape == found.shape and len(self.classes) == len(found.classes):
            return None
        return f"its network is for images of {self.text}, not {found.text}"

    def fault(self) -> str | None:
        """What is beyond the limits, in words that follow the place where it stands; None where all is within."""
        return shape_fault(self.shape) or _classes_fault(self.classes)


def shape_fault(shape: tuple[int, ...]) -> str | None:
    """What is beyond the limits of one image's shape, or None."""
    limits = {1: (MAX_CHANNELS * MAX_SIDE**2,), 2: (MAX_SIDE, MAX_SIDE), 3: (MAX_CHANNELS, MAX_SIDE, MAX_SIDE)}
    most = limits.get(len(shape))
    if most is not None and all(1 <= length <= limit for length, limit in zip(shape, most, strict=True)):
        return None
    return (
        f"images of shape {shape}; give (H, W) or (C, H, W) up to {MAX_SIDE} x {MAX_SIDE} pixels and {MAX_CHANNELS} "
        f"channels, or vectors of up to {MAX_CHANNELS * MAX_SIDE**2:,} numbers"
    )


def _classes_fault(names: tuple[str, ...]) -> str | None:
    if not 2 <= len(names) <= MAX_CLASSES:
        return f"{len(names):,} classes; there must be 2 to {MAX_CLASSES:,}"
    for name in names:
        if not 0 < len(name) <= MAX_CLASS_NAME or not name.isprintable():
            return f"the class name {name[:MAX_CLASS_NAME]!r}; give 1 to {MAX_CLASS_NAME} printable characters"
    repeated = next((name for name, times in Counter(names).items() if times > 1), None)
    return None if repeated is None else f"two classes named {repeated}; give each its own name"


MNIST_SPEC = DataSpec((SIDE, SIDE), tuple(map(str, range(CLASSES))))


class Status(StrEnum):
    """How a run ended, as summary.json says it."""

    FINISHED = "finished"
    PRUNED = "pruned"
    """Stopped early by a search."""
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"
    FAILED = "failed"


class StopKind(Enum):
    """What can end training before its last step."""

    SIGNAL = auto()
    EARLY_STOPPING = auto()
    PRUNING = auto()
    TIME_LIMIT = auto()
    TARGET = auto()
    CALLBACK = auto()


@dataclass(frozen=True)
class StopReason:
    """Why training stops before its last step; `text` becomes the cause in summary.json."""

    kind: StopKind
    text: str

    @classmethod
    def from_signal(cls, name: str) -> StopReason:
        """The reason that a signal such as SIGTERM gives."""
        return cls(StopKind.SIGNAL, f"{SIGNAL_PREFIX}{name}")

    @classmethod
    def early_stopping(cls, text: str) -> StopReason:
        """The reason that early stopping gives."""
        return cls(StopKind.EARLY_STOPPING, f"{EARLY_PREFIX}: {text}")

    @classmethod
    def time_limit(cls, text: str) -> StopReason:
        """Stopped by trainer.max_seconds."""
        return cls(StopKind.TIME_LIMIT, f"{TIME_PREFIX}: {text}")

    @classmethod
    def target(cls, text: str) -> StopReason:
        """Stopped by trainer.target_accuracy."""
        return cls(StopKind.TARGET, f"{TARGET_PREFIX}: {text}")

    @classmethod
    def from_callback(cls, name: str, text: str) -> StopReason:
        """Stopped by the callback of this name; `text` is its reason, which may be empty."""
        return cls(StopKind.CALLBACK, f"{CALLBACK_PREFIX}{name}{': ' if text else ''}{text}")

    @classmethod
    def from_summary(cls, status: str, cause: str | None) -> StopReason | None:
        """The reason behind a summary's status and cause; None where nothing stopped training."""
        if cause is None or status not in (Status.FINISHED, Status.PRUNED, Status.INTERRUPTED):
            return None
        if status == Status.PRUNED:
            return cls(StopKind.PRUNING, cause)
        kind = next((kind for prefix, kind in _KIND_OF.items() if cause.startswith(prefix)), None)
        return None if kind is None else cls(kind, cause)

    @property
    def signal_name(self) -> str | None:
        """The name of the signal, or None for another kind of reason."""
        return self.text.removeprefix(SIGNAL_PREFIX) if self.kind is StopKind.SIGNAL else None

    @property
    def status(self) -> Status:
        """How a run ended whose training stopped for this reason."""
        return _STATUS_OF[self.kind]


_STATUS_OF = {
    StopKind.SIGNAL: Status.INTERRUPTED,
    StopKind.EARLY_STOPPING: Status.FINISHED,
    StopKind.PRUNING: Status.PRUNED,
    StopKind.TIME_LIMIT: Status.FINISHED,
    StopKind.TARGET: Status.FINISHED,
    StopKind.CALLBACK: Status.FINISHED,
}
_KIND_OF = {
    EARLY_PREFIX: StopKind.EARLY_STOPPING,
    CALLBACK_PREFIX: StopKind.CALLBACK,
    SIGNAL_PREFIX: StopKind.SIGNAL,
    TIME_PREFIX: StopKind.TIME_LIMIT,
    TARGET_PREFIX: StopKind.TARGET,
}


@dataclass(frozen=True, init=False)
class BatchRecord:
    """One training step. `step` counts from 0 through the run, `batch` from 0 within its epoch."""

    step: int
    epoch: int
    batch: int
    loss: float
    """This batch's own mean cross-entropy in nats, dropout on, whatever else training makes smaller."""
    lr: float
    samples: int
    correct: int
    """Correct predictions among the samples, dropout on."""

    def __init__(self, step: int, epoch: int, batch: int, loss: float, lr: float, samples: int, correct: int) -> None:
        # one is made for every batch, and a frozen dataclass's own __init__ takes twice as long
        self.__dict__.update(step=step, epoch=epoch, batch=batch, loss=loss, lr=lr, samples=samples, correct=correct)


@dataclass(frozen=True)
class Position:
    """Where in its training a run stands: whole epochs done, and the batches of the one that was begun."""

    epoch: int = 0
    batches: tuple[BatchRecord, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run will do: `epochs` passes over `samples` rows in batches of `batch_size`, from `start` on."""

    epochs: int
    samples: int
    batch_size: int
    sync_every: int | None
    learning_rate: float
    checkpoint_every: int | None = None
    """Batches between two checkpoints within an epoch."""
    start: Position = Position()
    schedule: Callable[[int], float] | None = None
    """A step of the run, from 0, to its learning rate; None: the same for all."""
    evaluate_every: int = 1
    checkpoint_epochs: int = 1

    def evaluates(self, epoch: int) -> bool:
        """Whether the model is scored after this epoch."""
        return (epoch + 1) % self.evaluate_every == 0 or epoch + 1 == self.epochs

    def saves(self, epoch: int) -> bool:
        """Whether a checkpoint is due at this epoch's end; where training ends there is one anyway."""
        return (epoch + 1) % self.checkpoint_epochs == 0

    def rate(self, step: int) -> float:
        """The learning rate of a step of the run."""
        return self.learning_rate if self.schedule is None else self.schedule(step)

    def rates(self, epoch: int, batches: range) -> tuple[float, ...]:
        """The learning rates of these batches of an epoch; none where they are the optimizer's own throughout."""
        if self.schedule is None:
            return ()
        return tuple(self.schedule(epoch * self.batches + batch) for batch in batches)

    @property
    def batches(self) -> int:
        """Batches in one epoch; the last may be smaller."""
        return math.ceil(self.samples / self.batch_size)

    @property
    def steps(self) -> int:
        """Batches in the whole run."""
        return self.epochs * self.batches

    @property
    def first_step(self) -> int:
        """Steps that were done before."""
        return self.start.epoch * self.batches + len(self.start.batches)

    def position(self, epoch: int, metrics: Sequence[tuple[float, int, float]]) -> Position:
        """Where a checkpoint stands, from its epoch and the (loss, correct predictions, rate) of the batches in it.

        Errors: ValueError for what cannot be in this plan.
        """
        if not 0 <= epoch <= self.epochs or len(metrics) > self.batches or (epoch == self.epochs and metrics):
            raise ValueError(f"epoch {epoch}, batch {len(metrics)} is not in this plan")
        records = (
            BatchRecord(epoch * self.batches + batch, epoch, batch, loss, lr, self.samples_in(batch), correct)
            for batch, (loss, correct, lr) in enumerate(metrics)
        )
        return Position(epoch, tuple(records))

    def chunks(self, first: int = 0) -> Iterator[range]:
        """An epoch's batch numbers from `first` on, cut where the host waits and where a checkpoint is due."""
        cuts = {self.batches}
        for size in (self.sync_every, self.checkpoint_every):
            if size is not None:
                cuts |= set(range(size, self.batches, size))
        start = first
        for stop in sorted(cut for cut in cuts if cut > first):
            yield range(start, stop)
            start = stop

    def rows(self, batches: range) -> slice:
        """Where the rows of these batches stand in an epoch's row order."""
        return slice(batches.start * self.batch_size, min(batches.stop * self.batch_size, self.samples))

    def samples_in(self, batch: int) -> int:
        """Rows in this batch of an epoch."""
        return min(self.batch_size, self.samples - batch * self.batch_size)


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats and share of correct predictions over `samples` images, dropout off."""

    loss: float
    accuracy: float
    correct: int
    samples: int

    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % Wilson interval: the noise of a finite set of images."""
        return wilson_interval(self.accuracy, self.samples)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. Train metrics are means over its batches as they were trained on, dropout on."""

    epoch: int
    train_loss: float
    train_accuracy: float
    test: Score | None
    """On the test images, or None where a validation split takes their place or the epoch is not scored."""
    validation: Score | None
    seconds: float
    """Training and evaluation of this epoch."""
    train: Score | None = None
    """On some of the training images, dropout off, after the epoch's last step: what compares with the other scores."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The chosen metrics of the watched images by column, NAME or NAME/KEY; some may not be finite. Empty where the
    epoch is not scored."""
    model: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """For chosen callbacks: copies of the parameters by name, tensors. They can be read until on_epoch_end returns."""

    @property
    def watched(self) -> tuple[str, Score] | None:
        """The score that follows training: validation where there is a split, else test, if there is either."""
        if self.validation is not None:
            return "validation", self.validation
        return None if self.test is None else ("test", self.test)


@dataclass(frozen=True)
class Outcome:
    """How fit() ended. `stopped` says why it ended before the last step, or is None."""

    steps: int
    """Of the whole run, those before a resume too."""
    epochs: tuple[EpochRecord, ...]
    seconds: float
    stopped: StopReason | None = None


@dataclass(frozen=True)
class Summary:
    """The end of a run; its file's presence means that the run ended."""

    status: Status
    cause: str | None
    """Why the run ended early, or failed, or which signal came after its last step."""
    score: Score | None
    """On the test images, after the last step."""
    epochs: int
    """Whole epochs done."""
    steps: int
    parameters: int
    seed: int
    name: str | None
    data: str
    data_instead_of: str | None
    """The data set that was requested but could not be downloaded."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By part, as session/timing.py names them, and `total`. Runs of older versions have fewer parts."""
    trained_seconds: float | None = None
    """Seconds of training, including those before a resume, as counted by trainer.max_seconds."""
    target_reached: bool | None = None
    """Whether an epoch reached trainer.target_accuracy; None without a target."""
    validation: Score | None = None
    """Score on the validation images if training stopped within an epoch: epochs.csv then has an older score."""
    not_learning: str | None = None
    """A warning that the loss of the last batches shows no learning, or None."""

    @property
    def stop(self) -> StopReason | None:
        """Why training stopped before its last step, or None."""
        return StopReason.from_summary(self.status, self.cause)

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping, the time limit or the target ended the run before its last epoch."""
        kinds = (StopKind.EARLY_STOPPING, StopKind.TIME_LIMIT, StopKind.TARGET)
        return self.stop is not None and self.stop.kind in kinds

    @property
    def stopped_on_request(self) -> bool:
        """Whether a callback asked to stop."""
        return self.stop is not None and self.stop.kind is StopKind.CALLBACK
