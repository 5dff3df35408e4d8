"""The plan of a search, and how its trials end, without Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import validation_images
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Status
from mnist_ff.sweeps.search.space import Choices, Space, check_dimension, grid_of

SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("none", "asha", "hyperband")
OBJECTIVES = ("validation_accuracy", "validation_loss")
KILLED = "its process was killed or its machine failed"


@dataclass(frozen=True)
class Pruner:
    """The rule that ends bad trials early. `max_epochs` is the length of the longest trial, which Hyperband divides."""

    name: str
    min_epochs: int
    factor: int
    max_epochs: int


@dataclass(frozen=True)
class SearchPlan:
    """The definition of a search. `fixed` are overrides of all trials; with the space they identify the search."""

    study: str
    storage: str
    """A journal file's path, or an Optuna storage URL."""
    n_trials: int
    """Total number of trials, of all processes and resumes, including failed ones."""
    objective: str
    sampler: str
    n_startup_trials: int
    """Random trials before tpe and cmaes use the results."""
    seed: int
    pruner: Pruner
    space: Space
    fixed: tuple[str, ...] = ()

    @property
    def points(self) -> int | None:
        """The number of points of a grid. None for other samplers, which have no limit."""
        if self.sampler != "grid":
            return None
        return math.prod(len(values) for values in grid_of(self.space).values())

    @property
    def trials(self) -> int:
        """n_trials, but not more than a grid has points, so that none is trained twice."""
        return self.n_trials if self.points is None else min(self.n_trials, self.points)


@dataclass(frozen=True)
class Trial:
    """A trial that this process took: its number in the study, and the value of each key."""

    number: int
    values: Mapping[str, str]

    def overrides(self) -> list[str]:
        """The trial's overrides, KEY=VALUE."""
        return [f"{key}={value}" for key, value in self.values.items()]


@dataclass(frozen=True)
class Verdict:
    """How a trial's run ended, from its directory."""

    state: Literal["complete", "pruned", "failed", "interrupted"]
    value: float | None = None
    reason: str | None = None
    certain: bool = False
    """Whether the failure would occur again: training diverged, rather than a machine or disk failed."""


@dataclass(frozen=True)
class Twin:
    """The first trial with the same configuration, and how it ended; None if it has not ended yet."""

    number: int
    verdict: Verdict | None


def check_plan(plan: SearchPlan) -> None:
    """Check the plan. Errors: ConfigError naming the key."""
    _check_objective(plan.objective)
    for name, value, allowed in (
        ("sampler", plan.sampler, SAMPLERS),
        ("pruner", plan.pruner.name, PRUNERS),
    ):
        if value not in allowed:
            raise ConfigError(f"hydra.sweeper.{name}={value}: must be one of {', '.join(allowed)}")
    for name, number, least in (
        ("n_trials", plan.n_trials, 1),
        ("n_startup_trials", plan.n_startup_trials, 1),
        ("min_epochs", plan.pruner.min_epochs, 1),
        ("factor", plan.pruner.factor, 2),
    ):
        if number < least:
            raise ConfigError(f"hydra.sweeper.{name}={number}: must be at least {least}")
    if not plan.space:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to search; give a key several values, "
            "such as optimizer.lr=tag(log,interval(1e-4,1e-2))"
        )
    for key, dimension in plan.space.items():
        check_dimension(key, dimension)
    if plan.sampler == "grid":
        grid_of(plan.space)
    numbers = [key for key, dimension in plan.space.items() if not isinstance(dimension, Choices)]
    if plan.sampler == "cmaes" and not numbers:
        raise ConfigError("hydra.sweeper.sampler=cmaes: no key has an interval or a range of numbers; use tpe")


def _check_objective(objective: str) -> None:
    if objective.startswith("test"):
        raise ConfigError(
            f"hydra.sweeper.objective={objective}: a search on the test images overfits them, and its "
            f"best score would be biased; use {' or '.join(OBJECTIVES)}"
        )
    if objective not in OBJECTIVES:
        raise ConfigError(f"hydra.sweeper.objective={objective}: must be one of {', '.join(OBJECTIVES)}")


def check_searchable(config: Config) -> None:
    """Check that there are validation images, which the objective needs. Errors: ConfigError."""
    if validation_images(config.data) == 0:
        raise ConfigError(
            "data.validation_split=0: a search needs held-out training images, because searching on the test images "
            "would bias the score; set data.validation_split, such as 0.1666"
        )


def verdict_of(directory: Path, objective: str) -> Verdict:
    """How the run in `directory` ended, from its files. A run without a summary was killed."""
    run = Run(directory)
    try:
        summary = run.summary()
        if summary is None:
            return Verdict("failed", reason=KILLED)
        if summary.status in (Status.DIVERGED, Status.FAILED, Status.INTERRUPTED):
            reason = (summary.cause or summary.status).strip().splitlines()[-1]
            state: Literal["interrupted", "failed"] = (
                "interrupted" if summary.status is Status.INTERRUPTED else "failed"
            )
            return Verdict(state, reason=reason, certain=summary.status is Status.DIVERGED)
        within = summary.validation  # set if the run ended within an epoch
        value = run.epochs()[-1][objective] if within is None else vars(within)[objective.removeprefix("validation_")]
    except (BadRunError, IndexError, KeyError) as error:
        return Verdict("failed", reason=f"its run directory is not readable ({error})")
    if not math.isfinite(value):
        return Verdict("failed", reason=f"its {objective} is {value}")
    return Verdict("pruned" if summary.status is Status.PRUNED else "complete", value, summary.cause)
