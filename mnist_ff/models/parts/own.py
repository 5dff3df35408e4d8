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
    """The user's network on the device; what build() draws from torch's generator comes from `seed`.

    Errors: PartError for anything that is no module from images (B, *shape) to logits (B, classes).
    """
    import torch
    from torch import nn

    from mnist_ff.data.seeds import generator

    where, classes = source_of("model", config.name), len(spec.classes)
    with torch.random.fork_rng():  # the caller's draws stay as they are
        torch.manual_seed(generator(seed, "weights").initial_seed())
        model = config.build(spec.shape, classes)
        if not isinstance(model, nn.Module):
            raise PartError(f"{where}: build() returned {type_name(model)}, not a torch.nn.Module")
        model = model.to(device)
        try:
            with torch.no_grad():
                logits = model.eval()(torch.zeros(2, *spec.shape, device=device))
        except Exception as error:
            raise PartError(f"{where}: fails on images {(2, *spec.shape)} ({type(error).__name__}: {error})") from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type_name(logits)
    if shape != (2, classes):
        raise PartError(f"{where}: maps images {(2, *spec.shape)} to {shape}, not to logits {(2, classes)}")
    return model.train()
