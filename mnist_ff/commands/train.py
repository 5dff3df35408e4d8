"""`mnist-ff train`: a run, or a sweep with -m."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import OverrideType
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from rich.console import Console

from mnist_ff.analysis.console import note, tell, tell_lines
from mnist_ff.config.checks import check_float32
from mnist_ff.config.compose import (
    CONFIG_NAME,
    check_overrides,
    compose,
    compose_run,
    config_errors,
    hydra_session,
    hydra_values,
    typed,
)
from mnist_ff.config.constraints import check_no_password
from mnist_ff.config.convert import config_to_dict, flat
from mnist_ff.config.keys import known_keys, sweep_keys
from mnist_ff.config.overrides import with_texts_kept
from mnist_ff.config.paths import expanded, output_directory
from mnist_ff.config.schema import Config, DataConfig
from mnist_ff.config.train_help import train_help
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.runs.directory import Run, check_saved
from mnist_ff.runs.find import JOBS
from mnist_ff.runs.reading import is_file
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.signals import Interruption, ending_at_once, interruptible
from mnist_ff.session.drawing import complete
from mnist_ff.session.resume import (
    LOGGER,
    changed,
    find_run,
    foreign_places,
    is_done,
    own_places,
    resumed_config,
    saved_config,
)
from mnist_ff.session.validate import check, check_machine, check_new

OF_A_SWEEP = ("hydra/launcher=", "hydra.launcher.", "hydra/sweeper=", "hydra.sweeper.")
"""Beginnings of the words that mean nothing to a single run."""


def main(words: list[str], console: Console, began: float) -> int:
    """Train once, or sweep with -m, or show the config with --cfg. Returns the exit code.

    Errors: ConfigError before anything is written; DataError, RunError.
    """
    if {"--help", "-h"} & set(words):
        tell_lines(console, train_help())
        return 0
    _check_words(words)
    config_of, words = _taken(words, "--config-of")
    arguments = _parse(words)
    arguments.overrides = with_texts_kept(arguments.overrides)
    resume = [word for word in arguments.overrides if word.startswith("resume=")]
    if (config_of is not None and (arguments.multirun or arguments.cfg)) or (resume and arguments.cfg):
        raise ConfigError("resume= and --config-of: cannot be combined with -m or --cfg")
    if len(resume) + (config_of is not None) > 1:
        raise ConfigError("resume= and --config-of: give only one of them, once")
    if arguments.multirun:
        with hydra_session() as hydra:
            from mnist_ff.sweeps.multirun import sweep  # after Hydra has found its plugins, see plugins.py

            return sweep(hydra, arguments.overrides, console)
    for word in arguments.overrides:
        own = word.lstrip("+").startswith(OF_A_SWEEP) and not arguments.cfg
        if own or word.split("=")[0] in ("dry_run", "sweep", *sweep_keys()):
            raise ConfigError(f"{word}: is only for sweeps: mnist-ff train -m ...")
    with hydra_session() as hydra:
        if resume:
            others = [word for word in arguments.overrides if word not in resume]
            return _resume(hydra, resume[-1].removeprefix("resume="), others, console, began)
        if config_of is not None:
            return _repeat(hydra, config_of, arguments.overrides, console, began)
        if arguments.cfg:
            check_new(typed(compose_run(hydra, arguments.overrides)))
            with config_errors():
                hydra.show_cfg(CONFIG_NAME, arguments.overrides, arguments.cfg, arguments.package, arguments.resolve)
            return 0
        return _single(hydra, arguments.overrides, console, began)


def _check_words(words: list[str]) -> None:
    """First of all: no other message may quote a password. Errors: ConfigError."""
    for word in words:
        key, _, uri = word.partition("=")
        if key.endswith("logger.mlflow.tracking_uri"):
            check_no_password(key, uri.strip("'\""))


def compose_data(name: str, overrides: list[str]) -> DataConfig:
    """The data part of the config for `data=name`, with overrides of its keys. Errors: ConfigError."""
    for word in overrides:
        if not word.startswith("data."):
            raise ConfigError(f"{word}: only data.KEY=VALUE is allowed here")
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
            raise ConfigError(f"--{name.replace('_', '-')}: is not supported; see mnist-ff train --help")
    if (arguments.resolve or arguments.package) and not arguments.cfg:
        raise ConfigError("--resolve and --package: need --cfg")
    if arguments.multirun and arguments.cfg:
        raise ConfigError("--cfg: shows a single config; leave out -m")
    if arguments.hydra_help:
        raise ConfigError("--hydra-help: is not supported; mnist-ff train --cfg hydra shows Hydra's own keys")
    return arguments


def _refuse(message: str) -> None:
    raise ConfigError(f"{message}; see mnist-ff train --help")


def _single(hydra: Any, overrides: list[str], console: Console, began: float) -> int:
    if any(override.is_sweep_override() for override in check_overrides(hydra.config_loader, overrides)):
        raise ConfigError(
            "several values for one key need -m: mnist-ff train -m ...; "
            "a comma inside a value needs quotes: 'name=\"a,b\"'"
        )
    composed = compose_run(hydra, overrides)
    return _train_new(hydra, composed, typed(composed), console, began)


def _train_new(hydra: Any, composed: DictConfig, config: Config, console: Console, began: float) -> int:
    """Train in the new directory that `composed` names."""
    check_new(config)
    check_machine(config)
    with config_errors(), hydra_values(composed):
        directory = output_directory("hydra.run.dir", str(composed.hydra.run.dir))
    if directory.exists():
        raise ConfigError(f"{directory}: already exists; two runs never share a directory")
    trainer = _Trainer(console, began)
    resolved = trainer.resolve(config)  # before the directory is made: no data, no directory
    check_saved(resolved)
    with interruptible() as stopped:
        run = Run.create(directory)
        try:
            done = run_job(
                hydra_context=_context(hydra, composed),
                task_function=lambda task: trainer.train(resolved, run, stopped),
                config=composed,
                job_dir_key="hydra.run.dir",
                job_subdir_key=None,
            )
        except OSError as error:  # Hydra's own files; the task's errors are in its return
            where = error.filename or directory
            raise RunError(f"{where}: {error.strerror or error}; choose another folder with hydra.run.dir=") from None
    if done.status is not JobStatus.COMPLETED:
        raise done._return_value  # as return_value does, without Hydra's own words on stderr
    code: int = done.return_value
    return code


def _taken(words: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of a flag of ours that Hydra's parser does not know, and the other words. Errors: ConfigError."""
    if flag not in words:
        return None, words
    place = words.index(flag)
    if place + 1 == len(words):
        raise ConfigError(f"{flag}: needs a run directory")
    return words[place + 1], words[:place] + words[place + 2 :]


