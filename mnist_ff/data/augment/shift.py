"""augment=shift: each image moved by whole pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import AugmentConfig
from mnist_ff.runs.records import INPUTS, SIDE

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

    most = config.pixels
    pixels = torch.arange(SIDE, device=rng.device)

    def change(images: torch.Tensor) -> torch.Tensor:
        moves = torch.randint(0, 2 * most + 1, (2, len(images), 1), generator=rng, device=images.device)
        padded = F.pad(images.view(-1, SIDE, SIDE), (most, most, most, most))
        rows, columns = moves + pixels  # each (B, 28)
        numbers = torch.arange(len(images), device=images.device)
        return padded[numbers[:, None, None], rows[:, :, None], columns[:, None, :]].view(-1, INPUTS)

    return change


register(Part("augment", "shift", ShiftConfig, build))
