"""schedule=one_cycle: up and down once, each by half a cosine (Smith, Topin 2018), as torch's OneCycleLR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import Fraction, ScheduleConfig
from mnist_ff.errors import ConfigError
from mnist_ff.optim.schedule import Shape, half_cosine


@dataclass(frozen=True)
class OneCycleConfig(ScheduleConfig):
    """One cycle."""

    final: Annotated[Fraction, "fraction of optimizer.lr at the end"]
    initial: Annotated[Fraction, "fraction of optimizer.lr at the beginning"]
    peak_at: Annotated[float, "fraction of the steps before the peak", Meta(gt=0, lt=1)]

    def check_new(self, path: str) -> None:
        if self.initial == 0 and self.warmup > 0:
            raise ConfigError(
                f"{path}.initial=0: the warm-up would end at a learning rate of 0; set it above 0, or warmup=0"
            )


def build(config: OneCycleConfig) -> Shape:
    """From `initial` to 1 at `peak_at`, then to `final`."""

    def shape(done: float) -> float:
        if done < config.peak_at:
            return half_cosine(config.initial, 1.0, done / config.peak_at)
        return half_cosine(1.0, config.final, (done - config.peak_at) / (1 - config.peak_at))

    return shape


register(Part("schedule", "one_cycle", OneCycleConfig, build))
