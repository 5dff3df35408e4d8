"""The dataclasses of a configuration: types, meanings and ranges; every value stands in conf/**/*.yaml."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mnist_ff.config.constraints import Pattern, Range, Store
from mnist_ff.config.paths import absolute


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
