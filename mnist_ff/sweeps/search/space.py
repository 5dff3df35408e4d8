"""The search space: dimensions with bounds. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mnist_ff.errors import ConfigError

LARGEST_GRID = 100_000


@dataclass(frozen=True)
class Choices:
    """One of some values, each as it stands behind `key=` in an override."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return "one of " + ", ".join(self.values)


@dataclass(frozen=True)
class Floats:
    """A number from `low` to `high`, both included; its logarithm is spread evenly if `log`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __str__(self) -> str:
        return _range_text(self)


@dataclass(frozen=True)
class Integers:
    """A whole number from `low` to `high`, both included; its logarithm is spread evenly if `log`."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __str__(self) -> str:
        return f"whole numbers {_range_text(self)}"


def _range_text(numbers: Floats | Integers) -> str:
    step = f" in steps of {numbers.step:g}" if numbers.step not in (None, 1) else ""
    return f"{numbers.low:g} to {numbers.high:g}{step}{', logarithmic' if numbers.log else ''}"


Dimension = Choices | Floats | Integers
Space = Mapping[str, Dimension]
"""What is searched, by config key."""


def check_dimension(key: str, dimension: Dimension) -> None:
    """Errors: ConfigError for bounds and steps that leave nothing to search."""
    if isinstance(dimension, Choices):
        if len(set(dimension.values)) < len(dimension.values):
            raise ConfigError(f"{key}: has a value twice")
        if not dimension.values:
            raise ConfigError(f"{key}: has no values")
        return
    if not (math.isfinite(dimension.low) and math.isfinite(dimension.high)) or dimension.low >= dimension.high:
        raise ConfigError(f"{key}: goes from {dimension.low:g} to {dimension.high:g}; the first must be smaller")
    if dimension.log and dimension.low <= 0:
        raise ConfigError(f"{key}: starts at {dimension.low:g}; a log scale needs values above 0")
    if dimension.step is not None and dimension.step <= 0:
        raise ConfigError(f"{key}: has step {dimension.step:g}; it must be above 0")
    if dimension.log and dimension.step not in (None, 1):
        raise ConfigError(f"{key}: has a step and a log scale; use only one of them")


def grid_of(space: Space) -> dict[str, list[str | int | float]]:
    """Every value of every key. Errors: ConfigError for a key without a step, and for too many points."""
    values = {key: _grid_values(key, dimension) for key, dimension in space.items()}
    points = math.prod(len(some) for some in values.values())
    if points > LARGEST_GRID:
        raise ConfigError(f"hydra.sweeper.sampler=grid: {points:,} points are more than {LARGEST_GRID:,}; use tpe")
    return values


def _grid_values(key: str, dimension: Dimension) -> list[str | int | float]:
    if isinstance(dimension, Choices):
        return list(dimension.values)
    if dimension.step is None or dimension.log:
        raise ConfigError(f"{key}: sampler=grid needs a finite set of values, such as range(...) or a,b,c")
    count = math.floor((dimension.high - dimension.low) / dimension.step + 1e-9) + 1
    return [dimension.low + index * dimension.step for index in range(count)]


def corners(space: Space, most: int = 64) -> Iterator[dict[str, str]]:
    """Values at the ends of every key: all combinations up to `most`, else rows in which every end appears."""
    ends = {key: _ends(dimension) for key, dimension in space.items()}
    if math.prod(len(some) for some in ends.values()) <= most:
        rows: list[dict[str, str]] = [{}]
        for key, some in ends.items():
            rows = [{**row, key: value} for row in rows for value in some]
        yield from rows
        return
    for index in range(max(len(some) for some in ends.values())):
        yield {key: some[index % len(some)] for key, some in ends.items()}


def _ends(dimension: Dimension) -> list[str]:
    if isinstance(dimension, Choices):
        return list(dimension.values)
    return [override_value(dimension, dimension.low), override_value(dimension, dimension.high)]


def override_value(dimension: Dimension, value: Any) -> str:
    """A suggested value as it stands in an override: of a number's digits as many as people can use."""
    if isinstance(dimension, Choices):
        return str(value)
    if isinstance(dimension, Integers):
        return str(int(value))
    short = f"{value:.6g}"
    return short if dimension.low <= float(short) <= dimension.high else repr(float(value))
