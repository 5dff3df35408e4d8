"""What a tracker's store holds already: it is told nothing twice, and what it missed."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

CLOCKED = {"epoch/seconds"}
"""Figures that are others when the same steps are trained again."""
LIKE = 1e-6
"""Relative difference of two values that are the same one: TensorBoard keeps 24 bits, the run's files nine digits."""


class Fact(NamedTuple):
    """Figures of one step, by the names that all trackers use."""

    step: int
    figures: Mapping[str, float]


class Heard:
    """A store's values of each figure at each step; more than one where a resume changed the steps to come."""

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
        """The figures of a fact that are not there, or with another value."""
        return {name: value for name, value in fact.figures.items() if not self._has(fact.step, name, value)}

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

    Errors: OSError, ValueError, KeyError for files that are none of ours.
    """
    with (directory / "epochs.csv").open(newline="", encoding="utf-8") as file:
        epochs = {row["epoch"]: row for row in csv.DictReader(file)}
    last = None
    with (directory / "batches.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = int(row["step"])
            if last is not None and row["epoch"] != last.epoch:
                yield from _epoch(epochs, last, since)
            if step >= until:
                return
            last = _Row(step, row["epoch"])
            if step >= since:
                yield Fact(step, {"batch/loss": float(row["loss"]), "batch/lr": float(row["lr"])})
    if last is not None:
        yield from _epoch(epochs, last, since)


class _Row(NamedTuple):
    step: int
    epoch: str


def _epoch(epochs: Mapping[str, Mapping[str, str]], last: _Row, since: int) -> Iterator[Fact]:
    """The figures of the epoch that this batch ended, if it ended it."""
    row = epochs.get(last.epoch)
    if row is not None and last.step >= since:
        figures = {f"epoch/{name}": float(cell) for name, cell in row.items() if name != "epoch" and cell}
        yield Fact(last.step, figures)
