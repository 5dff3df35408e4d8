"""hydra/launcher=submitit_slurm and submitit_local: a Slurm cluster, or the same processes on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.config.paths import display_path
from mnist_ff.engine.cores import cores_here
from mnist_ff.errors import ConfigError, Stopped
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.records import Status
from mnist_ff.runs.signals import interruptible
from mnist_ff.runs.slurm import is_active, job_numbers, note_submitted, states_of, still_there
from mnist_ff.sweeps.job_run import JobResult, record_lost, result_of
from mnist_ff.sweeps.launchers.base import TERM_TIMEOUT_S, ProcessLauncher, check_whole, shared
from mnist_ff.sweeps.worker import Task

SUBMITIT_FOLDER = ".submitit"
"""In the sweep's directory: what submitit sends and gets, and the jobs' logs."""
LARGEST_ARRAY = 1000
"""Tasks; Slurm's MaxArraySize is 1001 unless a cluster says otherwise."""
JOB_POLL_S = 0.2
"""Seconds between two looks at the files of jobs."""
FIRST_ASK_S, LAST_ASK_S = 1.0, 30.0
"""Seconds between two questions to Slurm's controller: they grow from the one to the other."""


@dataclass(frozen=True)
class Requeueable:
    """A task that submitit puts into the queue again when its time is up or its place is needed."""

    task: Task

    def __call__(self) -> JobResult:
        """Do the task. submitit's signal is the task's own while it trains: afterwards submitit gets it, to requeue."""
        result = self.task()
        if result.status == Status.INTERRUPTED and signal.SIGUSR2.name in result.signals:
            os.kill(os.getpid(), signal.SIGUSR2)
        return result

    def checkpoint(self) -> Any:
        """Called by submitit: what to submit again. All that it needs is in the run's directory."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SubmititLauncher(ProcessLauncher):
    """What the launchers over submitit share. The keys are submitit's; see conf/hydra/launcher/."""

    needs = ("submitit", "slurm")
    requeues = True

    def __init__(self, keys: Mapping[str, Any]) -> None:
        """Errors: ConfigError. The rest of the keys is sbatch's business, which says what it does not like."""
        super().__init__(keys)
        given = {key: value for key, value in keys.items() if value is not None}
        self._at_once, self._cpus = given.pop("array_parallelism", None), given.pop("cpus_per_task", None)
        self._timeouts = given.pop("max_num_timeout", None)
        self._keys: dict[str, Any] = given
        self._check()

    def _check(self) -> None:
        for key, value in (("array_parallelism", self._at_once), ("cpus_per_task", self._cpus)):
            check_whole(key, value)
        for key in ("gpus_per_node", "mem_gb"):
            check_whole(key, self._keys.get(key))
        for key, least in (("timeout_min", 1), ("signal_delay_s", 1), ("max_num_timeout", 0)):
            value = self._timeouts if key == "max_num_timeout" else self._keys.get(key)
            check_whole(key, value, least)
            if value is None:
                raise ConfigError(f"hydra.launcher.{key}=null: must be an integer from {least}")
        for key, kind in (("setup", list), ("additional_parameters", dict)):
            if not isinstance(self._keys.get(key, kind()), kind):
                raise ConfigError(f"hydra.launcher.{key}={self._keys[key]}: must be a {kind.__name__}")
        if self._keys["signal_delay_s"] >= 60 * self._keys["timeout_min"]:
            raise ConfigError(
                f"hydra.launcher.signal_delay_s={self._keys['signal_delay_s']}: must be less than the "
                f"{self._keys['timeout_min']} minutes of timeout_min"
            )

    def _folder(self) -> Path:
        return self.sweep / SUBMITIT_FOLDER / "%j"

    def _log_of(self, job: Any) -> str:
        return os.path.relpath(job.paths.stderr, self.sweep)


