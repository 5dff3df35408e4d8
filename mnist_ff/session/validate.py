"""Checks of a config that need neither data nor torch. A sweep checks all jobs before it starts one."""

from __future__ import annotations

import importlib.util
import logging
import math

from mnist_ff.config.aliases import instead_of
from mnist_ff.config.convert import config_to_dict, flat
from mnist_ff.config.float32 import check_float32
from mnist_ff.config.messages import nearest
from mnist_ff.config.paths import expanded
from mnist_ff.config.registry import GROUPS, names, part
from mnist_ff.config.schema import SELECTIONS, Config, LoggerConfig, TrainerConfig
from mnist_ff.data.catalog import description, training_images, validation_images
from mnist_ff.errors import BadRunError, ConfigError, MissingPartsError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.parts import check_parts, unregistered
from mnist_ff.runs.reading import is_file
from mnist_ff.runs.records import DataSpec, Status
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.tables import EPOCH_COLUMNS

log = logging.getLogger("mnist_ff")


def check_new(config: Config) -> None:
    """Check the config of a new run: its keys against each other, and settings that only old runs may have.

    What a run needs of this machine is checked by check_machine(): a dry run may list jobs for another machine.
    Errors: ConfigError naming the key.
    """
    check_float32(flat(config_to_dict(config)))
    trainer = config.trainer
    if trainer.monitor != "validation_loss" and trainer.patience is None and not trainer.keep_best:
        raise ConfigError(f"trainer.monitor={trainer.monitor}: needs trainer.patience=EPOCHS or trainer.keep_best=true")
    if trainer.monitor_mode is not None and trainer.patience is None and not trainer.keep_best:
        raise ConfigError(
            f"trainer.monitor_mode={trainer.monitor_mode}: needs trainer.patience=EPOCHS or trainer.keep_best=true"
        )
    config.schedule.check_new("schedule")
    _check_keys(config)


def check(config: Config) -> None:
    """Check keys against each other and against this machine. Errors: ConfigError naming the key."""
    _check_keys(config)
    check_machine(config)


def require_target(config: Config) -> None:
    """Check that --require-target has a target. Errors: ConfigError."""
    if config.trainer.target_accuracy is None:
        raise ConfigError("--require-target: needs trainer.target_accuracy=ACCURACY, such as 0.98")


def check_machine(config: Config) -> None:
    """Check that this machine can run the config: its device, and the packages of its trackers.

    Errors: ConfigError naming the key. Imports torch only if the config names a device, engine or precision.
    """
    check_device(config.trainer)
    check_trackers(config.logger)


def _check_keys(config: Config) -> None:
    for option in unregistered(config, trains=True):
        key, _, name = option.partition("=")
        known = names("metric" if key == "metrics" else SELECTIONS[key].group if key in SELECTIONS else key)
        written = f"{key}.name" if key in GROUPS else key
        remedy = instead_of(key, name) or nearest(name, known)
        raise ConfigError(f"{written}={name}: must be one of {', '.join(known) or 'none'}{remedy}")
    images, spec = training_images(config.data), description(config.data).spec
    held_out = validation_images(config.data)
    if config.data.validation_split > 0 and min(held_out, images) < len(spec.classes):
        raise ConfigError(
            f"data.validation_split={config.data.validation_split:g}: leaves {counted(images, 'image')} to train and "
            f"{held_out} to validate; both need at least one per class"
        )
    if config.trainer.batch_size > images:
        raise ConfigError(
            f"trainer.batch_size={config.trainer.batch_size}: must be at most {images}, "
            f"the training images of data={config.data.name}"
        )
    batches = config.trainer.limit_batches
    check_warmup(config, images if batches is None else min(images, batches * config.trainer.batch_size))
    if held_out == 0:
        check_no_validation(config.trainer)
    if config.trainer.teacher is not None:
        check_teacher(config.trainer.teacher, spec)
    check_engine(config.trainer)
    for name in config.metrics:
        if name in EPOCH_COLUMNS:
            raise ConfigError(f"metrics={name}: is the name of a column that epochs.csv has anyway; rename the metric")


def check_warmup(config: Config, images: int) -> None:
    """Check that warm-up ends before a run over `images` training images does. Errors: ConfigError."""
    steps = config.trainer.epochs * math.ceil(images / config.trainer.batch_size)
    if config.schedule.warmup >= steps:
        raise ConfigError(
            f"schedule.warmup={config.schedule.warmup}: must be below {steps}, the number of batches of the run"
        )


def check_trackers(logger: LoggerConfig) -> None:
    """Check that the packages of the chosen trackers are installed. Errors: ConfigError naming the extra."""
    for name, tracker in logger:
        for module in part("tracker", name).needs if tracker.off is None else ():
            if importlib.util.find_spec(module) is None:
                raise ConfigError(
                    f"logger={name}: needs {module}, which is not installed: pip install 'mnist-ff[{name}]'; "
                    "or use logger=[] for no trackers"
                )


def check_no_validation(trainer: TrainerConfig) -> None:
    """Check that no key selects by validation scores if there are no validation images. Errors: ConfigError."""
    for key in ("patience", "keep_best"):
        value = getattr(trainer, key)
        if value is not None and value is not False:
            raise ConfigError(
                f"trainer.{key}={value}: needs held-out training images; set data.validation_split, such as 0.1666"
            )


def check_teacher(path: str, spec: DataSpec) -> None:
    """Check that trainer.teacher is a finished run with weights, for images of this spec. Errors: BadRunError."""
    try:
        run = Run.open(resolve_run(expanded("trainer.teacher", path), log.warning))
        check_parts(run, run.config(), log.warning)
        summary, other = run.summary(), run.data_spec().why_other(spec)
    except MissingPartsError as error:
        raise MissingPartsError(f"trainer.teacher={error}", error.flags) from None
    except BadRunError as error:
        raise BadRunError(f"trainer.teacher={error}") from None
    if summary is None or summary.status is not Status.FINISHED:
        state = "did not end" if summary is None else f"is {summary.status}"
        raise BadRunError(f"trainer.teacher={path}: {state}; a teacher must be a finished run")
    if not is_file(run.file("model.safetensors")):
        raise BadRunError(f"trainer.teacher={path}: has no model.safetensors; the run did not end normally")
    if other is not None:
        raise BadRunError(f"trainer.teacher={path}: {other}")


def check_trainer(trainer: TrainerConfig) -> None:
    """Check the trainer's keys against each other and against this machine. Errors: ConfigError."""
    check_engine(trainer)
    check_device(trainer)


def check_engine(trainer: TrainerConfig) -> None:
    """Check the keys of the engine against each other. Errors: ConfigError."""
    if trainer.compile and trainer.engine in ("fused", "graph"):
        raise ConfigError(f"trainer.compile=True: needs trainer.engine=eager, not {trainer.engine}")


def check_device(trainer: TrainerConfig) -> None:
    """Check that this machine has the device, and that it supports precision and engine. Errors: ConfigError."""
    if trainer.device not in ("auto", "cpu") or trainer.engine == "graph" or trainer.precision != "fp32":
        from mnist_ff.engine.device import check_precision, resolve_device

        device = resolve_device(trainer.device)
        check_precision(trainer.precision, device)
        if trainer.engine == "graph" and device.type != "cuda":
            raise ConfigError(f"trainer.engine=graph: needs a CUDA device, but the device is {device.type}; use auto")
