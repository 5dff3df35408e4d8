"""augment=shift: each image moved by whole pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import AugmentConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ShiftConfig(AugmentConfig):
    """Random shifts."""

    pixels: Annotated[int, "largest shift along each axis, in pixels", Meta(ge=1, le=14)]


def build(config: ShiftConfig, rng: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Crop each image at a random place out of itself padded with zeros."""
    import torch
    from torch.nn import functional as F

    from mnist_ff.data.augment.warp import sides

    most = config.pixels

    def change(images: torch.Tensor) -> torch.Tensor:
        (height, width), device = sides(images), images.device
        moves = torch.randint(0, 2 * most + 1, (2, len(images), 1), generator=rng, device=device)
        padded = F.pad(images, (most, most, most, most))
        rows = moves[0] + torch.arange(height, device=device)  # (B, H)
        columns = moves[1] + torch.arange(width, device=device)  # (B, W)
        numbers = torch.arange(len(images), device=device)[:, None, None]
        if images.ndim == 3:
            return padded[numbers, rows[:, :, None], columns[:, None, :]]
        channels = torch.arange(images.shape[1], device=device)[None, :, None, None]
        return padded[numbers[..., None], channels, rows[:, None, :, None], columns[:, None, None, :]]

    return change


register(Part("augment", "shift", ShiftConfig, build))
