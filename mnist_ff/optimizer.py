"""Names to optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim import RMSprop as TorchRMSprop

from mnist_ff.config import (
    AdamConfig,
    OptimizerConfig,
    RMSpropConfig,
    RMSpropTorchConfig,
    SGDConfig,
)

Parameters = Iterable[torch.nn.Parameter]


class RMSprop(Optimizer):
    """Keras 0.3's RMSprop: v = rho v + (1 - rho) g^2;  p -= lr g / sqrt(v + eps).

    torch.optim.RMSprop adds eps outside the root, and has other defaults: another optimizer once gradients are small.
    """

    def __init__(self, params: Parameters, lr: float, rho: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. A closure is not used: the rule needs one gradient only."""
        for group in self.param_groups:
            lr, rho, eps = group["lr"], group["rho"], group["eps"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["square_average"] = torch.zeros_like(parameter)
                average = state["square_average"]
                average.mul_(rho).addcmul_(parameter.grad, parameter.grad, value=1 - rho)
                parameter.addcdiv_(parameter.grad, (average + eps).sqrt_(), value=-lr)


def build_optimizer(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
    """The configured optimizer over `parameters`. To add one: a schema, a YAML file, a line in BUILDERS."""
    return BUILDERS[config.name](config, parameters)


def _rmsprop(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
    assert isinstance(config, RMSpropConfig)
    return RMSprop(parameters, lr=config.lr, rho=config.rho, eps=config.eps)


def _rmsprop_torch(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
    assert isinstance(config, RMSpropTorchConfig)
    return TorchRMSprop(
        parameters,
        lr=config.lr,
        alpha=config.alpha,
        eps=config.eps,
        momentum=config.momentum,
        centered=config.centered,
        weight_decay=config.weight_decay,
    )


def _sgd(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
    assert isinstance(config, SGDConfig)
    return SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def _adam(kind: type[Adam]) -> Callable[[OptimizerConfig, Parameters], Optimizer]:
    def build(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
        assert isinstance(config, AdamConfig)
        return kind(
            parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
        )

    return build


BUILDERS: dict[str, Callable[[OptimizerConfig, Parameters], Optimizer]] = {
    "rmsprop": _rmsprop,
    "rmsprop_torch": _rmsprop_torch,
    "sgd": _sgd,
    "adam": _adam(Adam),
    "adamw": _adam(AdamW),
}
