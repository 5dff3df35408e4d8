"""Start or resume a run from Python. It writes the same files as the train command."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import tell
from mnist_ff.config.compose import Composer, with_texts_kept
from mnist_ff.config.convert import config_to_dict, flat
from mnist_ff.config.float32 import check_float32
from mnist_ff.config.overrides import quoted
from mnist_ff.config.paths import output_directory
from mnist_ff.config.registry import GIVEN
from mnist_ff.config.schema import Config
from mnist_ff.errors import ConfigError, RunError, keep_partial
from mnist_ff.files import write_texts
from mnist_ff.runs.directory import CHECKPOINT, Run, check_saved
from mnist_ff.runs.given import given_arguments, why_not_here
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.signals import interruptible
from mnist_ff.session.drawing import complete
from mnist_ff.session.request import RunRequest
from mnist_ff.session.resolve import resolve
from mnist_ff.session.resume import given_values, is_done, own_places, resumed_config, saved_config, why_done
from mnist_ff.session.session import train
from mnist_ff.session.threads import with_number
from mnist_ff.session.timing import Timing
from mnist_ff.session.validate import check, check_machine, check_new
from mnist_ff.training.callbacks import Callback


@dataclass(frozen=True)
class Caller:
    """What a call from Python passes: overrides, given objects, callbacks, and where messages go."""

    overrides: tuple[str, ...]
    given: tuple[str, ...]
    """The overrides that choose given data and a given model: data=arrays, model=module."""
    observers: tuple[Callback, ...]
    console: Console

    @property
    def argv(self) -> list[str]:
        """The words of the call as a command line, for environment.json."""
        return ["mnist_ff.train", *self.given, *self.overrides]

    def warn(self, text: str) -> None:
        """Print a warning."""
        tell(self.console, f"warning: {text}", "yellow")


def start(caller: Caller, directory: Path | None) -> Run:
    """Train a new run and return it. Errors: ConfigError before anything is written; DataError, RunError."""
    timing, composer = Timing(time.perf_counter()), Composer()
    words = with_texts_kept([*caller.given, *caller.overrides])
    if directory is not None:
        words.append(f"hydra.run.dir={quoted(str(directory))}")
    for override in composer.check(words):
        if override.values is not None:
            raise ConfigError(f"{override.text}: has several values; mnist_ff.train() trains one run")
    composed = composer.run(words)
    config = composed.config()
    check_new(config)
    check_machine(config)
    path = output_directory("directory", composed.directory)
    if path.exists():
        raise ConfigError(f"{path}: already exists; two runs never share a directory")
    with timing.part("data"):
        resolved = resolve(config)
    check_saved(resolved)
    with interruptible() as stopped:
        run = Run.create(path)
        try:
            write_texts(run.file(".hydra"), composed.files())
        except OSError as error:
            raise RunError(f"{error.filename or path}: {error.strerror or error}; choose another directory") from None
        timing.claim("config")
        _train(RunRequest(resolved, run, caller.argv, timing, caller.console, stopped, observers=caller.observers))
    return run


def resume(caller: Caller, run: Run) -> Run:
    """Continue a run in its own directory and return it. Errors: ConfigError, BadRunError, DataError, RunError."""
    timing, saved = Timing(time.perf_counter()), saved_config(run)
    values = given_values(Composer(), with_texts_kept(list(caller.overrides)))
    check_float32(flat(values))
    _check_given(run, saved, caller.given)
    check_parts(run, saved, caller.warn, trains=True)
    own, said = own_places(run, values)
    config, changes, warnings = resumed_config(run, with_number(saved, {**own, **values}))
    check(config)
    if is_done(run, config):
        tell(caller.console, f"{run.path}: {why_done(run, config)[0]}; nothing to do")
        complete(run, config, caller.warn)
        return run
    for warning in [*said, *warnings]:
        caller.warn(warning)
    run = Run(run.path.absolute())
    with interruptible() as stopped:
        timing.claim("config")
        request = RunRequest(config, run, caller.argv, timing, caller.console, stopped, changes)
        _train(dataclasses.replace(request, observers=caller.observers))
    return run


def _train(request: RunRequest) -> None:
    """Train. An error gets the run as its attribute `partial` if the run can be resumed. Errors: those of train()."""
    try:
        train(request)
    except (Exception, SystemExit) as error:  # a callback may raise anything
        if is_taken(request.run.file(CHECKPOINT)):
            keep_partial(error, request.run)
        raise


def _check_given(run: Run, saved: Config, given: Sequence[str]) -> None:
    """Check that a resume is given the data and model of its run, and no others. Errors: ConfigError."""
    now, needed = [word.partition("=")[0] for word in given], given_arguments(saved)
    for argument in now:
        if argument not in needed:
            chosen = f"{argument}={getattr(saved, argument).name}"
            raise ConfigError(f"{argument}: {run.path} was trained with {chosen}, which a resume cannot change")
    if set(now) < set(needed):
        raise ConfigError(why_not_here(run.path, saved))
    for argument in now:
        _check_same(run, argument, config_to_dict(saved)[argument])


def _check_same(run: Run, argument: str, saved: Mapping[str, Any]) -> None:
    """Check that the given data or module is that of the run. Errors: ConfigError."""
    from mnist_ff.config.registry import part

    known = part(argument, GIVEN[argument]).defaults or {}
    for key in ("sha256", "type"):
        if key in known and known[key] != saved.get(key):
            raise ConfigError(
                f"{argument}: is not what {run.path} was trained with ({key} {known[key]}, there {saved.get(key)})"
            )
