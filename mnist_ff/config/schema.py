"""The typed configuration: its schema, its ranges, and one converter for fresh and for saved configs.

The dataclasses hold types, meanings and ranges; every value stands in conf/**/*.yaml.
omegaconf ends here: past this file there are only frozen dataclasses.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import struct
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, Union

from mnist_ff.config.passwords import holds_password, without_password
from mnist_ff.config.paths import absolute, check_text
from mnist_ff.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers that a key accepts; None leaves a side open."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def allows(self, value: float) -> bool:
        """Whether the finite number `value` lies in the range."""
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        words = [f"{name.replace('_', ' ')} {value:g}" for name, value in vars(self).items() if value is not None]
        return " and ".join(words)


@dataclass(frozen=True)
class Pattern:
    """The texts that a key accepts, as a regular expression; the key's meaning says it in words."""

    expression: str

    def allows(self, value: str) -> bool:
        """Whether the whole of `value` is of this form."""
        return re.fullmatch(self.expression, value) is not None


def check_no_password(path: str, uri: str) -> None:
    """A password in a URI would stand in the shell's history, in ps, and in each run's files. Errors: ConfigError."""
    if holds_password(uri):
        raise ConfigError(
            f"{path}={without_password(uri)}: has a password, which must stand in no file and no list of processes; "
            "leave it out: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are for a server's, PGPASSWORD for a "
            "PostgreSQL's"
        )


@dataclass(frozen=True)
class Store:
    """The URI of an MLflow store: no folder, and without a password."""

    def check(self, path: str, value: str) -> None:
        """Errors: ConfigError, in which no password stands."""
        check_no_password(path, value)
        if value.startswith("file:") or ("://" not in value and value != "databricks"):
            raise ConfigError(
                f"{path}={value}: is a folder, and MLflow keeps no new runs in folders any more; give sqlite:///FILE "
                "(mlflow migrate-filestore moves old ones there)"
            )


@dataclass(frozen=True)
class DataConfig:
    """A data set."""

    name: Annotated[str, "data set; choose it with data=NAME"]
    root: Annotated[str | None, "cache folder; null: the user's cache (MNIST_FF_DATA)"]
    validation_split: Annotated[float, "share of the training images held out", Range(at_least=0, below=1)]


@dataclass(frozen=True)
class DownloadConfig(DataConfig):
    """A data set that comes over the network."""

    mirrors: Annotated[tuple[str, ...], "URLs or folders tried first (MNIST_FF_MIRROR adds one)"]


@dataclass(frozen=True)
class MNISTConfig(DownloadConfig):
    """MNIST."""

    fallback: Annotated[Literal["mnist_5k"] | None, "used when MNIST can be had from nowhere; null: an error"]


@dataclass(frozen=True)
class QMNISTConfig(DownloadConfig):
    """QMNIST."""

    test_part: Annotated[Literal["all", "extra"], "test images: all 60,000 or the extra 50,000"]


@dataclass(frozen=True)
class MNIST5kConfig(DataConfig):
    """The part of MNIST that needs no network."""

    instead_of: Annotated[Literal["mnist"] | None, "the data set that could not be had"]


@dataclass(frozen=True)
class ModelConfig:
    """A feed-forward network."""

    name: Annotated[Literal["mlp"], "kind of network"]
    hidden: Annotated[tuple[Annotated[int, Range(at_least=1, at_most=1_000_000)], ...], "units of each hidden layer"]
    dropout: Annotated[float, "probability that a hidden unit is dropped", Range(at_least=0, below=1)]
    input_dropout: Annotated[float, "probability that a pixel is dropped", Range(at_least=0, below=1)]
    input_noise: Annotated[
        float, "standard deviation of noise on the pixels, which are 0 to 1", Range(at_least=0, at_most=100)
    ]
    activation: Annotated[Literal["relu", "tanh", "sigmoid", "gelu", "silu"], "function after each hidden layer"]
    init: Annotated[
        Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"], "initial weights; biases are 0"
    ]


LearningRate = Annotated[float, "learning rate", Range(above=0)]
Decay = Annotated[float, "weight decay", Range(at_least=0)]
Epsilon = Annotated[float, "keeps the denominator from zero", Range(above=0)]
Average = Annotated[float, "decay of a moving average", Range(at_least=0, below=1)]


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer."""

    name: Annotated[str, "update rule; choose it with optimizer=NAME"]
    lr: LearningRate


@dataclass(frozen=True)
class RMSpropConfig(OptimizerConfig):
    """The tutorial's rule: epsilon inside the root."""

    rho: Average
    eps: Epsilon
    weight_decay: Annotated[float, "share of a weight taken off a step, times the rate; decoupled", Range(at_least=0)]


