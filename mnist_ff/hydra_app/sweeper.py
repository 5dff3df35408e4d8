"""Hydra's grid sweeper, which here checks and saves all jobs before the first starts, and goes on with saved ones."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from mnist_ff.config import Config, DataConfig, MNIST5kConfig, SweepConfig, with_absolute_paths
from mnist_ff.errors import BadRunError, ConfigError, RunError, Stopped
from mnist_ff.hydra_app.launchers import ProcessLauncher
from mnist_ff.interrupts import interruptible
from mnist_ff.runs import shown
from mnist_ff.sweeps.plan import Job, SweepPlan, check_same_grid, check_subdir, state_of, write_plan
from mnist_ff.sweeps.progress import Tally, Watch, varied_keys
from mnist_ff.sweeps.stopping import AFTER_AN_ERROR, ask_to_stop, go_on, reason_to_stop, signal_named

GRACE = 3.5
"""Seconds that jobs in other processes have after a signal to end by themselves."""


@dataclass(frozen=True)
class Request:
    """What a sweep was asked for, beside its keys."""

    directory: Path
    """The sweep's directory, absolute."""
    words: tuple[str, ...]
    """The whole command line's overrides."""
    options: SweepConfig
    console: Console
    saved: SweepPlan | None = None
    """The jobs of a sweep that is to go on; None for a new one."""
    asked: tuple[str, ...] = ()
    """The words beside resume= that describe jobs."""


