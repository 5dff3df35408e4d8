"""`mnist-ff train -m ...`: a sweep from words to its answer."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict
from rich.console import Console

from mnist_ff.analysis.console import tell
from mnist_ff.config.compose import (
    CONFIG_NAME,
    check_launcher,
    check_overrides,
    config_errors,
    hydra_values,
    is_own_key,
    sweep_options,
)
from mnist_ff.config.convert import flat
from mnist_ff.config.messages import nearest
from mnist_ff.config.overrides import quoted, with_texts_kept
from mnist_ff.config.passwords import without_password
from mnist_ff.config.paths import absolute, conf_dir, expanded, output_directory
from mnist_ff.config.yaml_io import read_yaml
from mnist_ff.errors import BadRunError, ConfigError, Stopped
from mnist_ff.runs.find import JOBS, OUTPUTS
from mnist_ff.runs.jobs import SweepPlan, read_plan
from mnist_ff.session.resume import find_sweep
from mnist_ff.sweeps.job_run import SweepJob
from mnist_ff.sweeps.plugins import register_plugins
from mnist_ff.sweeps.search.study import check_no_password
from mnist_ff.sweeps.search.sweeper import CHOSEN, OptunaSweeper
from mnist_ff.sweeps.summary import conclude
from mnist_ff.sweeps.sweeper import CheckedSweeper, Request, check_new

PLACES = ("data.root", "trainer.teacher")
"""Keys of the jobs that name folders."""
OF_THE_SWEEP = ("sweep=", "sweep.rows=", "sweep.on_error=")
"""Beginnings of the words that say how a sweep makes and treats its jobs."""
OF_THE_LAUNCHER = ("hydra/launcher", "hydra.launcher.")
STORAGE = "hydra.sweeper.storage="
KEPT = ("hydra/launcher", "hydra.launcher.", "hydra/sweeper", "hydra.sweeper.", *OF_THE_SWEEP)
"""Beginnings of the saved words that a resumed sweep takes over; later words of the same key win."""


def sweep(hydra: Any, words: list[str], console: Console) -> int:
    """Run the jobs that the words ask for, or what is left of a sweep's, or list them. Returns the exit code.

    Errors: ConfigError before anything is written; DataError, RunError.
    """
    for word in words:
        if word.lstrip("+").startswith("hydra.sweeper.storage="):
            check_no_password(word.partition("=")[2].strip("'\""))  # first of all: no other message may quote it
    resume, words = _taken(words, "resume")
    if resume == "":
        raise ConfigError("resume=: is empty; give a sweep directory, such as one in outputs/sweeps/")
    if resume is not None:
        resume = str(find_sweep(expanded("resume", resume), OUTPUTS))
    dry_run, words = _taken(words, "dry_run")
    if dry_run not in (None, "true", "false"):
        raise ConfigError(f"dry_run={dry_run}: must be true or false")
    words = [_from_anywhere(word) for word in with_texts_kept(words)]
    saved = None if resume is None else read_plan(Path(resume))
    if saved is not None and not saved.own:
        saved = replace(saved, words=_words_of_another(saved.words, words, console))
    overrides = words if saved is None else _resumed_words(saved, words)
    parsed = check_overrides(hydra.config_loader, overrides, several=True)
    composed = _composed_for_jobs(hydra, overrides)
    request = _request(composed, console, words, saved, resume)
    sweeper = _sweeper(hydra, composed, request)
    arguments = [str(override.input_line) for override in parsed if not override.is_hydra_override()]
    if dry_run == "true" and saved is None:
        check_new(request.directory)
    if dry_run == "true" and isinstance(sweeper, OptunaSweeper):
        sweeper.describe(arguments)
        return 0
    if dry_run == "true":
        from mnist_ff.sweeps.dry_run import show_jobs

        plan = sweeper.planned(arguments)
        jobs = plan.jobs if saved is None else sweeper.unfinished(plan)[0]
        if not jobs:
            sweeper.say(f"resume={resume}: all jobs are done")
            return 0
        show_jobs(jobs, Path("outputs"), console)
        return 0
    check_launcher(composed)
    stopped, callbacks = 0, Callbacks(composed)
    callbacks.on_multirun_start(config=composed, config_name=CONFIG_NAME)
    try:
        sweeper.sweep(arguments)
    except Stopped as stop:
        stopped = stop.exit_code
    except Exception:
        if sweeper.began:
            with suppress(Exception):  # what ended the sweep is what there is to say
                conclude(request.directory, console)
        raise
    finally:
        callbacks.on_multirun_end(config=composed, config_name=CONFIG_NAME)
    failed = conclude(request.directory, console, hurried=bool(stopped))
    return stopped or failed


def _from_anywhere(word: str) -> str:
    """A word that names one place, from any working folder: a resumed search makes more jobs of it, maybe elsewhere."""
    key, _, value = word.partition("=")
    place = value.strip("'\"")
    if key.lstrip("+") not in PLACES or place in ("", "null") or re.search(r"[,(\[{$]", place):
        return word
    return f"{key}={quoted(absolute(key, place))}"


def _taken(words: list[str], key: str) -> tuple[str | None, list[str]]:
    """The value of a word that Hydra does not know, and the other words. Errors: ConfigError when it is given twice."""
    found = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    if len(found) > 1:
        raise ConfigError(f"{key}=: give it only once")
    return found[0] if found else None, [word for word in words if not word.startswith(f"{key}=")]


def _resumed_words(saved: SweepPlan, words: list[str]) -> list[str]:
    for word in words:
        if word.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir=")):
            raise ConfigError(f"{word}: cannot be changed when a sweep is resumed")
        if word.startswith(("logger=", "logger.")):
            raise ConfigError(f"{word}: the trackers of a sweep cannot be changed when it is resumed")
    another = any(word.startswith("hydra/launcher=") and word not in saved.words for word in words)
    gone = ("hydra/launcher=", "hydra.launcher.") if another else ()  # another launcher has other keys
    known = [word for word in saved.words if not word.startswith(gone)]
    if CHOSEN in saved.words:  # a search makes its jobs as it goes: all that describes them is needed
        if any(not word.startswith(("hydra.", "sweep.on_error=")) for word in words):
            raise ConfigError(
                "resume=: the space and fixed values of a search cannot be changed; only hydra.sweeper keys can"
            )
        if any(word.startswith("hydra.sweeper.objective=") and word not in saved.words for word in words):
            raise ConfigError("resume=: the objective of a search cannot be changed; start a new search")
        kept = [word for word in known if not word.startswith("hydra.sweep.dir=")]
        return [*_harmless(kept), *words]
    kept = _harmless([word for word in known if word.startswith(KEPT) and word not in words])
    return [*kept, *(word for word in words if word.startswith(("hydra", *OF_THE_SWEEP)))]


def _words_of_another(saved: Sequence[str], words: Sequence[str], console: Console) -> tuple[str, ...]:
    """The saved words of a sweep that somebody else started: without those that say where its jobs run.

    Errors: ConfigError where a search would keep its trials in a place that this user did not name.
    """
    kept = [word for word in saved if not word.startswith(OF_THE_LAUNCHER) or word in words]
    for word in saved:
        if word.startswith(STORAGE) and word not in words and not any(given.startswith(STORAGE) for given in words):
            raise ConfigError(
                f"{without_password(word)}: this storage is ignored, because you did not start this search here; "
                "to use it, give it on the command line"
            )
    if len(kept) < len(saved):
        left = " ".join(word for word in saved if word not in kept)
        why = "is ignored, because you did not start this sweep here; to use it, give it on the command line"
        tell(console, f"warning: {left}: {why}", "yellow")
    return tuple(kept)


def _harmless(words: list[str]) -> list[str]:
    """Saved words as they are. A sweep's directory is data: none of its words may call or look up anything.

    Errors: BadRunError.
    """
    for word in words:
        plain = word.replace("${hydra.job.num}", "")
        known = not word.lstrip("+~").startswith("hydra") or word.startswith((*KEPT, "hydra.sweep.subdir="))
        if "_target_" in plain or "${" in plain or not known:
            raise BadRunError(f"{JOBS}: the saved override {word} contains an interpolation; start a new sweep")
    return words


def _composed(hydra: Any, words: list[str]) -> DictConfig:
    """Hydra's config for these words. A preset that counts trials is a search, and brings the sweeper for it.

    Its file cannot choose the sweeper itself: config.yaml's choice stands above that of a group's file.
    """
    if _searching_preset(words) and not any(word.startswith("hydra/sweeper=") for word in words):
        words = [CHOSEN, *words]
    composed: DictConfig = hydra.compose_config(CONFIG_NAME, words, run_mode=RunMode.MULTIRUN)
    return composed


def _composed_for_jobs(hydra: Any, words: list[str]) -> DictConfig:
    """The config that jobs are made of. Errors: ConfigError.

    A key may belong to an option that only jobs choose: then jobs alone have the keys, and say what is wrong.
    """
    try:
        with config_errors():
            return _composed(hydra, words)
    except ConfigError:
        rest = [word for word in words if not is_own_key(word)]
        if len(rest) == len(words):
            raise
    with config_errors():
        return _composed(hydra, rest)


def _searching_preset(words: list[str]) -> bool:
    files = [
        conf_dir() / "sweep" / f"{word.removeprefix('sweep=')}.yaml" for word in words if word.startswith("sweep=")
    ]
    return any("hydra.sweeper.n_trials" in flat(read_yaml(file)) for file in files if file.is_file())


def _request(
    composed: DictConfig, console: Console, words: list[str], saved: SweepPlan | None, resume: str | None
) -> Request:
    """What is asked for, with the sweep's directory decided: in this process and for all that launchers start."""
    with config_errors(), hydra_values(composed):
        # as Hydra makes its jobs' directories absolute: without ..
        text = str(composed.hydra.sweep.dir) if resume is None else resume
        directory = Path(os.path.abspath(output_directory("hydra.sweep.dir", text) if resume is None else text))
        if "${" in os.fspath(directory):
            raise ConfigError(
                f"{directory}: the path of a sweep's directory cannot contain ${{, which Hydra would interpolate"
            )
        pin = f"hydra.sweep.dir={quoted(os.fspath(directory))}"
        with open_dict(composed):
            composed.hydra.sweep.dir = os.fspath(directory)
            composed.hydra.overrides.hydra.append(pin)
    asked = () if saved is None else tuple(word for word in words if not word.startswith(("hydra", "sweep.on_error=")))
    return Request(directory, tuple(words), sweep_options(composed), console, saved, asked)


def _check_keys(composed: DictConfig) -> None:
    """Refuse keys that were added to a sweeper or launcher of ours, and that it would not look at."""
    for part in ("sweeper", "launcher"):
        file = conf_dir() / "hydra" / part / f"{composed.hydra.runtime.choices[f'hydra/{part}']}.yaml"
        known = read_yaml(file) if file.is_file() else {"_target_": None}
        for key in composed.hydra[part]:
            if key not in known:
                raise ConfigError(f"hydra.{part}.{key}: {file.stem} has no such key{nearest(str(key), known)}")


def _sweeper(hydra: Any, composed: DictConfig, request: Request) -> CheckedSweeper:
    job = SweepJob(
        sweep=request.directory,
        argv=tuple(sys.argv),
        stop_on_error=request.options.on_error == "stop",
        parent=os.getpid(),
        own=request.saved is None or (request.saved.own and all(job.own for job in request.saved.jobs)),
    )
    _check_keys(composed)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(composed))
    register_plugins()
    with config_errors():
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=job, config=composed)
    assert isinstance(sweeper, CheckedSweeper)
    sweeper.request = request
    return sweeper
