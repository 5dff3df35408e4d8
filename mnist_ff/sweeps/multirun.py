"""`mnist-ff train -m ...`: run a grid or a search from overrides, up to its table."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_json
from mnist_ff.config.compose import ComposedSweep, Composer, with_texts_kept
from mnist_ff.config.convert import flat
from mnist_ff.config.messages import nearest
from mnist_ff.config.options import options
from mnist_ff.config.overrides import key_of, quoted, take, without_quotes
from mnist_ff.config.passwords import without_password
from mnist_ff.config.paths import absolute, conf_dir, display_path, expanded, output_directory, printed
from mnist_ff.config.schema import SELECTIONS
from mnist_ff.config.yaml_io import read_yaml
from mnist_ff.errors import MISSED_TARGET, BadRunError, ConfigError, Stopped
from mnist_ff.runs.find import JOBS, OUTPUTS
from mnist_ff.runs.jobs import LARGEST_JOBS_BYTES, SweepPlan, check_parts_of, read_plan
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.reading import read_object
from mnist_ff.session.resume import find_sweep
from mnist_ff.session.teacher import with_teacher
from mnist_ff.sweeps.grid import Grid
from mnist_ff.sweeps.launchers.base import Launcher
from mnist_ff.sweeps.launchers.joblib import JoblibLauncher
from mnist_ff.sweeps.launchers.sequential import SequentialLauncher
from mnist_ff.sweeps.launchers.submitit import LocalLauncher, SlurmLauncher
from mnist_ff.sweeps.runner import Request, Sweep
from mnist_ff.sweeps.search.storage import check_no_password
from mnist_ff.sweeps.search.sweeper import CHOSEN, SearchSweep
from mnist_ff.sweeps.summary import conclude, missed_targets

LAUNCHERS: dict[str, type[Launcher]] = {
    "basic": SequentialLauncher,
    "joblib": JoblibLauncher,
    "submitit_local": LocalLauncher,
    "submitit_slurm": SlurmLauncher,
}
SWEEPERS: dict[str, type[Sweep]] = {"checked": Grid, "optuna": SearchSweep}

PLACE_KEYS = ("data.root", "data.path", "trainer.teacher")
"""Keys of jobs whose values are folders."""
SWEEP_PREFIXES = ("sweep=", "sweep.rows=", "sweep.on_error=")
"""Prefixes of the overrides that configure the sweep itself rather than its jobs."""
LAUNCHER_PREFIXES = ("hydra/launcher", "hydra.launcher.")
STORAGE = "hydra.sweeper.storage="
RESUMED_PREFIXES = (*LAUNCHER_PREFIXES, "hydra/sweeper", "hydra.sweeper.", *SWEEP_PREFIXES)
"""Prefixes of the saved overrides that a resumed sweep uses again. New overrides of the same key win."""


@dataclass(frozen=True)
class _Arguments:
    """The arguments after -m."""

    overrides: list[str]
    resume: str | None
    """The directory of the sweep to continue."""
    dry_run: bool


def sweep(overrides: Sequence[str], console: Console, requires_target: bool = False, as_json: bool = False) -> int:
    """Run or list the jobs of the overrides, or resume a sweep. Returns the exit code.

    requires_target: MISSED_TARGET is returned if a finished job misses trainer.target_accuracy. as_json: print the
    ranking to stdout as JSON. Errors: ConfigError before anything is written; DataError, RunError.
    """
    arguments = _parsed(overrides)
    if arguments.dry_run and as_json:
        raise ConfigError("--json: is for the results of a sweep; leave it out with dry_run=true")
    new_sweep = _build(arguments, console, requires_target)
    if arguments.dry_run:
        new_sweep.dry_run()
        return 0
    check_launcher(new_sweep.launcher, new_sweep.composed.choice("launcher")[0])
    stopped, directory = 0, new_sweep.request.directory
    try:
        new_sweep.run()
    except Stopped as stop:
        stopped = stop.exit_code
    except Exception:
        if new_sweep.began:
            with suppress(Exception):  # do not hide the error that ended the sweep
                conclude(directory, console)
        raise
    failed = conclude(directory, console, is_interrupted=bool(stopped))
    if as_json:
        tell_json({"sweep": str(display_path(directory)), **read_object(directory / "sweep.json", LARGEST_JOBS_BYTES)})
    if stopped or failed or not requires_target:
        return stopped or failed
    missed = missed_targets(directory)
    if missed:
        tell(
            console,
            f"{counted(len(missed), 'finished job')} missed trainer.target_accuracy: {' '.join(missed)}",
            "yellow",
        )
    return MISSED_TARGET if missed else 0


def _parsed(overrides: Sequence[str]) -> _Arguments:
    """Split off resume= and dry_run=. Errors: ConfigError; first for a password, which later messages might quote."""
    for text in overrides:
        if text.lstrip("+").startswith(STORAGE):
            check_no_password(without_quotes(text.partition("=")[2]))
    resume, rest = take(overrides, "resume")
    if resume == "":
        raise ConfigError("resume=: is empty; give a sweep directory, such as one in outputs/sweeps/")
    dry_run, rest = take(rest, "dry_run")
    if dry_run not in (None, "true", "false"):
        raise ConfigError(f"dry_run={dry_run}: must be true or false")
    return _Arguments(
        overrides=[_with_absolute_place(text) for text in with_teacher(with_texts_kept(rest))],
        resume=None if resume is None else str(find_sweep(expanded("resume", resume), OUTPUTS)),
        dry_run=dry_run == "true",
    )


def _with_absolute_place(override: str) -> str:
    """An override of a folder with its absolute path: a resumed search may use it in another working directory."""
    key, _, value = override.partition("=")
    place = without_quotes(value)
    if key.lstrip("+") not in PLACE_KEYS or place in ("", "null") or re.search(r"[,(\[{$]", place):
        return override
    return f"{key}={quoted(absolute(key, place))}"


def _build(arguments: _Arguments, console: Console, requires_target: bool) -> Sweep:
    """The sweep that the arguments describe. Nothing is written. Errors: ConfigError, BadRunError."""
    given, saved = arguments.overrides, None
    if arguments.resume is not None:
        saved = read_plan(Path(arguments.resume))
        check_parts_of(saved, Path(arguments.resume))
        if not saved.own:
            saved = replace(saved, overrides=_overrides_of_another_user(saved.overrides, given, console))
    overrides = given if saved is None else _resumed_overrides(saved, given)
    with _missing_folders_named(saved):
        composer = Composer()
        parsed = composer.check(overrides, several=True)
    if _is_search_preset(overrides) and not any(key_of(text) == "hydra/sweeper" for text in overrides):
        overrides = [CHOSEN, *overrides]  # a preset's file cannot choose the sweeper: config.yaml decides before
    composed = composer.sweep(overrides)
    directory = _directory(composed, arguments.resume)
    composed.take_directory(directory)
    asked = () if saved is None else tuple(text for text in given if not text.startswith(("hydra", "sweep.on_error=")))
    searches = composed.choice("sweeper")[0] == "optuna"
    if saved is not None and not searches:
        parsed = composer.check(asked, several=True)
    request = Request(
        directory=directory,
        overrides=tuple(given),
        of_jobs=tuple(override for override in parsed if not override.is_hydra),
        options=composed.options,
        console=console,
        saved=saved,
        asked=asked,
        requires_target=requires_target,
    )
    for part in ("sweeper", "launcher"):
        _check_keys(composed, part)
    name, keys = composed.choice("launcher")
    if name not in LAUNCHERS:
        raise ConfigError(f"hydra/launcher={name}: must be one of {', '.join(LAUNCHERS)}")
    return SWEEPERS[composed.choice("sweeper")[0]](request, composer, composed, LAUNCHERS[name](keys))


@contextmanager
def _missing_folders_named(saved: SweepPlan | None) -> Iterator[None]:
    """Errors of a resume in the block name config folders that the sweep was started with and that are not given."""
    try:
        yield
    except ConfigError as error:
        missing = set(() if saved is None else saved.config_dirs) - set(map(str, options().folders))
        if not missing:
            raise
        flags = " ".join(f"--config-dir {printed(folder)}" for folder in sorted(missing))
        raise ConfigError(f"{error}; the sweep was started with {flags}, which a resume of it needs too") from None


def _resumed_overrides(saved: SweepPlan, given: list[str]) -> list[str]:
    """The overrides from which a resumed sweep is composed. Errors: ConfigError, BadRunError."""
    for text in given:
        if text.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir=")):
            raise ConfigError(f"{text}: cannot be changed when a sweep is resumed")
        if key_of(text).partition(".")[0] in SELECTIONS:
            raise ConfigError(f"{text}: the trackers and callbacks of a sweep cannot be changed when it is resumed")
    another = any(key_of(text) == "hydra/launcher" and text not in saved.overrides for text in given)
    gone = ("hydra/launcher=", "hydra.launcher.") if another else ()  # another launcher has other keys
    known = [text for text in saved.overrides if not text.startswith(gone)]
    if CHOSEN in saved.overrides:  # a search makes new jobs, for which it needs all overrides
        if any(not text.startswith(("hydra.", "sweep.on_error=")) for text in given):
            raise ConfigError(
                "resume=: the space and fixed values of a search cannot be changed; only hydra.sweeper keys can"
            )
        if any(key_of(text) == "hydra.sweeper.objective" and text not in saved.overrides for text in given):
            raise ConfigError("resume=: the objective of a search cannot be changed; start a new search")
        return [*_checked_saved([text for text in known if key_of(text) != "hydra.sweep.dir"]), *given]
    kept = _checked_saved([text for text in known if text.startswith(RESUMED_PREFIXES) and text not in given])
    return [*kept, *(text for text in given if text.startswith(("hydra", *SWEEP_PREFIXES)))]


def _overrides_of_another_user(saved: Sequence[str], given: Sequence[str], console: Console) -> tuple[str, ...]:
    """The saved overrides of a sweep that another user started, without those of the launcher, after a warning.

    Errors: ConfigError for a storage or a data path that this user did not choose.
    """
    kept = [text for text in saved if not text.startswith(LAUNCHER_PREFIXES) or text in given]
    for text in saved:
        if text.startswith(STORAGE) and text not in given and not any(other.startswith(STORAGE) for other in given):
            raise ConfigError(
                f"{without_password(text)}: this storage was not chosen by you; to use it, give it on the command line"
            )
        if key_of(text) == "data.path" and text not in given:
            raise ConfigError(
                f"{text}: this path was not chosen by you; to use it, give it on the command line of a new sweep"
            )
    if len(kept) < len(saved):
        left = " ".join(text for text in saved if text not in kept)
        why = "is ignored, because you did not start this sweep here; to use it, give it on the command line"
        tell(console, f"warning: {left}: {why}", "yellow")
    return tuple(kept)


def _checked_saved(saved: list[str]) -> list[str]:
    """The saved overrides, which may come from a stranger: none may instantiate or interpolate anything.

    Errors: BadRunError.
    """
    for text in saved:
        plain = text.replace("${hydra.job.num}", "")
        known = not text.lstrip("+~").startswith("hydra") or text.startswith((*RESUMED_PREFIXES, "hydra.sweep.subdir="))
        if "_target_" in plain or "${" in plain or not known:
            raise BadRunError(f"{JOBS}: the saved override {text} contains an interpolation; start a new sweep")
    return saved


def _is_search_preset(overrides: Sequence[str]) -> bool:
    """Whether a chosen sweep preset is a search: it sets the number of trials."""
    names = [text.partition("=")[2] for text in overrides if key_of(text) == "sweep"]
    files = [options().files["sweep"].get(name) for name in names]
    return any("hydra.sweeper.n_trials" in flat(read_yaml(file) or {}) for file in files if file is not None)


def _directory(composed: ComposedSweep, resume: str | None) -> Path:
    """The sweep's absolute directory, also for the processes of launchers. Errors: ConfigError."""
    # without "..", as Hydra makes the jobs' directories absolute
    path = Path(os.path.abspath(output_directory("hydra.sweep.dir", composed.directory) if resume is None else resume))
    if "${" in os.fspath(path):
        raise ConfigError(f"{path}: the path of a sweep's directory cannot contain ${{, which Hydra would interpolate")
    return path


def _check_keys(composed: ComposedSweep, part: str) -> None:
    """Refuse keys that the sweeper or launcher does not have. Errors: ConfigError."""
    name, keys = composed.choice(part)
    file = conf_dir() / "hydra" / part / f"{name}.yaml"
    known = read_yaml(file) if file.is_file() else {}
    for key in keys:
        if key not in known:
            raise ConfigError(f"hydra.{part}.{key}: {name} has no such key{nearest(str(key), known)}")


def check_launcher(launcher: Launcher, name: str) -> None:
    """Check that what a launcher needs to run jobs is installed. A dry run needs nothing.

    Errors: ConfigError naming the extra.
    """
    if launcher.needs is not None:
        module, extra = launcher.needs
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"hydra/launcher={name}: needs {module}, which is not installed: pip install 'mnist-ff[{extra}]'"
            )
    if launcher.detached and shutil.which("sbatch") is None:
        raise ConfigError(
            f"hydra/launcher={name}: sbatch not found; submit from a machine of the cluster; dry_run=true works here"
        )
