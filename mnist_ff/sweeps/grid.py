"""A grid of jobs: all combinations of values and rows. All jobs are checked and saved before one starts."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnist_ff.config.overrides import Override, in_grammar, key_of
from mnist_ff.config.paths import display_path
from mnist_ff.config.spelled import spelled
from mnist_ff.errors import ConfigError
from mnist_ff.runs.jobs import Job, SweepPlan, check_same_grid
from mnist_ff.runs.numbers import counted
from mnist_ff.session.teacher import with_teacher
from mnist_ff.sweeps.progress import JobCounter, varied_keys
from mnist_ff.sweeps.runner import Sweep, check_new_directory, check_of_jobs, on_subset

RESUMED_GROUPS = ("hydra/launcher", "hydra/sweeper", "sweep")
"""Groups that a resume composes again. Everything else comes from the saved jobs."""


class Grid(Sweep):
    """hydra/sweeper=checked: all combinations, each checked before the first job starts."""

    def run(self) -> None:
        """See Sweep. All data sets are downloaded before a job starts."""
        plan = self._planned()
        self.check_target([job.config for job in plan.jobs])
        self.launcher.warm_up()
        if self.request.saved is None:
            self.check_machine([job.config for job in plan.jobs])
            if self.needs_fallback([job.config for job in plan.jobs]):
                plan = replace(plan, jobs=tuple(self.checked_jobs(list(map(on_subset, self._product())))))
        with self.opened(plan):
            left, done = self.unfinished(plan)
            before = f", {done} of them already finished" if done else ""
            self.say(f"{counted(len(plan.jobs), 'job')} in {display_path(self.request.directory)}{before}")
            in_slurm = self.left_in_slurm(left)
            if self.request.saved is not None:
                self.say_places(left)
                self.fetch_again([job for job in left if job not in in_slurm])
            left = left if self.launcher.detached else [job for job in left if job not in in_slurm]
            together = [job.config.trainer.fixed_threads for job in plan.jobs]
            self.launch(left, varied_keys(plan.jobs), JobCounter(len(plan.jobs), done), together)

    def dry_run(self) -> None:
        """List the jobs with estimates of their time."""
        from mnist_ff.sweeps.dry_run import show_jobs

        saved = self.request.saved
        if saved is None:
            check_new_directory(self.request.directory)
        plan = self._planned()
        self.check_target([job.config for job in plan.jobs])
        jobs = plan.jobs if saved is None else self.unfinished(plan)[0]
        if jobs:
            show_jobs(jobs, Path("outputs"), self.request.console)
        else:
            self.say(f"resume={display_path(self.request.directory)}: all jobs are done")

    def _planned(self) -> SweepPlan:
        """The saved jobs of a resumed sweep, or new ones from the overrides. Errors: ConfigError."""
        saved = self.request.saved
        if saved is None:
            self._check_rows()
            jobs = self.checked_jobs(self._product())
            if not jobs:
                raise ConfigError("these values give no jobs")
            _check_different(jobs)
            words = spelled(self.request.overrides, RESUMED_GROUPS)
            return SweepPlan(tuple(jobs), words, config_dirs=self.config_dirs)
        if self.request.asked:
            check_same_grid(saved, self.checked_jobs(self._product()))
        return saved

    def _check_rows(self) -> None:
        """Refuse empty rows, and a key that is set both in sweep.rows and on the command line.

        The command line may override a key in the rows of a preset. Errors: ConfigError.
        """
        rows = self.request.options.rows
        if rows is not None and not rows:
            raise ConfigError("sweep.rows=[]: is empty; leave it out, or give [{KEY: VALUE, ...}, ...]")
        if not any(key_of(text) == "sweep.rows" for text in self.request.overrides):
            return
        typed = {override.element for override in self.request.of_jobs}
        for key in (key for row in rows or () for key in row):
            if key in typed:
                raise ConfigError(f"{key}: is set both in sweep.rows and outside it; set it in one of them")

    def _product(self) -> list[list[str]]:
        """The overrides of each job. If a key is given twice, the last one counts."""
        last: dict[str, Override] = {override.element: override for override in self.overrides_of_jobs()}
        jobs = list(itertools.product(*(override.alternatives() for override in last.values())))
        return [_crossed(job, row) for row, job in itertools.product(self._rows, jobs)]

    @functools.cached_property
    def _rows(self) -> list[list[str]]:
        """The overrides of each row; one without overrides if there are no rows. Errors: ConfigError."""
        given = self.request.options.rows or ({},)
        rows = [with_teacher([f"{key}={in_grammar(value)}" for key, value in row.items()]) for row in given]
        for row in rows:
            check_of_jobs(self.composer.check(row), "sweep.rows")
        return rows


def _crossed(job: Sequence[str], row: Sequence[str]) -> list[str]:
    """A row's overrides and then a job's, which take precedence."""
    typed = {key_of(text) for text in job}
    return [*(text for text in row if key_of(text) not in typed), *job]


def _check_different(jobs: Sequence[Job]) -> None:
    """Check that no two jobs are the same experiment or share a directory. Errors: ConfigError."""
    seen: dict[str, Job] = {}
    if len({job.subdir for job in jobs}) < len(jobs):
        raise ConfigError("hydra.sweep.subdir: two jobs would share a directory; it must contain ${hydra.job.num}")
    for job in jobs:
        twin = seen.setdefault(job.digest, job)
        if twin is not job and job.config.seed is not None:
            raise ConfigError(f"jobs {twin.number} and {job.number} are the same: {' '.join(job.overrides)}")
