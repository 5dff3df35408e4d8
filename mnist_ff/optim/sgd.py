"""torch.optim.SGD: momentum, Nesterov momentum and weight decay on request."""

from __future__ import annotations

from mnist_ff.config.schema import SGDConfig
from mnist_ff.optim.part import Group, Optimizer, OptimizerPart, Parameters


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


PART = OptimizerPart("sgd", build, initial_state)
