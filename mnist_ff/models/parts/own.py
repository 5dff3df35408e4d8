"""A user's own model: what its build() takes and must return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnist_ff.config.registry import Part, source_of
from mnist_ff.errors import PartError, type_name

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mnist_ff.runs.records import DataSpec

PARAMETERS = ("shape", "classes")


def own_part(name: str, config: type[Any]) -> Part:
    """The part of a user's class."""
    return Part("model", name, config, build)


def build(config: Any, spec: DataSpec, seed: int, device: torch.device) -> nn.Module:
    """The user's network; build_model() seeds torch's generators for it, moves and checks it.

    Errors: PartError for anything that is no module.
    """
    from torch import nn

    model = config.build(spec.shape, len(spec.classes))
    if not isinstance(model, nn.Module):
        where = source_of("model", config.name)
        raise PartError(f"{where}: build() returned {type_name(model)}, not a torch.nn.Module")
    return model
