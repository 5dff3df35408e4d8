"""Run directories to rows: config, status and scores of each run."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnist_ff.analysis.calibration import reliability
from mnist_ff.analysis.evaluated_on import EvaluatedOn, evaluated_on, is_public
from mnist_ff.config.no_effect import NO_EFFECT
from mnist_ff.config.saved import flat_experiment
from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import split_images
from mnist_ff.errors import BadRunError, MissingFileError, printable
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import JOBS, holds_runs, may_be_run, runs_below
from mnist_ff.runs.jobs import Job, SweepPlan, read_plan, same_experiment
from mnist_ff.runs.lock import is_locked
from mnist_ff.runs.predictions import read_probabilities
from mnist_ff.runs.reading import Fields, is_file, is_folder, is_taken, listed, why_no_folder
from mnist_ff.runs.records import Score, Status
from mnist_ff.runs.search_result import SEARCH, load_search_result
from mnist_ff.runs.tables import last_epoch

PRUNED = Status.PRUNED
GOOD = (Status.FINISHED, PRUNED)
"""Nothing is left to do there."""
REPEATED = "repeated"
"""A search's trial that was not trained, as an earlier one had its configuration."""
STATUSES = (*Status, REPEATED, "running", "not started", "broken")
LONGEST_REASON = 200
MOST_IMAGES = 1 << 31


@dataclass(frozen=True)
class Row:
    """One run, or one job that has not become a run yet."""

    label: str
    """Its directory below the sweep's, or its path."""
    path: Path
    status: str
    """One of STATUSES."""
    reason: str | None = None
    """Why it did not finish, in one line."""
    values: dict[str, Any] = field(default_factory=dict)
    """The resolved config by dotted key; empty for a broken directory."""
    test: Score | None = None
    validation: Score | None = None
    """Of the last epoch, where there is a validation split."""
    epochs: int = 0
    seconds: float | None = None
    """Of the whole job."""
    not_learning: str | None = None
    """A warning that the loss shows no learning, or None."""
    evaluated_on: EvaluatedOn | None = None
    """The images of the test score."""
    asked: frozenset[str] = frozenset()
    """Keys in the job's overrides that do not change results."""
    ece: float | None = None
    """Expected calibration error on the test images; see with_calibration()."""
    brier: float | None = None

    @property
    def watched(self) -> Score | None:
        """What choosing goes by: the validation score where there is a split, else the test score."""
        return self.test if self.validation is None else self.validation

    @property
    def name(self) -> str | None:
        """The run's name, printable; None if it has none."""
        name = self.values.get("name")
        return None if name is None else printable(str(name))


def collect(paths: Sequence[Path], step: Callable[[int, int], None] = lambda done, of: None) -> list[Row]:
    """A row for each run below `paths`, each a run directory or a sweep directory; `step` hears how far it is.

    The jobs of a sweep come in its order, with those that have no directory yet.
    Errors: BadRunError for a path that is neither.
    """
    broken: list[Row] = []
    found = [entry for path in paths for entry in _entries(path, len(paths) == 1, broken)]
    rows = []
    for number, (label, path, job) in enumerate(found):
        rows.append(read_row(path, label, job))
        step(number + 1, len(found))
    there = {row.path for row in rows}
    without = [row for path in paths for row in _rows_without_runs(path, alone=len(paths) == 1)]
    return rows + broken + [row for row in without if row.path not in there]


def _broken_file(file: Path, error: BadRunError, alone: bool) -> Row:
    """The row of a sweep's own file that cannot be read: its runs are there all the same."""
    return Row(file.name if alone else str(file), file, "broken", _why(str(error)))


def _rows_without_runs(path: Path, alone: bool) -> Iterable[Row]:
    """The trials of a search that have no directory: impossible values, and those of an earlier trial again."""
    try:
        search_result = load_search_result(path)
    except BadRunError as error:
        yield _broken_file(path / SEARCH, error, alone)
        return
    if search_result is None:
        return
    what = search_result.objective.replace("_", " ")
    ends = [(trial.number, trial.words, "failed", trial.reason) for trial in search_result.refused]
    for trial in search_result.repeated:
        reason = f"not trained again: same configuration as trial {trial.of}, {what} {trial.value:.4f}"
        ends.append((trial.number, trial.words, REPEATED, reason))
    for number, words, status, reason in ends:
        place = path / str(number)
        yield Row(str(number) if alone else str(place), place, status, one_line(f"{reason} ({' '.join(words)})"))


def _entries(path: Path, alone: bool, broken: list[Row]) -> Iterable[tuple[str, Path, Job | None]]:
    """Labels and paths of the runs of one argument, and the jobs they belong to; `broken` gets a row for jobs that
    cannot be read."""
    if not is_folder(path):
        raise BadRunError(f"{path}: {why_no_folder(path)}; give run or sweep directories, such as those in outputs/")
    if not holds_runs(path):
        if not may_be_run(path):
            Run.open(path)
        return [(str(path), path, None)]
    jobs = SweepPlan(())
    if is_taken(path / JOBS):
        try:
            jobs = read_plan(path)
        except BadRunError as error:
            broken.append(_broken_file(path / JOBS, error, alone))
    planned = {path / job.subdir for job in jobs.jobs}
    entries: list[tuple[str, Path, Job | None]] = [(job.subdir, path / job.subdir, job) for job in jobs.jobs]
    others = sorted((run for run in runs_below(path) if run not in planned), key=_natural)
    entries += [(run.relative_to(path).as_posix(), run, None) for run in others]
    return entries if alone else [(str(run), run, job) for _, run, job in entries]


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    """2 before 10."""
    return tuple((int(part), "") if part.isdecimal() else (1 << 62, part) for part in path.parts)


