"""Names to optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.configs import AdamConfig, LionConfig, NadamConfig, RMSpropConfig, RMSpropTorchConfig, SGDConfig

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

    def first_state(self, parameter: torch.Tensor, group: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What torch makes at the first update; its fused update counts on the parameter's device."""
        step = _count(parameter, on_device=group["capturable"] or group["fused"])
        return {"step": step, "exp_avg": _zeros(parameter), "exp_avg_sq": _zeros(parameter)}

    def update(self, rule: AdamRule) -> None:
        """step() by a rule of its own. To be called under torch.no_grad()."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state["step"].add_(1)
                rule(parameter, parameter.grad, state, group, isinstance(self, AdamW))


@unguarded
class AdamW(torch.optim.AdamW, Adam):
    """torch's."""


@unguarded
class SGD(torch.optim.SGD):
    """torch's."""

    def first_state(self, parameter: torch.Tensor, group: dict[str, Any]) -> dict[str, torch.Tensor]:
        """A momentum of zero: torch begins with the first gradient, which is what the first update makes of it."""
        return {"momentum_buffer": _zeros(parameter)} if group["momentum"] else {}


@unguarded
class TorchRMSprop(torch.optim.RMSprop):
    """torch's."""

    def first_state(self, parameter: torch.Tensor, group: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What torch makes at the first update."""
        names = ["square_avg"]
        names += ["momentum_buffer"] if group["momentum"] > 0 else []
        names += ["grad_avg"] if group["centered"] else []
        step = _count(parameter, on_device=group["capturable"])
        return {"step": step, **{name: _zeros(parameter) for name in names}}


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
        complete_state(self)

    def first_state(self, parameter: torch.Tensor, group: dict[str, Any]) -> dict[str, torch.Tensor]:
        """v + eps, kept as one: that saves a pass over memory."""
        return {"denominator": torch.full_like(parameter, group["eps"], requires_grad=False)}

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
        complete_state(self)

    def first_state(self, parameter: torch.Tensor, group: dict[str, Any]) -> dict[str, torch.Tensor]:
        """A momentum of zero."""
        return {"momentum": _zeros(parameter)}

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. A closure is not used: the rule needs one gradient only."""
        for group in self.param_groups:
            lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter]["momentum"]
                direction = torch.lerp(parameter.grad, momentum, beta1).sign_()
                parameter.mul_(1 - lr * decay).sub_(direction.mul_(lr))
                momentum.lerp_(parameter.grad, 1 - beta2)


@unguarded
class Nadam(torch.optim.NAdam):
    """torch's."""

    def first_state(self, parameter: torch.Tensor, group: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What torch makes at the first update: the product of momenta begins at one."""
        step = _count(parameter, on_device=group["capturable"])
        averages = {"exp_avg": _zeros(parameter), "exp_avg_sq": _zeros(parameter)}
        return {"step": step, "mu_product": torch.ones_like(step), **averages}


def _zeros(parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter, requires_grad=False, memory_format=torch.preserve_format)


def _count(parameter: torch.Tensor, on_device: bool) -> torch.Tensor:
    """A number of updates, none so far."""
    return torch.zeros((), dtype=torch.float32, device=parameter.device if on_device else "cpu")


def complete_state(optimizer: Optimizer) -> None:
    """Make what the first update would make where it is missing: a CUDA graph must find all of it."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not optimizer.state.get(parameter):
                fresh = optimizer.first_state(parameter, group)  # type: ignore[attr-defined]  # all of BUILDERS have it
                if fresh:
                    optimizer.state[parameter] = fresh


READS_A_TENSOR = {"rmsprop", "adam", "adamw", "nadam", "lion"}
"""Optimizers whose rate may be a tensor on the device; torch's other two ask it for its number, which no graph can."""


def set_rate(optimizer: Optimizer, rate: float | torch.Tensor) -> None:
    """Give every group this rate; a tensor is read at each update, and may change in between.

    Where a group reads a tensor already, as in a CUDA graph, a number is put into it.
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor) and not isinstance(rate, torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def build_optimizer(config: OptimizerConfig, parameters: Parameters, capturable: bool = False) -> Optimizer:
    """The configured optimizer over `parameters`. To add one: a schema, a YAML file, a line in BUILDERS.

    capturable: keep the step count on the device, as a CUDA graph needs it; our RMSprop and SGD count nothing.
    """
    optimizer = BUILDERS[config.name](config, parameters)
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = capturable
    complete_state(optimizer)
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
