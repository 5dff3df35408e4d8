"""Train a network: a new run, a sweep with -m, or an old run further with resume=."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import note, tell, tell_json, tell_lines
from mnist_ff.config.aliases import accepted
from mnist_ff.config.compose import ComposedRun, Composer, with_texts_kept
from mnist_ff.config.convert import flat
from mnist_ff.config.float32 import check_float32
from mnist_ff.config.keys import sweep_keys
from mnist_ff.config.overrides import key_of, refuse_several, take, without_quotes
from mnist_ff.config.passwords import check_no_password
from mnist_ff.config.paths import display_path, expanded, output_directory
from mnist_ff.config.schema import Config
from mnist_ff.config.train_help import train_help
from mnist_ff.errors import MISSED_TARGET, BadRunError, ConfigError, RunError
from mnist_ff.files import write_texts
from mnist_ff.runs.directory import Run, check_saved
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.signals import Interruption, ending_at_once, interruptible
from mnist_ff.runs.start_up import importing, waiting_for_torch
from mnist_ff.session.document import run_document
from mnist_ff.session.teacher import with_teacher
from mnist_ff.session.timing import Timing, process_start
from mnist_ff.session.validate import check, check_machine, check_new, require_target

SWEEP_PREFIXES = ("hydra/launcher=", "hydra.launcher.", "hydra/sweeper=", "hydra.sweeper.")
"""Prefixes of overrides that are for sweeps only."""
NOT_SUPPORTED = ("config-path", "config-name", "info", "shell-completion", "experimental-rerun", "run")
"""Flags of Hydra's command line that are refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.format_help = train_help  # type: ignore[method-assign]
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="such as optimizer=adam model.hidden=[64]"
    )
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep over values")
    parser.add_argument("--config-of", metavar="RUN", help="use the config of a past run")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--require-target", action="store_true", help="exit with 3 if trainer.target_accuracy is not reached"
    )
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="print the config and stop")
    parser.add_argument("--package", "-p", help="with --cfg: only this section")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: with interpolations looked up")
    for name in (*NOT_SUPPORTED, "hydra-help"):
        parser.add_argument(f"--{name}", nargs="?", const=True, help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Train once, or sweep with -m, or show the config with --cfg. Returns the exit code.

    Errors: ConfigError before anything is written; DataError, RunError.
    """
    timing = Timing(arguments.began, process_start(arguments.began) if arguments.is_process else None)
    timing.claim("import")
    _check_arguments(arguments)
    overrides = with_texts_kept(arguments.overrides)
    if arguments.json:
        console = Console(stderr=True)
    if arguments.multirun:
        from mnist_ff.sweeps.multirun import sweep

        return sweep(overrides, console, arguments.require_target, arguments.json)
    resume, others = take(overrides, "resume")
    if (resume is not None or arguments.config_of is not None) and arguments.cfg:
        raise ConfigError("resume= and --config-of: cannot be combined with -m or --cfg")
    if resume is not None and arguments.config_of is not None:
        raise ConfigError("resume= and --config-of: give only one of them, once")
    for text in overrides:
        if text.lstrip("+").startswith(SWEEP_PREFIXES) and not arguments.cfg:
            raise ConfigError(f"{text}: is only for sweeps: mnist-ff train -m ...")
        if key_of(text) in ("dry_run", "sweep", *sweep_keys()):
            raise ConfigError(f"{text}: is only for sweeps: mnist-ff train -m ...")
    composer = Composer()
    if arguments.cfg:
        check_new(composer.run(overrides).config())
        text = composer.text(overrides, arguments.cfg, arguments.package, arguments.resolve)
        tell_lines(console, text.removesuffix("\n"))
        return 0
    trainer = _Trainer(console, timing, arguments.json, arguments.require_target)
    if resume is not None:
        return _resume(composer, resume, others, trainer)
    if arguments.config_of is not None:
        return _repeat(composer, arguments.config_of, overrides, trainer)
    return _single(composer, overrides, trainer)


def _check_arguments(arguments: argparse.Namespace) -> None:
    for text in arguments.overrides:  # checked first: no other error message may quote a password
        if key_of(text).endswith("logger.mlflow.tracking_uri"):
            check_no_password(key_of(text), without_quotes(text.partition("=")[2]))
    for name in NOT_SUPPORTED:
        if getattr(arguments, name.replace("-", "_")) is not None:
            raise ConfigError(f"--{name}: is not supported; see mnist-ff train --help")
    if arguments.hydra_help is not None:
        raise ConfigError("--hydra-help: is not supported; mnist-ff train --cfg hydra shows Hydra's own keys")
    if (arguments.resolve or arguments.package) and not arguments.cfg:
        raise ConfigError("--resolve and --package: need --cfg")
    if arguments.cfg and (arguments.json or arguments.require_target):
        raise ConfigError("--json and --require-target: are for training; leave out --cfg")
    if arguments.multirun and arguments.cfg:
        raise ConfigError("--cfg: shows a single config; leave out -m")
    if arguments.multirun and arguments.config_of is not None:
        raise ConfigError("resume= and --config-of: cannot be combined with -m or --cfg")


def _single(composer: Composer, overrides: list[str], trainer: _Trainer) -> int:
    refuse_several(composer.check(overrides))
    composed = composer.run(with_teacher(overrides))
    return _train_new(composed, composed.config(), trainer, composed.files)


def _train_new(composed: ComposedRun, config: Config, trainer: _Trainer, files: Callable[[], Mapping[str, str]]) -> int:
    """Train in the new directory of `composed`, with these files in its `.hydra/`."""
    check_new(config)
    trainer.check_target(config)
    check_machine(config)
    directory = output_directory("hydra.run.dir", composed.directory)
    if directory.exists():
        raise ConfigError(f"{directory}: already exists; two runs never share a directory")
    resolved = trainer.resolve(config)  # before the directory is made, so that an error in the data leaves none
    check_saved(resolved)
    with interruptible() as stopped:
        run = Run.create(directory)
        composed.enter(directory)
        try:
            write_texts(run.file(".hydra"), files())
        except OSError as error:
            where = error.filename or directory
            raise RunError(f"{where}: {error.strerror or error}; choose another folder with hydra.run.dir=") from None
        return trainer.train(resolved, run, stopped)


def _resume(composer: Composer, name: str, overrides: list[str], trainer: _Trainer) -> int:
    """Continue a run in its own directory."""
    from mnist_ff.session.drawing import complete
    from mnist_ff.session.resume import (
        find_run,
        given_values,
        is_done,
        own_places,
        resumed_config,
        saved_config,
        why_done,
    )
    from mnist_ff.session.threads import with_number

    name = expanded("resume", name)
    if not name:
        raise ConfigError("resume=: is empty; give a run directory, or last")
    try:
        run = find_run(name, Path("outputs"))
    except BadRunError as error:
        raise BadRunError(f"{error}{accepted('resume', name)}") from None
    given = given_values(composer, overrides)
    check_float32(flat(given))
    check_parts(run, saved_config(run), trainer.warn, trains=True)
    own, said = own_places(run, given)
    config, changes, warnings = resumed_config(run, with_number(saved_config(run), {**own, **given}))
    check(config)
    trainer.check_target(config)
    if is_done(run, config):
        why, remedy = why_done(run, config)
        without = [key for key in given if key in changes and key != "trainer.plots"]
        if without:
            raise ConfigError(f"{without[0]}: has no effect: {run.path} {why}{remedy and f'; {remedy}'}")
        trainer.say(f"{run.path}: {why}; nothing to do{remedy and f' ({remedy})'}")
        for made in complete(run, config, note):
            trainer.say(f"made           {run.file(made)}")
        return trainer.finish(run)
    for warning in [*said, *warnings]:
        trainer.warn(warning)
    with interruptible() as stopped:
        return trainer.train(config, Run(run.path.absolute()), stopped, changes)


def _repeat(composer: Composer, source: str, overrides: list[str], trainer: _Trainer) -> int:
    """Train a saved experiment again in a new directory. Paths of the data and trackers are this user's, and the name
    is not copied."""
    from mnist_ff.runs.resolve import resolve_run
    from mnist_ff.session.resume import changed, foreign_places, given_values, saved_config

    run = Run.open(resolve_run(expanded("--config-of", source), note))
    saved = saved_config(run)
    check_parts(run, saved, trainer.warn, trains=True)
    if saved != run.config():
        trainer.warn("that run was resumed with other values; using the last ones")
    given = given_values(composer, with_teacher([text for text in overrides if not text.startswith("hydra.")]))
    places, said = foreign_places(saved, given, str(run.path))
    for line in said:
        trainer.warn(line)
    composed = composer.run([text for text in overrides if text.startswith("hydra.")])
    return _train_new(composed, changed(saved, {"name": None, **places, **given}), trainer, dict)


class _Trainer:
    """Runs the training session, whose import is delayed and timed."""

    def __init__(self, console: Console, timing: Timing, as_json: bool, requires_target: bool) -> None:
        self._console, self._timing = console, timing
        self._as_json, self._requires_target = as_json, requires_target

    def say(self, line: str, style: str | None = None) -> None:
        """Print a line."""
        tell(self._console, line, style)

    def warn(self, line: str) -> None:
        """Print a warning."""
        self.say(f"warning: {line}", style="yellow")

    def _import(self, what: str) -> None:
        """Import PyTorch and the session, after a line that says that `what` waits for it. Errors: ImportError."""
        waiting_for_torch(what)
        with ending_at_once(), importing(), self._timing.part("import"):
            from mnist_ff.session import session  # noqa: F401 (torch is imported here)

    def resolve(self, config: Config) -> Config:
        """Load the data, and draw a seed if it is null."""
        model, data, epochs = config.model.name, config.data.name, config.trainer.epochs
        self._import(f"{model} on {data}, {epochs} {'epoch' if epochs == 1 else 'epochs'}")
        with self._timing.part("data"):
            from mnist_ff.session.resolve import resolve

            return resolve(config)

    def train(self, config: Config, run: Run, stopped: Interruption, changes: dict[str, Any] | None = None) -> int:
        """Train, and return the exit code, that of a signal even after the last step."""
        self._import(f"{display_path(run.path)}: up to epoch {config.trainer.epochs}")
        self._timing.claim("config")
        from mnist_ff.session.request import RunRequest
        from mnist_ff.session.session import train

        try:
            train(RunRequest(config, run, sys.argv, self._timing, self._console, stopped, changes))
        except RunError:
            self._print_document(run)
            raise
        return self.finish(run, stopped.exit_code)

    def check_target(self, config: Config) -> None:
        """Errors: ConfigError for --require-target without a target."""
        if self._requires_target:
            require_target(config)

    def finish(self, run: Run, code: int = 0) -> int:
        """With --json, print the run's document. Returns the exit code."""
        self._print_document(run)
        summary = run.summary()
        missed = summary is not None and summary.target_reached is False
        return code or (MISSED_TARGET if self._requires_target and missed else 0)

    def _print_document(self, run: Run) -> None:
        document = run_document(run) if self._as_json else None
        if document is not None:
            tell_json(document)
