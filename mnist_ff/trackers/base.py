"""What a tracker is told of a run, and what it must be able to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.runs.records import BatchRecord, EpochRecord, Score, Status
from mnist_ff.trackers.heard import Fact

END_TIMEOUT_S = 15.0
"""Seconds that a run waits at its end for a tracker to have taken everything."""


@dataclass(frozen=True)
class Beginning:
    """What a tracker knows of a run before its first step."""

    identity: str
    """The run's own, 16 hex digits, the same after a resume."""
    directory: Path
    """The run's, absolute."""
    name: str
    """For people: the run's label or its directory's name."""
    sweep: Path | None
    """The sweep's directory, absolute, where the run is one of its jobs."""
    config: Mapping[str, Any]
    """By dotted key."""
    tags: Mapping[str, str]
    """Conditions: device, engine, commit and such."""
    earlier: tuple[Fact, ...] = ()
    """What the tracker is to have heard of the steps before the first one, from the run's files."""


@dataclass(frozen=True)
class Ending:
    """How a run ended, and what it left."""

    status: Status
    """As summary.json has it."""
    cause: str | None
    score: Score | None = None
    """On the test images."""
    pictures: tuple[Path, ...] = ()
    model: Path | None = None


class Tracker:
    """What one tool makes of the facts. Every metric stands at the step of the batch that it follows, from 0 on.

    load() is called by the main thread, all else by the tracker's own. Any exception drops the tracker.
    """

    title: str
    place: str
    """Where its metrics go, for people: a resumed run's may be somebody else's choice."""

    def load(self) -> None:
        """Import the tool."""

    def begin(self, beginning: Beginning, first_step: int) -> None:
        """Start, or continue at `first_step`, and write what the store lacks of `beginning.earlier`.

        The store itself is asked for what it has: a kill may have come before it had all of that, or after it had
        more, and then the steps to come are partly there.
        """

    def tell(self, facts: Sequence[Fact]) -> None:
        """Write those of the facts, which come in order, that the store does not have."""

    def batches(self, records: Sequence[BatchRecord]) -> None:
        """Some batches, in order."""
        self.tell([Fact(record.step, batch_metrics(record)) for record in records])

    def epoch(self, record: EpochRecord, step: int) -> None:
        """An epoch's metrics; `step` is its last batch's."""
        self.tell([Fact(step, epoch_metrics(record))])

    def end(self, ending: Ending, step: int) -> None:
        """The run has ended; `step` is the last batch's. Everything must be written when this returns."""


def batch_metrics(record: BatchRecord) -> dict[str, float]:
    """A batch's metrics by the names that all trackers use."""
    return {"batch/loss": record.loss, "batch/lr": record.lr}


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """An epoch's metrics by the columns of epochs.csv."""
    metrics = {"train_loss": record.train_loss, "train_accuracy": record.train_accuracy, "seconds": record.seconds}
    for part, score in (("train_eval", record.train), ("test", record.test), ("validation", record.validation)):
        if score is not None:
            metrics |= {f"{part}_loss": score.loss, f"{part}_accuracy": score.accuracy}
    metrics |= {name: value for name, value in record.metrics.items() if math.isfinite(value)}
    return {f"epoch/{name}": value for name, value in metrics.items()}


def final_metrics(ending: Ending) -> dict[str, float]:
    """The score on the test images after the last step, where there is one."""
    if ending.score is None:
        return {}
    return {"final/test_loss": ending.score.loss, "final/test_accuracy": ending.score.accuracy}
