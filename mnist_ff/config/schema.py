"""The dataclasses that every configuration shares: types, meanings and limits of keys.

Defaults stand in conf/**/*.yaml. The keys of one optimizer, data set, tracker, ... stand with that part: registry.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from msgspec import Meta

from mnist_ff.config.constraints import Among, PartOf
from mnist_ff.config.paths import absolute
from mnist_ff.errors import ConfigError

S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Section:
    """A group of keys. A part overrides what its own keys need."""

    def check(self, path: str) -> None:
        """Compare keys with each other; `path` is the section's dotted key. Errors: ConfigError naming a key."""

    def check_new(self, path: str) -> None:
        """The same for what nobody should begin with, though older runs may have it. Errors: ConfigError."""

    def with_absolute_paths(self: S, path: str) -> S:
        """The same section with paths that hold in any working folder. Errors: ConfigError."""
        return self


def with_absolute(section: S, path: str, *keys: str) -> S:
    """The section with those of its keys absolute that hold a path. Errors: ConfigError."""
    given = {key: value for key in keys if (value := getattr(section, key)) is not None}
    return dataclasses.replace(section, **{key: absolute(f"{path}.{key}", value) for key, value in given.items()})


@dataclass(frozen=True)
class DataConfig(Section):
    """A data set."""

    name: Annotated[str, "data set; set it with data=NAME"]
    root: Annotated[str | None, "cache folder; null: the default (MNIST_FF_DATA)"]
    validation_split: Annotated[float, "fraction of the training images to hold out", Meta(ge=0, lt=1)]

    @property
    def cached_as(self) -> str:
        """The name of its file in the cache folder, without suffix."""
        return self.name

    def with_absolute_paths(self: S, path: str) -> S:
        return with_absolute(self, path, "root")


@dataclass(frozen=True)
class DownloadConfig(DataConfig):
    """A data set that is downloaded."""

    mirrors: Annotated[tuple[str, ...], "URLs or folders tried first (or MNIST_FF_MIRROR)"]


@dataclass(frozen=True)
class FileDataConfig(DataConfig):
    """A data set in the user's own files."""

    path: Annotated[str | None, "file or folder with the data"]

    def with_absolute_paths(self: S, path: str) -> S:
        return with_absolute(self, path, "root", "path")


@dataclass(frozen=True)
class ModelConfig(Section):
    """A network."""

    name: Annotated[str, "network; set it with model=NAME"]


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """An optimizer."""

    name: Annotated[str, "optimizer; set it with optimizer=NAME"]
    lr: Annotated[float, "learning rate", Meta(gt=0)]


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """The learning rate over the steps."""

    name: Annotated[str, "schedule; set it with schedule=NAME"]
    warmup: Annotated[int, "steps of linear warm-up", Meta(ge=0)]


@dataclass(frozen=True)
class AugmentConfig(Section):
    """Random changes of the training images."""

    name: Annotated[str, "augmentation; set it with augment=NAME"]


Fraction = Annotated[float, Meta(ge=0, le=1)]
"""0 to 1, both included."""
OptionalCount = Annotated[int, Meta(ge=1)] | None
OptionalNorm = Annotated[float, Meta(gt=0)] | None
OptionalShare = Annotated[float, Meta(gt=0, le=1)] | None


VALIDATION_SCORES = ("validation_loss", "validation_accuracy")
"""What trainer.monitor may name besides the chosen metrics."""


