"""hydra/launcher=joblib: the cores of this machine, a process a job."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from mnist_ff.errors import ConfigError
from mnist_ff.sweeps import fork_server
from mnist_ff.sweeps.job_run import record_lost
from mnist_ff.sweeps.launchers.base import TERM_TIMEOUT_S, ProcessLauncher, check_whole, shared
from mnist_ff.sweeps.worker import Task

PRELOAD = ("mnist_ff.sweeps.launchers.preload", "mnist_ff.session.session")
"""The first imports the second where it can keep signals away."""


class JoblibLauncher(ProcessLauncher):
    """The cores of this machine. joblib's threads hand out the jobs, and each job is a process with torch loaded."""

    needs = ("joblib", "parallel")

    def __init__(self, keys: Mapping[str, Any]) -> None:
        """n_jobs is joblib's. Errors: ConfigError."""
        super().__init__(keys)
        self._n_jobs: int | None = keys["n_jobs"]
        check_whole("n_jobs", self._n_jobs, least=-1)
        if self._n_jobs == 0:
            raise ConfigError("hydra.launcher.n_jobs=0: must be a number of jobs, -1 for one per core, or null")
        self._processes: list[BaseProcess] = []

    def share(self, asked: Sequence[int | None], is_search: bool) -> tuple[int, int]:
        """joblib counts the cores: it knows of containers and affinity."""
        from joblib import cpu_count, effective_n_jobs

        at_once = None if self._n_jobs is None else effective_n_jobs(self._n_jobs)
        if self._n_jobs is not None and self._n_jobs > len(asked):
            why = " (hydra.sweeper.n_jobs)" if is_search else ""
            self.say(f"hydra.launcher.n_jobs={self._n_jobs}: only {len(asked)} are launched together{why}")
        return shared(cpu_count(), at_once, asked)

    def warm_up(self) -> None:
        """Start the process from which those of the jobs are forked; it imports while this one goes on."""
        fork_server.start(PRELOAD)

    def run(self, tasks: Sequence[Task], at_once: int) -> None:
        """Run the tasks, `at_once` at a time."""
        from joblib import Parallel, delayed

        self.warm_up()
        try:
            parallel = Parallel(n_jobs=at_once, backend="threading", batch_size=1, pre_dispatch="n_jobs")
            parallel(delayed(self._supervise)(fork_server.context(), task) for task in tasks)
        except BaseException:
            self._end_all()
            raise

    def _supervise(self, context: Any, task: Task) -> None:
        if self.is_ending():
            return
        process = context.Process(target=_work, args=(task, os.getcwd(), dict(os.environ)), name=f"job {task.subdir}")
        self._processes.append(process)
        try:
            process.start()
        except fork_server.NOT_STARTED as error:
            self._processes.remove(process)
            record_lost(self.sweep, task.subdir, f"its process could not be started ({error})")
            return
        process.join()
        self._processes.remove(process)
        if process.exitcode:
            record_lost(self.sweep, task.subdir, ended_with(process.exitcode))

    def _end_all(self) -> None:
        """At once: these were asked before."""
        for end in (BaseProcess.terminate, BaseProcess.terminate, BaseProcess.kill):
            alive = [process for process in list(self._processes) if process.is_alive()]
            for process in alive:
                end(process)
            wait([process.sentinel for process in alive], TERM_TIMEOUT_S)


def _work(task: Task, folder: str, environment: Mapping[str, str]) -> None:
    """In the job's own process, forked from an older one: be where the launching one is, end with it, do the task."""
    signal.signal(signal.SIGINT, fork_server.pass_over)  # the stop file says it
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
