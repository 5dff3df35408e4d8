"""The configured augmentation: training images changed a whole batch at a time on the device.

torchvision's v2 transforms draw once a call, which would be once a batch; called for every image they take a hundred
times as long as this (256 images, 1 CPU thread: 536 ms against 3 ms for augment=both).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mnist_ff.config.registry import part
from mnist_ff.config.schema import AugmentConfig
from mnist_ff.data.seeds import generator
from mnist_ff.errors import ConfigError, type_name
from mnist_ff.runs.records import MNIST_SPEC


class Augment:
    """Changes batches; all random numbers come from `rng`, whose state is all there is to resume."""

    def __init__(
        self, change: Callable[[torch.Tensor], torch.Tensor], rng: torch.Generator, shape: tuple[int, ...]
    ) -> None:
        self._change = change
        self.rng = rng
        self.shape = shape

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Change `images` (B, *shape) float32 in [0, 1] to as many new ones of the same range; flat rows stay flat.

        Errors: ConfigError where an augmentation returns anything else.
        """
        changed = self._change(images.view(-1, *self.shape))
        if not isinstance(changed, torch.Tensor) or changed.shape[1:] != self.shape or len(changed) != len(images):
            returned = tuple(changed.shape) if isinstance(changed, torch.Tensor) else type_name(changed)
            raise ConfigError(f"augment: returned {returned}, not images of shape {(len(images), *self.shape)}")
        return changed.reshape(images.shape)


def build_augment(
    config: AugmentConfig, seed: int, device: torch.device, shape: tuple[int, ...] = MNIST_SPEC.shape
) -> Augment | None:
    """The configured augmentation of images of a shape, with a random generator of its own, or None for none."""
    if config.name == "none":
        return None
    rng = generator(seed, "augment", device=device)
    return Augment(part("augment", config.name).build(config, rng), rng, shape)