@dataclass(frozen=True)
class TrainerConfig(Section):
    """The training loop."""

    epochs: Annotated[int, "passes over the training images", Meta(ge=1)]
    batch_size: Annotated[int, "images per step", Meta(ge=1)]
    shuffle: Annotated[bool, "reshuffle the images every epoch"]
    device: Annotated[str, "auto, cpu, cuda, cuda:N or mps", Meta(pattern=r"\A(auto|cpu|mps|cuda(:\d{1,3})?)\Z")]
    engine: Annotated[Literal["auto", "eager", "fused", "graph"], "how a step is run; auto reports its choice"]
    precision: Annotated[Literal["fp32", "bf16", "tf32"], "precision of matrix products; the rest is fp32"]
    compile: Annotated[bool, "torch.compile the eager step (slow start on CPU)"]
    sync_every: Annotated[OptionalCount, "batches between device syncs; null: an epoch"]
    evaluate_every: Annotated[int, "epochs between evaluations (the last one always)", Meta(ge=1)]
    score_train: Annotated[int, "number of training images to evaluate; 0: none", Meta(ge=0)]
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] | None,
        "CPU threads; auto: the fastest, measured; null: torch's default",
    ]
    plots: Annotated[bool, "draw plots at the end of the run"]
    checkpoint_every: Annotated[OptionalCount, "batches between checkpoints; null: an epoch"]
    checkpoint_epochs: Annotated[int, "epochs between checkpoints (the end has one)", Meta(ge=1)]
    deterministic: Annotated[bool, "refuse nondeterministic operations (slower)"]
    label_smoothing: Annotated[float, "probability spread evenly over all classes", Meta(ge=0, lt=1)]
    confidence_penalty: Annotated[float, "weight of the over-confidence penalty", Meta(ge=0, le=1000)]
    adversarial: Annotated[float, "adversarial training: FGSM step; 0: off", Meta(ge=0, le=1)]
    clip_norm: Annotated[OptionalNorm, "max global gradient norm; null: off"]
    max_norm: Annotated[OptionalNorm, "max norm of a unit's incoming weights; null: off"]
    ema: Annotated[float, "decay of the moving average of weights; 0: off", Meta(ge=0, lt=1)]
    limit_batches: Annotated[OptionalCount, "train on the images of so many batches only; null: all"]
    max_seconds: Annotated[OptionalNorm, "seconds of training after which a run ends; null: no limit"]
    target_accuracy: Annotated[OptionalShare, "accuracy at which a run ends (validation or test images); null: off"]
    patience: Annotated[Annotated[int, Meta(ge=0)] | None, "early-stopping patience in epochs; null: off"]
    min_delta: Annotated[float, "smallest change that counts as improvement", Meta(ge=0)]
    monitor: Annotated[str, "metric that patience and keep_best watch", Among(VALIDATION_SCORES)]
    monitor_mode: Annotated[Literal["min", "max"] | None, "what is better; null: min for a loss, max for an accuracy"]
    keep_best: Annotated[bool, "keep the weights of the best epoch, not the last"]
    teacher: Annotated[str | None, "run directory to distil from; null: none"]
    temperature: Annotated[float, "distillation temperature", Meta(gt=0, le=1000)]
    teacher_weight: Annotated[Fraction, "weight of the distillation loss (0 to 1)"]

    @property
    def fixed_threads(self) -> int | None:
        """The number of threads; None where the machine decides, which null and auto leave to it."""
        return None if self.threads == "auto" else self.threads

    def with_absolute_paths(self: S, path: str) -> S:
        return with_absolute(self, path, "teacher")

    def check(self, path: str) -> None:
        if self.teacher is None and (self.teacher_weight > 0 or self.temperature != 1):
            key = "teacher_weight" if self.teacher_weight > 0 else "temperature"
            raise ConfigError(f"{path}.{key}={getattr(self, key):g}: needs a teacher: trainer.teacher=RUN")
        if self.teacher is not None and self.teacher_weight == 0:
            raise ConfigError(
                f"{path}.teacher_weight=0: trainer.teacher would have no effect; set it above 0, such as 0.9"
            )
        if self.evaluate_every > 1 and (self.patience is not None or self.keep_best):
            key = "patience" if self.patience is not None else "keep_best"
            raise ConfigError(f"{path}.evaluate_every={self.evaluate_every}: must be 1 with trainer.{key}")
        if self.checkpoint_epochs > 1 and self.keep_best:
            raise ConfigError(f"{path}.checkpoint_epochs={self.checkpoint_epochs}: must be 1 with trainer.keep_best")
        if self.min_delta > 0 and self.patience is None and not self.keep_best:
            raise ConfigError(
                f"{path}.min_delta={self.min_delta:g}: needs trainer.patience=EPOCHS or trainer.keep_best=true"
            )


@dataclass(frozen=True)
class TrackerConfig(Section):
    """An experiment tracker."""

    @property
    def place(self) -> str:
        """Where it writes to, for people; its keys, unless a part says it better."""
        return ", ".join(f"{key}={value}" for key, value in vars(self).items())

    @property
    def inside_run(self) -> bool:
        """Whether it writes into the run directory and connects to nothing."""
        return False

    @property
    def off(self) -> str | None:
        """Why it was chosen and yet records nothing; None where it records."""
        return None


class Unregistered:
    """A section of a saved config whose part is not registered: a user's own, whose file was not given. Plain data."""


@dataclass(frozen=True)
class CallbackConfig(Section):
    """A callback that is chosen by name."""


@dataclass(frozen=True)
class MetricConfig(Section):
    """A metric. It has no keys."""


@dataclass(frozen=True)
class Selection(Generic[S]):
    """The parts of a group that are chosen, any number of them, by name. They do not change the experiment."""

    group: ClassVar[str]
    """The registry's name of the group."""
    parts: tuple[tuple[str, S], ...] = ()

    def __iter__(self) -> Iterator[tuple[str, S]]:
        return iter(self.parts)


@dataclass(frozen=True)
class LoggerConfig(Selection[TrackerConfig]):
    """The chosen trackers."""

    group = "tracker"


@dataclass(frozen=True)
class CallbacksConfig(Selection[CallbackConfig]):
    """The chosen callbacks."""

    group = "callback"


SELECTIONS: Mapping[str, type[Selection[Any]]] = {"logger": LoggerConfig, "callbacks": CallbacksConfig}
"""The keys of a config that choose any number of a group's parts."""


@dataclass(frozen=True)
class Config:
    """A whole experiment: enough to run it again."""

    seed: Annotated[Annotated[int, Meta(ge=0, le=2**63 - 1)] | None, "random seed; null: pick one and record it"]
    name: Annotated[
        Annotated[
            str,
            "a label of up to 200 characters without line breaks",
            Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,200}\Z"),
        ]
        | None,
        "a label for the run",
    ]
    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    augment: AugmentConfig
    trainer: TrainerConfig
    logger: LoggerConfig = LoggerConfig()
    callbacks: CallbacksConfig = CallbacksConfig()
    metrics: Annotated[tuple[Annotated[str, PartOf("metric")], ...], "measured after each evaluation"] = ()


@dataclass(frozen=True)
class SweepConfig(Section):
    """How a sweep runs its jobs: neither in a run's config.yaml nor in its recipe."""

    on_error: Annotated[Literal["continue", "stop"], "after a failed job: run the others, or stop"]
    rows: Annotated[tuple[Mapping[Any, Any], ...] | None, "one job per row: [{KEY: VALUE, ...}, ...]"]


def with_absolute_paths(config: Config) -> Config:
    """The config with paths that hold in any working folder: a run may resume, and a job may run, elsewhere."""
    chosen: dict[str, Any] = {
        key: selection(tuple((name, part.with_absolute_paths(f"{key}.{name}")) for name, part in getattr(config, key)))
        for key, selection in SELECTIONS.items()
    }
    return dataclasses.replace(
        config,
        data=config.data.with_absolute_paths("data"),
        trainer=config.trainer.with_absolute_paths("trainer"),
        **chosen,
    )
