"""hydra/launcher=basic: one job after another, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_ff.runs.jobs import Job
from mnist_ff.runs.signals import Interruption
from mnist_ff.session.threads import remembered
from mnist_ff.sweeps.job_run import SweepJob
from mnist_ff.sweeps.launchers.base import Launcher, Say


class SequentialLauncher(Launcher):
    """No other process, and no keys."""

    in_process = True

    def launch(
        self, job: SweepJob, jobs: Sequence[Job], together: Sequence[int | None], say: Say, stopped: Interruption
    ) -> None:
        """Run the jobs. Errors: Stopped, which a job raises here when the sweep is to end."""
        with remembered():
            for one in jobs:
                job(one.subdir)