class SlurmLauncher(SubmititLauncher):
    """A Slurm cluster. The jobs do not need the process that launched them."""

    detached = True

    def share(self, asked: Sequence[int | None], is_search: bool) -> tuple[int, int]:
        """The array's tasks at a time, and the cores of each."""
        fixed = max((threads for threads in asked if threads is not None), default=1)
        return self._at_once or LARGEST_ARRAY, self._cpus or fixed

    def run(self, tasks: Sequence[Task], at_once: int) -> None:
        """Submit the tasks that Slurm does not have yet as job arrays, and wait for all.

        Errors: Stopped, with what was submitted left to Slurm; RunError when Slurm does not say what it has.
        """
        there = still_there(self.sweep, [task.subdir for task in tasks])
        jobs = {self._known(there[task.subdir]): task for task in tasks if task.subdir in there}
        new = [task for task in tasks if task.subdir not in there]
        with interruptible() as stopped:
            executor = self._executor(at_once, tasks[0].threads)
            while new and stopped() is None:
                some, new = new[:LARGEST_ARRAY], new[LARGEST_ARRAY:]
                jobs |= self._submitted(executor, some)
            numbers = job_numbers([job.job_id for job in jobs])
            self.say(f"Slurm's jobs {', '.join(numbers)}; Ctrl-C leaves them running in Slurm, scancel stops them")
            for states in _states_now_and_then(numbers):
                jobs = {job: task for job, task in jobs.items() if self._goes_on(job, task, states)}
                if not jobs and not new:
                    return
                if stopped() is not None:
                    self._leave(len(jobs), len(new), numbers)
                    raise Stopped(stopped.exit_code)

    def _known(self, number: str) -> Any:
        """A job that an earlier call submitted."""
        from submitit import SlurmJob

        return SlurmJob(self._folder(), number)

    def _submitted(self, executor: Any, tasks: Sequence[Task]) -> dict[Any, Task]:
        """Submit one array, and note its numbers in the sweep's directory."""
        with _sigint_blocked(), executor.batch():
            submitted = [executor.submit(Requeueable(task)) for task in tasks]
        note_submitted(self.sweep, {task.subdir: job.job_id for task, job in zip(tasks, submitted, strict=True)})
        return dict(zip(submitted, tasks, strict=True))

    def _leave(self, there: int, new: int, numbers: Sequence[str]) -> None:
        sweep = display_path(self.sweep)
        go_on = "keeps running" if there == 1 else "keep running"
        self.say(f"left: {counted(there, 'job')} {go_on} in Slurm (scancel {' '.join(numbers)} stops them)")
        if new:
            self.say(f"{counted(new, 'job')} {'was' if new == 1 else 'were'} not submitted")
        self.say(f"mnist-ff compare {shlex.quote(str(sweep))} shows their progress; train -m resume= waits for them")

    def _executor(self, at_once: int, cpus: int) -> Any:
        """submitit's, with the launcher's keys. Errors: submitit's own, for values that it refuses."""
        from submitit import AutoExecutor

        executor = AutoExecutor(self._folder(), cluster="slurm", slurm_max_num_timeout=self._timeouts)
        keys = {
            **self._keys,
            "array_parallelism": at_once,
            "cpus_per_task": cpus,
            "srun_args": [f"--cpus-per-task={cpus}"],  # since 22.05 srun does not take it from sbatch
            "additional_parameters": {"requeue": True, **self._keys.get("additional_parameters", {})},
        }
        for_all = executor._valid_parameters()
        executor.update_parameters(**{key if key in for_all else f"slurm_{key}": value for key, value in keys.items()})
        return executor

    def _goes_on(self, job: Any, task: Task, states: Mapping[str, str] | None) -> bool:
        """Whether a job has not ended; `states` is None between two questions to Slurm."""
        if job.paths.result_pickle.exists() and result_of(self.sweep, task.subdir).status != Status.INTERRUPTED:
            return False
        if states is None:
            return True
        state = states.get(job.job_id)
        if is_active(state):
            return True
        if state != "COMPLETED":
            record_lost(self.sweep, task.subdir, self._end_of(job, state))
        return False

    def _end_of(self, job: Any, state: str | None) -> str:
        if state == "CANCELLED":
            return f"cancelled in Slurm (job {job.job_id})"
        if state is None and not job.paths.stderr.exists():  # Slurm keeps nothing of such a task of an array
            return f"cancelled in Slurm before it started (job {job.job_id})"
        ended = "is no longer known to Slurm" if state is None else f"ended in Slurm as {state}"
        return f"its job {job.job_id} {ended}; its log: {self._log_of(job)}"


def _states_now_and_then(numbers: Sequence[str]) -> Iterator[Mapping[str, str] | None]:
    """What Slurm says of its jobs, and None in between, several times a second."""
    pause, ask_at = FIRST_ASK_S, time.monotonic()
    while True:
        if time.monotonic() < ask_at:
            yield None
        else:
            yield states_of(numbers)
            pause = min(1.2 * pause, LAST_ASK_S)
            ask_at = time.monotonic() + pause
        time.sleep(JOB_POLL_S)


class LocalLauncher(SubmititLauncher):
    """submitit's processes on this machine, no more of them at a time than the cores hold."""

    def share(self, asked: Sequence[int | None], is_search: bool) -> tuple[int, int]:
        """As on one machine; cpus_per_task stands for trainer.threads=null."""
        at_once, threads = shared(cores_here(), self._at_once, [given or self._cpus for given in asked])
        return at_once, self._cpus or threads

    def run(self, tasks: Sequence[Task], at_once: int) -> None:
        """Run the tasks, `at_once` at a time."""
        from submitit import LocalExecutor

        executor = LocalExecutor(self._folder(), max_num_timeout=self._timeouts)
        executor.update_parameters(**self._keys)
        waiting, running = deque(tasks), dict[Any, Task]()
        try:
            while waiting or running:
                if self.is_ending():
                    waiting.clear()
                while waiting and len(running) < at_once:
                    task = waiting.popleft()
                    with _sigint_ignored():
                        running[executor.submit(Requeueable(task))] = task
                running = {job: task for job, task in running.items() if self._goes_on(job, task)}
                time.sleep(JOB_POLL_S)
        except BaseException:
            _end_all(list(running))
            raise

    def _goes_on(self, job: Any, task: Task) -> bool:
        if job._process.poll() is None:
            return True
        if not job.paths.result_pickle.exists():
            reason = f"its process was killed, or ended without giving a reason; its log: {self._log_of(job)}"
            record_lost(self.sweep, task.subdir, reason)
        return False


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """A terminal's Ctrl-C reaches sbatch too, which would end before it has said what it submitted.

    What starts inside the block never gets the signal; this process hears of it when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    """What starts inside the block ignores SIGINT until it says otherwise.

    A terminal's Ctrl-C reaches all processes. submitit's, which look after the tasks, would kill these before they
    can save; the tasks listen while they train.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_all(jobs: Sequence[Any]) -> None:
    """At once: these were asked before. submitit's processes pass SIGTERM on."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        alive = [job._process for job in jobs if job._process.poll() is None]
        for process in alive:
            process.send_signal(number)
        end = time.monotonic() + TERM_TIMEOUT_S
        while time.monotonic() < end and any(process.poll() is None for process in alive):
            time.sleep(0.05)
