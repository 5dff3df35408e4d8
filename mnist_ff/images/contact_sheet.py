"""A contact sheet: some images of each class on one picture, to see what a data set holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_ff.errors import ConfigError

PER_CLASS = 12
"""Images per class."""
MOST_ROWS = 62
"""Maximum number of classes. Of more classes, evenly spaced ones are shown."""
CELL_PX = 64
"""Side of the square in which an image is shown, enlarged by an integer factor or reduced, in pixels."""
GAP_PX = 4
NAME_PX = 150
FONT_PX = 15
LONGEST_NAME = 18
PAPER, INK, FAINT = (222, 224, 228), (20, 20, 20), (90, 90, 90)


def contact_sheet(images: NDArray[Any], labels: NDArray[np.int64], classes: Sequence[str]) -> Image.Image:
    """A row of images for each class, with its name and the number of its images.

    Args:
        images: (N, H, W) or (N, C, H, W), uint8 or floats in [0, 1].
        labels: (N,) numbers of classes.
    """
    numbers = np.unique(np.linspace(0, len(classes) - 1, min(MOST_ROWS, len(classes))).astype(int))
    step = CELL_PX + GAP_PX
    sheet = Image.new("RGB", (NAME_PX + PER_CLASS * step + GAP_PX, len(numbers) * step + GAP_PX), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PX)
    for row, number in enumerate(numbers):
        of_class = np.flatnonzero(labels == number)
        top = GAP_PX + row * step
        name = classes[number]
        name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."
        draw.text((2 * GAP_PX, top + CELL_PX // 2 - FONT_PX), name, INK, font)
        draw.text((2 * GAP_PX, top + CELL_PX // 2 + 2), f"{len(of_class):,}", FAINT, font)
        chosen = of_class[np.linspace(0, len(of_class) - 1, min(PER_CLASS, len(of_class))).astype(int)]
        for column, index in enumerate(chosen):
            cell = _cell(images[index])
            left = NAME_PX + column * step + (CELL_PX - cell.width) // 2
            sheet.paste(cell, (left, top + (CELL_PX - cell.height) // 2))
    return sheet


def _cell(image: NDArray[Any]) -> Image.Image:
    """One image, as large as a cell allows."""
    pixels = image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
    if pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, 2) if len(pixels) == 3 else pixels.mean(axis=0).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    largest = max(picture.size)
    if largest <= CELL_PX:
        factor = CELL_PX // largest
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, side * CELL_PX // largest) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def save_sheet(sheet: Image.Image, wanted: Path | None) -> Path:
    """Write the sheet as PNG and return its path: `wanted`, or contact_sheet.png in this folder, numbered where that
    is taken.

    Errors: ConfigError where `wanted` is there already or has another suffix: nothing is overwritten.
    """
    if wanted is None:
        wanted, number = Path("contact_sheet.png"), 1
        while os.path.lexists(wanted):
            number += 1
            wanted = Path(f"contact_sheet_{number}.png")
    if wanted.suffix.lower() != ".png":
        raise ConfigError(f"--sheet {wanted}: give a name that ends with .png")
    try:
        with wanted.open("xb") as file:
            sheet.save(file, "PNG")
    except FileExistsError:
        raise ConfigError(f"--sheet {wanted}: already exists; give another name") from None
    return wanted
