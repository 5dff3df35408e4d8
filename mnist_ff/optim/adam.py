"""torch.optim.Adam (Kingma, Ba 2015, arXiv:1412.6980)."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_ff.config.registry import register
from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.part import (
    Average,
    Decay,
    Epsilon,
    Group,
    Optimizer,
    OptimizerPart,
    Parameter,
    Parameters,
    Rule,
    Scalar,
    State,
)


@dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """torch.optim.Adam and torch.optim.AdamW."""

    beta1: Average
    beta2: Average
    eps: Epsilon
    weight_decay: Decay


def build(config: AdamConfig, parameters: Parameters, kind: str = "Adam") -> Optimizer:
    """torch's; `kind` is its class."""
    from mnist_ff.optim.base import torch_optimizer

    return torch_optimizer(
        kind,
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over the weights instead of ten
    )


def initial_state(group: Group) -> dict[str, float | Scalar]:
    """As torch begins; its fused update counts on the parameter's device."""
    return {"step": Scalar(0, group["capturable"] or group["fused"]), "exp_avg": 0.0, "exp_avg_sq": 0.0}


def triton_rule(config: AdamConfig, decoupled: bool = False) -> Rule:
    """One pass over the weights, in smaller blocks than torch's; weight decay is decoupled on request."""
    from mnist_ff.optim.triton_updates import adam

    def update(parameter: Parameter, state: State, group: Group) -> None:
        assert parameter.grad is not None
        state["step"].add_(1)
        adam(parameter, parameter.grad, state, group, decoupled)

    return update


register(
    OptimizerPart(
        "optimizer", "adam", AdamConfig, build, initial_state=initial_state, tensor_lr=True, triton_rule=triton_rule
    )
)
