"""schedule=step: the rate falls by a factor at given points (He et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import ScheduleConfig
from mnist_ff.optim.schedule import Shape


@dataclass(frozen=True)
class StepConfig(ScheduleConfig):
    """Step decay."""

    at: Annotated[tuple[Annotated[float, Meta(gt=0, lt=1)], ...], "when the rate drops, as fractions of the steps"]
    factor: Annotated[float, "factor for the learning rate at each of them", Meta(gt=0, lt=1)]


def build(config: StepConfig) -> Shape:
    """`factor` to the power of the points passed."""
    return lambda done: float(config.factor ** sum(done >= point for point in config.at))


register(Part("schedule", "step", StepConfig, build))
