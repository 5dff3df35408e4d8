"""One job of a sweep: start or resume it in its directory. Launchers call this in other processes and machines."""

from __future__ import annotations

import io
import os
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from rich.console import Console

from mnist_ff.analysis.rows import GOOD, read_row
from mnist_ff.config.own_parts import PartsFile, loaded
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.errors import BadRunError, DataError, LostError, MnistError, Stopped
from mnist_ff.files import write_texts
from mnist_ff.runs.directory import CHECKPOINT, PREVIOUS, Run
from mnist_ff.runs.jobs import Job, read_job, same_experiment, state_of
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.records import Status
from mnist_ff.runs.signals import Interruption, interruptible
from mnist_ff.runs.start_up import importing
from mnist_ff.session.resume import changed, foreign_places, places_of, resumed_config
from mnist_ff.session.timing import Timing
from mnist_ff.session.validate import check
from mnist_ff.sweeps.search.reporter import Reporter, StudyLink
from mnist_ff.sweeps.stop_file import AFTER_AN_ERROR, StopFile, ask_to_stop, reason_to_stop, signal_named
from mnist_ff.training.callbacks import Pruning


@dataclass(frozen=True)
class JobResult:
    """What a job tells its launcher; all else is in its run directory."""

    status: str
    """As a row of the sweep's table has it."""
    signals: tuple[str, ...] = ()
    """Names of the signals that the job's process got while it trained."""


@dataclass(frozen=True)
class SweepJob:
    """What a launcher runs for each job. Plain values only: it is pickled.

    It may be called again at any time for the same job: a finished one is left alone, one with a checkpoint is resumed
    from there, one without has nothing to lose and starts over. No exception of the job's own leaves it, whatever
    kind it is; the outcome is in the run directory.
    """

    sweep: Path
    """The sweep's directory, absolute."""
    argv: tuple[str, ...]
    """The command that the sweep was started with, for environment.json."""
    stop_on_error: bool
    parent: int
    """The process that launches: a job there raises Stopped to end the launcher's loop."""
    study: StudyLink | None = None
    """Where a search's trial reports each epoch; the trial's number is the job's."""
    parts: tuple[PartsFile, ...] = ()
    """The files of own parts that jobs.json names; a job in another process imports them if they are the same."""
    draws: bool = True
    """Whether a job makes its own pictures, as one with trackers does, which send them; else whoever launched it does,
    when all have ended."""
    own: bool = False
    """Whether the parent saw that this user chose the jobs' places; a worker elsewhere may lack the key to see it."""

    def __call__(self, subdir: str) -> JobResult:
        """Train the job of this directory below the sweep's. Errors: Stopped, in the sweep's own process only."""
        run = Run(self.sweep / subdir)
        inside = os.getpid() == self.parent
        reason = reason_to_stop(self.sweep)
        if reason is not None:
            if inside:
                named = signal_named(reason)
                raise Stopped(1 if named is None else 128 + named.value)
            return JobResult("not started")
        with interruptible(StopFile(self.sweep)) as stopped:
            try:
                self._attempt(run, stopped)
            except Stopped:  # a second signal: at once
                if inside:
                    raise
                return JobResult("interrupted")
        if inside and stopped.signal_name is not None:
            ask_to_stop(self.sweep, stopped.signal_name)
        row = read_row(run.path)
        if self.stop_on_error and row.status not in (*GOOD, Status.INTERRUPTED, "running"):
            ask_to_stop(self.sweep, AFTER_AN_ERROR)
        return JobResult(row.status, stopped.received)

    def _attempt(self, run: Run, stopped: Interruption) -> None:
        """Resume or start, and leave a summary in any case. Errors: Stopped."""
        began, before = time.perf_counter(), _ending(run)
        config = None
        try:
            subdir = run.path.relative_to(self.sweep).as_posix()
            job = read_job(self.sweep, subdir)
            if state_of(self.sweep, job) == "finished":
                return
            config = job.config  # a user's own parts are plain data until their files are imported
            reporter = nullcontext() if self.study is None else Reporter(self.study, job.number)
            with loaded(self.parts), reporter as report:
                job = read_job(self.sweep, subdir) if self.parts else job
                config = resolved_config(replace(job, own=job.own or self.own))
                pruning = None if report is None else Pruning(report)
                job = replace(job, config=config)
                continue_or_start(job, run, self, stopped, began, pruning)
        except Stopped:
            raise
        except BaseException as error:  # also SystemExit, and a KeyboardInterrupt that no signal made
            if config is not None and _ending(run) == before:
                write_reason(run, config, error, began)