@dataclass(frozen=True)
class RMSpropTorchConfig(OptimizerConfig):
    """torch.optim.RMSprop."""

    alpha: Average
    eps: Epsilon
    momentum: Annotated[float, "momentum", Range(at_least=0)]
    centered: Annotated[bool, "normalise by the variance instead of the second moment"]
    weight_decay: Decay


@dataclass(frozen=True)
class SGDConfig(OptimizerConfig):
    """torch.optim.SGD."""

    momentum: Annotated[float, "momentum", Range(at_least=0)]
    nesterov: Annotated[bool, "Nesterov's momentum"]
    weight_decay: Decay


@dataclass(frozen=True)
class LionConfig(OptimizerConfig):
    """Lion: the sign of an interpolated momentum."""

    beta1: Average
    beta2: Average
    weight_decay: Decay


@dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """torch.optim.Adam and torch.optim.AdamW."""

    beta1: Average
    beta2: Average
    eps: Epsilon
    weight_decay: Decay


@dataclass(frozen=True)
class NadamConfig(AdamConfig):
    """torch.optim.NAdam, its weight decay decoupled."""

    momentum_decay: Annotated[float, "how fast the momentum nears beta1", Range(at_least=0)]


Share = Annotated[float, "a share", Range(at_least=0, at_most=1)]


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the steps."""

    name: Annotated[str, "course of the learning rate; choose it with schedule=NAME"]
    warmup: Annotated[int, "first batches, over which the rate rises evenly", Range(at_least=0)]


@dataclass(frozen=True)
class FallingConfig(ScheduleConfig):
    """A rate that falls from optimizer.lr to a share of it: linear and cosine."""

    final: Annotated[Share, "share of optimizer.lr at the end"]


@dataclass(frozen=True)
class OneCycleConfig(FallingConfig):
    """Up and down once."""

    initial: Annotated[Share, "share of optimizer.lr at the beginning"]
    peak_at: Annotated[float, "share of the steps after which the rate is optimizer.lr", Range(above=0, below=1)]


@dataclass(frozen=True)
class StepConfig(ScheduleConfig):
    """A rate that falls in steps."""

    at: Annotated[tuple[Annotated[float, Range(above=0, below=1)], ...], "shares of the steps after which it falls"]
    factor: Annotated[float, "what the rate is multiplied by there", Range(above=0, below=1)]


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are changed before a step sees them."""

    name: Annotated[str, "changes of the training images; choose them with augment=NAME"]


@dataclass(frozen=True)
class ShiftConfig(AugmentConfig):
    """Moved by whole pixels."""

    pixels: Annotated[int, "largest move along each axis, in pixels", Range(at_least=1, at_most=14)]


@dataclass(frozen=True)
class AffineConfig(AugmentConfig):
    """Turned, scaled, sheared and moved."""

    rotation: Annotated[float, "largest turn either way, in degrees", Range(at_least=0, at_most=180)]
    scale: Annotated[float, "largest relative change of size either way", Range(at_least=0, below=1)]
    shear: Annotated[float, "largest shear either way, in degrees", Range(at_least=0, below=90)]
    shift: Annotated[float, "largest move along each axis, in pixels", Range(at_least=0, at_most=28)]


@dataclass(frozen=True)
class ElasticConfig(AugmentConfig):
    """Bent by a smooth random field."""

    alpha: Annotated[float, "strength of the field, in pixels before smoothing", Range(at_least=0, at_most=1000)]
    sigma: Annotated[float, "standard deviation of the smoothing, in pixels", Range(above=0, at_most=28)]


@dataclass(frozen=True)
class BothConfig(ElasticConfig, AffineConfig):
    """Affine and elastic in one interpolation."""