def read_row(path: Path, label: str | None = None, job: Job | None = None) -> Row:
    """The row of one run directory. What cannot be read makes a row with status broken, never an error."""
    run, label = Run(path), str(path) if label is None else label
    try:
        found = os.lstat(run.file("config.yaml"))
    except FileNotFoundError:
        reason = _why_unlisted(path)
        if reason is not None:
            return Row(label, path, "broken", _why(reason), _planned(job))
        return Row(label, path, "not started", "not started", _planned(job))
    except OSError as error:
        return Row(label, path, "broken", _why(f"{path}: cannot be read ({error.strerror})"), _planned(job))
    running = not is_file(run.file("summary.json")) and is_locked(path)
    if found.st_size == 0 and stat.S_ISREG(found.st_mode):  # claimed a moment ago
        reason = None if running else "ended before it saved its config"
        return Row(label, path, "running" if running else Status.INTERRUPTED, reason, _planned(job))
    try:
        config = run.config()
    except BadRunError as error:
        return Row(label, path, "broken", _why(str(error)), _planned(job))
    if job is not None and not same_experiment(job.config, config):
        return Row(label, path, "broken", f"holds a different experiment than job {job.number}", _planned(job))
    values = flat_experiment(config)
    if job is not None and job.config.trainer.fixed_threads is None:
        values["trainer.threads"] = job.config.trainer.threads  # left to each machine: no difference that was asked for
    try:
        summary = run.summary()
        epochs, validation = _last_epoch(run, config)
        total = None if summary is None else summary.seconds.get("total", 0.0)
    except BadRunError as error:
        return Row(label, path, "broken", _why(str(error)), values)
    except ValueError as error:
        return Row(label, path, "broken", _why(f"{run.file('epochs.csv')}: {error}"), values)
    if summary is None:
        status = "running" if running else Status.INTERRUPTED
        reason = None if running else "ended without a summary: the process was killed or its machine failed"
        return Row(label, path, status, reason, values, validation=validation, epochs=epochs)
    status, reason = summary.status, summary.cause
    score = summary.score
    return Row(
        label,
        path,
        status,
        one_line(reason) if reason and status != Status.FINISHED else None,
        values,
        test=score,
        validation=validation if summary.validation is None else summary.validation,
        epochs=epochs,
        seconds=total,
        not_learning=None if summary.not_learning is None else one_line(summary.not_learning),
        evaluated_on=None if score is None else evaluated_on(run, config, values, score.samples),
        asked=_asked(job),
    )


def _why_unlisted(path: Path) -> str | None:
    """Why a folder cannot be looked into; None where it can, or where there is none."""
    try:
        if is_folder(path):
            listed(path)
    except BadRunError as error:
        return str(error)
    return None


def _asked(job: Job | None) -> frozenset[str]:
    """The keys in a job's overrides that do not change results. They are compared because the user varied them, such
    as trainer.threads for the time."""
    words = () if job is None else job.overrides
    return frozenset(word.partition("=")[0].lstrip("+") for word in words) & NO_EFFECT.keys()


def with_calibration(row: Row) -> Row:
    """The row with ECE and Brier score, if the run has predictions."""
    if row.test is None or row.ece is not None:
        return row
    try:
        saved = read_probabilities(Run(row.path))
    except BadRunError:
        return row
    found = reliability(saved.probabilities, saved.labels)
    return replace(row, ece=found.ece, brier=found.brier)


def _planned(job: Job | None) -> dict[str, Any]:
    return {} if job is None else flat_experiment(job.config)


def _why(reason: str) -> str:
    """A reason in one line, with the newlines of paths in it escaped."""
    return one_line(printable(reason))


def one_line(reason: str) -> str:
    """A reason in one line of limited length: of a traceback the line that names the error."""
    lines = [line for line in reason.splitlines() if line.strip()] or ["no reason given"]
    if lines[0].startswith("Traceback"):
        frames = [place for place, line in enumerate(lines) if line.startswith('  File "')]
        lines = [line for line in lines[frames[-1] if frames else 1 :] if not line.startswith(" ")] or lines[-1:]
    line = printable(lines[0].strip())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."


def _last_epoch(run: Run, config: Config) -> tuple[int, Score | None]:
    """Whole epochs done, and the last one's validation score. Errors: BadRunError, ValueError."""
    try:
        count, metrics = last_epoch(run.path)
    except MissingFileError:
        return 0, None
    if "validation_loss" not in metrics:
        return count, None
    fields = Fields(metrics, "the last epoch")
    images = _validation_images(run, config)
    accuracy = fields.share("validation_accuracy")
    return count, Score(fields.number("validation_loss"), accuracy, round(accuracy * images), max(1, images))


def _validation_images(run: Run, config: Config) -> int:
    """Images of the validation score: the split's of a known data set, else what environment.json says, or 0.

    The data itself is not asked: a directory from elsewhere may name any path.
    """
    if is_public(config):
        return split_images(config.data)
    try:
        return min(Fields(run.environment().get("data"), "data").whole("validation_images"), MOST_IMAGES)
    except (BadRunError, ValueError):
        return 0
