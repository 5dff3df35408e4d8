"""Images sampled at other places: affine maps and elastic fields, a whole batch at a time on the device.

Each output pixel has a place in the source image and is interpolated there; outside the image is 0. Affine map and
elastic field are added to one place, so that the image is interpolated once. All channels of an image are sampled at
the same places. Maps and fields are in pixels and relative to the image's middle, so that a rotation stays one where
height and width differ; only grid_sample's places are not: there -1 and 1 are the edges of the image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from mnist_ff.errors import ConfigError

Maps = Callable[[int, float, float], torch.Tensor]
"""Draws (count, 2, 3) for images with these halves of height and width in pixels: for each image the affine map from
output places to places in the source, both grid_sample's."""
Fields = Callable[[int, int, int], torch.Tensor]
"""Draws (count, 2, H * W) for images of height H and width W: how far each place is moved, in grid_sample's places."""


def sides(images: torch.Tensor) -> tuple[int, int]:
    """Height and width of images (B, H, W) or (B, C, H, W). Errors: ConfigError for vectors, which have neither."""
    if images.ndim < 3:
        raise ConfigError(
            f"augment: needs images with rows and columns, not vectors of {images.shape[1]} numbers; "
            "give (N, H, W) or (N, C, H, W), or use augment=none"
        )
    return images.shape[-2], images.shape[-1]


class Warp:
    """Samples each image of a batch at places of its own.

    Args:
        device: of the images.
        maps: each image's map from output places to places in the source; None: identity.
        fields: how far each place is moved after that; None: not at all.
    """

    def __init__(self, device: torch.device, maps: Maps | None = None, fields: Fields | None = None) -> None:
        self._maps, self._fields, self._device = maps, fields, device
        self._places: dict[tuple[int, int], torch.Tensor] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """`images` (B, H, W) or (B, C, H, W) float32 to new ones of the same shape."""
        count, (height, width) = len(images), sides(images)
        own = self._own_places(height, width)
        places = own[:2].expand(count, 2, height * width)
        if self._maps is not None:
            maps = self._maps(count, height / 2, width / 2)
            places = (maps.view(2 * count, 3) @ own).view(count, 2, height * width)
        if self._fields is not None:
            places = places + self._fields(count, height, width)
        grid = places.reshape(count, 2, height, width).permute(0, 2, 3, 1)
        channels = images.reshape(count, -1, height, width)
        sampled = F.grid_sample(channels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return sampled.view(images.shape)

    def _own_places(self, height: int, width: int) -> torch.Tensor:
        """(3, H * W): each pixel's own place, x and y, and a one."""
        if (height, width) not in self._places:
            across, down = (
                (torch.arange(side, dtype=torch.float32, device=self._device) + 0.5) / (side / 2) - 1
                for side in (width, height)
            )
            x, y = (grid.flatten() for grid in torch.meshgrid(across, down, indexing="xy"))
            self._places[height, width] = torch.stack((x, y, torch.ones_like(x)))
        return self._places[height, width]
