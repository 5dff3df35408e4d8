"""Restore a learner from a run's checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mnist_ff.config.schema import Config
from mnist_ff.data.load import Data
from mnist_ff.errors import BadRunError, first_line
from mnist_ff.files import remove_leftovers
from mnist_ff.runs.data_record import changed_parts
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Plan, Position
from mnist_ff.runs.tables import EPOCHS, metric_columns, truncate
from mnist_ff.session.environment import git_state
from mnist_ff.session.resume import earlier_changes, recipe
from mnist_ff.training.checkpoint import load_checkpoint, weight_shapes
from mnist_ff.training.learner import Learner


def read_checkpoint(run: Run, config: Config, warn: Callable[[str], None]) -> dict[str, Any]:
    """The newest intact checkpoint, compared with the config before a network is built.

    Errors: BadRunError if the config differs from the checkpoint's; RunError if no checkpoint is intact.
    """
    saved = load_checkpoint(run, warn)
    shapes = {name: tuple(weight.shape) for name, weight in saved["model"].items()}
    found = sum(weight.nbytes for weight in saved["model"].values())
    if saved["recipe"] != recipe(config) or shapes != weight_shapes(config.model, run.data_spec(), found):
        raise BadRunError(f"{run.file('config.yaml')}: differs from the config of its checkpoint")
    return saved


def restore(learner: Learner, saved: Mapping[str, Any], run: Run) -> Position:
    """Load a checkpoint into the learner and return its position in training. No file is changed.

    Errors: BadRunError if the checkpoint does not fit the config.
    """
    plan = learner.plan()
    try:
        if saved["best"] is not None:
            learner.model.load_state_dict(saved["best"])  # to check that it fits
        position = plan.position(saved["epoch"], saved["batches"])
        learner.load_state_dict(saved, position.epoch * plan.batches + len(position.batches))
    except Exception as error:  # which kind depends on what does not fit
        raise BadRunError(f"{run.path}: its checkpoint does not match its config ({first_line(error)})") from None
    return position


def check_same_teacher(run: Run, conditions: Mapping[str, Any]) -> None:
    """Check that the teacher's weights have not changed. Errors: BadRunError."""
    before, now = run.environment().get("teacher"), conditions["teacher"]
    if isinstance(before, dict) and now is not None and before.get("sha256") != now["sha256"]:
        raise BadRunError(f"trainer.teacher={now['run']}: its weights have changed since this run was started")


def check_same_data(run: Run, data: Data) -> None:
    """Check that the user's data files, image shape and classes have not changed. Errors: BadRunError."""
    changed = changed_parts(run, data.facts.sums)
    if changed:
        raise BadRunError(
            f"{data.title}: its {', '.join(changed)} changed since {run.path} was started; a resume needs the same data"
        )
    before = run.data_spec()
    if before.why_other(data.spec) is not None:
        raise BadRunError(f"{run.path}: was trained on images of {before.text}, and its data now has {data.spec.text}")
    if before.classes != data.spec.classes:
        was, now = next(pair for pair in zip(before.classes, data.spec.classes, strict=True) if pair[0] != pair[1])
        raise BadRunError(f"{run.path}: was trained with a class {was}, and its data now has {now} in its place")


def begin(run: Run, conditions: Mapping[str, Any]) -> None:
    """Record a new run's conditions in environment.json."""
    run.write_json("environment.json", {**conditions, "git": git_state(run), "history": []})


def begin_again(run: Run, plan: Plan, conditions: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Truncate the run's tables to the plan's start and record the resume in environment.json. config.yaml is kept."""
    before, start = run.environment(), plan.start
    truncate(run.path, plan.first_step, start.epoch)
    remove_leftovers(run.path)
    at = {"epoch": start.epoch, "batch": len(start.batches), "changes": dict(changes)}
    earlier_changes(run)  # checks the history
    git = git_state(run, resumes=len(before["history"]) + 1)
    history = [*before["history"], {**at, **conditions, "git": git}]
    run.write_json("environment.json", {**before, "history": history})
    run.file("summary.json").unlink(missing_ok=True)  # its presence means that the run has ended


def seconds_before(run: Run, saved: Mapping[str, Any]) -> float:
    """Seconds of training until a checkpoint; for an old checkpoint, of its finished epochs. Errors: BadRunError."""
    seconds = saved["seconds"]
    return sum(row.get("seconds", 0.0) for row in run.epochs()) if seconds is None else float(seconds)


def watched_before(run: Run, data: Data) -> tuple[str, list[float | None]]:
    """The split that is scored, 'validation' or 'test', and its accuracy after each epoch so far; None if not scored.

    Errors: BadRunError.
    """
    part = "test" if data.validation is None else "validation"
    return part, [row.get(f"{part}_accuracy") for row in run.epochs()]


def monitored(run: Run, column: str) -> list[float]:
    """A column of epochs.csv; NaN for a metric that was not finite. Errors: BadRunError if a row lacks a score."""
    empty = math.nan if column in metric_columns(run.path) else None
    scores = [row.get(column, empty) for row in run.epochs()]
    if None in scores:
        raise BadRunError(f"{run.file(EPOCHS)}: its rows have no {column}")
    return [score for score in scores if score is not None]
