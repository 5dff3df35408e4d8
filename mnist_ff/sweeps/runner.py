"""Run a sweep: make or open its directory, save its jobs, launch them, and watch them until all have ended."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import tell
from mnist_ff.config.compose import ComposedSweep, Composer, with_texts_kept
from mnist_ff.config.options import options
from mnist_ff.config.overrides import Override, key_of
from mnist_ff.config.own_parts import in_use
from mnist_ff.config.paths import display_path
from mnist_ff.config.schema import Config, DataConfig, DownloadConfig, SweepConfig
from mnist_ff.data.catalog import in_own_place
from mnist_ff.errors import BadRunError, ConfigError, DataError, RunError, Stopped
from mnist_ff.files import remove_leftovers, write_text
from mnist_ff.runs.jobs import Job, SweepPlan, link_among_own_files, state_of, write_plan
from mnist_ff.runs.lock import locked
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.signals import ending_at_once, interruptible
from mnist_ff.runs.slurm import job_numbers, still_there
from mnist_ff.runs.start_up import importing, waiting_for, waiting_for_torch
from mnist_ff.session.resume import foreign_places
from mnist_ff.session.validate import check_device, check_trackers, require_target
from mnist_ff.sweeps.job_builder import JobBuilder
from mnist_ff.sweeps.job_run import SweepJob, resolved_config
from mnist_ff.sweeps.launchers.base import Launcher
from mnist_ff.sweeps.progress import JobCounter, Watch
from mnist_ff.sweeps.stop_file import AFTER_AN_ERROR, ask_to_stop, clear_stop, reason_to_stop, signal_named

CHECKED_SILENTLY = 2
"""Jobs that are checked before a message says that jobs are being checked. Most wrong values show in the first ones."""
STOP_TIMEOUT_S = 3.5
"""Seconds that jobs in other processes have to end by themselves after a signal."""


@dataclass(frozen=True)
class Request:
    """What the command line says about a sweep."""

    directory: Path
    """The sweep's directory, absolute."""
    overrides: tuple[str, ...]
    """All overrides of the command line. They are saved."""
    of_jobs: tuple[Override, ...]
    """The overrides that describe jobs; for a resumed search the saved ones."""
    options: SweepConfig
    console: Console
    saved: SweepPlan | None = None
    """The saved jobs of a resumed sweep. None for a new sweep."""
    asked: tuple[str, ...] = ()
    """The overrides of a resume that describe jobs."""
    requires_target: bool = False
    """Whether --require-target is given: every job must have trainer.target_accuracy."""


