"""The parts of a training run, each from its config: for the commands and the Python functions alike."""

from __future__ import annotations

import dataclasses
import logging
import math
import secrets
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from rich.console import Console
from torch import nn

from mnist_ff.analysis.console import tell
from mnist_ff.config.paths import expanded
from mnist_ff.config.schema import Config, with_absolute_paths
from mnist_ff.data.load import Data, Split, ensure
from mnist_ff.data.seeds import row_order
from mnist_ff.optim.schedule import is_scheduled, learning_rate
from mnist_ff.optim.weight_updates import Updates
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Plan, Position, Score
from mnist_ff.session.validate import check
from mnist_ff.training.callbacks import EarlyStopping
from mnist_ff.training.checkpoint import load_model
from mnist_ff.training.evaluation import score
from mnist_ff.training.loop import Shuffle

log = logging.getLogger("mnist_ff")


def settle(config: Config) -> Config:
    """Decide what a config leaves open: the data set that can be had, and the threads and a seed for null.

    Errors: DataError when no data can be had; ConfigError when the fallback is too small for the config.
    """
    settled = with_absolute_paths(dataclasses.replace(config, data=ensure(config.data)))
    check(settled)
    trainer = settled.trainer
    if trainer.threads is None:  # the last bits of a CPU's results depend on it
        settled = dataclasses.replace(settled, trainer=dataclasses.replace(trainer, threads=torch.get_num_threads()))
    if settled.seed is None:
        settled = dataclasses.replace(settled, seed=secrets.randbelow(2**32))
    return settled


def plan_of(config: Config, data: Data, start: Position = Position()) -> Plan:  # noqa: B008 (it is frozen)
    """The loop's plan for this config and data."""
    trainer = config.trainer
    return Plan(
        epochs=trainer.epochs,
        samples=len(data.train),
        batch_size=trainer.batch_size,
        sync_every=trainer.sync_every,
        learning_rate=config.optimizer.lr,
        checkpoint_every=trainer.checkpoint_every,
        start=start,
        evaluate_every=trainer.evaluate_every,
        checkpoint_epochs=trainer.checkpoint_epochs,
        schedule=_rates(config, len(data.train)) if is_scheduled(config.schedule) else None,
    )


def _rates(config: Config, samples: int) -> Callable[[int], float]:
    """The learning rate of each step of the run."""
    steps = config.trainer.epochs * math.ceil(samples / config.trainer.batch_size)
    return lambda step: learning_rate(config.schedule, config.optimizer.lr, step, steps)


def stopping_of(config: Config) -> EarlyStopping | None:
    """What follows the validation score, where the config wants it followed."""
    trainer = config.trainer
    if trainer.patience is None and not trainer.keep_best:
        return None
    return EarlyStopping(trainer.monitor, trainer.patience, trainer.min_delta)


def load_teacher(config: Config, device: torch.device) -> nn.Module | None:
    """The network that trainer.teacher names, if it does; of its directory only the config and the weights are read.

    Errors: BadRunError when it is not a run that ended well.
    """
    if config.trainer.teacher is None:
        return None
    run = Run.open(expanded("trainer.teacher", config.trainer.teacher))
    return load_model(run, run.config(), device)


def scorer(
    model: nn.Module, data: Data, train: int = 0, updates: Updates | None = None
) -> Callable[[], Mapping[str, Score]]:
    """What fit() asks after each epoch: the validation split's score where there is one, else the test images'.

    The first `train` training images are scored beside it. Where weights are averaged, the averages are scored.
    """
    parts = {"test": data.test} if data.validation is None else {"validation": data.validation}
    if train:
        parts["train"] = Split(data.train.images[:train], data.train.labels[:train])

    def scores() -> Mapping[str, Score]:
        with nullcontext() if updates is None else updates.in_place():
            return {part: score(model, split) for part, split in parts.items()}

    return scores


def shuffler(shuffled: bool, seed: int, split: Split, device: torch.device) -> Shuffle:
    """Row order by epoch, on the device: a new permutation each, or always ascending."""
    if not shuffled:
        ascending = torch.arange(len(split), device=device)
        return lambda epoch: ascending
    return lambda epoch: row_order(seed, epoch, len(split)).to(device)


def warn_of_fallback(data: Data, console: Console) -> None:
    """Say in bold that another data set stands in for the one that was asked for."""
    if data.instead_of is not None:
        text = (
            f"WARNING: {data.instead_of} could not be had; this is {data.name}, {data.title}: "
            f"{len(data.train):,} images to train, {len(data.test):,} to test. Its scores are not MNIST's."
        )
        tell(console, text, "bold yellow")
        log.warning(text)
