"""torch.optim.SGD: momentum, Nesterov momentum and weight decay on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mnist_ff.config.registry import register
from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.errors import ConfigError
from mnist_ff.optim.part import Decay, Group, Optimizer, OptimizerPart, Parameters


@dataclass(frozen=True)
class SGDConfig(OptimizerConfig):
    """torch.optim.SGD."""

    momentum: Annotated[float, "momentum", Meta(ge=0)]
    nesterov: Annotated[bool, "Nesterov momentum"]
    weight_decay: Decay

    def check(self, path: str) -> None:
        if self.nesterov and self.momentum == 0:
            raise ConfigError(f"{path}.nesterov=True: needs {path}.momentum above 0, such as 0.9")


def build(config: SGDConfig, parameters: Parameters) -> Optimizer:
    """torch's."""
    from mnist_ff.optim.base import torch_optimizer

    return torch_optimizer(
        "SGD",
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def initial_state(group: Group) -> dict[str, float]:
    """A momentum of zero: torch begins with the first gradient, which is what the first update makes of it."""
    return {"momentum_buffer": 0.0} if group["momentum"] else {}


register(OptimizerPart("optimizer", "sgd", SGDConfig, build, initial_state=initial_state))