@dataclass(frozen=True)
class TrainerConfig:
    """The loop."""

    epochs: Annotated[int, "passes over the training images", Range(at_least=1)]
    batch_size: Annotated[int, "images a step", Range(at_least=1)]
    shuffle: Annotated[bool, "a new row order each epoch"]
    device: Annotated[str, "auto, cpu, cuda, cuda:N or mps", Pattern(r"auto|cpu|mps|cuda(:\d{1,3})?")]
    engine: Annotated[Literal["auto", "eager", "fused", "graph"], "how a step is run; auto says what it chose"]
    precision: Annotated[Literal["fp32", "bf16", "tf32"], "of the matrix products; all else is fp32"]
    compile: Annotated[bool, "torch.compile the eager step (minutes at first on a CPU)"]
    sync_every: Annotated[
        Annotated[int, Range(at_least=1)] | None, "batches between two waits for the device; null: an epoch"
    ]
    evaluate_every: Annotated[int, "epochs between two scores; the last epoch is always scored", Range(at_least=1)]
    score_train: Annotated[int, "training images scored after every epoch, dropout off; 0: none", Range(at_least=0)]
    threads: Annotated[Annotated[int, Range(at_least=1, at_most=1024)] | None, "CPU threads; null: torch's choice"]
    plots: Annotated[bool, "pictures at the end of the run"]
    checkpoint_every: Annotated[
        Annotated[int, Range(at_least=1)] | None, "batches between two checkpoints; null: an epoch"
    ]
    checkpoint_epochs: Annotated[
        int, "epochs between two checkpoints; one is always written where training ends", Range(at_least=1)
    ]
    deterministic: Annotated[bool, "refuse operations whose result may vary (CUDA; slower)"]
    label_smoothing: Annotated[float, "share of a label spread over all classes", Range(at_least=0, below=1)]
    confidence_penalty: Annotated[
        float, "weight of the answers' entropy, which is rewarded", Range(at_least=0, at_most=1000)
    ]
    adversarial: Annotated[
        float, "change of each pixel in the adversaries that are learnt too", Range(at_least=0, at_most=1)
    ]
    clip_norm: Annotated[
        Annotated[float, Range(above=0)] | None, "largest norm of the whole gradient, longer ones are cut; null: any"
    ]
    max_norm: Annotated[
        Annotated[float, Range(above=0)] | None, "largest norm of a unit's incoming weights, cut back; null: any"
    ]
    ema: Annotated[float, "decay of averaged weights, which are scored and kept; 0: none", Range(at_least=0, below=1)]
    patience: Annotated[
        Annotated[int, Range(at_least=0)] | None,
        "epochs without a better validation score after which training ends; null: never",
    ]
    min_delta: Annotated[float, "smallest change of the validation score that counts as better", Range(at_least=0)]
    monitor: Annotated[Literal["validation_loss", "validation_accuracy"], "the score of patience and keep_best"]
    keep_best: Annotated[bool, "keep the weights of the best epoch instead of the last one's"]
    teacher: Annotated[str | None, "run directory whose answers are learnt too (distillation); null: none"]
    temperature: Annotated[
        float, "of the teacher's and the network's answers in that comparison", Range(above=0, at_most=1000)
    ]
    teacher_weight: Annotated[Share, "share of the objective that is the teacher's; the rest is the labels'"]


@dataclass(frozen=True)
class TensorBoardConfig:
    """TensorBoard's event files."""

    directory: Annotated[str | None, "folder for a folder a run; null: tensorboard/ in the run directory"]


@dataclass(frozen=True)
class MLflowConfig:
    """An MLflow store or server."""

    tracking_uri: Annotated[
        str,
        "sqlite:///FILE, postgresql://, mysql://, mssql:// or http(s)://..., or databricks; without a password",
        Store(),
        Pattern(r"(sqlite|postgresql|mysql|mssql|https?)://.+|databricks"),
    ]
    experiment: Annotated[str, "the experiment that runs go to"]


@dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases."""

    mode: Annotated[
        Literal["offline", "online", "disabled"],
        "offline: files for wandb sync; online: needs wandb login; disabled: nothing is told",
    ]
    project: Annotated[str, "the project that runs go to"]
    entity: Annotated[str | None, "user or team; null: the account's own"]
    directory: Annotated[str | None, "folder of the files; null: wandb/ in the run directory"]


@dataclass(frozen=True)
class LoggerConfig:
    """The trackers that hear of a run, no part of the experiment itself. One that is absent is off."""

    tensorboard: TensorBoardConfig | None = None
    mlflow: MLflowConfig | None = None
    wandb: WandbConfig | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the trackers that are on."""
        names = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]
        return tuple(name for name in names if name != "wandb" or not self.silenced)

    @property
    def silenced(self) -> bool:
        """Whether wandb was asked for and turned off again, as wandb's own variable does."""
        return self.wandb is not None and self.wandb.mode == "disabled"


@dataclass(frozen=True)
class Config:
    """A whole experiment: enough to run it again."""

    seed: Annotated[Annotated[int, Range(at_least=0, at_most=2**63 - 1)] | None, "decides all chance; null draws one"]
    name: Annotated[
        Annotated[str, "a label of up to 200 characters without line breaks", Pattern(r"[^\x00-\x1f\x7f]{1,200}")]
        | None,
        "a label of your own for the run",
    ]
    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    augment: AugmentConfig
    trainer: TrainerConfig
    logger: LoggerConfig = LoggerConfig()


