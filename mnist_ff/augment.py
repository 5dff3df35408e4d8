"""Training images changed a whole batch at a time on the device, each image by amounts of its own.

An image is changed by where its pixels are taken from: every output pixel has a place in the source image, in pixels,
and is interpolated there; outside is paper. Affine map and elastic field make one place together, so that the image is
interpolated once.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from mnist_ff.config import AffineConfig, AugmentConfig, ElasticConfig, ShiftConfig
from mnist_ff.records import INPUTS, SIDE
from mnist_ff.seeds import generator

CENTRE = (SIDE - 1) / 2
"""The middle of an image between its pixels, which are counted from 0."""


class Augment:
    """Changes batches as `config` says. All chance comes from `rng`, whose state is all there is to resume."""

    def __init__(self, config: AugmentConfig, rng: torch.Generator) -> None:
        self.config = config
        self.rng = rng
        lines = torch.arange(SIDE, dtype=torch.float32, device=rng.device)
        self._pixels = torch.arange(SIDE, device=rng.device)
        self._grid = torch.stack(torch.meshgrid(lines, lines, indexing="xy"))  # (2, 28, 28): x, y of each pixel
        self._smoothing = smoothing(config.sigma, rng.device) if isinstance(config, ElasticConfig) else None

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Change `images` (B, 784) float32 in [0, 1] to as many new ones of the same shape and range."""
        config = self.config
        if isinstance(config, ShiftConfig):
            return self._shifted(images, config.pixels)
        places = self._grid.expand(len(images), 2, SIDE, SIDE)
        if isinstance(config, AffineConfig):
            places = self._mapped(len(images), config)
        if isinstance(config, ElasticConfig):
            places = places + self._field(len(images), config.alpha)
        # as grid_sample counts: from -1 to 1 between the outer edges of the outer pixels
        scaled = (places.permute(0, 2, 3, 1) + 0.5) * (2 / SIDE) - 1
        square = images.view(-1, 1, SIDE, SIDE)
        sampled = F.grid_sample(square, scaled, mode="bilinear", padding_mode="zeros", align_corners=False)
        return sampled.view(-1, INPUTS)

    def _shifted(self, images: torch.Tensor, most: int) -> torch.Tensor:
        """Each image taken from a place of its own of itself with a margin of paper."""
        moves = torch.randint(0, 2 * most + 1, (2, len(images), 1), generator=self.rng, device=images.device)
        wide = F.pad(images.view(-1, SIDE, SIDE), (most, most, most, most))
        rows, columns = moves + self._pixels
        numbers = torch.arange(len(images), device=images.device)
        return wide[numbers[:, None, None], rows[:, :, None], columns[:, None, :]].view(-1, INPUTS)

    def _mapped(self, count: int, config: AffineConfig) -> torch.Tensor:
        """(count, 2, 28, 28): where an affine map about the centre takes each pixel from."""
        draws = self._even(5, count, 1, 1)
        angle, shear = draws[0] * math.radians(config.rotation), torch.tan(draws[1] * math.radians(config.shear))
        scale = 1 / (1 + draws[2] * config.scale)
        x, y = self._grid - CENTRE
        x, y = x - draws[3] * config.shift, y - draws[4] * config.shift
        x = x + shear * y
        turned = torch.stack((torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x))
        return (turned * scale + CENTRE).transpose(0, 1)

    def _field(self, count: int, alpha: float) -> torch.Tensor:
        """(count, 2, 28, 28): how far each pixel's place is moved; an even draw, smoothed along both axes."""
        assert self._smoothing is not None
        return self._smoothing @ self._even(count, 2, SIDE, SIDE) @ (self._smoothing.t() * alpha)

    def _even(self, *shape: int) -> torch.Tensor:
        """Fresh draws from [-1, 1)."""
        return torch.rand(shape, generator=self.rng, device=self.rng.device).mul_(2).sub_(1)


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