class CheckedSweeper(BasicSweeper):
    """A grid of jobs, all of them valid, none of them on other data than the rest asked for.

    A sweeper of another kind inherits from it: `checked_jobs` makes jobs of words, `opened` the directory with its
    saved jobs, and `launch` runs a batch with any launcher.
    """

    request: Request
    """Set before sweep() is called."""

    def sweep(self, arguments: list[str]) -> Any:
        """Check every job, see that each data set can be had, then launch. Errors: ConfigError, DataError, RunError."""
        plan = self.planned(arguments)
        if self.request.saved is None:
            plan = self._on_data_that_can_be_had(plan, arguments)
        with self.opened(plan):
            left = self.unfinished(plan)
            done = len(plan.jobs) - len(left)
            before = f", {done} of them finished before" if done else ""
            self.say(f"{len(plan.jobs)} jobs in {shown(self.request.directory)}{before}")
            self.launch(left, varied_keys(plan.jobs), Tally(len(plan.jobs), done))

    def planned(self, arguments: Sequence[str]) -> SweepPlan:
        """The sweep's jobs: the saved ones, or those of the words. Nothing is written. Errors: ConfigError."""
        from mnist_ff.hydra_app.compose import check_overrides

        assert self.hydra_context is not None
        saved = self.request.saved
        asked = arguments if saved is None else self.request.asked
        check_overrides(self.hydra_context.config_loader, asked)
        if saved is None:
            jobs = self.checked_jobs(self._grid(arguments))
            if not jobs:
                raise ConfigError("these values make no job at all")
            _check_different(jobs)
            return SweepPlan(tuple(jobs), self.request.words)
        if asked:
            check_same_grid(saved, self.checked_jobs(self._grid(asked)))
        return saved

    def _grid(self, arguments: Sequence[str]) -> list[list[str]]:
        """Each job's words: Hydra's product of all values, crossed with the rows of sweep.rows."""
        from mnist_ff.hydra_app.compose import check_overrides, config_errors

        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        params = OmegaConf.select(self.config, "hydra.sweeper.params") if self.config is not None else None
        if params is not None and not OmegaConf.is_dict(params):
            raise ConfigError(f"hydra.sweeper.params={params}: must be keys with their values, {{seed: '0,1'}}")
        with config_errors():
            parser = OverridesParser.create(config_loader=loader)
            overrides = parser.parse_overrides([*self._parse_config(), *arguments])
            jobs = [job for batch in self.split_arguments(overrides, None) for job in batch]
        rows = [row_words(row) for row in self.request.options.rows or ({},)]
        for row in rows:
            check_overrides(loader, row)
        return [_crossed(job, row) for row, job in itertools.product(rows, jobs)]

    def checked_jobs(self, words: Sequence[Sequence[str]], first: int = 0) -> list[Job]:
        """Jobs of these words, numbered from `first`, each of them valid. Errors: ConfigError naming the job."""
        return [self._job(first + place, list(job)) for place, job in enumerate(words)]

    def _job(self, number: int, words: list[str]) -> Job:
        from mnist_ff.hydra_app.compose import checked, composed_or_explained

        assert self.hydra_context is not None
        assert self.config is not None
        loader, master = self.hydra_context.config_loader, self.config
        try:
            composed = composed_or_explained(lambda given: loader.load_sweep_config(master, given), words)
            config = with_absolute_paths(checked(composed))
            return Job(number, tuple(words), _subdir(composed, number), config)
        except ConfigError as error:
            raise ConfigError(f"{error}\nin the job {' '.join(words)}; no job was started") from None

    def _on_data_that_can_be_had(self, plan: SweepPlan, arguments: Sequence[str]) -> SweepPlan:
        """Fetch every data set of the sweep. Where MNIST cannot be had, the same sweep on its subset."""
        if not self.needs_fallback([job.config for job in plan.jobs]):
            return plan
        return SweepPlan(tuple(self.checked_jobs(self._grid(on_subset(arguments)))), plan.words)

    def needs_fallback(self, configs: list[Config]) -> bool:
        """Fetch every data set; whether MNIST could not be had and its subset must stand in, which is said aloud."""
        from mnist_ff.data.load import ensure

        wanted: dict[DataConfig, None] = dict.fromkeys(config.data for config in configs)
        if not any(isinstance(ensure(data), MNIST5kConfig) and data.name == "mnist" for data in wanted):
            return False
        if {data.name for data in wanted} != {"mnist"}:
            raise ConfigError("MNIST could not be had, and this sweep compares data sets: see mnist-ff data mnist")
        self.say(
            "WARNING: mnist could not be had; all jobs use mnist_5k, 5,000 images of it. Their scores are not MNIST's.",
            style="bold yellow",
        )
        return True

    @contextmanager
    def opened(self, plan: SweepPlan) -> Iterator[None]:
        """Hold the sweep's directory, made now or there before, with its jobs saved. Errors: RunError."""
        directory = self.request.directory
        if self.request.saved is None:
            _make(directory)
        with _held(directory):
            if self.request.saved is None:
                self.save(plan)
            go_on(directory)
            yield

    def save(self, plan: SweepPlan) -> None:
        """Write the jobs, and the config that they were made of for people. Errors: RunError."""
        assert self.config is not None
        try:
            write_plan(self.request.directory, plan)
            OmegaConf.save(self.config, self.request.directory / "multirun.yaml")
        except OSError as error:
            raise RunError(f"{self.request.directory}: {error.strerror}") from None

    def unfinished(self, plan: SweepPlan) -> list[Job]:
        """The jobs with something left to do. One whose directory is not ours to touch is left out; its row says so."""
        jobs = []
        for job in plan.jobs:
            try:
                if state_of(self.request.directory, job) != "finished":
                    jobs.append(job)
            except BadRunError as error:
                self.say(f"warning: {error}; it is left alone", style="yellow")
        return jobs

    def launch(self, jobs: Sequence[Job], keys: Sequence[str], tally: Tally) -> None:
        """Run saved jobs with the launcher that was chosen, and return when they have ended, in whatever way.

        `keys` name a job to people. How they ended is in their directories. Errors: Stopped after a signal.
        """
        assert self.launcher is not None
        if not jobs:
            return
        if isinstance(self.launcher, ProcessLauncher):
            self.launcher.say = self.say
        batch = [[*job.overrides, f"hydra.sweep.subdir={quoted(job.subdir)}"] for job in jobs]
        with interruptible() as stopped:
            end = _EndAfterSignal(self.request.directory, stopped, isinstance(self.launcher, BasicLauncher))
            comes_back = isinstance(self.launcher, ProcessLauncher) and self.launcher.requeues
            with Watch(self.request.directory, jobs, keys, tally, self.say, end.look, comes_back):
                try:
                    self.launcher.launch(batch, initial_job_idx=jobs[0].number)
                except Exception as error:  # a launcher's own: a worker was killed, a cluster said no
                    self.say(f"warning: the launcher ended with {type(error).__name__}: {error}", style="yellow")
                except Stopped:
                    if reason_to_stop(self.request.directory) == AFTER_AN_ERROR and not stopped.exit_code:
                        return
                    raise
            named = signal_named(reason_to_stop(self.request.directory))
            if named is not None:
                raise Stopped(128 + named.value)

    def say(self, line: str, style: str | None = None) -> None:
        """A line for people."""
        with suppress(OSError, SystemExit):  # a terminal that is gone ends no sweep; rich makes SystemExit of it
            self.request.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


