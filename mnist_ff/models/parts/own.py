"""A user's own model: what its build() takes and must return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnist_ff.config.registry import Part

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mnist_ff.runs.records import DataSpec

PARAMETERS = ("shape", "classes")


def own_part(name: str, config: type[Any]) -> Part:
    """The part of a user's class."""
    return Part("model", name, config, build)


def build(config: Any, spec: DataSpec, seed: int, device: torch.device) -> nn.Module:
    """What the user's build() returns; build_model() seeds torch's generators before, and checks it after."""
    module: nn.Module = config.build(spec.shape, len(spec.classes))
    return module
