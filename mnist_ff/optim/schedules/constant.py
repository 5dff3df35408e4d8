"""schedule=constant: optimizer.lr throughout, as in the tutorial."""

from __future__ import annotations

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import ScheduleConfig
from mnist_ff.optim.schedule import Shape


def build(config: ScheduleConfig) -> Shape:
    """1 throughout."""
    return lambda done: 1.0


register(Part("schedule", "constant", ScheduleConfig, build))
