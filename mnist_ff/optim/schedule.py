"""Step number to learning rate: a pure function, so that a resumed run takes the rates of the whole one."""

from __future__ import annotations

import math
from typing import assert_never

from mnist_ff.config.schema import FallingConfig, OneCycleConfig, ScheduleConfig, StepConfig


def learning_rate(config: ScheduleConfig, base: float, step: int, steps: int) -> float:
    """The rate of one step.

    Args:
        config: the course; its shares are of `base` and of the steps after the warm-up.
        base: the rate that optimizer.lr names.
        step: counts from 0 through the run; the first `config.warmup` steps rise evenly to the course's first rate.
        steps: in the whole run; the course ends where a step of this number would stand, so that the last real step
            is still above its end.
    """
    warmup = min(config.warmup, steps)
    if step < warmup:
        return base * _share(config, 0.0) * (step + 1) / (warmup + 1)
    return base * _share(config, (step - warmup) / max(1, steps - warmup))


def depends_on_length(config: ScheduleConfig) -> bool:
    """Whether more epochs mean other rates for the same steps."""
    return config.name != "constant"


def moves(config: ScheduleConfig) -> bool:
    """Whether the rate changes within a run."""
    return config.name != "constant" or config.warmup > 0


def _share(config: ScheduleConfig, done: float) -> float:
    """The share of the base rate after a share of the course."""
    match config:
        case OneCycleConfig():
            if done < config.peak_at:
                return _eased(config.initial, 1.0, done / config.peak_at)
            return _eased(1.0, config.final, (done - config.peak_at) / (1 - config.peak_at))
        case FallingConfig(name="linear"):
            return 1.0 + (config.final - 1.0) * done
        case FallingConfig():
            return _eased(1.0, config.final, done)
        case StepConfig():
            return float(config.factor ** sum(done >= place for place in config.at))
        case ScheduleConfig():
            return 1.0
    assert_never(config)


def _eased(start: float, end: float, done: float) -> float:
    """Half a cosine from one value to another."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
