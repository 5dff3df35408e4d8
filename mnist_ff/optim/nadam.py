"""torch.optim.NAdam with decoupled weight decay."""

from __future__ import annotations

from mnist_ff.config.schema import NadamConfig
from mnist_ff.optim.part import Group, Optimizer, OptimizerPart, Parameters, Scalar


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


PART = OptimizerPart("nadam", build, initial_state, tensor_lr=True)
