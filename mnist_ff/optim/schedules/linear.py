"""schedule=linear: a straight line from optimizer.lr to a fraction of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import Fraction, ScheduleConfig
from mnist_ff.optim.schedule import Shape


@dataclass(frozen=True)
class LinearConfig(ScheduleConfig):
    """Linear decay."""

    final: Annotated[Fraction, "fraction of optimizer.lr at the end"]


def build(config: LinearConfig) -> Shape:
    """From 1 to `final`."""
    return lambda done: 1.0 + (config.final - 1.0) * done


register(Part("schedule", "linear", LinearConfig, build))
