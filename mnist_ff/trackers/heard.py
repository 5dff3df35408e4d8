"""What a tracker's store already has, so that a resume logs only what is missing."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mnist_ff.runs.tables import read_batches, read_epochs, without_gaps

CLOCKED = {"epoch/seconds"}
"""Metrics that are others when the same steps are trained again."""
LIKE = 1e-6
"""Relative difference of two values that are the same one: TensorBoard keeps 24 bits, the run's files nine digits."""


class Fact(NamedTuple):
    """Metrics of one step, by the names that all trackers use."""

    step: int
    metrics: Mapping[str, float]


class Heard:
    """A store's values of each metric at each step; more than one where a resume changed the steps to come."""

    def __init__(self) -> None:
        self._values: dict[str, dict[int, list[float]]] = {}

    def add(self, step: int, name: str, value: float) -> None:
        """Note a value that is there."""
        self._values.setdefault(name, {}).setdefault(step, []).append(value)

    def forget(self, step: int) -> None:
        """Drop everything from a step on."""
        for values in self._values.values():
            for later in [known for known in values if known >= step]:
                del values[later]

    def lacking(self, fact: Fact) -> dict[str, float]:
        """The metrics of a fact that are not there, or with another value."""
        return {name: value for name, value in fact.metrics.items() if not self._has(fact.step, name, value)}

    def _has(self, step: int, name: str, value: float) -> bool:
        known = self._values.get(name, {}).get(step, ())
        return any(name in CLOCKED or _same(value, other) for other in known)


def _same(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    most = sys.float_info.max  # what MLflow's tables hold for infinity
    one, other = (max(-most, min(most, value)) for value in (one, other))
    return math.isclose(one, other, rel_tol=LIKE, abs_tol=1e-12)


def facts_of_files(directory: Path, since: int, until: int) -> Iterator[Fact]:
    """What batches.csv and epochs.csv have of the steps from `since` to before `until`, in the order that it came.

    Errors: BadRunError.
    """
    epochs = {row["epoch"]: without_gaps(row) for row in read_epochs(directory)}

    def ended(step: int, epoch: float | None) -> Iterator[Fact]:
        if epoch in epochs and step >= since:
            yield Fact(step, {f"epoch/{name}": value for name, value in epochs[epoch].items() if name != "epoch"})

    last: tuple[int, float | None] | None = None
    for number, epoch, _, loss, lr, _ in read_batches(directory):
        step = int(number or 0)
        if last is not None and epoch != last[1]:
            yield from ended(*last)
        if step >= until:
            return
        last = (step, epoch)
        if step >= since and loss is not None and lr is not None:
            yield Fact(step, {"batch/loss": loss, "batch/lr": lr})
    if last is not None:
        yield from ended(*last)
