"""Pictures as a network takes them: each digit centred like MNIST's, or the whole picture resized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_ff.errors import ConfigError
from mnist_ff.images.centre import centred
from mnist_ff.images.image_io import read_brightness, read_pixels
from mnist_ff.images.segment import NoDigitError, ink_of
from mnist_ff.images.several import MAX_DIGITS, Part, TooManyError, digits_of
from mnist_ff.runs.records import DataSpec

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True)
class Glyph:
    """One image for the network: a digit, or a whole picture. line, touching and is_wide are as in several.Part."""

    pixels: Pixels
    """Of the data's shape, such as (28, 28) for MNIST, ink 255."""
    line: int = 0
    touching: tuple[Pixels, ...] = ()
    """If it may be digits that touch: the image of each, of the same shape as `pixels`."""
    is_wide: bool = False


@dataclass(frozen=True)
class Seen:
    """A picture or test image, prepared for the network."""

    name: str
    glyphs: tuple[Glyph, ...]
    """One image, or one for each digit of the picture in reading order."""
    label: int | None = None
    """The true class, if known."""


@dataclass(frozen=True)
class Preparation:
    """How pictures are made into images for a network."""

    spec: DataSpec
    as_digits: bool
    """Whether pictures are prepared like MNIST's digits. Otherwise they are only resized."""
    may_be_several: bool = False
    """Whether a picture with several digits is cut apart."""

    def seen(self, file: Path, label: int | None = None) -> Seen:
        """Read and prepare a picture file. Errors: ConfigError naming a file that cannot be used."""
        try:
            return Seen(str(file), self._glyphs(file), label)
        except TooManyError:
            raise ConfigError(f"{file}: more than {MAX_DIGITS} digits; photograph a part of it") from None
        except NoDigitError:
            raise ConfigError(f"{file}: no digit found; photograph a single digit, larger or with more light") from None

    def _glyphs(self, file: Path) -> tuple[Glyph, ...]:
        if not self.as_digits:
            coloured = len(self.spec.shape) == 3 and self.spec.shape[0] == 3
            height, width = self.spec.shape[-2:]
            return (Glyph(self._shaped(read_pixels(file, coloured, (height, width)))),)
        brightness = read_brightness(file)
        parts = digits_of(brightness) if self.may_be_several else [Part(ink_of(brightness))]
        return tuple(
            Glyph(
                self._shaped(centred(part.ink)),
                part.line,
                tuple(self._shaped(centred(ink)) for ink in part.touching),
                part.is_wide,
            )
            for part in parts
        )

    def _shaped(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels.reshape(self.spec.shape)


def in_batches(
    files: Sequence[tuple[Path, int | None]], preparation: Preparation, size: int, failures: list[str]
) -> Iterator[list[Seen]]:
    """Prepare pictures with their labels, in lists of up to `size`.

    For each picture that cannot be used, an error message is appended to `failures`.
    """
    for start in range(0, len(files), size):
        seen = []
        for file, label in files[start : start + size]:
            try:
                seen.append(preparation.seen(file, label))
            except ConfigError as error:
                failures.append(str(error))
        yield seen
