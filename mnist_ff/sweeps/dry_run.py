"""List the jobs of a sweep and estimate their time from earlier runs. Nothing is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import tell
from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import runs_below
from mnist_ff.runs.jobs import Job
from mnist_ff.runs.numbers import counted, duration
from mnist_ff.runs.reading import written_at
from mnist_ff.runs.records import Status
from mnist_ff.sweeps.progress import named, varied_keys


@dataclasses.dataclass(frozen=True)
class Earlier:
    """A run that finished on this machine, its config, and its total seconds."""

    run: Run
    config: Config
    seconds: float


def show_jobs(jobs: Sequence[Job], root: Path, console: Console) -> None:
    """List jobs, each with the time of the newest comparable run in `root`, and an estimate of the total time."""
    earlier = by_workload(sorted(finished_here(root), key=lambda found: written_at(found.run.file("summary.json"))))
    keys = varied_keys(jobs)
    known: list[float] = []
    for job in jobs:
        comparable = earlier.get(_workload(job.config))
        known += [] if comparable is None else [comparable.seconds]
        time = "no comparable run yet" if comparable is None else f"{comparable.seconds:.1f} s as {comparable.run.path}"
        tell(console, "  ".join(part for part in (f"job {job.subdir}", named(job, keys), time) if part))
    tell(console, _estimate(len(jobs), known, root))


def _estimate(jobs: int, known: Sequence[float], root: Path) -> str:
    if not known:
        return f"{counted(jobs, 'job')}; no comparable run in {root}/, so the duration is unknown"
    total = duration(sum(known) / len(known) * jobs)
    guess = "" if len(known) == jobs else f" (an estimate: {jobs - len(known)} of them have no comparable run)"
    return f"{counted(jobs, 'job')}, about {total} in sequence{guess}; nothing was written"


def by_workload(earlier: Sequence[Earlier]) -> dict[Any, Earlier]:
    """The last of the earlier runs for each workload."""
    return {_workload(found.config): found for found in earlier}


def _workload(config: Config) -> tuple[Any, ...]:
    """The parts of a config that determine a run's time."""
    trainer = dataclasses.replace(config.trainer, threads=None, checkpoint_every=None)
    return config.data.name, config.data.validation_split, config.model, config.optimizer.name, config.augment, trainer


def finished_here(root: Path) -> Iterator[Earlier]:
    """The finished runs below `root` that were trained on the CPU and device of this machine."""
    for run in map(Run, runs_below(root)):
        with suppress(BadRunError):  # skip directories that are no valid run
            summary = run.summary()
            if summary is None or summary.status is not Status.FINISHED or "total" not in summary.seconds:
                continue
            config = run.config()
            if _made_here(run.environment(), config):
                yield Earlier(run, config, summary.seconds["total"])


def _made_here(environment: dict[str, Any], config: Config) -> bool:
    from mnist_ff.engine.device import (  # imports torch: only if there is a run to compare with
        cpu_name,
        describe,
        resolve_device,
    )

    with suppress(ConfigError):  # this machine lacks the device
        device = describe(resolve_device(config.trainer.device))
        return bool(environment.get("cpu") == cpu_name() and environment.get("device_name") == device)
    return False
