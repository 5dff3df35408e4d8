"""torch.optim.RMSprop, which adds eps outside the root."""

from __future__ import annotations

from mnist_ff.config.schema import RMSpropTorchConfig
from mnist_ff.optim.part import Group, Optimizer, OptimizerPart, Parameters, Scalar


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


PART = OptimizerPart("rmsprop_torch", build, initial_state)
