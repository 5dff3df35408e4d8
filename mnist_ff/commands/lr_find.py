"""Learning-rate range test on a fresh network: losses, a plot and a suggested rate."""

from __future__ import annotations

import argparse
import json
import math
import secrets
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.canvas import new_figure, plain_numbers, save_picture
from mnist_ff.analysis.console import tell, tell_json
from mnist_ff.config.compose import compose
from mnist_ff.config.convert import config_to_dict
from mnist_ff.config.options import options
from mnist_ff.config.own_parts import flags
from mnist_ff.config.paths import display_path
from mnist_ff.config.schema import Config
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.files import write_text
from mnist_ff.runs.signals import Interruption, interruptible
from mnist_ff.runs.torch_import import importing_torch

LR_FIND_FOLDER = Path("outputs", "lr_find")
FEWEST, MOST = 10, 100_000
"""Batches of a test: few rates say little, and each rate of many is a row and a point of the picture."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="such as optimizer=sgd model.hidden=[64]"
    )
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--first", type=float, default=1e-6, help="smallest learning rate (default: 1e-6)")
    parser.add_argument("--last", type=float, default=10.0, help="largest learning rate (default: 10)")
    parser.add_argument(
        "--steps", type=int, default=200, help="number of batches, one per learning rate (default: 200)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document with all rates and losses")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Try the rates, write CSV, picture and JSON into a new directory, print a suggestion.

    Errors: ConfigError; DataError; RunError when the loss never fell.
    """
    _check(arguments)
    config = compose(arguments.overrides)
    with importing_torch("lr-find"):
        from mnist_ff.session.resolve import resolve
        from mnist_ff.training.lr_range import rates, suggestion
    config = resolve(config)
    tried = rates(arguments.first, arguments.last, arguments.steps)
    with interruptible() as stopped:
        losses = _try(config, tried, Console(stderr=True) if arguments.json else console, stopped)
    if stopped.exit_code:
        return stopped.exit_code
    found = suggestion(tried, losses)
    rounded = None if found is None else float(f"{found:.2g}")
    directory = _write(config, tried[: len(losses)], losses, rounded)
    if arguments.json:
        tell_json(_values(tried, losses, rounded, directory))
    else:
        tell(console, f"written to {display_path(directory)}")
    if rounded is None:
        raise RunError(
            f"the loss never decreased between {arguments.first:g} and {arguments.last:g}; try another range"
        )
    if arguments.json:
        return 0
    given = [word for word in arguments.overrides if not word.startswith("optimizer.lr=")]
    tell(console, f"suggested  optimizer.lr={rounded:g}  (steepest decrease of the smoothed loss)")
    train = shlex.join(["mnist-ff", "train", *options().flags, *given, f"optimizer.lr={rounded:g}"])
    tell(console, f"train      {train}{flags()}")
    return 0


def _values(tried: Sequence[float], losses: Sequence[float], found: float | None, directory: Path) -> dict[str, Any]:
    """The JSON document."""
    from mnist_ff.training.lr_range import smoothed_losses

    return {
        "suggested_lr": found,
        "directory": str(display_path(directory)),
        "lr": list(tried[: len(losses)]),
        "loss": list(losses),
        "smoothed_loss": smoothed_losses(losses),
    }


def _check(arguments: argparse.Namespace) -> None:
    first, last = arguments.first, arguments.last
    if not (math.isfinite(last) and 0 < first < last):
        raise ConfigError(f"--first {first:g} --last {last:g}: must be above 0, and the last above the first")
    if not FEWEST <= arguments.steps <= MOST:
        raise ConfigError(f"--steps {arguments.steps}: must be from {FEWEST} to {MOST:,}")
    for word in arguments.overrides:
        if word.lstrip("+~").startswith(("callbacks", "hydra", "logger", "metrics", "schedule", "sweep")):
            raise ConfigError(f"{word.partition('=')[0]}: has no effect in lr-find; leave it out")


def _try(config: Config, tried: Sequence[float], console: Console, stopped: Interruption) -> list[float]:
    from mnist_ff.data.load import load_data
    from mnist_ff.engine.device import describe, prepared
    from mnist_ff.session.resolve import warn_of_fallback
    from mnist_ff.training.learner import Learner
    from mnist_ff.training.lr_range import try_rates

    assert config.seed is not None
    with prepared(config.trainer, config.seed) as device:
        data = load_data(config.data, config.seed).to(device)
        warn_of_fallback(data, console)
        learner = Learner(config, data, rates_given=True)
        tell(
            console,
            f"{len(tried)} batches of {config.trainer.batch_size}, lr {tried[0]:g} to {tried[-1]:g}, "
            f"{config.optimizer.name}, {describe(device)}",
        )
        return try_rates(learner.step, learner.row_order, config.trainer.batch_size, tried, stopped)


def _write(config: Config, tried: Sequence[float], losses: Sequence[float], found: float | None) -> Path:
    """The test's own directory, which is no run's: it has no config.yaml. Errors: RunError."""
    from mnist_ff.training.lr_range import smoothed_losses

    directory = Path.cwd() / LR_FIND_FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
    smoothed = smoothed_losses(losses)
    rows = [f"{rate:.9g},{loss:.9g},{mean:.9g}\n" for rate, loss, mean in zip(tried, losses, smoothed, strict=True)]
    try:
        directory.mkdir(parents=True)
        write_text(directory / "lr_find.csv", "lr,loss,smoothed_loss\n" + "".join(rows))
        values: dict[str, Any] = {"suggested_lr": found, "config": config_to_dict(config)}
        write_text(directory / "lr_find.json", json.dumps(values, indent=2, allow_nan=False) + "\n")
        save_picture(directory / "lr_find.png", lambda: _figure(tried, losses, smoothed, found))
    except OSError as error:
        raise RunError(f"{directory}: {error.strerror}") from None
    return directory


def _figure(tried: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], found: float | None) -> Any:
    from mnist_ff.analysis.plots import RAW_COLOR, SMOOTH_COLOR, TRAIN_COLOR

    figure, axes = new_figure(9, 5)
    axes.plot(tried, losses, color=RAW_COLOR, linewidth=0.7, label="each batch")
    axes.plot(tried, smoothed, color=SMOOTH_COLOR, linewidth=1.8, label="smoothed")
    if found is not None:
        axes.axvline(found, color=TRAIN_COLOR, linestyle="--", linewidth=1, label=f"suggested: {found:g}")
    axes.set_title("Learning-rate range test")
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.set_ylim(0, 1.3 * max(smoothed[0], 1e-9) if smoothed else 1)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("cross-entropy (nats)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure
