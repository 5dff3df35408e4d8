"""Resolve a config: fill in what it leaves open, on this machine."""

from __future__ import annotations

import dataclasses
import logging
import secrets

import torch
from rich.console import Console

from mnist_ff.analysis.console import tell
from mnist_ff.config.schema import Config, with_absolute_paths
from mnist_ff.data.catalog import title_of
from mnist_ff.data.load import Data, ensure
from mnist_ff.session.threads import with_threads
from mnist_ff.session.validate import check

log = logging.getLogger("mnist_ff")


def resolve(config: Config) -> Config:
    """Fill in what a config leaves open: a data set that is available, threads for null and auto, a seed for null.

    Errors: DataError when no data is available; ConfigError when the fallback is too small for the config.
    """
    resolved = with_absolute_paths(dataclasses.replace(config, data=ensure(config.data)))
    check(resolved)
    resolved = with_threads(resolved)
    trainer = resolved.trainer
    if trainer.threads is None:  # the last bits of a CPU's results depend on it
        resolved = dataclasses.replace(resolved, trainer=dataclasses.replace(trainer, threads=torch.get_num_threads()))
    if resolved.seed is None:
        resolved = dataclasses.replace(resolved, seed=secrets.randbelow(2**32))
    return resolved


def warn_of_fallback(data: Data, console: Console) -> None:
    """Say in bold that another data set stands in for the one that was asked for."""
    if data.instead_of is not None:
        title = title_of(data.name, None)
        text = (
            f"WARNING: {data.instead_of} could not be downloaded; using {data.name} instead: {title}, "
            f"{len(data.train):,} to train, {len(data.test):,} to test. Scores are not comparable with MNIST's. "
            "For MNIST itself, set MNIST_FF_MIRROR to a folder or URL with its files."
        )
        tell(console, text, "bold yellow")
        log.warning(text)
