"""What the optimizers share. Imported when one is built, because it needs torch."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch.optim import Optimizer

from mnist_ff.optim.part import Parameters, Rule

GUARDED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad", "_cuda_graph_capture_health_check")
"""Methods that torch keeps from its compiler by a wrapper which imports the compiler when it is first called."""


@functools.cache
def unguarded(kind: type[Optimizer]) -> Any:
    """A subclass without torch's compiler guards, because importing torch's compiler takes seconds.

    It also has update(), which is step() without the hooks around it, a tenth of a small network's step. It is to be
    called under torch.no_grad().
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in GUARDED if hasattr(kind, name)}
    step = inspect.unwrap(kind.step)
    return type(kind.__name__, (kind,), {**methods, "update": step, "step": torch.no_grad()(step)})


def torch_optimizer(name: str, parameters: Parameters, **options: Any) -> Optimizer:
    """torch.optim's of that name."""
    optimizer: Optimizer = unguarded(getattr(torch.optim, name))(parameters, **options)
    return optimizer


def rule_optimizer(rule: Rule, parameters: Parameters, **options: Any) -> Optimizer:
    """One that updates each parameter by a rule."""
    optimizer: Optimizer = unguarded(_RuleOptimizer)(parameters, options, rule)
    return optimizer


class _RuleOptimizer(Optimizer):
    def __init__(self, parameters: Parameters, options: dict[str, Any], rule: Rule) -> None:
        super().__init__(parameters, options)
        self._rule = rule

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update. A closure is not used: a rule needs one gradient only."""
        apply_rule(self, self._rule)


def apply_rule(optimizer: Optimizer, rule: Rule) -> None:
    """Update each of the optimizer's parameters that has a gradient. To be called under torch.no_grad()."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                rule(parameter, optimizer.state[parameter], group)