class _EndAfterSignal:
    """Passes a signal on to the jobs by the sweep's sign, and ends a launcher that does not return."""

    def __init__(self, sweep: Path, stopped: Any, inside: bool) -> None:
        self._sweep, self._stopped, self._inside = sweep, stopped, inside
        self._since: float | None = None

    def look(self) -> None:
        """Called every now and then, from another thread."""
        name = self._stopped.signal_name
        if name is None:
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
            ask_to_stop(self._sweep, name)
        elif not self._inside and now - self._since > GRACE and threading.current_thread().name == "sweep progress":
            self._since = now
            signal.pthread_kill(threading.main_thread().ident or 0, getattr(signal, name))  # the second: Stopped


def row_words(row: Mapping[str, Any]) -> list[str]:
    """A row of sweep.rows as override words."""
    return [f"{key}={word(value)}" for key, value in row.items()]


def word(value: Any) -> str:
    """A plain value in Hydra's override grammar. Texts are quoted where they are more than a name."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(word, value))}]"
    plain = re.fullmatch(r"[A-Za-z_]\w*", str(value)) and str(value).lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    )
    return str(value) if plain else quoted(str(value))


def quoted(text: str) -> str:
    """A text in Hydra's quotes, with what is special in them and in omegaconf escaped."""
    text = text.replace("${", "\\${")
    text = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return f"'{text}{chr(92) * trailing}'"


def _crossed(job: Sequence[str], row: Sequence[str]) -> list[str]:
    """A job's words with a row's; what a person typed stands after what a file holds."""
    typed = {given.split("=")[0] for given in job}
    return [*(given for given in row if given.split("=")[0] not in typed), *job]


def _check_different(jobs: Sequence[Job]) -> None:
    """Refuse the same experiment twice, and two in one directory. Errors: ConfigError."""
    seen: dict[str, Job] = {}
    if len({job.subdir for job in jobs}) < len(jobs):
        raise ConfigError("hydra.sweep.subdir: two jobs would share a directory; it must hold ${hydra.job.num}")
    for job in jobs:
        twin = seen.setdefault(job.digest, job)
        if twin is not job and job.config.seed is not None:
            raise ConfigError(f"jobs {twin.number} and {job.number} are the same: {' '.join(job.overrides)}")


def _subdir(composed: DictConfig, number: int) -> str:
    """hydra.sweep.subdir for this job number. Errors: ConfigError."""
    from mnist_ff.hydra_app.compose import config_errors

    before = HydraConfig.instance().cfg
    with open_dict(composed):
        composed.hydra.job.num = composed.hydra.job.id = number
    try:
        with config_errors():
            HydraConfig.instance().set_config(composed)
            subdir = os.path.normpath(str(OmegaConf.select(composed, "hydra.sweep.subdir")))
        check_subdir(subdir)
    except ValueError as error:
        raise ConfigError(f"hydra.sweep.subdir: {error}") from None
    finally:
        HydraConfig.instance().cfg = before
    return subdir


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise RunError(
            f"{directory}: exists already; two sweeps never share a directory\n"
            f"mnist-ff train -m resume={directory} goes on with its jobs"
        ) from None
    except OSError as error:
        raise RunError(f"{directory}: {error.strerror}; choose another with hydra.sweep.dir=FOLDER") from None


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{directory}: another process runs this sweep") from None
    except OSError as error:
        raise RunError(f"{directory}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def on_subset(arguments: Sequence[str]) -> list[str]:
    """The same sweep on mnist_5k; keys that it does not have are left out."""
    gone = ("data=", "data.mirrors=", "data.fallback=")
    return [*(given for given in arguments if not given.startswith(gone)), "data=mnist_5k", "data.instead_of=mnist"]