def _values(hydra: Any, words: list[str]) -> dict[str, Any]:
    """Plain values of KEY=VALUE words, with all trackers at once for logger=. Errors: ConfigError for other groups,
    sweeps, + and ~."""
    values: dict[str, Any] = {}
    if any(word.startswith("logger=") for word in words):
        trackers = [word for word in words if word.startswith(("logger=", "logger."))]
        values[LOGGER] = config_to_dict(typed(compose_run(hydra, trackers))).get(LOGGER, {})
        words = [word for word in words if word not in trackers]
    for override in check_overrides(hydra.config_loader, words):
        plain = override.type == OverrideType.CHANGE and not override.is_sweep_override()
        if not plain or override.key_or_group not in known_keys():
            raise ConfigError(f"{override.input_line}: only KEY=VALUE is allowed with a saved config")
        values[override.key_or_group] = override.value()
    return values


def _resume(hydra: Any, word: str, words: list[str], console: Console, began: float) -> int:
    """Go on with a run in its own directory."""
    word = expanded("resume", word)
    if is_file(Path(word) / JOBS):
        raise ConfigError(f"resume={word}: is a sweep; mnist-ff train -m resume={word} resumes its jobs")
    if not word:
        raise ConfigError("resume=: is empty; give a run directory, or last")
    run = find_run(word, Path("outputs"))
    given = _values(hydra, words)
    check_float32(flat(given))
    own, said = own_places(run, given)
    config, changes, warnings = resumed_config(run, {**own, **given})
    check(config)
    if is_done(run, config):
        summary = run.summary()
        early = summary is not None and summary.epochs < config.trainer.epochs
        why = "stopped early" if early else f"has finished its {config.trainer.epochs} epochs"
        without = [key for key in given if key in changes and key != "trainer.plots"]
        if without:
            remedy = "" if early else f"; trainer.epochs={config.trainer.epochs + 1} or more continues training"
            raise ConfigError(f"{without[0]}: has no effect: {run.path} {why}{remedy}")
        tell(console, f"{run.path}: {why}; nothing to do")
        for name in complete(run, config, note):
            tell(console, f"made           {run.file(name)}")
        return 0
    for warning in [*said, *warnings]:
        tell(console, f"warning: {warning}", style="yellow")
    trainer = _Trainer(console, began)
    with interruptible() as stopped:
        return trainer.train(config, Run(run.path.absolute()), stopped, changes)


def _repeat(hydra: Any, source: str, words: list[str], console: Console, began: float) -> int:
    """Train a saved experiment again, in a new directory: where data comes from and who hears of it are this user's."""
    own = [word for word in words if not word.startswith("hydra.")]
    run = Run.open(resolve_run(expanded("--config-of", source), note))
    saved = saved_config(run)
    if saved != run.config():
        tell(console, "warning: that run was resumed with other values; using the last ones", style="yellow")
    given = _values(hydra, own)
    places, said = foreign_places(saved, given, str(run.path))
    for line in said:
        tell(console, f"warning: {line}", style="yellow")
    config = changed(saved, {**places, **given})
    composed = compose_run(hydra, [word for word in words if word.startswith("hydra.")])
    with open_dict(composed):
        composed.hydra.output_subdir = None  # it would hold the defaults, not what is trained
    return _train_new(hydra, composed, config, console, began)


def _context(hydra: Any, composed: DictConfig) -> HydraContext:
    from hydra._internal.callbacks import Callbacks

    return HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(composed))


class _Trainer:
    """Commands.train with its imports timed, in the directory that Hydra gives the job."""

    def __init__(self, console: Console, began: float) -> None:
        start = time.perf_counter()
        with ending_at_once():
            from mnist_ff.session.request import RunRequest
            from mnist_ff.session.resolve import resolve
            from mnist_ff.session.session import train
            from mnist_ff.session.timing import Timing

        self._resolve, self._train, self._request = resolve, train, RunRequest
        self._console = console
        self._timing = Timing(began, {"import": round(time.perf_counter() - start, 4)})

    def resolve(self, config: Config) -> Config:
        """Find the data and draw a seed for null."""
        with self._timing.part("data"):
            return self._resolve(config)

    def train(self, config: Config, run: Run, stopped: Interruption, changes: dict[str, Any] | None = None) -> int:
        """Train, and return the exit code: a signal after the last step has its own too."""
        self._train(self._request(config, run, sys.argv, self._timing, self._console, stopped, changes))
        return stopped.exit_code
