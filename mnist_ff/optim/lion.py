"""Lion (Chen et al. 2023, arXiv:2302.06675, its program 1), weight decay decoupled."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_ff.config.registry import register
from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.part import Average, Decay, Group, Optimizer, OptimizerPart, Parameter, Parameters, State


@dataclass(frozen=True)
class LionConfig(OptimizerConfig):
    """Lion: the sign of an interpolated momentum."""

    beta1: Average
    beta2: Average
    weight_decay: Decay


def build(config: LionConfig, parameters: Parameters) -> Optimizer:
    """Lion over the parameters."""
    from mnist_ff.optim.base import rule_optimizer

    betas = (config.beta1, config.beta2)
    return rule_optimizer(update, parameters, lr=config.lr, betas=betas, weight_decay=config.weight_decay)


def update(parameter: Parameter, state: State, group: Group) -> None:
    """Lion's rule."""
    lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
    momentum, grad = state["momentum"], parameter.grad
    assert grad is not None
    direction = grad.lerp(momentum, beta1).sign_()
    parameter.mul_(1 - lr * decay).sub_(direction.mul_(lr))
    momentum.lerp_(grad, 1 - beta2)


register(
    OptimizerPart("optimizer", "lion", LionConfig, build, initial_state=lambda group: {"momentum": 0.0}, tensor_lr=True)
)
