"""augment=both: affine and elastic in one interpolation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnist_ff.config.registry import Part, register
from mnist_ff.data.augment.affine import AffineConfig, affine_maps
from mnist_ff.data.augment.elastic import ElasticConfig, elastic_fields

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BothConfig(ElasticConfig, AffineConfig):
    """Random affine maps and elastic distortions."""


def build(config: BothConfig, rng: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Sample each image through a map and a field of its own."""
    from mnist_ff.data.augment.warp import Warp

    return Warp(rng.device, affine_maps(config, rng), elastic_fields(config, rng))


register(Part("augment", "both", BothConfig, build))
