"""Step number to learning rate, as a pure function, so that a resumed run uses the same rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from mnist_ff.config.registry import part
from mnist_ff.config.schema import ScheduleConfig

Shape: TypeAlias = "Callable[[float], float]"
"""The fraction of the steps after the warm-up that is done to the fraction of optimizer.lr."""


def learning_rates(config: ScheduleConfig, base: float, steps: int) -> Callable[[int], float]:
    """Step number, from 0 through the run, to its rate; the first `config.warmup` steps rise to the schedule's first.

    Args:
        config: the schedule; its fractions are of `base` and of the steps after the warm-up.
        base: optimizer.lr.
        steps: in the whole run; the schedule ends at a step of this number, so that the last real step is still above
            its end.
    """
    shape: Shape = part("schedule", config.name).build(config)
    warmup = min(config.warmup, steps)

    def rate(step: int) -> float:
        if step < warmup:
            return base * shape(0.0) * (step + 1) / (warmup + 1)
        return base * shape((step - warmup) / max(1, steps - warmup))

    return rate


def depends_on_length(config: ScheduleConfig) -> bool:
    """Whether more epochs mean other rates for the same steps."""
    return config.name != "constant"


def is_scheduled(config: ScheduleConfig) -> bool:
    """Whether the rate changes within a run."""
    return config.name != "constant" or config.warmup > 0


def half_cosine(start: float, end: float, done: float) -> float:
    """Half a cosine from one value to another."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
