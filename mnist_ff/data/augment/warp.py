"""Images sampled at other places: affine maps and elastic fields, a whole batch at a time on the device.

Each output pixel has a place in the source image and is interpolated there; outside the image is 0. Affine map and
elastic field are added to one place, so that the image is interpolated once. Places are grid_sample's: -1 and 1 are
the edges of the image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from mnist_ff.runs.records import INPUTS, SIDE


class Warp:
    """Samples each image of a batch at places of its own.

    Args:
        device: of the images.
        maps: draws (count, 2, 3), the affine map from each output place to its place in the source; None: identity.
        fields: draws (count, 2, 784), how far each place is moved after that; None: not at all.
    """

    def __init__(
        self,
        device: torch.device,
        maps: Callable[[int], torch.Tensor] | None = None,
        fields: Callable[[int], torch.Tensor] | None = None,
    ) -> None:
        self._maps, self._fields = maps, fields
        line = (torch.arange(SIDE, dtype=torch.float32, device=device) + 0.5) / (SIDE / 2) - 1
        x, y = (grid.flatten() for grid in torch.meshgrid(line, line, indexing="xy"))
        self._places = torch.stack((x, y, torch.ones_like(x)))  # (3, 784): each pixel's own place, and a one

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """`images` (B, 784) float32 to new ones of the same shape."""
        count = len(images)
        places = self._places[:2].expand(count, 2, INPUTS)
        if self._maps is not None:
            places = (self._maps(count).view(2 * count, 3) @ self._places).view(count, 2, INPUTS)
        if self._fields is not None:
            places = places + self._fields(count)
        square, grid = images.view(-1, 1, SIDE, SIDE), places.reshape(count, 2, SIDE, SIDE).permute(0, 2, 3, 1)
        sampled = F.grid_sample(square, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return sampled.view(-1, INPUTS)