@dataclass(frozen=True)
class SweepConfig:
    """How a sweep goes about its jobs. It is no part of a run: neither of its config.yaml nor of its recipe."""

    on_error: Annotated[Literal["continue", "stop"], "after a failed job: run the others, or start no more"]
    rows: Annotated[
        tuple[Mapping[str, Any], ...] | None, "values that go together, one job a row: [{KEY: VALUE, ...}, ...]"
    ]


SQLITE = "sqlite:///"
"""What a file's path follows in a URI."""

VARIANTS: dict[type, dict[str, type]] = {
    DataConfig: {
        "mnist": MNISTConfig,
        "fashion_mnist": DownloadConfig,
        "kmnist": DownloadConfig,
        "qmnist": QMNISTConfig,
        "mnist_5k": MNIST5kConfig,
    },
    ModelConfig: {"mlp": ModelConfig},
    OptimizerConfig: {
        "rmsprop": RMSpropConfig,
        "rmsprop_torch": RMSpropTorchConfig,
        "sgd": SGDConfig,
        "adam": AdamConfig,
        "adamw": AdamConfig,
        "nadam": NadamConfig,
        "lion": LionConfig,
    },
    ScheduleConfig: {
        "constant": ScheduleConfig,
        "linear": FallingConfig,
        "cosine": FallingConfig,
        "one_cycle": OneCycleConfig,
        "step": StepConfig,
    },
    AugmentConfig: {
        "none": AugmentConfig,
        "shift": ShiftConfig,
        "affine": AffineConfig,
        "elastic": ElasticConfig,
        "both": BothConfig,
    },
}
"""The sections whose keys depend on their name."""

ABSENT: dict[type | None, dict[str, Any]] = {
    Config: {"schedule": {"name": "constant", "warmup": 0}, "augment": {"name": "none"}},
    ModelConfig: {"input_dropout": 0.0, "input_noise": 0.0},
    RMSpropConfig: {"weight_decay": 0.0},
    TrainerConfig: {
        "evaluate_every": 1,
        "checkpoint_epochs": 1,
        "label_smoothing": 0.0,
        "confidence_penalty": 0.0,
        "adversarial": 0.0,
        "clip_norm": None,
        "max_norm": None,
        "ema": 0.0,
        "patience": None,
        "min_delta": 0.0,
        "monitor": "validation_loss",
        "keep_best": False,
        "teacher": None,
        "temperature": 1.0,
        "teacher_weight": 0.0,
    },
}
"""What a saved config means that is older than these keys: all of them off. No defaults: those stand in conf/."""


def conf_dir() -> Path:
    """The folder of YAML files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def config_from(values: Mapping[str, Any], where: str = "") -> Config:
    """Check plain values and make the configuration of them.

    `where` names the file that the values come from, for the error's text.
    Errors: ConfigError naming the key, the value, what is allowed and the nearest right name.
    """
    try:
        config = _section(Config, values, "")
        _check_between_keys(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None
    except RecursionError:  # a value of a thousand brackets, which no message can show
        raise ConfigError(f"{where or 'config'}: a value is nested too deeply") from None
    return config


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a saved config, with the keys that are younger than it as ABSENT has them."""
    whole = {**ABSENT[Config], **values}
    for section, place in whole.items():
        if isinstance(place, Mapping):
            whole[section] = {**ABSENT.get(_kind(section, place), {}), **place}
    return whole


def lasting(config: Config) -> dict[str, Any]:
    """Plain values of the experiment without the keys that mean what their absence means.

    Their digest is the one that the same config had before there were these keys.
    """
    absent = ABSENT[Config]
    values = {key: value for key, value in experiment(config).items() if key not in absent or value != absent[key]}
    for section, place in values.items():
        if isinstance(place, dict):
            off = ABSENT.get(_kind(section, place), {})
            values[section] = {key: value for key, value in place.items() if key not in off or value != off[key]}
    return values


