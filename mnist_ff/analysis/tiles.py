"""Many small pictures side by side as one image: an axes for each would take seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cells:
    """A grid of cells in a field of pixels, row by row, with a tile in the middle of the foot of each."""

    across: int
    width: int
    """Of a cell, as `height`, in pixels."""
    height: int
    tile_width: int
    tile_height: int

    def place(self, number: int) -> tuple[int, int]:
        """The row and column of the field in which a tile's first pixel lies."""
        down, right = divmod(number, self.across)
        top = (down + 1) * self.height - self.tile_height
        return top, right * self.width + (self.width - self.tile_width) // 2


def cells_for(
    shape: tuple[int, int], square: bool, across: int, width: int, room: tuple[int, int], above: int
) -> Cells:
    """Cells of `width` pixels for pictures of `shape` (height, width), whose tiles take at most `room`.

    Tiles of `square` pixels keep the picture's proportions, others fill the room. `above` pixels lie between the rows.
    """
    tile_height, tile_width = room
    if square:
        scale = min(tile_height / shape[0], tile_width / shape[1])
        tile_height, tile_width = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    return Cells(across, width, tile_height + above, tile_width, tile_height)


def tiled(pictures: NDArray[np.uint8], cells: Cells) -> NDArray[np.uint8]:
    """Pictures (N, h, w, 3) in their cells on white, (rows * cell height, across * cell width, 3)."""
    rows = -(-len(pictures) // cells.across)
    field = np.full((rows * cells.height, cells.across * cells.width, 3), 255, dtype=np.uint8)
    tiles = resized(resized(pictures, cells.tile_height, axis=1), cells.tile_width, axis=2)
    for number, tile in enumerate(tiles):
        top, left = cells.place(number)
        field[top : top + cells.tile_height, left : left + cells.tile_width] = tile
    return field


def resized(pictures: NDArray[np.uint8], length: int, axis: int) -> NDArray[np.uint8]:
    """Pictures with another length of one axis: pixels are repeated, or the mean of those that fall together."""
    before = pictures.shape[axis]
    places = np.arange(length) * before // length
    if length >= before:
        repeated: NDArray[np.uint8] = pictures.take(places, axis)
        return repeated
    counts = np.diff(places, append=before).reshape([-1 if place == axis else 1 for place in range(pictures.ndim)])
    sums: NDArray[Any] = np.add.reduceat(pictures, places, axis, dtype=np.float32)
    means: NDArray[np.uint8] = np.rint(sums / counts).astype(np.uint8)
    return means


def as_colours(pictures: NDArray[np.uint8], ink: bool) -> NDArray[np.uint8]:
    """Pictures (N, h, w) as grey, of `ink` dark where they are high, or (N, h, w, 3) as they are: (N, h, w, 3)."""
    if pictures.ndim == 4:
        return pictures
    grey = 255 - pictures if ink else pictures
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))
