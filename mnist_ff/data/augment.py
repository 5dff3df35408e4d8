"""Training images changed a whole batch at a time on the device, each image by amounts of its own.

An image is changed by where its pixels are taken from: every output pixel has a place in the source image and is
interpolated there; outside is paper. Affine map and elastic field make one place together, so that the image is
interpolated once. Places count from the middle of the image, half of its side being 1, as grid_sample has it.

torchvision's v2 transforms draw once a call, which would be once a batch; called for every image they take a hundred
times as long as this (256 images, 1 CPU thread: 536 ms against 3 ms for both together).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from mnist_ff.config.schema import AffineConfig, AugmentConfig, ElasticConfig, ShiftConfig
from mnist_ff.data.seeds import generator
from mnist_ff.runs.records import INPUTS, SIDE

HALF = SIDE / 2
"""Pixels from the middle of an image to its edge."""
STEPS = 1 << 15
"""Of the amounts of an elastic field's draws, on either side of zero."""


class Augment:
    """Changes batches as `config` says. All chance comes from `rng`, whose state is all there is to resume."""

    def __init__(self, config: AugmentConfig, rng: torch.Generator) -> None:
        self.config = config
        self.rng = rng
        self._pixels = torch.arange(SIDE, device=rng.device)
        line = (torch.arange(SIDE, dtype=torch.float32, device=rng.device) + 0.5) / HALF - 1
        x, y = (grid.flatten() for grid in torch.meshgrid(line, line, indexing="xy"))
        self._places = torch.stack((x, y, torch.ones_like(x)))  # (3, 784): each pixel's own place, and a one
        self._smoothing = smoothing(config.sigma, rng.device) if isinstance(config, ElasticConfig) else None

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Change `images` (B, 784) float32 in [0, 1] to as many new ones of the same shape and range."""
        config, count = self.config, len(images)
        if isinstance(config, ShiftConfig):
            return self._shifted(images, config.pixels)
        places = self._places[:2].expand(count, 2, INPUTS)
        if isinstance(config, AffineConfig):
            places = (self._maps(count, config).view(2 * count, 3) @ self._places).view(count, 2, INPUTS)
        if isinstance(config, ElasticConfig):
            places = places + self._field(count, config.alpha)
        square, grid = images.view(-1, 1, SIDE, SIDE), places.reshape(count, 2, SIDE, SIDE).permute(0, 2, 3, 1)
        sampled = F.grid_sample(square, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return sampled.view(-1, INPUTS)

    def _shifted(self, images: torch.Tensor, most: int) -> torch.Tensor:
        """Each image taken from a place of its own of itself with a margin of paper."""
        moves = torch.randint(0, 2 * most + 1, (2, len(images), 1), generator=self.rng, device=images.device)
        wide = F.pad(images.view(-1, SIDE, SIDE), (most, most, most, most))
        rows, columns = moves + self._pixels
        numbers = torch.arange(len(images), device=images.device)
        return wide[numbers[:, None, None], rows[:, :, None], columns[:, None, :]].view(-1, INPUTS)

    def _maps(self, count: int, config: AffineConfig) -> torch.Tensor:
        """(count, 2, 3): the affine map from each output place to its place in the source.

        It undoes what the digit goes through: it grows, turns, leans and moves, in this order.
        """
        draws = torch.rand(5, count, generator=self.rng, device=self.rng.device).mul_(2).sub_(1)
        angle, lean = draws[0] * math.radians(config.rotation), torch.tan(draws[1] * math.radians(config.shear))
        cos, sin = torch.cos(angle), torch.sin(angle)
        rows = torch.stack((cos, cos * lean + sin, -sin, cos - sin * lean)) / (1 + draws[2] * config.scale)
        linear = rows.t().view(count, 2, 2)
        moves = draws[3:].t().unsqueeze(2) * (config.shift / HALF)
        return torch.cat((linear, -linear @ moves), dim=2)

    def _field(self, count: int, alpha: float) -> torch.Tensor:
        """(count, 2, 784): how far each place is moved; an even draw from [-1, 1), smoothed along both axes."""
        assert self._smoothing is not None
        words = torch.empty(count * 2 * INPUTS // 4, dtype=torch.int64, device=self.rng.device)
        words.random_(-(2**63), None, generator=self.rng)  # four draws a word: a quarter of the time
        draws = words.view(torch.int16).view(count, 2, SIDE, SIDE).float()
        field = self._smoothing @ draws @ (self._smoothing.t() * (alpha / HALF / STEPS))
        return field.view(count, 2, INPUTS)


def smoothing(sigma: float, device: torch.device) -> torch.Tensor:
    """A Gaussian's weights as a matrix (28, 28): its product with a line of pixels smooths it, with zeros outside.

    The weights of a whole Gaussian, cut at four sigma, add up to 1: near an edge less of the line remains.
    """
    reach = math.ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    lines = torch.arange(SIDE)
    distance = lines[:, None] - lines[None, :]
    near = distance.abs() <= reach
    matrix = torch.where(near, weights[(distance + reach).clamp(0, 2 * reach)], 0.0)
    return matrix.float().to(device)


def build_augment(config: AugmentConfig, seed: int, device: torch.device) -> Augment | None:
    """The configured change of training images with a stream of chance of its own, or None for none."""
    return None if config.name == "none" else Augment(config, generator(seed, "augment", device=device))
