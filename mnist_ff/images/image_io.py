"""PNG and JPEG files to brightness, with limits for untrusted files."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_ff.errors import ConfigError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 120_000_000
"""As many as the largest photographs of phones. A file with more may be a decompression bomb."""
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
"""Pillow's modes without colours."""
DRAFT_SIDE_PX = 1_280
"""Minimum longer side to which a larger JPEG is reduced while it is decoded, in pixels."""


def read_brightness(path: Path) -> NDArray[np.float64]:
    """A picture's brightness, upright by its EXIF orientation: (H, W) from 0, black, to 1, white.

    Transparent pixels become paper. Errors: ConfigError for a file that is not a PNG or JPEG, is damaged or too large.
    """
    with _opened(path) as image:
        image.draft("RGB", (DRAFT_SIDE_PX, DRAFT_SIDE_PX))
        return _brightness(ImageOps.exif_transpose(image))


def is_coloured(path: Path) -> bool:
    """Whether a picture is stored in colours, by its header alone. Errors: ConfigError."""
    with _opened(path) as image:
        return image.mode not in GREY_MODES


def read_pixels(path: Path, coloured: bool, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A picture's pixels, upright: (H, W), or (3, H, W) if `coloured`, resized to `size` = (H, W) if given.

    Transparent pixels become white. Errors: ConfigError for a file that is not a PNG or JPEG, is damaged or too large.
    """
    mode = "RGB" if coloured else "L"
    with _opened(path) as image:
        if size is not None:
            image.draft(mode, size[::-1])
        upright = _eight_bits(ImageOps.exif_transpose(image))
        if "A" in upright.getbands() or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        pixels = upright.convert("RGB").convert(mode) if upright.mode != mode else upright
        if size is not None and pixels.size != size[::-1]:
            pixels = pixels.resize(size[::-1], Image.Resampling.BILINEAR)
        values = np.asarray(pixels)
    return np.moveaxis(values, 2, 0) if coloured else values


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An opened picture of at most MAX_PIXELS. Errors: ConfigError, also for errors while the block reads it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit warns first; ours is below
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                yield image
    except Image.DecompressionBombError:
        raise ConfigError(f"{path}: has more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise ConfigError(f"{path}: is not a PNG or JPEG image") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, struct.error, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({(str(error).splitlines() or ['no reason'])[0]})") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture with 16-bit grey scaled to 8 bits. Pillow's own conversion would clip it."""
    if not image.mode.startswith(("I", "F")):
        return image
    return Image.fromarray(np.clip(np.asarray(image) // 257, 0, 255).astype(np.uint8))


def _brightness(image: Image.Image) -> NDArray[np.float64]:
    image = _eight_bits(image)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return _scaled(_reduced(image.convert("RGB").convert("L")))
    pixels = _reduced(image.convert("RGBA"))
    grey, alpha = _scaled(pixels.convert("RGB").convert("L")), _scaled(pixels.getchannel("A"))
    return grey * alpha + _paper(grey, alpha) * (1 - alpha)


def _reduced(image: Image.Image) -> Image.Image:
    """A large picture reduced by block averaging, so that its floats need less memory."""
    block = max(image.size) // DRAFT_SIDE_PX
    return image.reduce(block) if block > 1 else image


def _paper(grey: NDArray[np.float64], alpha: NDArray[np.float64]) -> float:
    """The brightness behind transparent pixels: that of the opaque paper, or, if most is transparent, white behind dark
    strokes and black behind light ones."""
    if alpha.max() == 0:
        return 1.0
    if (alpha > 0.5).mean() > 0.5:
        return float(np.median(grey[alpha > 0.5]))
    return float((grey * alpha).sum() < 0.5 * alpha.sum())


def _scaled(image: Any) -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64) / 255
