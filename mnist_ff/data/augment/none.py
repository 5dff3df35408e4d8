"""augment=none: the training images as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import AugmentConfig

if TYPE_CHECKING:
    import torch


def build(config: AugmentConfig, rng: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same images."""
    return lambda images: images


register(Part("augment", "none", AugmentConfig, build))
