"""Names to optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

from mnist_ff.config import (
    AdamConfig,
    LionConfig,
    NadamConfig,
    OptimizerConfig,
    RMSpropConfig,
    RMSpropTorchConfig,
    SGDConfig,
)

Parameters = Iterable[torch.nn.Parameter]
Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, "float | torch.Tensor", float, float, float], None]
"""(weights, gradient, average of squares with eps in it, rate, rho, eps, decay): update weights and average."""
AdamRule = Callable[[torch.Tensor, torch.Tensor, "dict[str, torch.Tensor]", "dict[str, Any]", bool], None]
"""(weights, gradient, torch's state, torch's group, whether decay is decoupled): update weights and averages."""
Kind = TypeVar("Kind", bound=type[Optimizer])

GUARDED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad", "_cuda_graph_capture_health_check")
"""Methods that torch keeps from its compiler by a wrapper which imports the compiler when it is first called."""


def unguarded(kind: Kind) -> Kind:
    """Take torch's guards off an optimizer: its compiler sees none of ours, and importing it takes seconds."""
    for name in GUARDED:
        if hasattr(kind, name):
            setattr(kind, name, inspect.unwrap(getattr(kind, name)))
    kind.step = torch.no_grad()(inspect.unwrap(kind.step))  # type: ignore[method-assign]
    return kind


@unguarded
class Adam(torch.optim.Adam):
    """torch's."""

    def update(self, rule: AdamRule) -> None:
        """step() by a rule of its own. To be called under torch.no_grad()."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:  # as torch makes it
                    state["step"] = torch.zeros((), device=parameter.device)
                    state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
                    state["exp_avg_sq"] = torch.zeros_like(parameter, requires_grad=False)
                state["step"].add_(1)
                rule(parameter, parameter.grad, state, group, isinstance(self, AdamW))


@unguarded
class AdamW(torch.optim.AdamW, Adam):
    """torch's."""


@unguarded
class SGD(torch.optim.SGD):
    """torch's."""


@unguarded
class TorchRMSprop(torch.optim.RMSprop):
    """torch's."""


@unguarded
class RMSprop(Optimizer):
    """Keras 0.3's RMSprop: v = rho v + (1 - rho) g^2;  p -= lr g / sqrt(v + eps).

    torch.optim.RMSprop adds eps outside the root, and has other defaults: another optimizer once gradients are small.
    """

    def __init__(self, params: Parameters, lr: float, rho: float, eps: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps})
        self._decay = weight_decay  # no option of a group: older checkpoints have none
        self._rooms: dict[torch.Tensor, torch.Tensor] = {}
        self._rest = torch.tensor((1 - rho) * eps, dtype=torch.float64)  # what keeps eps whole when the average decays
        for group in self.param_groups:
            for parameter in group["params"]:
                # v + eps, kept as one: that saves a pass over memory
                self.state[parameter]["denominator"] = torch.full_like(parameter, eps, requires_grad=False)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. A closure is not used: the rule needs one gradient only."""
        self.update()

    def update(self, rule: Rule | None = None) -> None:
        """step() without the hooks and guards that torch wraps around it, which cost a tenth of a small network's step.

        To be called under torch.no_grad(). `rule` updates one tensor where there is something faster than torch.
        """
        for group in self.param_groups:
            lr, rho = group["lr"], group["rho"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                square = self.state[parameter]["denominator"]
                if rule is not None:
                    rule(parameter, parameter.grad, square, lr, rho, group["eps"], self._decay)
                    continue
                torch.add(self._rest, square, alpha=rho, out=square)
                square.addcmul_(parameter.grad, parameter.grad, value=1 - rho)
                root = torch.sqrt(square, out=self._scratch(parameter))
                if self._decay:
                    parameter.mul_(1 - lr * self._decay)
                if isinstance(lr, torch.Tensor):  # on the device, where a CUDA graph reads it anew
                    parameter.addcmul_(torch.div(parameter.grad, root, out=root), lr, value=-1)
                else:
                    parameter.addcdiv_(parameter.grad, root, value=-lr)

    def _scratch(self, parameter: torch.Tensor) -> torch.Tensor:
        """Room for a temporary of this parameter's shape: a fresh one a step costs more than the arithmetic."""
        if parameter not in self._rooms:
            self._rooms[parameter] = torch.empty_like(parameter)
        return self._rooms[parameter]


@unguarded
class Lion(Optimizer):
    """Lion (Chen et al. 2023, arXiv:2302.06675, its program 1), weight decay decoupled."""

    def __init__(self, params: Parameters, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. A closure is not used: the rule needs one gradient only."""
        for group in self.param_groups:
            lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if "momentum" not in self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
                momentum = self.state[parameter]["momentum"]
                direction = torch.lerp(parameter.grad, momentum, beta1).sign_()
                parameter.mul_(1 - lr * decay).sub_(direction.mul_(lr))
                momentum.lerp_(parameter.grad, 1 - beta2)


@unguarded
class Nadam(torch.optim.NAdam):
    """torch.optim.NAdam whose state is there from the start, its product of momenta at one: a CUDA graph needs both."""

    def reset(self, capturable: bool) -> None:
        """Make the state that the first update would make."""
        for group in self.param_groups:
            for parameter in group["params"]:
                device = parameter.device if capturable else torch.device("cpu")
                self.state[parameter] = {
                    "step": torch.zeros((), device=device),
                    "mu_product": torch.ones((), device=device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }


READS_A_TENSOR = {"rmsprop", "adam", "adamw", "nadam", "lion"}
"""Optimizers whose rate may be a tensor on the device; torch's other two ask it for its number, which no graph can."""


def set_rate(optimizer: Optimizer, rate: float | torch.Tensor) -> None:
    """Give every group this rate; a tensor is read at each update, and may change in between."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def build_optimizer(config: OptimizerConfig, parameters: Parameters, capturable: bool = False) -> Optimizer:
    """The configured optimizer over `parameters`. To add one: a schema, a YAML file, a line in BUILDERS.

    capturable: keep the step count on the device, as a CUDA graph needs it; our RMSprop and SGD count nothing.
    """
    optimizer = BUILDERS[config.name](config, parameters)
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = capturable
    if isinstance(optimizer, Nadam):
        optimizer.reset(capturable)
    return optimizer


def _rmsprop(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
    assert isinstance(config, RMSpropConfig)
    return RMSprop(parameters, lr=config.lr, rho=config.rho, eps=config.eps, weight_decay=config.weight_decay)


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


def _adam(kind: type[torch.optim.Adam]) -> Callable[[OptimizerConfig, Parameters], Optimizer]:
    def build(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
        assert isinstance(config, AdamConfig)
        return kind(
            parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,  # one pass over the weights instead of ten
        )

    return build


def _nadam(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
    assert isinstance(config, NadamConfig)
    return Nadam(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        momentum_decay=config.momentum_decay,
        decoupled_weight_decay=True,
    )


def _lion(config: OptimizerConfig, parameters: Parameters) -> Optimizer:
    assert isinstance(config, LionConfig)
    return Lion(parameters, config.lr, (config.beta1, config.beta2), config.weight_decay)


BUILDERS: dict[str, Callable[[OptimizerConfig, Parameters], Optimizer]] = {
    "rmsprop": _rmsprop,
    "rmsprop_torch": _rmsprop_torch,
    "sgd": _sgd,
    "adam": _adam(Adam),
    "adamw": _adam(AdamW),
    "nadam": _nadam,
    "lion": _lion,
}
