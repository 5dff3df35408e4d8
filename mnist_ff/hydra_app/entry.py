"""`mnist-ff train ...`: Hydra's command line, our jobs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import DictConfig
from rich.console import Console

from mnist_ff.config import Config, DataConfig
from mnist_ff.errors import INTERRUPTED, ConfigError, RunError
from mnist_ff.hydra_app.compose import (
    CONFIG_NAME,
    check_overrides,
    checked,
    compose,
    compose_run,
    config_errors,
    hydra_session,
)
from mnist_ff.hydra_app.help import train_help
from mnist_ff.interrupts import Interruption, interruptible
from mnist_ff.runs import Run


def main(words: list[str], console: Console, began: float) -> int:
    """Train once, or sweep with -m, or show the config with --cfg. Returns the exit code.

    Errors: ConfigError before anything is written; DataError, RunError.
    """
    if {"--help", "-h"} & set(words):
        train_help(console)
        return 0
    arguments = _parse(words)
    with hydra_session() as hydra:
        if arguments.cfg:
            checked(compose_run(hydra, arguments.overrides))
            with config_errors():
                hydra.show_cfg(CONFIG_NAME, arguments.overrides, arguments.cfg, arguments.package, arguments.resolve)
            return 0
        if arguments.multirun:
            return _sweep(hydra, arguments.overrides, console)
        return _single(hydra, arguments.overrides, console, began)


def compose_data(name: str, overrides: list[str]) -> DataConfig:
    """The data part of the config for `data=name`, with overrides of its keys. Errors: ConfigError."""
    for word in overrides:
        if not word.startswith("data."):
            raise ConfigError(f"{word}: only data.KEY=VALUE is meant here")
    return compose([f"data={name}", *overrides]).data


def _parse(words: list[str]) -> Any:
    parser = get_args_parser()
    parser.prog = "mnist-ff train"
    parser.error = _refuse  # type: ignore[method-assign,assignment]
    arguments = parser.parse_args(words)
    unsupported = (
        "config_path",
        "config_name",
        "config_dir",
        "info",
        "shell_completion",
        "experimental_rerun",
        "run",
    )
    for name in unsupported:
        if getattr(arguments, name, None):
            raise ConfigError(f"--{name.replace('_', '-')}: is not supported; mnist-ff train --help shows what is")
    if (arguments.resolve or arguments.package) and not arguments.cfg:
        raise ConfigError("--resolve and --package say how --cfg shows the config; alone they mean nothing")
    if arguments.multirun and arguments.cfg:
        raise ConfigError("--cfg shows one config; leave out -m")
    if arguments.hydra_help:
        raise ConfigError("--hydra-help: is not supported; mnist-ff train --cfg hydra shows Hydra's own keys")
    return arguments


def _refuse(message: str) -> None:
    raise ConfigError(f"{message}; mnist-ff train --help shows what is understood")


def _single(hydra: Any, overrides: list[str], console: Console, began: float) -> int:
    if any(override.is_sweep_override() for override in check_overrides(hydra.config_loader, overrides)):
        raise ConfigError("several values for one key make a sweep: mnist-ff train -m ...")
    composed = compose_run(hydra, overrides)
    config = checked(composed)
    with config_errors():
        directory = Path(str(composed.hydra.run.dir)).absolute()
    if directory.exists():
        raise RunError(f"{directory}: exists already; two runs never share a directory")
    trainer = _Trainer(console, began)
    settled = trainer.settle(config)  # before the directory is made: no data, no directory
    with interruptible() as stopped:
        run = Run.create(directory)
        done = run_job(
            hydra_context=_context(hydra, composed),
            task_function=lambda task: trainer.train(settled, run, stopped),
            config=composed,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
        )
    code: int = done.return_value  # raises what the job raised
    return code


def _context(hydra: Any, composed: DictConfig) -> HydraContext:
    from hydra._internal.callbacks import Callbacks

    return HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(composed))


def _sweep(hydra: Any, overrides: list[str], console: Console) -> int:
    check_overrides(hydra.config_loader, overrides)

    def job(task: DictConfig) -> None:
        trainer = _Trainer(console, time.perf_counter())
        settled = trainer.settle(checked(task))
        with interruptible() as stopped:
            run = Run.create(Path(str(HydraConfig.get().runtime.output_dir)))
            code = trainer.train(settled, run, stopped)
        if code == INTERRUPTED:
            raise KeyboardInterrupt  # ends the sweep too; the job itself is saved

    with config_errors():
        hydra.multirun(CONFIG_NAME, job, overrides)
    return 0


class _Trainer:
    """Commands.train with its imports timed, in the directory that Hydra gives the job."""

    def __init__(self, console: Console, began: float) -> None:
        start = time.perf_counter()
        from mnist_ff.commands import train

        self._commands = train
        self._console = console
        self._clock = train.Clock(began, {"import": round(time.perf_counter() - start, 4)})

    def settle(self, config: Config) -> Config:
        """Find the data and draw a seed for null."""
        with self._clock.part("data"):
            return self._commands.settle(config)

    def train(self, config: Config, run: Run, stopped: Interruption) -> int:
        """Train, and return the exit code: also a Ctrl-C after the last step is one."""
        self._commands.train(config, run, sys.argv, self._clock, self._console, stopped)
        return 0 if stopped() is None else INTERRUPTED
