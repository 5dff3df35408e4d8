"""Keras 0.3's RMSprop: v = rho v + (1 - rho) g^2;  p -= lr g / sqrt(v + eps).

torch.optim.RMSprop adds eps outside the root, and has other defaults: another optimizer once gradients are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from mnist_ff.config.registry import register
from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.part import Average, Epsilon, Group, Optimizer, OptimizerPart, Parameter, Parameters, Rule, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RMSpropConfig(OptimizerConfig):
    """The tutorial's rule: epsilon inside the root."""

    rho: Average
    eps: Epsilon
    weight_decay: Annotated[float, "decoupled weight decay", Meta(ge=0)]


class Update:
    """The rule in torch's operations."""

    def __init__(self, config: RMSpropConfig) -> None:
        import torch

        self._torch = torch
        self._decay = config.weight_decay  # no option of a group: older checkpoints have none
        self._eps = torch.tensor((1 - config.rho) * config.eps, dtype=torch.float64)  # keeps eps whole in the average
        self._scratch: dict[Parameter, Tensor] = {}  # a fresh tensor a step costs more than the arithmetic

    def __call__(self, parameter: Parameter, state: State, group: Group) -> None:
        torch, grad, square, lr, rho = self._torch, parameter.grad, state["denominator"], group["lr"], group["rho"]
        assert grad is not None
        torch.add(self._eps, square, alpha=rho, out=square)
        square.addcmul_(grad, grad, value=1 - rho)
        if parameter not in self._scratch:
            self._scratch[parameter] = torch.empty_like(parameter)
        root = torch.sqrt(square, out=self._scratch[parameter])
        if self._decay:
            parameter.mul_(1 - lr * self._decay)
        if isinstance(lr, torch.Tensor):  # on the device, where a CUDA graph reads it anew
            parameter.addcmul_(torch.div(grad, root, out=root), lr, value=-1)
        else:
            parameter.addcdiv_(grad, root, value=-lr)


def build(config: RMSpropConfig, parameters: Parameters) -> Optimizer:
    """The tutorial's optimizer."""
    from mnist_ff.optim.base import rule_optimizer

    return rule_optimizer(Update(config), parameters, lr=config.lr, rho=config.rho, eps=config.eps)


def initial_state(group: Group) -> dict[str, float]:
    """v + eps, kept as one: that saves a pass over memory."""
    return {"denominator": group["eps"]}


def triton_rule(config: RMSpropConfig) -> Rule:
    """One pass over the weights."""
    from mnist_ff.optim.triton_updates import rmsprop

    def update(parameter: Parameter, state: State, group: Group) -> None:
        assert parameter.grad is not None
        rmsprop(parameter, parameter.grad, state["denominator"], group, config.weight_decay)

    return update


register(
    OptimizerPart(
        "optimizer",
        "rmsprop",
        RMSpropConfig,
        build,
        legacy={"weight_decay": 0.0},
        initial_state=initial_state,
        tensor_lr=True,
        triton_rule=triton_rule,
    )
)
