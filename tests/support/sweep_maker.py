"""Sweep directories as runs leave them, made in milliseconds: for tests of what reads them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.runs.jobs import Job, SweepPlan, write_plan
from mnist_ff.runs.tables import EPOCH_COLUMNS
from mnist_ff.session.resume import changed
from tests.support.configs import make_config

Accuracy = Callable[[Mapping[str, Any]], float]


def jobs_of(grid: Sequence[Mapping[str, Any]], *words: str) -> list[Job]:
    """Jobs that differ in these dotted keys."""
    base = make_config("data=mnist_5k", *words)
    configs = [changed(base, values) for values in grid]
    return [
        Job(number, tuple(f"{key}={value}" for key, value in values.items()), str(number), config)
        for number, (values, config) in enumerate(zip(grid, configs, strict=True))
    ]


def write_run(path: Path, config: Config, accuracy: float, status: str = "finished", cause: str | None = None) -> None:
    """A run directory's files of numbers. With a split its validation score is half a percent above the test's."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(to_yaml(config))
    samples = 1000
    validation = f"{0.1:.9g},{accuracy + 0.005:.9g}" if config.data.validation_split else ","
    row = f"0,0.5,0.8,,,,,{validation},1.0\n"
    (path / "epochs.csv").write_text(",".join(EPOCH_COLUMNS) + "\n" + row)
    score = {"loss": -math.log(max(accuracy, 1e-9)), "accuracy": accuracy, "correct": round(accuracy * samples)}
    summary = {
        "status": status,
        "cause": cause,
        "score": {**score, "samples": samples} if status == "finished" else None,
        "epochs": 1,
        "steps": 16,
        "parameters": 1,
        "seed": config.seed,
        "name": None,
        "data": config.data.name,
        "data_instead_of": None,
        "seconds": {"total": 2.5},
    }
    (path / "summary.json").write_text(json.dumps(summary))


def make_sweep(path: Path, grid: Sequence[Mapping[str, Any]], accuracy: Accuracy, *words: str) -> SweepPlan:
    """A finished sweep; `accuracy` says what a job with these values scored."""
    plan = SweepPlan(tuple(jobs_of(grid, *words)))
    path.mkdir(parents=True)
    write_plan(path, plan)
    for job, values in zip(plan.jobs, grid, strict=True):
        write_run(path / job.subdir, job.config, accuracy(values))
    return plan


def product(**values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Every combination; a key's dot is written as two underscores."""
    keys = [key.replace("__", ".") for key in values]
    for combination in itertools.product(*values.values()):
        yield dict(zip(keys, combination, strict=True))