def _kind(section: str, values: Mapping[str, Any]) -> type | None:
    """The dataclass of a section's plain values; None where there is no such section or option."""
    kind = _bare(_hints(Config).get(section))
    name = values.get("name")
    return VARIANTS[kind].get(name) if kind in VARIANTS and isinstance(name, str) else kind


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain values, ready for YAML or JSON: the inverse of config_from. Trackers that are off do not appear."""
    plain = {key: _plain(value) for key, value in vars(config).items()}
    trackers = {name: keys for name, keys in plain.pop("logger").items() if keys is not None}
    return plain | ({"logger": trackers} if trackers else {})


def experiment(config: Config) -> dict[str, Any]:
    """Plain values of what is trained and how: all but the trackers, which change nothing of it."""
    return {key: value for key, value in config_to_dict(config).items() if key != "logger"}


def with_absolute_paths(config: Config) -> Config:
    """The same places from any working folder: a run may go on, and a job may run, elsewhere."""
    data, trainer, trackers = config.data, config.trainer, config.logger
    if trainer.teacher is not None:
        trainer = dataclasses.replace(trainer, teacher=absolute("trainer.teacher", trainer.teacher))
    if data.root is not None:
        data = dataclasses.replace(data, root=absolute("data.root", data.root))
    if trackers.tensorboard is not None and trackers.tensorboard.directory is not None:
        place = absolute("logger.tensorboard.directory", trackers.tensorboard.directory)
        trackers = dataclasses.replace(trackers, tensorboard=TensorBoardConfig(place))
    if trackers.wandb is not None and trackers.wandb.directory is not None:
        place = absolute("logger.wandb.directory", trackers.wandb.directory)
        own = dataclasses.replace(trackers.wandb, directory=place)
        trackers = dataclasses.replace(trackers, wandb=own)
    if trackers.mlflow is not None and trackers.mlflow.tracking_uri.startswith(SQLITE):
        uri = SQLITE + absolute("logger.mlflow.tracking_uri", trackers.mlflow.tracking_uri.removeprefix(SQLITE))
        trackers = dataclasses.replace(trackers, mlflow=dataclasses.replace(trackers.mlflow, tracking_uri=uri))
    return dataclasses.replace(config, data=data, trainer=trainer, logger=trackers)


def sweep_from(values: Mapping[str, Any]) -> SweepConfig:
    """Check the plain values of the section `sweep`. Errors: ConfigError naming the key."""
    return _section(SweepConfig, values, "sweep")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


DEEPEST_YAML = 20
"""Levels of a YAML file; a run's config has three."""


def read_yaml(path: Path) -> Any:
    """A YAML file of the package, or of a user's own making, as plain values, to be read only.

    Interpolations stay text: nothing in a file is looked up or run. Errors: ConfigError naming the file.
    """
    try:
        return yaml_values(path, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: not readable as YAML ({error.strerror})") from None


def yaml_values(path: Path, content: bytes) -> Any:
    """The values of a YAML text. Errors: ConfigError naming the file, also for aliases, which can make a text of a
    kilobyte an endless one, and for levels without end."""
    from yaml import YAMLError

    try:
        blocks = _blocks(content)
        return _quick_yaml(content) if blocks is None else blocks
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(f"{path}: not readable as YAML ({brief_text(lines[0])})") from None


BLOCK = re.compile(rb"[a-z_]+:(?: .*)?\n(?: .*\n)*")
"""A key at the margin with the lines below it, as to_yaml() writes them."""


def _blocks(content: bytes) -> dict[str, Any] | None:
    """A file key by key, each parsed once of equal text: the thousands of runs of a sweep share most of them.

    None where only the whole file says what it means, be it an anchor, an odd line or an error.
    """
    from yaml import YAMLError

    texts = BLOCK.findall(content)
    if not texts or sum(map(len, texts)) < len(content):
        return None
    try:
        keys = [_block(text) for text in texts]
    except YAMLError:
        return None
    whole = {name: value for key in keys for name, value in key.items()}
    return whole if len(whole) == len(keys) else None


@functools.lru_cache(maxsize=1_000)
def _block(text: bytes) -> Any:
    return _quick_yaml(text)


def _quick_yaml(content: bytes) -> Any:
    loader = _quick_loader()
    _check_events(content, loader)
    return loader(content).get_single_data()


NESTING = (b"\n", b"\r", b"[", b"{", b"-", b"?")
"""What a level of a YAML text needs one of."""


def _check_events(content: bytes, loader: Any) -> None:
    """Look at a text's parts before they are put together, which is done level in level. Errors: YAMLError."""
    if not any(mark in content for mark in (b"&", b"*")) and sum(map(content.count, NESTING)) < DEEPEST_YAML:
        return
    import yaml

    levels = 0
    for event in yaml.parse(content, Loader=loader):
        if getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError("it has an anchor or alias; write the values out")
        levels += isinstance(event, yaml.CollectionStartEvent)
        levels -= isinstance(event, yaml.CollectionEndEvent)
        if levels > DEEPEST_YAML:
            raise yaml.YAMLError("it is nested too deeply")


@functools.cache
def _quick_loader() -> Any:
    """libyaml's safe loader, six times as fast as Python's, which stands in for it, with omegaconf's floats."""
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc,valid-type]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            if len(set(map(str, keys))) < len(keys):
                raise yaml.constructor.ConstructorError(None, None, "found a key twice", node.start_mark)
            return super().construct_mapping(node, deep=deep)

        def construct_yaml_int(self, node: Any) -> Any:
            value = super().construct_yaml_int(node)
            if not -LARGEST_WHOLE <= value <= 2 * LARGEST_WHOLE:  # of too many digits it could not even be shown
                raise yaml.constructor.ConstructorError(None, None, "found an endless number", node.start_mark)
            return value

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")  # YAML 1.1 wants a point and a sign: 1.0e-6
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    return Loader


