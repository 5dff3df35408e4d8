"""schedule=cosine: half a cosine from optimizer.lr to a fraction of it, without restarts (Loshchilov, Hutter 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import Fraction, ScheduleConfig
from mnist_ff.optim.schedule import Shape, half_cosine


@dataclass(frozen=True)
class CosineConfig(ScheduleConfig):
    """Cosine decay."""

    final: Annotated[Fraction, "fraction of optimizer.lr at the end"]


def build(config: CosineConfig) -> Shape:
    """From 1 to `final`."""
    return lambda done: half_cosine(1.0, config.final, done)


register(Part("schedule", "cosine", CosineConfig, build))
