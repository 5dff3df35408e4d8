"""What launchers share: each runs a list of saved jobs, and the run directories say what came of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mnist_ff.errors import ConfigError
from mnist_ff.runs.jobs import Job
from mnist_ff.runs.signals import Interruption
from mnist_ff.sweeps.job_run import SweepJob
from mnist_ff.sweeps.stop_file import reason_to_stop
from mnist_ff.sweeps.worker import Task

TERM_TIMEOUT_S = 0.3
"""Between the two signals that ask a process to end, and then until it is killed."""
Say = Callable[[str], None]
"""Where a line for people goes."""


class Launcher(ABC):
    """Runs the jobs of a sweep with the keys of one option of conf/hydra/launcher/."""

    needs: ClassVar[tuple[str, str] | None] = None
    """The module that it needs, and the extra that brings it."""
    in_process: ClassVar[bool] = False
    """Whether the jobs run in the process that launches them."""
    detached: ClassVar[bool] = False
    """Whether the jobs outlive the process that launched them, so that Ctrl-C leaves them running."""
    requeues: ClassVar[bool] = False
    """Whether a job that was stopped by SIGUSR2 comes back."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        """Errors: ConfigError for a key's value."""
        self.keys = keys

    def warm_up(self) -> None:
        """Begin with what takes a while and needs no job: jobs will be launched soon."""
        return

    @abstractmethod
    def launch(
        self, job: SweepJob, jobs: Sequence[Job], together: Sequence[int | None], say: Say, stopped: Interruption
    ) -> None:
        """Run every job and return when the last has ended, in whatever way.

        `together` are trainer.threads of each job that a whole batch has: what is left of a sweep is fewer jobs, and
        gets the same threads. `stopped` knows of a signal to this process at once, the stop file a moment later.
        Errors: Stopped; the engine's own.
        """


class ProcessLauncher(Launcher):
    """Sends jobs to other processes: one that is lost loses nothing else, and its row says why.

    Hydra's own plugins for joblib and submitit were tried: a job that is killed ends its neighbours in the one, and
    makes the other wait for ever on a cluster without an accounting database.
    """

    sweep: Path
    say: Say
    _stopped: Interruption
    _shared: tuple[int, int] | None = None

    def launch(
        self, job: SweepJob, jobs: Sequence[Job], together: Sequence[int | None], say: Say, stopped: Interruption
    ) -> None:
        """See Launcher."""
        self.sweep, self.say, self._stopped = job.sweep, say, stopped
        if self._shared is None:
            self._shared = self.share(together, is_search=job.study is not None)
            if None in together:
                most = "auto, at most " if any(one.config.trainer.threads == "auto" for one in jobs) else ""
                say(f"trainer.threads={most}{self._shared[1]} for each job, at most {self._shared[0]} at a time")
        at_once, threads = self._shared
        elsewhere = replace(job, parent=0)  # a process id means nothing on another machine
        self.run([Task(elsewhere, one.subdir, threads) for one in jobs], at_once)

    def is_ending(self) -> bool:
        """Whether no more jobs are to start. One that heard Ctrl-C too may end before the stop file is there."""
        return self._stopped.signal_name is not None or reason_to_stop(self.sweep) is not None

    @abstractmethod
    def share(self, asked: Sequence[int | None], is_search: bool) -> tuple[int, int]:
        """Jobs at a time, and the threads of those that ask for none; `asked` holds trainer.threads of each job."""

    @abstractmethod
    def run(self, tasks: Sequence[Task], at_once: int) -> None:
        """Run the tasks, and record those whose process could not say itself how it ended."""


def check_whole(key: str, value: Any, least: int = 1) -> None:
    """See that a key of the launcher's is a whole number or null. Errors: ConfigError."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(f"hydra.launcher.{key}={value}: must be an integer from {least}, or null")


def shared(cores: int, at_once: int | None, asked: Sequence[int | None]) -> tuple[int, int]:
    """Jobs at a time and threads each, so that their product stays within the cores unless more was asked for.

    `at_once` is None for as many as fit; `asked` holds each job's trainer.threads, None for its share.
    """
    fixed = max((threads for threads in asked if threads is not None), default=1)
    jobs = min(len(asked), max(1, cores // fixed) if at_once is None else at_once)
    return jobs, max(1, cores // jobs)