def to_yaml(config: Config) -> str:
    """The configuration as YAML text, as OmegaConf.to_yaml() writes it; nothing in a text is looked up or parsed."""
    import yaml

    plain = config_to_dict(config)
    text: str = yaml.dump(plain, Dumper=_dumper(), default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text


@functools.cache
def _dumper() -> Any:
    """omegaconf's dumper, but PyYAML writes the line break U+0085 bare, and reads it back as a space."""
    from omegaconf._utils import get_omega_conf_dumper

    base: Any = get_omega_conf_dumper()

    def represent(dumper: Any, text: str) -> Any:
        if "\x85" in text:
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
        return base.str_representer(dumper, text)

    dumper: Any = type("Dumper", (base,), {})
    dumper.add_representer(str, represent)
    return dumper


SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""Sizes of the smallest and the largest normal float32. Smaller ones become 0, and dividing by that makes NaN."""


def check_float32(values: Mapping[str, Any]) -> None:
    """See that float32, in which training computes, holds the numbers of these dotted keys, each within its range.

    Old runs may have others, so this is for values that someone gives now. Errors: ConfigError naming the key.
    """
    ranges = _float_ranges()
    for key, value in values.items():
        for place, item in enumerate(value) if isinstance(value, list | tuple) else [(None, value)]:
            if isinstance(item, float) and key in ranges:
                _check_float32(key if place is None else f"{key}[{place}]", item, ranges[key])


def _check_float32(path: str, value: float, limits: Range) -> None:
    if value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        raise ConfigError(
            f"{path}={value}: is no number that float32 holds, in which training computes; those other than 0 are "
            f"{SMALLEST:.4g} to {LARGEST:.4g} in size"
        )
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    if not limits.allows(rounded):
        raise ConfigError(
            f"{path}={value}: is {rounded:g} in float32, in which training computes, and must be {limits}"
        )


@functools.cache
def _float_ranges() -> dict[str, Range]:
    """The range of every dotted key that holds fractions; one without limits allows all numbers."""
    return {key: limits for key, hint in leaves(Config) if (limits := _float_range(hint)) is not None}


def _float_range(hint: Any, limits: Range = Range()) -> Range | None:
    """The range of the fractions that a hint means, be they in a list or absent; None where it means none."""
    if typing.get_origin(hint) is Annotated:
        limits = next((note for note in hint.__metadata__ if isinstance(note, Range)), limits)
    bare = _bare(hint)
    if bare is float:
        return limits
    inner = typing.get_args(bare) if typing.get_origin(bare) in (Union, types.UnionType, tuple) else ()
    return next((found for option in inner if (found := _float_range(option, limits)) is not None), None)


def known_keys() -> dict[str, str]:
    """Every dotted key of every variant, with its meaning."""
    return {key: _meaning(hint) for key, hint in leaves(Config)}


@functools.cache
def text_keys() -> frozenset[str]:
    """The dotted keys whose value is a text, or a list of texts: what is typed there is never a number."""
    return frozenset(key for key, hint in leaves(Config) if _holds_text(hint))


def whole_keys() -> set[str]:
    """The dotted keys that hold whole numbers."""
    return {key for key, hint in leaves(Config) if _holds_whole(hint)}


def leaves(
    section: type, prefix: str = "", chosen: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, Any]]:
    """Every dotted key below a section, with its type's hint.

    Of a section whose keys depend on its name, those of the variant that is `chosen` for it, else those of all.
    """
    for key, hint in _hints(section).items():
        inner = _inner_section(hint)
        if inner is None:
            yield f"{prefix}{key}", hint
            continue
        variants = VARIANTS.get(inner, {"": inner})
        name = chosen.get(f"{prefix}{key}")
        for variant in [variants[name]] if name in variants else variants.values():
            yield from leaves(variant, f"{prefix}{key}.")


def choices(hint: Any) -> tuple[str, ...]:
    """The words that a key of this type may be, as they are typed; none where they cannot be listed."""
    bare = _bare(hint)
    if typing.get_origin(bare) in (Union, types.UnionType):
        options = [choices(option) for option in typing.get_args(bare) if option is not type(None)]
        return (*(word for words in options for word in words), "null")
    if typing.get_origin(bare) is Literal:
        return tuple(str(word) for word in typing.get_args(bare))
    return ("true", "false") if bare is bool else ()


def _inner_section(hint: Any) -> type | None:
    """The dataclass that a hint means, may it be absent or not."""
    bare = _bare(hint)
    options = typing.get_args(bare) if typing.get_origin(bare) in (Union, types.UnionType) else (bare,)
    return next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)


def _holds_whole(hint: Any) -> bool:
    bare = _bare(hint)
    if typing.get_origin(bare) in (Union, types.UnionType):
        return any(_holds_whole(option) for option in typing.get_args(bare))
    return bare is int


def _holds_text(hint: Any) -> bool:
    bare = _bare(hint)
    if typing.get_origin(bare) in (Union, types.UnionType, tuple):
        return any(_holds_text(option) for option in typing.get_args(bare))
    return bare is str


def sweep_keys() -> dict[str, str]:
    """Every dotted key that only a sweep has, with its meaning."""
    return {f"sweep.{key}": _meaning(hint) for key, hint in _hints(SweepConfig).items()}


def nearest(word: str, words: Iterable[str]) -> str:
    """'; did you mean X?' for the closest of `words`, or nothing."""
    close = difflib.get_close_matches(word[:LONGEST_SHOWN], list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {key: _plain(inner) for key, inner in vars(value).items()}  # asdict() takes three times as long
    return list(value) if isinstance(value, tuple) else value


@functools.cache  # a summary checks thousands of configs
def _hints(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _meaning(hint: Any) -> str:
    notes = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
    return next((note for note in notes if isinstance(note, str)), "")


def _section(section: type[T], values: Any, path: str) -> T:
    """One dataclass from a mapping; `path` is its dotted key, empty for the whole."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'config'}={brief_text(repr(values))}: must be a group of keys")
    variant = _variant(section, values, path)
    hints = _hints(typing.cast(Any, variant))
    prefix = f"{path}." if path else ""
    for key in values:
        if key not in hints:
            raise ConfigError(_unknown_key(section, variant, f"{prefix}{key}", str(key), values))
    optional = {field.name for field in dataclasses.fields(variant) if field.default is not dataclasses.MISSING}  # type: ignore[arg-type]
    missing = [key for key in hints if key not in values and key not in optional]
    if missing:
        group, _, option = path.partition(".")
        remedy = f"; {group}={option} brings it" if option else ""
        raise ConfigError(f"{prefix}{missing[0]}: is missing{remedy}")
    given = {key: hint for key, hint in hints.items() if key in values}
    return variant(**{key: _value(hint, values[key], f"{prefix}{key}") for key, hint in given.items()})