def result_of(sweep: Path, subdir: str) -> JobResult:
    """What the job of this directory would tell its launcher."""
    return JobResult(read_row(sweep / subdir).status)


def record_lost(sweep: Path, subdir: str, reason: str) -> None:
    """Say in a job's directory why its process is gone, unless that did so itself or another one is at work there."""
    run = Run(sweep / subdir)
    with suppress(FileNotFoundError):
        if "summary.json" in os.listdir(run.path):  # unlike stat, a listing is never an old one on a network's disk
            return
    with suppress(BadRunError):
        write_reason(run, read_job(sweep, subdir).config, LostError(reason), time.perf_counter())


def _ending(run: Run) -> tuple[int, int] | None:
    """Which summary.json is there: a new one is another file."""
    try:
        found = run.file("summary.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def resolved_config(job: Job) -> Config:
    """The job's config with places that are this user's."""
    return job.config if job.own else changed(job.config, foreign_places(job.config, {}, job.subdir)[0])


def continue_or_start(
    job: Job, run: Run, sweep: SweepJob, stopped: Interruption, began: float, pruning: Pruning | None = None
) -> None:
    """Train in a run's directory, from its checkpoint if it has one. `pruning` may end a search's trial early.

    Errors: MnistError and bugs alike; a summary says so only if training had begun.
    """
    argv, draws = list(sweep.argv), sweep.draws or any(tracker.off is None for _, tracker in job.config.logger)
    timing = Timing(began)
    timing.claim("config")
    with importing(), timing.part("import"):
        from mnist_ff.session.request import RunRequest
        from mnist_ff.session.resolve import resolve
        from mnist_ff.session.session import train

    quiet = Console(file=io.StringIO(), quiet=True)
    if any(is_taken(run.file(name)) for name in (CHECKPOINT, PREVIOUS)):
        saved, changes, _ = resumed_config(run, places_of(job.config))
        check(saved)
        train(RunRequest(saved, run, argv, timing, quiet, stopped, changes, pruning, draws))
        return
    with timing.part("data"):
        config = resolve(_with_threads_of(run, job.config))
    if not same_experiment(job.config, config):
        raise DataError(
            f"data={config.data.name}: could not be downloaded for this job; see mnist-ff data {config.data.name}"
        )
    if is_taken(run.file("config.yaml")):
        with run.locked():
            run.start_over()
    run = Run.create(run.path)
    overrides: str = yaml.safe_dump(list(job.overrides), allow_unicode=True)
    write_texts(run.file(".hydra"), {"config.yaml": to_yaml(job.config), "overrides.yaml": overrides})  # for people
    train(RunRequest(config, run, argv, timing, quiet, stopped, pruning=pruning, draws=draws))


def _with_threads_of(run: Run, config: Config) -> Config:
    """A job's config with the number that its earlier attempt took for trainer.threads=auto."""
    if config.trainer.threads != "auto":
        return config
    with suppress(BadRunError):
        threads = run.config().trainer.fixed_threads
        return replace(config, trainer=replace(config.trainer, threads=threads or "auto"))
    return config


def write_reason(run: Run, config: Config, error: BaseException, began: float) -> None:
    """Say why in the directory, if nobody else is at work there and the disk allows it."""
    from mnist_ff.session.failures import write_failure

    with suppress(MnistError, OSError):
        run.check_place()
        run.path.mkdir(parents=True, exist_ok=True)
        with run.locked():
            if not is_taken(run.file("config.yaml")):
                run.write_config(config)
            with suppress(BadRunError):
                config = run.config()
            write_failure(run, config, error, Timing(began))
