"""The keys of each optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.errors import ConfigError

Decay = Annotated[float, "weight decay", Meta(ge=0)]
Epsilon = Annotated[float, "added to the denominator", Meta(gt=0)]
Average = Annotated[float, "decay of a moving average", Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class RMSpropConfig(OptimizerConfig):
    """The tutorial's rule: epsilon inside the root."""

    rho: Average
    eps: Epsilon
    weight_decay: Annotated[float, "decoupled weight decay", Meta(ge=0)]


@dataclass(frozen=True)
class RMSpropTorchConfig(OptimizerConfig):
    """torch.optim.RMSprop."""

    alpha: Average
    eps: Epsilon
    momentum: Annotated[float, "momentum", Meta(ge=0)]
    centered: Annotated[bool, "normalise by the variance instead of the second moment"]
    weight_decay: Decay


@dataclass(frozen=True)
class SGDConfig(OptimizerConfig):
    """torch.optim.SGD."""

    momentum: Annotated[float, "momentum", Meta(ge=0)]
    nesterov: Annotated[bool, "Nesterov momentum"]
    weight_decay: Decay

    def check(self, path: str) -> None:
        if self.nesterov and self.momentum == 0:
            raise ConfigError(f"{path}.nesterov=True: needs {path}.momentum above 0, such as 0.9")


@dataclass(frozen=True)
class LionConfig(OptimizerConfig):
    """Lion: the sign of an interpolated momentum."""

    beta1: Average
    beta2: Average
    weight_decay: Decay


@dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """torch.optim.Adam and torch.optim.AdamW."""

    beta1: Average
    beta2: Average
    eps: Epsilon
    weight_decay: Decay


@dataclass(frozen=True)
class NadamConfig(AdamConfig):
    """torch.optim.NAdam, its weight decay decoupled."""

    momentum_decay: Annotated[float, "how fast the momentum approaches beta1", Meta(ge=0)]