_MADE: dict[tuple[type, str, str], Any] = {}
MOST_MADE = 1_000


def _section_once(section: type[T], values: Any, path: str) -> T:
    """_section(), made once of equal values: the thousands of runs of a sweep share most of their sections."""
    key = (section, path, repr(values))
    if key not in _MADE:
        if len(_MADE) >= MOST_MADE:
            _MADE.clear()
        _MADE[key] = _section(section, values, path)
    made: T = _MADE[key]
    return made


def _variant(section: type[T], values: Mapping[str, Any], path: str) -> type[T]:
    if section not in VARIANTS:
        return section
    variants = VARIANTS[section]
    name = values.get("name")
    if not isinstance(name, str) or name not in variants:
        allowed, given = ", ".join(variants), brief_text(name)
        raise ConfigError(f"{path}.name={given}: must be one of {allowed}{nearest(given, variants)}")
    return variants[name]


def _unknown_key(section: type, variant: type, path: str, key: str, values: Mapping[str, Any]) -> str:
    owners = [name for name, other in VARIANTS.get(section, {}).items() if key in _hints(other)]
    known = ", ".join(_hints(variant))
    if owners:
        group = path.split(".")[0]
        return (
            f"{path}: {group}={values['name']} does not use it (it has: {known})\n"
            f"it belongs to: {', '.join(f'{group}={owner}' for owner in owners)}"
        )
    return f"{path}: no such key (there are: {known}){nearest(key, _hints(variant))}"


