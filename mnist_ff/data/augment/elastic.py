"""augment=elastic: each image bent by a smooth random field (Simard et al. 2003)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import AugmentConfig

if TYPE_CHECKING:
    import torch

    from mnist_ff.data.augment.warp import Fields

INT16 = 1 << 15
"""A field's draws are int16: they lie in [-INT16, INT16)."""


@dataclass(frozen=True)
class ElasticConfig(AugmentConfig):
    """Random elastic distortions."""

    alpha: Annotated[float, "strength before smoothing, in pixels", Meta(ge=0, le=1000)]
    sigma: Annotated[float, "standard deviation of the smoothing, in pixels", Meta(gt=0, le=28)]


def build(config: ElasticConfig, rng: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Sample each image through a field of its own."""
    from mnist_ff.data.augment.warp import Warp

    return Warp(rng.device, fields=elastic_fields(config, rng))


def elastic_fields(config: ElasticConfig, rng: torch.Generator) -> Fields:
    """Draws how far each place of each image is moved: uniform in [-1, 1), smoothed along both axes."""
    import torch

    @functools.cache
    def smooth(side: int) -> torch.Tensor:
        return smoothing(config.sigma, side, rng.device)

    def draw(count: int, height: int, width: int) -> torch.Tensor:
        numbers = count * 2 * height * width
        words = torch.empty((numbers + 3) // 4, dtype=torch.int64, device=rng.device)
        words.random_(-(2**63), None, generator=rng)  # four draws a word: a quarter of the time
        draws = words.view(torch.int16)[:numbers].view(count, 2, height, width).float()
        field = smooth(height) @ draws @ (smooth(width).t() * (config.alpha / (width / 2) / INT16))
        if height != width:  # moves along y are in halves of the height
            field[:, 1] *= width / height
        return field.view(count, 2, height * width)

    return draw


def smoothing(sigma: float, side: int, device: torch.device) -> torch.Tensor:
    """A Gaussian as a matrix (side, side): its product with a line of pixels smooths it, with zeros outside.

    The weights of the whole Gaussian, cut at four sigma, add up to 1: near an edge less of the line remains.
    """
    import torch

    reach = math.ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    lines = torch.arange(side)
    distance = lines[:, None] - lines[None, :]
    near = distance.abs() <= reach
    matrix = torch.where(near, weights[(distance + reach).clamp(0, 2 * reach)], 0.0)
    return matrix.float().to(device)


register(Part("augment", "elastic", ElasticConfig, build))
