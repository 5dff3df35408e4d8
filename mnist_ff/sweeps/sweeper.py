"""Hydra's grid sweeper, which here checks and saves all jobs before the first starts, and goes on with saved ones."""

from __future__ import annotations

import functools
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

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from rich.console import Console

from mnist_ff.analysis.console import note, tell
from mnist_ff.config.overrides import quoted, with_texts_kept
from mnist_ff.config.paths import display_path
from mnist_ff.config.schema import Config, DataConfig, MNIST5kConfig, SweepConfig
from mnist_ff.data.catalog import in_own_place
from mnist_ff.errors import BadRunError, ConfigError, DataError, RunError, Stopped
from mnist_ff.files import remove_leftovers
from mnist_ff.runs.directory import Run
from mnist_ff.runs.jobs import Job, SweepPlan, check_same_grid, link_among_own_files, state_of, write_plan
from mnist_ff.runs.lock import locked
from mnist_ff.runs.signals import interruptible
from mnist_ff.runs.slurm import job_numbers, still_there
from mnist_ff.session.drawing import complete
from mnist_ff.session.resume import foreign_places, saved_config
from mnist_ff.session.validate import check_device, check_trackers
from mnist_ff.sweeps.job_builder import JobMaker
from mnist_ff.sweeps.job_run import settled_job
from mnist_ff.sweeps.launchers.joblib import ProcessLauncher
from mnist_ff.sweeps.progress import Tally, Watch, varied_keys
from mnist_ff.sweeps.stop_file import AFTER_AN_ERROR, ask_to_stop, go_on, reason_to_stop, signal_named

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
    began = False
    """Whether the directory is the sweep's, with its jobs saved."""

    def __init__(self, params: Any) -> None:
        """`params` are keys with their values, which typed words replace. All jobs are one batch."""
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        """Check every job, see that each data set can be had, then launch. Errors: ConfigError, DataError, RunError."""
        plan = self.planned(arguments)
        if self.request.saved is None:
            self.check_machine([job.config for job in plan.jobs])
            plan = self._on_data_that_can_be_had(plan, arguments)
        with self.opened(plan):
            left, done = self.unfinished(plan)
            before = f", {done} of them already finished" if done else ""
            self.say(f"{len(plan.jobs)} jobs in {display_path(self.request.directory)}{before}")
            there = self.left_in_slurm(left)
            if self.request.saved is not None:
                self.say_places(left)
                self.fetch_again([job for job in left if job not in there])
            left = left if self.detached else [job for job in left if job not in there]
            together = [job.config.trainer.threads for job in plan.jobs]
            self.launch(left, varied_keys(plan.jobs), Tally(len(plan.jobs), done), together)

    def planned(self, arguments: Sequence[str]) -> SweepPlan:
        """The sweep's jobs: the saved ones, or those of the words. Nothing is written. Errors: ConfigError."""
        from mnist_ff.config.compose import check_overrides

        assert self.hydra_context is not None
        saved = self.request.saved
        asked = arguments if saved is None else self.request.asked
        check_overrides(self.hydra_context.config_loader, asked)
        if saved is None:
            self._check_rows(arguments)
            jobs = self.checked_jobs(self._grid(arguments))
            if not jobs:
                raise ConfigError("these values give no jobs")
            _check_different(jobs)
            return SweepPlan(tuple(jobs), self.request.words)
        if asked:
            check_same_grid(saved, self.checked_jobs(self._grid(asked)))
        return saved

    def check_machine(self, configs: Sequence[Config]) -> None:
        """See that the jobs can run: on the machine that launches them, unless others do. Errors: ConfigError."""
        for trainer in () if self.detached else dict.fromkeys(config.trainer for config in configs):
            check_device(trainer)
        for logger in dict.fromkeys(config.logger for config in configs):
            check_trackers(logger)

    def _check_rows(self, arguments: Sequence[str]) -> None:
        """Refuse rows of nothing, and a key that is typed in the rows and beside them. A preset's rows give way.

        Errors: ConfigError.
        """
        rows = self.request.options.rows
        if rows is not None and not rows:
            raise ConfigError("sweep.rows=[]: is empty; leave it out, or give [{KEY: VALUE, ...}, ...]")
        if not any(given.startswith("sweep.rows=") for given in self.request.words):
            return
        typed = {given.split("=")[0] for given in arguments}
        for key in (key for row in rows or () for key in row):
            if key in typed:
                raise ConfigError(f"{key}: is set both in sweep.rows and outside it; set it in one of them")

    def _grid(self, arguments: Sequence[str]) -> list[list[str]]:
        """Each job's words: Hydra's product of all values, crossed with the rows of sweep.rows."""
        from mnist_ff.config.compose import check_overrides, config_errors

        assert self.hydra_context is not None
        overrides = self.overrides_of_jobs(arguments)
        with config_errors():
            jobs = [job for batch in self.split_arguments(overrides, None) for job in batch]
        rows = [row_words(row) for row in self.request.options.rows or ({},)]
        for row in rows:
            _check_of_jobs(check_overrides(self.hydra_context.config_loader, row), "sweep.rows")
        return [_crossed(job, row) for row, job in itertools.product(rows, jobs)]

    def overrides_of_jobs(self, arguments: Sequence[str]) -> list[Override]:
        """What jobs are made of: hydra.sweeper.params and the typed words, without what is the whole sweep's.

        Errors: ConfigError for what cannot differ between jobs.
        """
        from mnist_ff.config.compose import check_overrides, config_errors

        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        params = OmegaConf.select(self.config, "hydra.sweeper.params") if self.config is not None else None
        if params is not None and not OmegaConf.is_dict(params):
            raise ConfigError(f"hydra.sweeper.params={params}: must be keys and values, such as {{seed: '0,1'}}")
        with config_errors():
            kept = check_overrides(loader, with_texts_kept(self._parse_config()), several=True)
            typed = check_overrides(loader, arguments, several=True)
        _check_of_jobs(kept, "hydra.sweeper.params")
        _check_of_jobs([override for override in typed if override.is_sweep_override()], "several values")
        return [*kept, *(override for override in typed if not override.key_or_group.startswith("sweep."))]

    def checked_jobs(self, words: Sequence[Sequence[str]], first: int = 0) -> list[Job]:
        """Jobs of these words, numbered from `first`, each of them valid. Errors: ConfigError naming the job."""
        return [self._maker.job(first + place, job) for place, job in enumerate(words)]

    @functools.cached_property
    def _maker(self) -> JobMaker:
        assert self.hydra_context is not None
        assert self.config is not None
        return JobMaker(self.hydra_context.config_loader, self.config)

    def _on_data_that_can_be_had(self, plan: SweepPlan, arguments: Sequence[str]) -> SweepPlan:
        """Fetch every data set of the sweep. Where MNIST cannot be had, the same sweep on its subset."""
        if not self.needs_fallback([job.config for job in plan.jobs]):
            return plan
        jobs = self.checked_jobs([on_subset(words) for words in self._grid(arguments)])
        return SweepPlan(tuple(jobs), plan.words)

    def say_places(self, jobs: Sequence[Job]) -> None:
        """Say what saved jobs have of places that were not chosen by this user."""
        where = str(display_path(self.request.directory))
        lines = [line for job in jobs if not job.own for line in foreign_places(job.config, {}, where)[1]]
        for line in dict.fromkeys(lines):
            self.say(f"warning: {line}", style="yellow")

    def fetch_again(self, jobs: Sequence[Job]) -> None:
        """Fetch what saved jobs train on, where it is gone: they may run where there is no network.

        Errors: DataError when it cannot be had any more; a subset would make another sweep of it.
        """
        from mnist_ff.data.load import ensure

        for data in dict.fromkeys(settled_job(job).data for job in jobs):
            if ensure(data) != data:
                raise DataError(
                    f"data={data.name}: the jobs need it, but it cannot be downloaded: mnist-ff data {data.name}"
                )

    def needs_fallback(self, configs: list[Config]) -> bool:
        """Fetch every data set; whether MNIST could not be had and its subset must stand in, which is said aloud."""
        from mnist_ff.data.load import ensure

        saved = self.request.saved
        own = saved is None or saved.own
        wanted: dict[DataConfig, None] = dict.fromkeys(
            config.data if own else in_own_place(config.data) for config in configs
        )
        if not any(isinstance(ensure(data), MNIST5kConfig) and data.name == "mnist" for data in wanted):
            return False
        if {data.name for data in wanted} != {"mnist"}:
            raise ConfigError(
                "MNIST could not be downloaded, and this sweep compares data sets: see mnist-ff data mnist"
            )
        self.say(
            "WARNING: mnist could not be downloaded; all jobs use mnist_5k, 5,000 images of it."
            " Scores are not comparable with MNIST's.",
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
            self.began = True
            remove_leftovers(directory)
            self._complete(plan.jobs)
            yield

    def _complete(self, jobs: Sequence[Job]) -> None:
        """Make the pictures and pages of jobs that were killed or stopped just before these."""
        if self.request.saved is None:
            return
        for job in jobs:
            with suppress(BadRunError):  # its row says so
                if state_of(self.request.directory, job) == "finished":
                    run = Run(self.request.directory / job.subdir)
                    for name in complete(run, saved_config(run), note):
                        self.say(f"made {display_path(run.file(name))}")

    def save(self, plan: SweepPlan) -> None:
        """Write the jobs, and the config that they were made of for people. Errors: RunError."""
        assert self.config is not None
        try:
            write_plan(self.request.directory, plan)
            OmegaConf.save(self.config, self.request.directory / "multirun.yaml")
        except OSError as error:
            raise RunError(f"{self.request.directory}: {error.strerror}") from None

    def unfinished(self, plan: SweepPlan) -> tuple[list[Job], int]:
        """The jobs with something left to do, and how many have finished.

        One whose directory is not ours to touch is neither; its row says so.
        """
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
        """Those of the jobs that an earlier call left in Slurm and that go on there; they are said.

        Errors: RunError when Slurm does not say which these are.
        """
        there = still_there(self.request.directory, [job.subdir for job in jobs])
        if there:
            what = "are waited for" if self.detached else "are left alone; hydra/launcher=submitit_slurm waits for them"
            self.say(f"{len(there)} jobs still in Slurm (as {', '.join(job_numbers(there.values()))}) {what}")
        return [job for job in jobs if job.subdir in there]

    @property
    def detached(self) -> bool:
        """Whether jobs go on without their launcher, so that one can be left and found again."""
        return isinstance(self.launcher, ProcessLauncher) and self.launcher.detached

    def launch(self, jobs: Sequence[Job], keys: Sequence[str], tally: Tally, together: Sequence[int | None]) -> None:
        """Run saved jobs with the launcher that was chosen, and return when they have ended, in whatever way.

        `keys` name a job to people; `together` are trainer.threads of each job that a whole batch has.
        How they ended is in their directories. Errors: Stopped after a signal.
        """
        assert self.launcher is not None
        if not jobs:
            return
        if isinstance(self.launcher, ProcessLauncher):
            self.launcher.say, self.launcher.together = self.say, together
        batch = [[*job.overrides, f"hydra.sweep.subdir={quoted(job.subdir)}"] for job in jobs]
        with interruptible() as stopped:
            inside = isinstance(self.launcher, BasicLauncher)
            end = _EndAfterSignal(self.request.directory, stopped, inside, self.detached)
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
            tell(self.request.console, line, style)


class _EndAfterSignal:
    """Passes a signal on to the jobs by the sweep's sign, and ends a launcher that does not return.

    Jobs that go on without their launcher see no sign: it is the launcher alone that hears of the signal.
    """

    def __init__(self, sweep: Path, stopped: Any, inside: bool, detached: bool) -> None:
        self._sweep, self._stopped, self._inside, self._detached = sweep, stopped, inside, detached
        self._since: float | None = None

    def look(self) -> None:
        """Called every now and then, from another thread."""
        name = self._stopped.signal_name
        if name is None:
            return
        now, since = time.monotonic(), self._since
        if since is not None and (self._inside or now - since <= GRACE or not _in_the_progress_thread()):
            return
        self._since = now
        if since is None and not self._detached:
            ask_to_stop(self._sweep, name)
        else:  # once more: a launcher that listens leaves its jobs, any other is ended by Stopped
            signal.pthread_kill(threading.main_thread().ident or 0, getattr(signal, name))


def _in_the_progress_thread() -> bool:
    return threading.current_thread().name == "sweep progress"


def _check_of_jobs(overrides: Sequence[Override], where: str) -> None:
    """See that these keys can differ between jobs. Errors: ConfigError."""
    for override in overrides:
        key = override.key_or_group
        if key == "sweep" or key.startswith(("sweep.", "hydra.", "hydra/")):
            raise ConfigError(
                f"{override.input_line} ({where}): applies to the whole sweep and cannot differ between jobs; "
                "give it one value on the command line"
            )


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


def _crossed(job: Sequence[str], row: Sequence[str]) -> list[str]:
    """A job's words with a row's; what a person typed stands after what a file holds."""
    typed = {given.split("=")[0] for given in job}
    return [*(given for given in row if given.split("=")[0] not in typed), *job]


def _check_different(jobs: Sequence[Job]) -> None:
    """Refuse the same experiment twice, and two in one directory. Errors: ConfigError."""
    seen: dict[str, Job] = {}
    if len({job.subdir for job in jobs}) < len(jobs):
        raise ConfigError("hydra.sweep.subdir: two jobs would share a directory; it must contain ${hydra.job.num}")
    for job in jobs:
        twin = seen.setdefault(job.digest, job)
        if twin is not job and job.config.seed is not None:
            raise ConfigError(f"jobs {twin.number} and {job.number} are the same: {' '.join(job.overrides)}")


def check_new(directory: Path) -> None:
    """Errors: ConfigError when a new sweep's directory is there already."""
    if os.path.lexists(directory):
        raise ConfigError(
            f"{directory}: already exists; two sweeps never share a directory\n"
            f"mnist-ff train -m resume={directory} resumes its jobs"
        )


def _make(directory: Path) -> None:
    check_new(directory)
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise RunError(f"{directory}: was just created by another process") from None
    except OSError as error:
        kind = ConfigError if isinstance(error, NotADirectoryError) else RunError
        raise kind(f"{directory}: {error.strerror}; choose another with hydra.sweep.dir=FOLDER") from None


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    link = link_among_own_files(directory)
    if link is not None:
        raise RunError(f"{link}: is a symbolic link; a sweep writes only inside its own directory")
    with locked(directory, "another process is running this sweep", timeout_s=0):
        yield


def on_subset(words: Sequence[str]) -> list[str]:
    """A job's words for mnist_5k; keys that it does not have are left out."""
    gone = ("data=", "data.mirrors=", "data.fallback=")
    return [*(given for given in words if not given.startswith(gone)), "data=mnist_5k", "data.instead_of=mnist"]
