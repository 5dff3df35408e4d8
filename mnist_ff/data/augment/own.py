"""A user's own augmentation: what its build() takes and must return."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mnist_ff.config.registry import Part, source_of
from mnist_ff.errors import PartError, type_name

if TYPE_CHECKING:
    import torch

PARAMETERS = ("rng",)


def own_part(name: str, config: type[Any]) -> Part:
    """The part of a user's class."""
    return Part("augment", name, config, build)


def build(config: Any, rng: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """The user's function of images (B, *shape), each result checked. Errors: PartError, then or when it is called."""
    import torch

    where = source_of("augment", config.name)
    change = config.build(rng)
    if not callable(change):
        raise PartError(f"{where}: build() returned {type_name(change)}, not a function of images")

    def checked(images: torch.Tensor) -> torch.Tensor:
        changed = change(images)
        if not isinstance(changed, torch.Tensor):
            raise PartError(f"{where}: returned {type_name(changed)}, not images")
        for what in ("shape", "dtype", "device"):
            before, after = getattr(images, what), getattr(changed, what)
            if before != after:
                shown = [tuple(found) if what == "shape" else found for found in (after, before)]
                raise PartError(f"{where}: returned images of {what} {shown[0]}, not {shown[1]}")
        return changed

    return checked
