"""Pictures with several of MNIST's digits, written one after the other and in lines."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.photographs import Scene, scene, sharp_ink, taken

APART = (0.12, 0.5)
"""The paper between two digits, of a digit's height."""
TOUCHING = (-0.12, -0.03)


def written(
    lines: Sequence[Sequence[NDArray[np.uint8]]],
    seen: Scene,
    rng: np.random.Generator,
    gap: tuple[float, float] = APART,
) -> NDArray[np.float64]:
    """(side, side) share of ink: digits, (28, 28) uint8, line by line, with the hand's unevenness, anywhere."""
    rows = [_line(line, seen, rng, gap) for line in lines]
    apart = int(seen.height * rng.uniform(0.5, 0.9))
    width, height = max(row.shape[1] for row in rows), sum(row.shape[0] for row in rows) + apart * (len(rows) - 1)
    block = np.zeros((height, width))
    top = 0
    for row in rows:
        block[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + apart
    margin = seen.size // 20
    field = np.zeros((seen.size, seen.size))
    top, left = (int(rng.integers(margin, seen.size - length - margin + 1)) for length in block.shape)
    field[top : top + height, left : left + width] = block
    return field


def _line(
    digits: Sequence[NDArray[np.uint8]], seen: Scene, rng: np.random.Generator, gap: tuple[float, float]
) -> NDArray[np.float64]:
    """The ink of one line, as large as its ink; each digit as high as its own ink makes it, up and down a little."""
    inks = [sharp_ink(digit, int(seen.height * rng.uniform(0.9, 1.1)), 0) for digit in digits]
    jitter = int(0.08 * seen.height)
    height = max(ink.shape[0] for ink in inks) + 2 * jitter
    gaps = [int(seen.height * rng.uniform(*gap)) for _ in inks]
    line = np.zeros((height, sum(ink.shape[1] for ink in inks) + sum(map(abs, gaps)) + seen.height))
    end = 0
    for place, ink in enumerate(inks):
        left = end + gaps[place] if place else 0
        top = (height - ink.shape[0]) // 2 + int(rng.integers(-jitter, jitter + 1))
        window = line[top : top + ink.shape[0], left : left + ink.shape[1]]
        np.maximum(window, ink, out=window)
        end = left + ink.shape[1]
    rows, columns = np.flatnonzero(line.any(axis=1)), np.flatnonzero(line.any(axis=0))
    return line[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def scene_for(kind: str, lines: Sequence[Sequence[object]], rng: np.random.Generator) -> Scene:
    """A scene of one of photographs.KINDS in which these lines have room."""
    seen = scene(kind, rng)
    size = max(seen.size, 400)
    room = 0.85 * size / max(1.65 * max(map(len, lines)), 2.0 * len(lines))
    return replace(seen, size=size, height=int(room * rng.uniform(0.7, 1.0)), angle=0.0)


def photograph_of(
    lines: Sequence[Sequence[NDArray[np.uint8]]],
    kind: str,
    rng: np.random.Generator,
    gap: tuple[float, float] = APART,
) -> bytes:
    """A JPEG file of these digits."""
    seen = scene_for(kind, lines, rng)
    return taken(written(lines, seen, rng, gap), seen, rng)


def drawing_of(
    lines: Sequence[Sequence[NDArray[np.uint8]]], rng: np.random.Generator, gap: tuple[float, float] = APART
) -> bytes:
    """A PNG file of these digits, as a program draws them."""
    ink = written(lines, scene_for("plain", lines, rng), rng, gap)
    buffer = io.BytesIO()
    Image.fromarray((255 - 255 * ink).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
