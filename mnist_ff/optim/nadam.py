"""torch.optim.NAdam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mnist_ff.config.registry import register
from mnist_ff.optim.adam import AdamConfig
from mnist_ff.optim.part import Group, Optimizer, OptimizerPart, Parameters, Scalar


@dataclass(frozen=True)
class NadamConfig(AdamConfig):
    """torch.optim.NAdam, its weight decay decoupled."""

    momentum_decay: Annotated[float, "how fast the momentum approaches beta1", Meta(ge=0)]


def build(config: NadamConfig, parameters: Parameters) -> Optimizer:
    """torch's."""
    from mnist_ff.optim.base import torch_optimizer

    return torch_optimizer(
        "NAdam",
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        momentum_decay=config.momentum_decay,
        decoupled_weight_decay=True,
    )


def initial_state(group: Group) -> dict[str, float | Scalar]:
    """As torch begins: the product of momenta is one."""
    on_device = group["capturable"]
    return {"step": Scalar(0, on_device), "mu_product": Scalar(1, on_device), "exp_avg": 0.0, "exp_avg_sq": 0.0}


register(OptimizerPart("optimizer", "nadam", NadamConfig, build, initial_state=initial_state, tensor_lr=True))
