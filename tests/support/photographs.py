"""Photographs of handwritten digits, made from MNIST's: paper, pen, light, camera and file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

KINDS = ("plain", "light", "shadow", "noise", "ruled", "squared", "blur", "rotation", "dark paper", "all at once")


@dataclass(frozen=True)
class Scene:
    """What is in front of the camera and what the camera does to it. Lengths are shares of the digit's height."""

    size: int
    """Pixels of the longer side of the whole picture."""
    height: int
    """Pixels of the digit's longer side."""
    paper: float
    """Reflectance."""
    ink: float
    angle: float = 0.0
    """Degrees by which paper and digit are turned."""
    gradient: float = 1.0
    """The light at the dim end, of that at the bright one."""
    shadow: float = 1.0
    """The light in the shadow, of that beside it."""
    noise: float = 0.008
    """Standard deviation, of white."""
    ruled: float | None = None
    """Distance of the lines."""
    squared: bool = False
    line: float = 0.6
    """Reflectance of lines, of the paper's."""
    blur: float = 0.0
    quality: int = 85
    """Of the JPEG file."""


def scene(kind: str, rng: np.random.Generator) -> Scene:
    """A scene with one kind of disturbance, or all of them; size, place and ink always vary."""
    every = kind == "all at once"
    size = int(rng.integers(280, 640))
    dark = kind == "dark paper" or (every and rng.random() < 0.2)
    paper, ink = (rng.uniform(0.08, 0.2), rng.uniform(0.7, 0.95)) if dark else (rng.uniform(0.7, 0.95), None)
    lines = kind in ("ruled", "squared") or every
    return Scene(
        size=size,
        height=int(size * rng.uniform(0.15, 0.6)),
        paper=paper,
        ink=rng.uniform(0.05, 0.4) if ink is None else ink,
        angle=rng.uniform(-15, 15) if kind == "rotation" or every else 0.0,
        gradient=rng.uniform(0.35, 0.7) if kind == "light" or every else 1.0,
        shadow=rng.uniform(0.45, 0.75) if kind == "shadow" or every else 1.0,
        noise=rng.uniform(0.02, 0.06) if kind == "noise" else rng.uniform(0.01, 0.03) if every else 0.008,
        ruled=rng.uniform(0.25, 0.9) if lines else None,
        squared=kind == "squared" or (every and rng.random() < 0.5),
        line=rng.uniform(0.5, 0.8),
        blur=rng.uniform(0.02, 0.05) if kind == "blur" else rng.uniform(0.0, 0.03) if every else 0.0,
        quality=int(rng.integers(40, 90)),
    )


def photograph(digit: NDArray[np.uint8], seen: Scene, rng: np.random.Generator) -> bytes:
    """A JPEG file of an MNIST digit, (28, 28) uint8, written on paper and photographed."""
    return taken(placed(digit, seen, rng), seen, rng)


def taken(ink: NDArray[np.float64], seen: Scene, rng: np.random.Generator) -> bytes:
    """A JPEG file of ink on paper, (size, size) share of ink in each pixel."""
    side = seen.size
    lines = lines_on(seen, rng)
    reflectance = seen.paper * np.where(lines, seen.line if seen.paper > 0.5 else 1 / seen.line, 1.0)
    reflectance = reflectance * (1 - ink) + seen.ink * ink
    light = light_on(side, seen, rng)
    image = ndimage.gaussian_filter(reflectance * light, 0.6 + seen.blur * seen.height)
    image = image + rng.normal(0, seen.noise, image.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=seen.quality)
    return buffer.getvalue()


def photographs(images: NDArray[np.uint8], kinds: Sequence[str], each: int, seed: int) -> list[tuple[str, int, bytes]]:
    """Kind, row of the digit, and file, `each` times a kind, of digits drawn at random."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(images), each * len(kinds), replace=False)
    named = [kind for kind in kinds for _ in range(each)]
    return [
        (kind, int(row), photograph(images[row], scene(kind, rng), rng)) for kind, row in zip(named, rows, strict=True)
    ]


def placed(
    digit: NDArray[np.uint8], seen: Scene, rng: np.random.Generator, margin: int | None = None
) -> NDArray[np.float64]:
    """(side, side) share of ink in each pixel: the digit with sharp edges, turned, anywhere off the border."""
    sharp = sharp_ink(digit, seen.height, seen.angle)
    margin = seen.size // 20 if margin is None else margin
    field = np.zeros((seen.size, seen.size))
    top, left = (int(rng.integers(margin, seen.size - length - margin)) for length in sharp.shape)
    field[top : top + sharp.shape[0], left : left + sharp.shape[1]] = sharp
    return field


def sharp_ink(digit: NDArray[np.uint8], size: int, angle: float) -> NDArray[np.float64]:
    """(h, w) a digit's ink with sharp edges, its longer side `size` pixels before it is turned."""
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    cut = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = size / max(cut.shape)
    padded = np.pad(cut, 3)
    shape = tuple(max(1, round(length * scale)) for length in padded.shape)
    large = Image.fromarray(padded).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    turned = large.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    sharp = np.clip((np.asarray(turned) / 255 - 0.5) * max(1.0, scale / 2) + 0.5, 0, 1)
    rows, columns = np.flatnonzero((sharp > 0.5).any(axis=1)), np.flatnonzero((sharp > 0.5).any(axis=0))
    inked: NDArray[np.float64] = sharp[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return inked


def lines_on(seen: Scene, rng: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = np.indices((seen.size, seen.size))
    lines = np.zeros((seen.size, seen.size), dtype=bool)
    if seen.ruled is None:
        return lines
    angle = np.radians(-seen.angle)  # a picture's rows go down
    distance = seen.ruled * seen.height
    width = max(1.0, seen.height * rng.uniform(0.008, 0.02))
    for turn in (0, np.pi / 2)[: 1 + seen.squared]:
        place = rows * np.cos(angle + turn) - columns * np.sin(angle + turn)
        lines |= (place + rng.uniform(0, distance)) % distance < width
    return lines


def light_on(side: int, seen: Scene, rng: np.random.Generator) -> NDArray[np.float64]:
    """(side, side) light: brighter to one side, with a straight shadow whose edge is more or less soft."""
    rows, columns = np.indices((side, side)) / side - 0.5
    light = np.ones((side, side))
    if seen.gradient < 1:
        turn = rng.uniform(0, 2 * np.pi)
        along = (rows * np.cos(turn) + columns * np.sin(turn)) / np.sqrt(2) + 0.5
        light *= seen.gradient + (1 - seen.gradient) * along
    if seen.shadow < 1:
        turn, edge, soft = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3), rng.uniform(0.004, 0.05)
        beyond = 1 / (1 + np.exp(-(rows * np.cos(turn) + columns * np.sin(turn) - edge) / soft))
        light *= 1 - (1 - seen.shadow) * beyond
    return light
