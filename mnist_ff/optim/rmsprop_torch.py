"""torch.optim.RMSprop, which adds eps outside the root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mnist_ff.config.registry import register
from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.part import Average, Decay, Epsilon, Group, Optimizer, OptimizerPart, Parameters, Scalar


@dataclass(frozen=True)
class RMSpropTorchConfig(OptimizerConfig):
    """torch.optim.RMSprop."""

    alpha: Average
    eps: Epsilon
    momentum: Annotated[float, "momentum", Meta(ge=0)]
    centered: Annotated[bool, "normalise by the gradient's variance"]
    weight_decay: Decay


def build(config: RMSpropTorchConfig, parameters: Parameters) -> Optimizer:
    """torch's."""
    from mnist_ff.optim.base import torch_optimizer

    return torch_optimizer(
        "RMSprop",
        parameters,
        lr=config.lr,
        alpha=config.alpha,
        eps=config.eps,
        momentum=config.momentum,
        centered=config.centered,
        weight_decay=config.weight_decay,
    )


def initial_state(group: Group) -> dict[str, float | Scalar]:
    """As torch begins."""
    momentum: dict[str, float | Scalar] = {"momentum_buffer": 0.0} if group["momentum"] > 0 else {}
    centre: dict[str, float | Scalar] = {"grad_avg": 0.0} if group["centered"] else {}
    return {"step": Scalar(0, group["capturable"]), "square_avg": 0.0, **momentum, **centre}


register(OptimizerPart("optimizer", "rmsprop_torch", RMSpropTorchConfig, build, initial_state=initial_state))
