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
        # float64 keeps eps whole in the average
        self._eps = torch.tensor((1 - config.rho) * config.eps, dtype=torch.float64, device="cpu")
        self._many = torch.tensor(float(2**100), device="cpu")  # whatever device a user has made the default
        self._plain: dict[Parameter, bool] = {}
        self._scratch: dict[Parameter, Tensor] = {}  # a fresh tensor a step costs more than the arithmetic

    def __call__(self, parameter: Parameter, state: State, group: Group) -> None:
        if self._suits_adam(parameter, group):
            self._by_adam(parameter, state["denominator"], group)
        else:
            self._by_hand(parameter, state["denominator"], group)

    def _suits_adam(self, parameter: Parameter, group: Group) -> bool:
        """Whether torch's fused kernel takes these: it reads weights and gradient as two lines of memory."""
        if parameter not in self._plain:
            plain = parameter.dtype is self._torch.float32 and parameter.device.type == "cpu"
            # eps is divided by rho; a rate on the device is a tensor
            self._plain[parameter] = plain and parameter.is_contiguous() and group["rho"] >= 0.01
        assert parameter.grad is not None
        return self._plain[parameter] and parameter.grad.is_contiguous() and isinstance(group["lr"], float)

    def _by_adam(self, parameter: Parameter, square: Tensor, group: Group) -> None:
        """One pass over memory instead of four: Adam with beta1 = 0 has the gradient itself as its first average.

        After very many steps both of its bias corrections are 1. Its eps is outside the root, so it gets none: what
        the average is to gain by eps is added before, divided by rho, with which the kernel multiplies it.
        """
        grad, rho = parameter.grad, group["rho"]
        assert grad is not None
        square.add_((1 - rho) / rho * group["eps"])
        self._torch._fused_adamw_(
            [parameter], [grad], [grad], [square], [], [self._many], lr=group["lr"], beta1=0.0, beta2=rho,
            weight_decay=self._decay, eps=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _by_hand(self, parameter: Parameter, square: Tensor, group: Group) -> None:
        """Operation by operation, on any device and of any type."""
        torch, grad, lr, rho = self._torch, parameter.grad, group["lr"], group["rho"]
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
