"""Hydra launchers whose jobs have a process each: one that is lost loses nothing else, and its row says why.

Hydra's own plugins for joblib and submitit were tried: a job that is killed ends its neighbours in the one, and makes
the other wait for ever on a cluster without an accounting database.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from mnist_ff.analysis.console import note
from mnist_ff.errors import ConfigError
from mnist_ff.runs.jobs import read_plan
from mnist_ff.sweeps.job_run import SweepJob, record_lost, result_of
from mnist_ff.sweeps.stop_file import reason_to_stop
from mnist_ff.sweeps.worker import Task

FAREWELL = 0.3
"""Seconds that a process has between the two signals that ask it to end, and then until it is killed."""


class ProcessLauncher(Launcher):
    """A launcher that sends tasks to other processes, and finds in the run directories what came of them."""

    detached = False
    """Whether the jobs go on without the process that launched them, so that Ctrl-C leaves them."""
    requeues = False
    """Whether a job that was stopped by SIGUSR2 comes back."""
    say: Callable[[str], None] = staticmethod(note)
    """Where a line for people goes."""
    together: Sequence[int | None] = ()
    """trainer.threads of each job that is launched together, set before launch(). What is left of a sweep is fewer jobs
    than the whole, and gets the same threads."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra, before anything is written. Errors: ConfigError for a key's value."""
        assert isinstance(task_function, SweepJob)
        self._job, self._config = task_function, config
        self._shared: tuple[int, int] | None = None
        self.check()

    @abstractmethod
    def check(self) -> None:
        """See that the launcher's keys can be meant. Errors: ConfigError."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run every job and return when the last has ended, in whatever way. Errors: Stopped; the engine's own."""
        parser = OverridesParser.create()
        by_subdir = {job.subdir: job for job in read_plan(self._job.sweep).jobs}
        jobs = [by_subdir[str(parser.parse_override(words[-1]).value())] for words in job_overrides]
        if self._shared is None:
            self._shared = self.share(self.together)
            if None in self.together:
                self.say(f"trainer.threads={self._shared[1]} for each job, at most {self._shared[0]} at a time")
        at_once, threads = self._shared
        elsewhere = replace(self._job, parent=0)  # a process id means nothing on another machine
        self.run(
            [
                Task(self._config, elsewhere, tuple(words), job.number, job.subdir, threads)
                for words, job in zip(job_overrides, jobs, strict=True)
            ],
            at_once,
        )
        return [_returned(result_of(self._job.sweep, job.subdir)) for job in jobs]

    @abstractmethod
    def share(self, asked: Sequence[int | None]) -> tuple[int, int]:
        """Jobs at a time, and the threads of those that ask for none; `asked` holds trainer.threads of each job."""

    @abstractmethod
    def run(self, tasks: Sequence[Task], at_once: int) -> None:
        """Run the tasks, and record those whose process could not say itself how it ended."""


def check_whole(key: str, value: Any, least: int = 1) -> None:
    """See that a key of the launcher's is a whole number or null. Errors: ConfigError."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(f"hydra.launcher.{key}={value}: must be an integer from {least}, or null")


def _returned(result: Any) -> JobReturn:
    returned = JobReturn(status=JobStatus.COMPLETED)
    returned.return_value = result
    return returned


def shared(cores: int, at_once: int | None, asked: Sequence[int | None]) -> tuple[int, int]:
    """Jobs at a time and threads each, so that their product stays within the cores unless more was asked for.

    `at_once` is None for as many as fit; `asked` holds each job's trainer.threads, None for its share.
    """
    fixed = max((threads for threads in asked if threads is not None), default=1)
    jobs = min(len(asked), max(1, cores // fixed) if at_once is None else at_once)
    return jobs, max(1, cores // jobs)


def cores_here() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class JoblibLauncher(ProcessLauncher):
    """The cores of this machine. joblib's threads hand out the jobs, and each job is a process with torch loaded."""

    def __init__(self, n_jobs: int | None) -> None:
        self._n_jobs = n_jobs
        self._processes: list[BaseProcess] = []

    def check(self) -> None:
        """n_jobs is joblib's."""
        check_whole("n_jobs", self._n_jobs, least=-1)
        if self._n_jobs == 0:
            raise ConfigError("hydra.launcher.n_jobs=0: must be a number of jobs, -1 for one per core, or null")

    def share(self, asked: Sequence[int | None]) -> tuple[int, int]:
        """joblib counts the cores: it knows of containers and affinity."""
        from joblib import cpu_count, effective_n_jobs

        at_once = None if self._n_jobs is None else effective_n_jobs(self._n_jobs)
        if self._n_jobs is not None and self._n_jobs > len(asked):
            why = "" if self._job.study is None else " (hydra.sweeper.n_jobs)"
            self.say(f"hydra.launcher.n_jobs={self._n_jobs}: only {len(asked)} are launched together{why}")
        return shared(cpu_count(), at_once, asked)

    def run(self, tasks: Sequence[Task], at_once: int) -> None:
        """Run the tasks, `at_once` at a time."""
        from joblib import Parallel, delayed

        context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
        context.set_forkserver_preload(["mnist_ff.session.session", "mnist_ff.analysis.plots"])
        try:
            parallel = Parallel(n_jobs=at_once, backend="threading", batch_size=1, pre_dispatch="n_jobs")
            parallel(delayed(self._supervise)(context, task) for task in tasks)
        except BaseException:
            self._end_all()
            raise

    def _supervise(self, context: Any, task: Task) -> None:
        if reason_to_stop(task.job.sweep) is not None:
            return
        process = context.Process(target=_work, args=(task, os.getcwd(), dict(os.environ)), name=f"job {task.subdir}")
        self._processes.append(process)
        process.start()
        process.join()
        self._processes.remove(process)
        if process.exitcode:
            record_lost(task.job.sweep, task.subdir, ended_with(process.exitcode))

    def _end_all(self) -> None:
        """At once: these were asked before."""
        for end in (BaseProcess.terminate, BaseProcess.terminate, BaseProcess.kill):
            alive = [process for process in list(self._processes) if process.is_alive()]
            for process in alive:
                end(process)
            wait([process.sentinel for process in alive], FAREWELL)


def _work(task: Task, folder: str, environment: Mapping[str, str]) -> None:
    """In the job's own process, forked from an older one: be where the launching one is, end with it, do the task."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    task()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def ended_with(code: int) -> str:
    """A process's exit code for people; it is negative for a signal, as subprocess has it."""
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL), possibly because memory ran out"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code} without giving a reason"
