"""hydra/sweeper=optuna: a sweep whose jobs are trials, suggested as results come in."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnist_ff.config.compose import ComposedSweep, Composer
from mnist_ff.config.keys import known_keys
from mnist_ff.config.overrides import quoted
from mnist_ff.config.passwords import without_password
from mnist_ff.config.paths import absolute, display_path
from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import instead_of
from mnist_ff.errors import ConfigError, RunError, Stopped
from mnist_ff.runs.directory import Run
from mnist_ff.runs.jobs import Job, SweepPlan, write_plan
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.search_result import Refused, Repeated, SearchResult, read_search_result, write_search_result
from mnist_ff.runs.signals import Interruption, interruptible
from mnist_ff.runs.slurm import still_there, submitted
from mnist_ff.sweeps.job_run import SweepJob, write_reason
from mnist_ff.sweeps.launchers.base import Launcher
from mnist_ff.sweeps.progress import JobCounter
from mnist_ff.sweeps.runner import Request, Sweep, check_new_directory, on_subset
from mnist_ff.sweeps.search.plan import (
    KILLED,
    Pruner,
    SearchPlan,
    Trial,
    Twin,
    Verdict,
    check_plan,
    check_searchable,
    verdict_of,
)
from mnist_ff.sweeps.search.reporter import StudyLink
from mnist_ff.sweeps.search.space import Space, corners
from mnist_ff.sweeps.search.storage import check_no_password, require_optuna, storage_failures
from mnist_ff.sweeps.search.study import Search
from mnist_ff.sweeps.search.syntax import split_overrides
from mnist_ff.sweeps.stop_file import AFTER_AN_ERROR, ask_to_stop, reason_to_stop

JOURNAL = "search.journal"
SQLITE = "sqlite:///"
CHOSEN = "hydra/sweeper=optuna"


@dataclass(frozen=True)
class _Asked:
    """A checked search: what its trials share, what they vary, and the study."""

    fixed: tuple[str, ...]
    space: Space
    plan: SearchPlan
    threads: int | None
    """The most that a trial asks for with trainer.threads; None for its share."""


class SearchSweep(Sweep):
    """Asks Optuna for trials, runs each as a job, tells how it ended. The numbers of trials and jobs are the same."""

    def __init__(self, request: Request, composer: Composer, composed: ComposedSweep, launcher: Launcher) -> None:
        """Errors: ConfigError for a key's value."""
        super().__init__(request, composer, composed, launcher)
        keys = self.keys
        self._n_trials, self._n_jobs = _whole(keys, "n_trials", 1), _whole(keys, "n_jobs", 1)
        self._seed, self._startup = _whole(keys, "seed", 0), _whole(keys, "n_startup_trials", 1)
        self._sampler, self._objective = str(keys["sampler"]), str(keys["objective"])
        self._pruner = Pruner(str(keys["pruner"]), _whole(keys, "min_epochs", 1), _whole(keys, "factor", 2), 1)
        self._named_storage = None if keys["storage"] is None else str(keys["storage"])
        check_no_password(str(keys["storage"]))
        self._study = str(keys["study_name"] or "")
        if not self._study.strip():
            raise ConfigError("hydra.sweeper.study_name=: is empty; give the name of the study")
        self._storage = self._storage_in(request.directory)

    @property
    def job_run(self) -> SweepJob:
        """What runs each trial, which reports to the study."""
        return replace(super().job_run, study=StudyLink(self._storage, self._study))

    def _storage_in(self, directory: Path) -> str:
        if self._named_storage is None:
            return str(directory / JOURNAL)
        if self._named_storage.startswith(SQLITE):
            return SQLITE + absolute("hydra.sweeper.storage", self._named_storage.removeprefix(SQLITE))
        there = self._named_storage
        return there if "://" in there else absolute("hydra.sweeper.storage", there)

    def run(self) -> None:
        """Search until n_trials are done in all.

        Errors: ConfigError before anything is written, also for the extra that is missing; DataError, RunError; Stopped
        after a signal.
        """
        require_optuna()  # a dry run needs no trial of it
        asked = self._checked(fetch=True)
        plan = self.request.saved or SweepPlan((), self._saved_overrides(), config_dirs=self.config_dirs)
        with ExitStack() as stack:
            shared = None  # one that fails, before the directory
            if self._named_storage is not None:
                shared = stack.enter_context(Search(asked.plan))
            stopped = stack.enter_context(self._begun(plan))
            search = shared or stack.enter_context(Search(asked.plan))
            self.say_places(plan.jobs)
            left = self.left_in_slurm(self.unfinished(plan)[0])
            for line in search.recover(own=self.request.directory, left=[job.number for job in left]):
                self.say(f"warning: {line}", style="yellow")
            self._mark_killed(search, plan.jobs)
            before = read_search_result(self.request.directory)
            self._refused = {trial.number: trial for trial in (before.refused if before else ())}
            self._repeated = {trial.number: trial for trial in (before.repeated if before else ())}
            try:
                self._run(search, asked, plan, left, stopped)
            finally:
                self._write_search_result(search)
            if stopped.exit_code:  # a signal between two batches
                raise Stopped(stopped.exit_code)

    @contextmanager
    def _begun(self, plan: SweepPlan) -> Iterator[Interruption]:
        with self.opened(plan), interruptible() as stopped, storage_failures(self._storage):
            yield stopped

    def _write_search_result(self, search: Search) -> SearchResult:
        refused = tuple(self._refused[number] for number in sorted(self._refused))
        repeated = tuple(self._repeated[number] for number in sorted(self._repeated))
        search_result = replace(search.result(), refused=refused, repeated=repeated)
        write_search_result(self.request.directory, search_result)
        return search_result

    def _saved_overrides(self) -> tuple[str, ...]:
        """What a resume goes by: it may start in another folder, and must know that this is a search."""
        storage = "hydra.sweeper.storage="
        overrides = self.request.overrides
        if not any("${" in text for text in overrides if text.startswith(storage)):
            overrides = tuple(f"{storage}{quoted(self._storage)}" if w.startswith(storage) else w for w in overrides)
        return overrides if CHOSEN in overrides else (CHOSEN, *overrides)

    def dry_run(self) -> None:
        """Print what would be searched. The jobs are not known in advance. Errors: ConfigError."""
        if self.request.saved is None:
            check_new_directory(self.request.directory)
        asked = self._checked(fetch=False)
        for key, dimension in asked.space.items():
            self.say(f"{key}  {dimension}")
        self._say_the_end(asked.plan)
        trials = counted(asked.plan.trials, "trial")
        self.say(f"up to {trials} by {self._sampler}, pruned by {self._pruner.name}; nothing was written")

    def _say_the_end(self, plan: SearchPlan) -> None:
        if plan.trials < plan.n_trials:
            self.say(f"the grid has {plan.points} points, so the search ends before n_trials={plan.n_trials}")

    def _checked(self, fetch: bool) -> _Asked:
        """The search, with its space's corners tried as configs, and its data fetched if asked. Errors: ConfigError."""
        if self.request.options.rows is not None:
            raise ConfigError("sweep.rows: cannot be combined with a search; use hydra.sweeper.params")
        fixed, space = split_overrides(self.overrides_of_jobs())
        if "data.validation_split" in space:
            raise ConfigError(
                "data.validation_split: cannot be searched, because each value validates on different images; "
                "give it one value"
            )
        if fetch and "seed" in space:
            self.say("warning: seed is searched, so the best trial is partly luck", style="yellow")
        plan = self._search_plan(fixed, space, epochs=1)
        check_plan(plan)
        configs = self._corners(fixed, space)
        self.check_target(configs)
        if fetch:
            self.check_machine(configs)
        if fetch and self._subset_stands_in(configs):
            fixed = on_subset(fixed)
            configs = self._corners(fixed, space)
        epochs = max(config.trainer.epochs for config in configs)
        if self._pruner.name != "none" and self._pruner.min_epochs >= epochs:
            self.say(
                f"warning: hydra.sweeper.min_epochs={self._pruner.min_epochs} is not below trainer.epochs={epochs}: "
                "no trial can be pruned",
                style="yellow",
            )
        threads = max(config.trainer.fixed_threads or 0 for config in configs) or None
        return _Asked(tuple(fixed), space, self._search_plan(fixed, space, epochs), threads)

    def _subset_stands_in(self, configs: list[Config]) -> bool:
        """Whether MNIST's subset is searched instead: as in the jobs so far, or because MNIST cannot be downloaded.

        Errors: DataError when it was there before and is not now.
        """
        saved = self.request.saved
        if saved is None or not saved.jobs:
            return self.needs_fallback(configs)
        if any(instead_of(job.config.data) for job in saved.jobs):
            return True
        self.fetch_again(saved.jobs)
        return False

    def _search_plan(self, fixed: Sequence[str], space: Space, epochs: int) -> SearchPlan:
        return SearchPlan(
            study=self._study,
            storage=self._storage,
            n_trials=self._n_trials,
            objective=self._objective,
            sampler=self._sampler,
            n_startup_trials=self._startup,
            seed=self._seed,
            pruner=replace(self._pruner, max_epochs=epochs),
            space=space,
            fixed=tuple(fixed),
        )

    def _corners(self, fixed: Sequence[str], space: Space) -> list[Config]:
        rows = [[*fixed, *(f"{key}={value}" for key, value in row.items())] for row in corners(space)]
        configs = [job.config for job in self.checked_jobs(rows, what="corners of the search space")]
        for config in configs:
            check_searchable(config)
        return configs

    def _run(self, search: Search, asked: _Asked, plan: SweepPlan, left: Sequence[Job], stopped: Interruption) -> None:
        """Wait for the jobs that were left in Slurm, if the launcher does; then claim, run and record batch after
        batch, until no trial is left or something asks to stop."""
        directory = self.request.directory
        search_result = self._write_search_result(search)  # what the runs are ranked by, even if this process is killed
        counts = search_result.counts
        ended = counts["complete"] + counts["pruned"] + counts["failed"]
        counter = JobCounter(search_result.n_trials, ended)
        before = f", {ended} of them already done" if ended else ""
        where = without_password(search.plan.storage)
        trials = counted(search_result.n_trials, "trial")
        self.say(f"{trials} of study {self._study} ({where}) in {display_path(directory)}{before}")
        self._say_the_end(asked.plan)
        if left and self.launcher.detached:
            self._run_batch(search, left, asked, counter)
        while reason_to_stop(directory) is None and stopped() is None:
            batch = self._claimed(search)
            if not batch:
                return
            jobs = self._jobs_of(search, asked, plan, batch, counter)
            plan = replace(plan, jobs=_merged(plan.jobs, jobs))
            write_plan(directory, plan)
            self._run_batch(search, jobs, asked, counter)
            self._write_search_result(search)

    def _claimed(self, search: Search) -> list[Trial]:
        batch: list[Trial] = []
        while len(batch) < self._n_jobs and (trial := search.claim()) is not None:
            batch.append(trial)
        return batch

    def _jobs_of(
        self, search: Search, asked: _Asked, plan: SweepPlan, batch: Sequence[Trial], counter: JobCounter
    ) -> list[Job]:
        """A job for each trial: the one that it had before an interruption, or a new one. An impossible one fails, and
        one with an earlier trial's configuration has that one's result."""
        known = {job.number: job for job in plan.jobs}
        jobs = []
        for trial in batch:
            overrides = [*asked.fixed, *trial.overrides()]
            job = known.get(trial.number)
            if job is not None and list(job.overrides) != overrides:
                search.record_result(trial.number, Verdict("interrupted"))
                raise RunError(
                    f"{self.request.directory}: its job {job.number} is not trial {job.number} of study {self._study} "
                    f"in {without_password(self._storage)}; a resumed search keeps its storage"
                )
            try:
                if job is None:
                    (job,) = self.checked_jobs([overrides], first=trial.number)
                    job = replace(job, own=plan.own)  # another user's overrides choose no places
                    check_searchable(job.config)
                    twin = None if job.config.seed is None else search.twin(trial.number, job.digest)
                    if twin is not None:
                        self._repeat(search, trial, twin, counter)
                        continue
            except ConfigError as error:
                counter.ended += 1
                self._refuse(search, trial, str(error).splitlines()[0])
                continue
            for gone in (self._refused, self._repeated):  # of a study that is gone
                gone.pop(trial.number, None)
            search.started(trial.number, self.request.directory / job.subdir)
            jobs.append(job)
        return jobs

    def _repeat(self, search: Search, trial: Trial, twin: Twin, counter: JobCounter) -> None:
        """Give a trial the result of the one with its configuration, or let it wait for that."""
        found = twin.verdict
        if found is None:
            self.say(f"trial {trial.number} has the same configuration as trial {twin.number} and waits for its result")
            search.postpone(trial.number, twin)
            return
        counter.ended += 1
        if found.value is None:
            self._refuse(search, trial, f"trial {twin.number} has the same configuration: {found.reason}", certain=True)
            return
        what = f"{self._objective.replace('_', ' ')} {found.value:.4f}"
        self.say(
            f"{counter.ended}/{counter.of}  trial {trial.number}  not trained again: trial {twin.number} has the same "
            f"configuration, {what}" + (" when it was pruned" if found.state == "pruned" else "")
        )
        overrides = tuple(trial.overrides())
        self._repeated[trial.number] = Repeated(trial.number, overrides, twin.number, found.value)
        self._write_search_result(search)  # first: else a kill would lose the row
        search.repeat(trial.number, twin)

    def _refuse(self, search: Search, trial: Trial, reason: str, certain: bool = False) -> None:
        """Fail a trial that can be no job. The sweep's directory is told first: else a kill would lose the row."""
        self.say(f"trial {trial.number}: failed: {reason}", style="yellow")
        self._refused[trial.number] = Refused(trial.number, tuple(trial.overrides()), reason)
        self._write_search_result(search)
        search.record_result(trial.number, Verdict("failed", reason=reason, certain=certain))
        if self.request.options.on_error == "stop":
            ask_to_stop(self.request.directory, AFTER_AN_ERROR)

    def _run_batch(self, search: Search, jobs: Sequence[Job], asked: _Asked, counter: JobCounter) -> None:
        at_once = False
        try:
            self.launch(jobs, _config_keys(asked.space), counter, [asked.threads] * self._n_jobs)
        except Stopped:
            at_once = True
            raise
        finally:
            stopping = at_once or reason_to_stop(self.request.directory) is not None
            there = self._left(jobs) if at_once else ()
            for job in jobs:
                verdict = self._verdict(job, stopping)
                if job.subdir not in there or verdict.state in ("complete", "pruned"):
                    search.record_result(job.number, verdict)
            self._mark_killed(search, jobs)

    def _left(self, jobs: Sequence[Job]) -> Collection[str]:
        """Directories of the jobs still in Slurm: their trials stay running until a resume records them."""
        if not self.launcher.detached:
            return ()
        try:
            return still_there(self.request.directory, [job.subdir for job in jobs])
        except RunError:  # it does not answer now
            return submitted(self.request.directory)

    def _verdict(self, job: Job, stopping: bool) -> Verdict:
        """How a trial ended. One that a stop prevented or ended without a result waits to be resumed."""
        run = Run(self.request.directory / job.subdir)
        if stopping and not is_taken(run.file("summary.json")):
            return Verdict("interrupted", reason="stopped")
        return verdict_of(run.path, self._objective)

    def _mark_killed(self, search: Search, jobs: Sequence[Job]) -> None:
        """Give the runs of trials that failed without a word a summary: the table then says what the study does."""
        failed = search.failed()
        for job in jobs:
            run = Run(self.request.directory / job.subdir)
            if job.number in failed and is_taken(run.file("config.yaml")) and not is_taken(run.file("summary.json")):
                write_reason(run, job.config, RunError(KILLED), time.perf_counter())


def _whole(keys: Mapping[str, Any], name: str, least: int) -> int:
    value = keys[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"hydra.sweeper.{name}={value}: must be an integer of at least {least}")
    return value


def _merged(old: Sequence[Job], new: Sequence[Job]) -> tuple[Job, ...]:
    """All jobs by number."""
    return tuple(sorted({job.number: job for job in (*old, *new)}.values(), key=lambda job: job.number))


def _config_keys(space: Space) -> list[str]:
    """The dotted config keys that the space varies; a group's choice is its name."""
    return [key if key in known_keys() else f"{key}.name" for key in space]
