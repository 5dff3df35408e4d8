"""augment=elastic: each image bent by a smooth random field (Simard et al. 2003)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import AugmentConfig
from mnist_ff.runs.records import INPUTS, SIDE

if TYPE_CHECKING:
    import torch

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


def elastic_fields(config: ElasticConfig, rng: torch.Generator) -> Callable[[int], torch.Tensor]:
    """Draws (count, 2, 784): how far each place is moved: uniform in [-1, 1), smoothed along both axes."""
    import torch

    smooth = smoothing(config.sigma, rng.device)  # (28, 28)

    def draw(count: int) -> torch.Tensor:
        words = torch.empty(count * 2 * INPUTS // 4, dtype=torch.int64, device=rng.device)
        words.random_(-(2**63), None, generator=rng)  # four draws a word: a quarter of the time
        draws = words.view(torch.int16).view(count, 2, SIDE, SIDE).float()
        field = smooth @ draws @ (smooth.t() * (config.alpha / (SIDE / 2) / INT16))
        return field.view(count, 2, INPUTS)

    return draw


def smoothing(sigma: float, device: torch.device) -> torch.Tensor:
    """A Gaussian as a matrix (28, 28): its product with a line of pixels smooths it, with zeros outside.

    The weights of the whole Gaussian, cut at four sigma, add up to 1: near an edge less of the line remains.
    """
    import torch

    reach = math.ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    lines = torch.arange(SIDE)
    distance = lines[:, None] - lines[None, :]
    near = distance.abs() <= reach
    matrix = torch.where(near, weights[(distance + reach).clamp(0, 2 * reach)], 0.0)
    return matrix.float().to(device)


register(Part("augment", "elastic", ElasticConfig, build))
