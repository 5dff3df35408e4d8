"""Run directories to rows: what every run was, how it ended and what it scored. Read from the directories alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_ff.config import Config, experiment, flat
from mnist_ff.data.catalog import validation_images
from mnist_ff.errors import BadRunError
from mnist_ff.records import Score, Summary
from mnist_ff.runs import EPOCH_COLUMNS, LEVELS, OF_A_SWEEP, Run, runs_below
from mnist_ff.sweeps.finding import read_finding
from mnist_ff.sweeps.plan import JOBS, Job, SweepPlan, read_plan, same_experiment
from mnist_ff.tables import printable

ENDED = ("finished", "pruned", "interrupted", "diverged", "failed")
"""What a run's own summary may say."""
PRUNED = "pruned"
GOOD = ("finished", PRUNED)
"""Nothing is left to do there."""
REPEATED = "repeated"
"""A search's trial that was not trained, as an earlier one had its configuration."""
STATUSES = (*ENDED, REPEATED, "running", "not started", "broken")
LONGEST_REASON = 200
UNREADABLE = (
    BadRunError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What files that are none of ours make of reading them."""


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

    @property
    def watched(self) -> Score | None:
        """What choosing goes by: the validation score where there is a split, else the test score."""
        return self.test if self.validation is None else self.validation


def collect(paths: Sequence[Path], step: Callable[[int, int], None] = lambda done, of: None) -> list[Row]:
    """A row for each run below `paths`, each a run directory or a sweep directory; `step` hears how far it is.

    The jobs of a sweep come in its order, with those that have no directory yet.
    Errors: BadRunError for a path that is neither.
    """
    found = [entry for path in paths for entry in _entries(path, alone=len(paths) == 1)]
    rows = []
    for number, (label, path, job) in enumerate(found):
        rows.append(read_row(path, label, job))
        step(number + 1, len(found))
    there = {row.path for row in rows}
    without = [row for path in paths for row in _rows_without_runs(path, alone=len(paths) == 1)]
    return rows + [row for row in without if row.path not in there]


def _rows_without_runs(path: Path, alone: bool) -> Iterable[Row]:
    """The trials of a search that have no directory: impossible values, and those of an earlier trial again."""
    finding = read_finding(path)
    if finding is None:
        return
    what = finding.objective.replace("_", " ")
    ends = [(trial.number, trial.words, "failed", trial.reason) for trial in finding.refused]
    for trial in finding.repeated:
        reason = f"not trained again: trial {trial.of} has its configuration, {what} {trial.value:.4f}"
        ends.append((trial.number, trial.words, REPEATED, reason))
    for number, words, status, reason in ends:
        place = path / str(number)
        yield Row(str(number) if alone else str(place), place, status, one_line(f"{reason} ({' '.join(words)})"))


def was_swept(path: Path) -> bool:
    """Whether a sweep made this directory, so that its files belong there; runs may lie below any folder."""
    return any((path / name).is_file() for name in OF_A_SWEEP)


def sweep_of(run: Path) -> Path | None:
    """The directory of the sweep that a run belongs to; a job's own may lie some levels below."""
    return next((folder for folder in run.absolute().parents[:LEVELS] if was_swept(folder)), None)


def holds_runs(path: Path) -> bool:
    """Whether a path has saved jobs, or runs below it and is none itself."""
    return (path / JOBS).is_file() or (not (path / "config.yaml").exists() and next(runs_below(path), None) is not None)


def _entries(path: Path, alone: bool) -> Iterable[tuple[str, Path, Job | None]]:
    """Labels and paths of the runs of one argument, and the jobs they belong to."""
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise BadRunError(f"{path}: {what}; give run or sweep directories, such as those in outputs/")
    if not holds_runs(path):
        Run.open(path)
        return [(str(path), path, None)]
    jobs = _saved_jobs(path)
    planned = {path / job.subdir for job in jobs.jobs}
    entries: list[tuple[str, Path, Job | None]] = [(job.subdir, path / job.subdir, job) for job in jobs.jobs]
    others = sorted((run for run in runs_below(path) if run not in planned), key=_natural)
    entries += [(run.relative_to(path).as_posix(), run, None) for run in others]
    return entries if alone else [(str(run), run, job) for _, run, job in entries]


def _saved_jobs(path: Path) -> SweepPlan:
    """The sweep's jobs; none where they were not saved or cannot be read, as the runs themselves are what counts."""
    with suppress(BadRunError):
        return read_plan(path)
    return SweepPlan(())


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    """2 before 10."""
    return tuple((int(part), "") if part.isdecimal() else (1 << 62, part) for part in path.parts)


def read_row(path: Path, label: str | None = None, job: Job | None = None) -> Row:
    """The row of one run directory. What cannot be read makes a row with status broken, never an error."""
    run, label = Run(path), str(path) if label is None else label
    config_file = run.file("config.yaml")
    if not config_file.is_file():
        return Row(label, path, "not started", "no job has begun it yet", _planned(job))
    running = not run.file("summary.json").is_file() and _is_held(run)
    if config_file.stat().st_size == 0:  # claimed a moment ago
        reason = None if running else "ended before it could save its config"
        return Row(label, path, "running" if running else "interrupted", reason, _planned(job))
    try:
        config = run.config()
    except BadRunError as error:
        return Row(label, path, "broken", one_line(str(error)), _planned(job))
    if job is not None and not same_experiment(job.config, config):
        return Row(label, path, "broken", f"holds another experiment than job {job.number}", _planned(job))
    values = flat(experiment(config))
    if job is not None and job.config.trainer.threads is None:
        values["trainer.threads"] = None  # left to each machine: no difference that anyone asked for
    read = "summary.json"
    try:
        summary = _summary(run)
        test = None if summary is None else _score(summary.score)
        seconds = None if summary is None else _number(summary.seconds.get("total", 0))
        read = "epochs.csv"
        epochs, validation = _last_epoch(run, config)
    except UNREADABLE as error:
        said, file = f"{error} is missing" if isinstance(error, KeyError) else str(error), str(run.file(read))
        return Row(label, path, "broken", one_line(said if file in said else f"{file}: {said}"), values)
    if summary is None:
        status = "running" if running else "interrupted"
        reason = None if running else "ended without a summary: it was killed, or its machine was lost"
        return Row(label, path, status, reason, values, validation=validation, epochs=epochs)
    status, reason = summary.status, summary.cause
    return Row(
        label,
        path,
        status,
        one_line(reason) if reason and status != "finished" else None,
        values,
        test=test,
        validation=validation,
        epochs=epochs,
        seconds=seconds,
    )


def _planned(job: Job | None) -> dict[str, Any]:
    return {} if job is None else flat(experiment(job.config))


def one_line(reason: str) -> str:
    """A reason in one line of limited length: of a traceback the line that names the error."""
    lines = [line for line in reason.splitlines() if line.strip()] or ["no reason was given"]
    if lines[0].startswith("Traceback"):
        frames = [place for place, line in enumerate(lines) if line.startswith('  File "')]
        lines = [line for line in lines[frames[-1] if frames else 1 :] if not line.startswith(" ")] or lines[-1:]
    line = printable(lines[0].strip())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."


def _is_held(run: Run) -> bool:
    """Whether a live process trains in the directory."""
    if run.file(".lock").is_symlink() or not run.file(".lock").is_file():  # a lock is opened for writing
        return False
    lock = FileLock(run.file(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _summary(run: Run) -> Summary | None:
    path = run.file("summary.json")
    try:
        content = _content(path)
        summary = None if content is None else Summary.from_dict(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a run's summary ({error})") from None
    if summary is None:
        return None
    plain = isinstance(summary.cause, str | None) and isinstance(summary.seconds, dict)
    if summary.status not in ENDED or not plain:
        raise ValueError(f"{path}: not a run's summary")
    return summary


def _content(path: Path) -> str | None:
    """A file's text, None where there is none. Errors: OSError; ValueError for a pipe, which would be waited for."""
    if not path.exists():
        return None
    if not path.is_file():
        raise ValueError("is no file")
    return path.read_text(encoding="utf-8")


def _score(score: Score | None) -> Score | None:
    """A score as a file has it, once its numbers are seen to be some. Errors: ValueError, TypeError."""
    if score is None:
        return None
    accuracy, correct, samples = _number(score.accuracy), int(score.correct), int(score.samples)
    if not 0 <= correct <= samples or not 0 < samples < 1 << 31 or abs(accuracy * samples - correct) > 0.51:
        raise ValueError("its score is none that images can give")
    return Score(_number(score.loss), accuracy, correct, samples)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _last_epoch(run: Run, config: Config) -> tuple[int, Score | None]:
    """Whole epochs done, and the last one's validation score, from the last line of epochs.csv."""
    content = _content(run.file("epochs.csv"))
    if content is None:
        return 0, None
    rows = [line for line in content.split("\n")[:-1] if line]  # what follows the last line's end is a torn row
    if len(rows) < 2:
        return 0, None
    cells = dict(zip(EPOCH_COLUMNS, rows[-1].split(","), strict=True))
    if not cells["validation_loss"]:
        return len(rows) - 1, None
    images = validation_images(config.data)
    accuracy = _number(cells["validation_accuracy"])
    return len(rows) - 1, Score(_number(cells["validation_loss"]), accuracy, round(accuracy * images), max(1, images))