class Sweep(ABC):
    """Base class of a grid and a search: checked jobs, the sweep's directory, and the launcher that runs the jobs."""

    began = False
    """Whether the sweep's directory exists with its jobs saved."""
    _said_what_loads = False

    def __init__(self, request: Request, composer: Composer, composed: ComposedSweep, launcher: Launcher) -> None:
        """Errors: ConfigError for a key's value."""
        self.request, self.composer, self.composed, self.launcher = request, composer, composed, launcher
        self.keys = composed.choice("sweeper")[1]
        """The keys of hydra.sweeper."""

    @abstractmethod
    def run(self) -> None:
        """Check everything, then run the jobs. Errors: ConfigError before anything is written; DataError, RunError;
        Stopped after a signal."""

    @abstractmethod
    def dry_run(self) -> None:
        """List what would be run, without writing anything. Errors: ConfigError."""

    @property
    def job_run(self) -> SweepJob:
        """What runs each job."""
        saved = self.request.saved
        return SweepJob(
            sweep=self.request.directory,
            argv=tuple(sys.argv),
            stop_on_error=self.request.options.on_error == "stop",
            parent=os.getpid(),
            parts=in_use(),
            draws=self.launcher.detached,  # no command may wait for the end of detached jobs
            own=saved is None or (saved.own and all(job.own for job in saved.jobs)),
        )

    @property
    def config_dirs(self) -> tuple[str, ...]:
        """The user's own config folders, for jobs.json."""
        return tuple(map(str, options().folders))

    def overrides_of_jobs(self) -> list[Override]:
        """The overrides of jobs: hydra.sweeper.params and those of the command line, without sweep.* keys.

        Errors: ConfigError for several values of a key that cannot differ between jobs.
        """
        params = self.keys["params"]
        if params is not None and not isinstance(params, dict):
            raise ConfigError(f"hydra.sweeper.params={params}: must be keys and values, such as {{seed: '0,1'}}")
        texts = [f"{key}={value}" for key, value in (params or {}).items()]
        kept = self.composer.check(with_texts_kept(texts), several=True)
        check_of_jobs(kept, "hydra.sweeper.params")
        typed = self.request.of_jobs
        check_of_jobs([override for override in typed if override.values is not None], "several values")
        return [*kept, *(override for override in typed if not override.key.startswith("sweep."))]

    def checked_jobs(self, overrides: Sequence[Sequence[str]], first: int = 0, what: str = "jobs") -> list[Job]:
        """Make and check a job of each list of overrides, numbered from `first`.

        what: what a message calls them if checking takes a while. Errors: ConfigError naming the job.
        """
        jobs = []
        for place, job in enumerate(overrides):
            if place == CHECKED_SILENTLY:
                waiting_for(f"{len(overrides):,} {what}: checking the values of each")
            jobs.append(self._builder.job(first + place, job))
        return jobs

    @functools.cached_property
    def _builder(self) -> JobBuilder:
        return JobBuilder(self.composer, self.composed)

    def check_machine(self, configs: Sequence[Config]) -> None:
        """Check that the packages of the jobs' trackers are installed, and this machine's device unless another machine
        runs the jobs. Errors: ConfigError."""
        for trainer in () if self.launcher.detached else dict.fromkeys(config.trainer for config in configs):
            check_device(trainer)
        for logger in dict.fromkeys(config.logger for config in configs):
            check_trackers(logger)

    def check_target(self, configs: Sequence[Config]) -> None:
        """Check that --require-target has a target in all jobs. Errors: ConfigError."""
        if self.request.requires_target:
            for config in configs:
                require_target(config)

    def say_places(self, jobs: Sequence[Job]) -> None:
        """Warn of paths and URLs in saved jobs that another user chose."""
        where, remedy = str(display_path(self.request.directory)), "start a sweep of your own with data.path=PATH"
        foreign = [foreign_places(job.config, {}, where, remedy)[1] for job in jobs if not job.own]
        lines = [line for said in foreign for line in said]
        for line in dict.fromkeys(lines):
            self.say(f"warning: {line}", style="yellow")

    def fetch_again(self, jobs: Sequence[Job]) -> None:
        """Download data sets of saved jobs that are missing: the jobs may run on machines without a network.

        Errors: DataError if that fails; the subset of MNIST would change the sweep.
        """
        for data in dict.fromkeys(resolved_config(job).data for job in jobs):
            if _ensured(data) != data:
                raise DataError(
                    f"data={data.name}: the jobs need it, but it cannot be downloaded: mnist-ff data {data.name}"
                )

    def needs_fallback(self, configs: list[Config]) -> bool:
        """Download all data sets. True if MNIST cannot be downloaded and its subset is used instead, with a warning."""
        saved = self.request.saved
        own = saved is None or saved.own
        wanted: dict[DataConfig, None] = dict.fromkeys(
            config.data if own else in_own_place(config.data) for config in configs
        )
        if not any(_ensured(data) != data for data in wanted):
            return False
        if {data.name for data in wanted} != {"mnist"}:
            raise ConfigError(
                "MNIST could not be downloaded, and this sweep compares data sets: see mnist-ff data mnist"
            )
        self.say(
            "WARNING: mnist could not be downloaded; all jobs use mnist_5k, 5,000 images of it."
            " Scores are not comparable with MNIST's. For MNIST itself, set MNIST_FF_MIRROR to a folder or URL with its"
            " files.",
            style="bold yellow",
        )
        return True

    @contextmanager
    def opened(self, plan: SweepPlan) -> Iterator[None]:
        """Make or open the sweep's directory, lock it for the block, and save the jobs. Errors: RunError."""
        directory = self.request.directory
        if self.request.saved is None:
            _make(directory)
        link = link_among_own_files(directory)
        if link is not None:
            raise RunError(f"{link}: is a symbolic link; a sweep writes only inside its own directory")
        self.composed.enter(directory)
        with locked(directory, "another process is running this sweep", timeout_s=0):
            if self.request.saved is None:
                self._save(plan)
            clear_stop(directory)
            self.began = True
            remove_leftovers(directory)
            yield

    def _save(self, plan: SweepPlan) -> None:
        """Write jobs.json, and multirun.yaml for people. Errors: RunError."""
        try:
            write_plan(self.request.directory, plan)
            write_text(self.request.directory / "multirun.yaml", self.composed.yaml())
        except OSError as error:
            raise RunError(f"{self.request.directory}: {error.strerror}") from None

    def unfinished(self, plan: SweepPlan) -> tuple[list[Job], int]:
        """The unfinished jobs, and the number of finished ones. Unreadable jobs are neither; a warning names them."""
        jobs, done = [], 0
        for job in plan.jobs:
            try:
                if state_of(self.request.directory, job) == "finished":
                    done += 1
                else:
                    jobs.append(job)
            except BadRunError as error:
                self.say(f"warning: {error}; it is skipped", style="yellow")
        return jobs, done

    def left_in_slurm(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that an earlier command left in Slurm and that still run there; a message names them.

        Errors: RunError if Slurm does not answer.
        """
        there = still_there(self.request.directory, [job.subdir for job in jobs])
        if there:
            waits = self.launcher.detached
            what = "are waited for" if waits else "are left alone; hydra/launcher=submitit_slurm waits for them"
            self.say(
                f"{counted(len(there), 'job')} still in Slurm (as {', '.join(job_numbers(there.values()))}) {what}"
            )
        return [job for job in jobs if job.subdir in there]

    def launch(
        self, jobs: Sequence[Job], keys: Sequence[str], counter: JobCounter, together: Sequence[int | None]
    ) -> None:
        """Run saved jobs with the chosen launcher until all have ended. Their directories say how.

        keys: whose values name a job in messages. together: trainer.threads of each job that runs in the same batch.
        Errors: Stopped after a signal.
        """
        if not jobs:
            return
        with interruptible() as stopped:
            end = _EndAfterSignal(self.request.directory, stopped, self.launcher)
            console = self.request.console
            watch = Watch(self.request.directory, jobs, keys, counter, self.say, end.look)
            watch.columns = console.width if console.is_terminal else None
            # what the user's own parts print in this process would follow on the same line
            watch.is_live = console.is_terminal and not (self.launcher.in_process and in_use())
            watch.comes_back = self.launcher.requeues
            with watch:
                try:
                    self._say_what_loads(len(jobs))
                    self.launcher.launch(self.job_run, jobs, together, self.say, stopped)
                except Exception as error:  # of the launcher, such as a killed worker
                    self.say(f"warning: the launcher ended with {type(error).__name__}: {error}", style="yellow")
                except Stopped:
                    if reason_to_stop(self.request.directory) == AFTER_AN_ERROR and not stopped.exit_code:
                        return
                    raise
            named = signal_named(reason_to_stop(self.request.directory))
            if named is not None:
                raise Stopped(128 + named.value)

    def _say_what_loads(self, jobs: int) -> None:
        """Print once that jobs on this machine wait for PyTorch."""
        what = counted(jobs, "job")
        if self.launcher.in_process:
            waiting_for_torch(what)
        elif not self.launcher.detached and not self._said_what_loads:
            waiting_for(f"{what}: loading PyTorch")
        self._said_what_loads = True

    def say(self, line: str, style: str | None = None) -> None:
        """Print a line."""
        with suppress(OSError, SystemExit):  # a closed terminal, for which rich raises SystemExit, does not end a sweep
            tell(self.request.console, line, style)


class _EndAfterSignal:
    """Passes a signal on to the jobs through the sweep's stop file, and ends a launcher that does not return.

    For detached jobs, which go on without the launcher, no stop file is written: only the launcher gets the signal.
    """

    def __init__(self, sweep: Path, stopped: Any, launcher: Launcher) -> None:
        self._sweep, self._stopped, self._launcher = sweep, stopped, launcher
        self._since: float | None = None

    def look(self) -> None:
        """Called repeatedly from the progress thread."""
        name = self._stopped.signal_name
        if name is None:
            return
        now, since = time.monotonic(), self._since
        inside = self._launcher.in_process
        if since is not None and (inside or now - since <= STOP_TIMEOUT_S or not _in_the_progress_thread()):
            return
        self._since = now
        if since is None and not self._launcher.detached:
            ask_to_stop(self._sweep, name)
        else:  # again: a launcher that handles it leaves its jobs, any other is ended by Stopped
            signal.pthread_kill(threading.main_thread().ident or 0, getattr(signal, name))


def _ensured(data: DataConfig) -> DataConfig:
    """See data.load.ensure(). PyTorch is imported only for data that may have to be downloaded."""
    if not isinstance(data, DownloadConfig):
        return data
    waiting_for_torch("reading the data")
    with ending_at_once(), importing():
        from mnist_ff.data.load import ensure

    return ensure(data)


def _in_the_progress_thread() -> bool:
    return threading.current_thread().name == "sweep progress"


def check_of_jobs(overrides: Sequence[Override], where: str) -> None:
    """See that these keys can differ between jobs. Errors: ConfigError."""
    for override in overrides:
        if override.is_hydra or override.key == "sweep" or override.key.startswith("sweep."):
            raise ConfigError(
                f"{override.text} ({where}): applies to the whole sweep and cannot differ between jobs; "
                "give it one value on the command line"
            )


def check_new_directory(directory: Path) -> None:
    """Errors: ConfigError when a new sweep's directory is there already."""
    if os.path.lexists(directory):
        raise ConfigError(
            f"{directory}: already exists; two sweeps never share a directory\n"
            f"mnist-ff train -m resume={directory} resumes its jobs"
        )


def _make(directory: Path) -> None:
    check_new_directory(directory)
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise RunError(f"{directory}: was just created by another process") from None
    except OSError as error:
        kind = ConfigError if isinstance(error, NotADirectoryError) else RunError
        raise kind(f"{directory}: {error.strerror}; choose another with hydra.sweep.dir=FOLDER") from None


def on_subset(overrides: Sequence[str]) -> list[str]:
    """A job's overrides for mnist_5k; keys that it does not have are left out."""
    gone = ("data", "data.mirrors", "data.fallback")
    return [*(text for text in overrides if key_of(text) not in gone), "data=mnist_5k", "data.instead_of=mnist"]
