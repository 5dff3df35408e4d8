"""The optimizers by name, and what is the same for all of them."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from mnist_ff.config.registry import names, part
from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.part import OptimizerPart, Parameters, Scalar


def optimizer_part(name: str) -> OptimizerPart:
    """An optimizer by name, and what the engines need to know of it. Errors: ConfigError."""
    found = part("optimizer", name)
    return found if isinstance(found, OptimizerPart) else OptimizerPart(**vars(found))


def optimizer_parts() -> dict[str, OptimizerPart]:
    """All of them."""
    return {name: optimizer_part(name) for name in names("optimizer")}


def build_optimizer(config: OptimizerConfig, parameters: Parameters, capturable: bool = False) -> Optimizer:
    """The configured optimizer over `parameters`.

    capturable: keep the count of updates on the device, as a CUDA graph needs it; those without the option count none.
    """
    optimizer: Optimizer = optimizer_part(config.name).build(config, parameters)
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = capturable
    complete_state(optimizer, config.name)
    return optimizer


def complete_state(optimizer: Optimizer, name: str) -> None:
    """Create what the first update would create, where it is missing: a CUDA graph must find all of it."""
    initial_state = optimizer_part(name).initial_state
    if initial_state is None:
        return
    for group in optimizer.param_groups:
        first = initial_state(group)
        for parameter in group["params"] if first else ():
            if not optimizer.state.get(parameter):
                optimizer.state[parameter] = {key: _filled(value, parameter) for key, value in first.items()}


def _filled(value: float | Scalar, parameter: torch.Tensor) -> torch.Tensor:
    if isinstance(value, Scalar):
        return torch.full((), value.value, dtype=torch.float32, device=parameter.device if value.on_device else "cpu")
    return torch.full_like(parameter, value, requires_grad=False)


def set_rate(optimizer: Optimizer, rate: float | torch.Tensor) -> None:
    """Give every group this learning rate; a tensor is read at each update and may change in between.

    Where a group reads a tensor already, as in a CUDA graph, a number is put into it.
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor) and not isinstance(rate, torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
