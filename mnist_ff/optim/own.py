"""A user's own optimizer: what its build() takes and must return."""

from __future__ import annotations

from typing import Any

from mnist_ff.config.registry import source_of
from mnist_ff.errors import PartError, type_name
from mnist_ff.optim.part import Optimizer, OptimizerPart, Parameters

PARAMETERS = ("parameters",)


def own_part(name: str, config: type[Any]) -> OptimizerPart:
    """The part of a user's class."""
    return OptimizerPart("optimizer", name, config, build, elementwise=False)


def build(config: Any, parameters: Parameters) -> Optimizer:
    """The user's optimizer over the parameters. Errors: PartError where it is none, or has no learning rate to set."""
    import torch

    where = source_of("optimizer", config.name)
    optimizer = config.build(list(parameters))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise PartError(f"{where}: build() returned {type_name(optimizer)}, not a torch.optim.Optimizer")
    if any(group.get("lr") != config.lr for group in optimizer.param_groups):
        raise PartError(f"{where}: each group of parameters needs lr=self.lr, which schedules change")
    return optimizer
