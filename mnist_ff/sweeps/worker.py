"""One job of a sweep as plain data for another process or machine."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_ff.engine.spinning import settled
from mnist_ff.sweeps.job_run import JobResult, SweepJob


@dataclass(frozen=True)
class Task:
    """A job for another process. Any process that has mnist_ff can read its pickle."""

    job: SweepJob
    subdir: str
    """The job's directory below the sweep's, by which it is found in jobs.json."""
    threads: int
    """For a job with trainer.threads=null."""

    def __call__(self) -> JobResult:
        """Train in the job's directory; see SweepJob."""
        with settled():  # the process may be a new one, on another machine
            import torch

            torch.set_num_threads(self.threads)  # a job with trainer.threads=null takes and records them
            return self.job(self.subdir)
