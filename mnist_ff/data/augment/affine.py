"""augment=affine: each image rotated, scaled, sheared and shifted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import AugmentConfig

if TYPE_CHECKING:
    import torch

    from mnist_ff.data.augment.warp import Maps


@dataclass(frozen=True)
class AffineConfig(AugmentConfig):
    """Random affine maps."""

    rotation: Annotated[float, "largest rotation either way, in degrees", Meta(ge=0, le=180)]
    scale: Annotated[float, "largest relative change of size either way", Meta(ge=0, lt=1)]
    shear: Annotated[float, "largest shear either way, in degrees", Meta(ge=0, lt=90)]
    shift: Annotated[float, "largest shift along each axis, in pixels", Meta(ge=0, le=28)]


def build(config: AffineConfig, rng: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Sample each image through a map of its own."""
    from mnist_ff.data.augment.warp import Warp

    return Warp(rng.device, maps=affine_maps(config, rng))


def affine_maps(config: AffineConfig, rng: torch.Generator) -> Maps:
    """Draws for each image the affine map from output places to their places in the source.

    It is the inverse of what happens to the digit: scaling, rotation, shear and shift, in this order.
    """
    import torch

    def draw(count: int, half_height: float, half_width: float) -> torch.Tensor:
        draws = torch.rand(5, count, generator=rng, device=rng.device).mul_(2).sub_(1)
        angle, shear = draws[0] * math.radians(config.rotation), torch.tan(draws[1] * math.radians(config.shear))
        cos, sin = torch.cos(angle), torch.sin(angle)
        rows = torch.stack((cos, cos * shear + sin, -sin, cos - sin * shear)) / (1 + draws[2] * config.scale)
        linear = rows.t().view(count, 2, 2)
        if half_height != half_width:  # from pixels to grid_sample's places, which are stretched along one axis
            linear[:, 0, 1] *= half_height / half_width
            linear[:, 1, 0] *= half_width / half_height
        shifts = torch.stack((draws[3] * (config.shift / half_width), draws[4] * (config.shift / half_height)))
        shifts = shifts.t().unsqueeze(2)
        return torch.cat((linear, -linear @ shifts), dim=2)

    return draw


register(Part("augment", "affine", AffineConfig, build))