def _value(hint: Any, value: Any, path: str) -> Any:
    if isinstance(hint, type) and hint in (bool, int, float, str):  # most keys: the rest takes longer to ask
        return _scalar(hint, value, path)
    if typing.get_origin(hint) is Annotated:
        checked = _value(_bare(hint), value, path)
        for note in hint.__metadata__:
            if isinstance(note, Range) and not note.allows(checked):
                raise ConfigError(f"{path}={brief_text(value)}: must be {note}")
            if isinstance(note, Store):
                note.check(path, checked)
            if isinstance(note, Pattern) and not note.allows(checked):
                raise ConfigError(f"{path}={brief_text(value)}: must be {_meaning(hint)}")
        return checked
    if dataclasses.is_dataclass(hint):
        return _section_once(typing.cast(type, hint), value, path)
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _optional(hint, value, path)
    if origin is Literal:
        return _choice(typing.get_args(hint), value, path)
    if origin is Mapping:
        return _row(value, path)
    if origin is tuple:
        return _items(typing.get_args(hint)[0], value, path)
    return _scalar(hint, value, path)


def _optional(hint: Any, value: Any, path: str) -> Any:
    if value is None:
        return None
    inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if dataclasses.is_dataclass(inner):
        return _value(inner, value, path)
    try:
        return _value(inner, value, path)
    except ConfigError as error:
        raise ConfigError(f"{error}, or null") from None


def _choice(allowed: tuple[Any, ...], value: Any, path: str) -> Any:
    if value in allowed:
        return value
    names, given = [str(name) for name in allowed], brief_text(value)
    raise ConfigError(f"{path}={given}: must be one of {', '.join(names)}{nearest(given, names)}")


def _items(hint: Any, value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{path}={brief_text(value)}: must be a list, such as {path}=[...]")
    return tuple(_value(hint, item, f"{path}[{index}]") for index, item in enumerate(value))


def _row(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        given = brief_text(repr(value))
        raise ConfigError(f"{path}={given}: must be a group of keys and values, such as {{optimizer.lr: 0.1}}")
    return {str(key): inner for key, inner in flat(value).items()}


LARGEST_WHOLE = 1 << 63
"""Above every whole number that a key may be."""


def _scalar(hint: Any, value: Any, path: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # before it is shown: it may be endless
    if isinstance(value, int) and hint is not float and not -LARGEST_WHOLE <= value < LARGEST_WHOLE:
        raise ConfigError(f"{path}: must be below 2**63")
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and number and isinstance(value, int):
        return value
    if hint is float and number:
        if abs(value) > sys.float_info.max or math.isnan(value):
            raise ConfigError(f"{path}={brief_text(value)}: must be a finite number")
        return float(value)
    if hint is str and (number or isinstance(value, str)):
        check_text(path, str(value))
        return str(value)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    raise ConfigError(f"{path}={'null' if value is None else brief_text(value)}: must be {words[hint]}")


LONGEST_SHOWN = 200


def brief_text(value: Any) -> str:
    """A value for a message of one line: a list of a megabyte is cut."""
    try:
        shown = str(value)
    except (ValueError, RecursionError):  # a whole number of too many digits
        return "..."
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


def _check_between_keys(config: Config) -> None:
    optimizer = config.optimizer
    if isinstance(optimizer, SGDConfig) and optimizer.nesterov and optimizer.momentum == 0:
        raise ConfigError("optimizer.nesterov=True: needs optimizer.momentum above 0, such as 0.9")
    trainer = config.trainer
    if trainer.teacher is None and (trainer.teacher_weight > 0 or trainer.temperature != 1):
        key = "teacher_weight" if trainer.teacher_weight > 0 else "temperature"
        raise ConfigError(f"trainer.{key}={getattr(trainer, key):g}: needs a teacher: trainer.teacher=RUN")
    if trainer.teacher is not None and trainer.teacher_weight == 0:
        raise ConfigError("trainer.teacher_weight=0: leaves trainer.teacher without a say; 0.9, say, gives it one")
    if trainer.evaluate_every > 1 and (trainer.patience is not None or trainer.keep_best):
        key = "patience" if trainer.patience is not None else "keep_best"
        raise ConfigError(f"trainer.evaluate_every={trainer.evaluate_every}: must be 1 with trainer.{key}")
    if trainer.checkpoint_epochs > 1 and trainer.keep_best:
        raise ConfigError(f"trainer.checkpoint_epochs={trainer.checkpoint_epochs}: must be 1 with trainer.keep_best")
    if trainer.min_delta > 0 and trainer.patience is None and not trainer.keep_best:
        raise ConfigError(
            f"trainer.min_delta={trainer.min_delta:g}: belongs to trainer.patience=EPOCHS or trainer.keep_best=true"
        )
