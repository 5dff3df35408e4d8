"""Photographs of digits with something around them that is no ink: printed boxes, the sheet's edges, dark borders."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tests.support.photographs import Scene, light_on, lines_on, placed, scene

Field = NDArray[np.float64]
"""(side, side) from 0 to 1."""
RED = (0.75, 0.15, 0.15)


@dataclass(frozen=True)
class Box:
    """A printed box around the digit. Lengths are pixels where nothing else is said."""

    line: tuple[float, float] = (2, 2)
    """Width, from and to."""
    gap: tuple[float, float] = (0.15, 0.5)
    """Between the digit and the lines, of the digit's height."""
    height: tuple[float, float] = (0.2, 0.45)
    """The digit's, of the picture's side."""
    sides: int = 4
    """3: one is missing."""
    copies: int = 1
    dashes: tuple[float, float] | None = None
    """Drawn and not drawn, in widths of the line."""
    corner: float = 0.0
    """Radius, of the box's shorter side."""
    angle: float = 0.0
    perspective: float = 0.0
    cells: str = ""
    """row, comb or grid: neighbours whose lines run to the picture's edges."""
    marks: bool = False
    """Only the corners of the box."""
    grey: tuple[float, float] = (0.02, 0.3)
    """Reflectance of the line, of the paper's."""
    touched: bool = False
    """The digit reaches into one of its lines."""
    at_edge: str = ""
    """on: its lines are the picture's edges; over: they leave the picture."""


@dataclass(frozen=True)
class Around:
    """What is at the picture's edges. Widths are shares of its side."""

    table: tuple[float, float] | None = None
    """Its reflectance, from and to."""
    sides: tuple[int, ...] = (1, 2, 4)
    width: tuple[float, float] = (0.04, 0.15)
    slant: float = 6.0
    """Degrees, at most."""
    fading: bool = False
    """From dark at the edge to nothing."""
    vignette: bool = False
    thumb: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of surroundings, with what else the camera does."""

    box: Box | None = None
    around: Around | None = None
    scene: str = "plain"
    side: int | None = None
    shadow: bool = False
    drawn: bool = False
    """Made by a program: exact paper, no camera, a PNG file."""
    colour: tuple[float, float, float] | None = None
    """Of the box's lines."""
    chalk: bool = False


DARK, LIGHT = (0.03, 0.15), (0.95, 1.0)
KINDS: dict[str, Kind] = {
    "plain": Kind(),
    "plain, drawn": Kind(drawn=True),
    "box of 1 px": Kind(Box((1, 1))),
    "box of 2 px": Kind(Box((2, 2))),
    "box of 3 px": Kind(Box((3, 3))),
    "box of 4 px": Kind(Box((4, 4))),
    "thick box": Kind(Box((8, 14))),
    "tight box": Kind(Box((2, 4), gap=(0.06, 0.15))),
    "touched box": Kind(Box((2, 4), gap=(0.1, 0.4), height=(0.2, 0.4), touched=True)),
    "touched box, drawn": Kind(Box((2, 4), gap=(0.1, 0.4), height=(0.2, 0.4), touched=True), drawn=True),
    "loose box": Kind(Box((2, 4), gap=(0.5, 1.0), height=(0.15, 0.28))),
    "box of 1 px, drawn": Kind(Box((1, 1)), drawn=True),
    "box of 2 px, drawn": Kind(Box((2, 2)), drawn=True),
    "thick box, drawn": Kind(Box((8, 14)), drawn=True),
    "double box, drawn": Kind(Box((2, 3), copies=2), drawn=True),
    "turned box, drawn": Kind(Box((2, 3), angle=5), drawn=True),
    "box on the edge, drawn": Kind(Box((2, 6), at_edge="on", height=(0.4, 0.6)), drawn=True),
    "box on the edge": Kind(Box((2, 10), at_edge="on", height=(0.4, 0.6))),
    "box over the edge": Kind(Box((2, 5), at_edge="over")),
    "open box": Kind(Box((2, 4), sides=3)),
    "open box, drawn": Kind(Box((2, 4), sides=3), drawn=True),
    "comb": Kind(Box((2, 4), cells="comb")),
    "row of cells": Kind(Box((2, 4), cells="row")),
    "grid of cells": Kind(Box((2, 4), cells="grid")),
    "corner marks": Kind(Box((2, 4), marks=True)),
    "corner marks, drawn": Kind(Box((2, 4), marks=True), drawn=True),
    "dotted box, drawn": Kind(Box((2, 4), dashes=(1, 1.5)), drawn=True),
    "double box": Kind(Box((2, 4), copies=2)),
    "dashed box": Kind(Box((2, 4), dashes=(5, 4))),
    "dotted box": Kind(Box((2, 4), dashes=(1, 1.5))),
    "dashed box, drawn": Kind(Box((2, 4), dashes=(5, 4)), drawn=True),
    "rounded box": Kind(Box((2, 4), corner=0.3)),
    "circle": Kind(Box((2, 4), corner=0.5, gap=(0.3, 0.5))),
    "grey box": Kind(Box((2, 4), grey=(0.5, 0.8))),
    "coloured box": Kind(Box((2, 4)), colour=RED),
    "turned box": Kind(Box((2, 4), angle=5)),
    "box in perspective": Kind(Box((2, 4), perspective=0.12)),
    "box and light": Kind(Box((2, 4)), scene="light"),
    "box and shadow": Kind(Box((2, 4)), scene="shadow"),
    "box and noise": Kind(Box((2, 4)), scene="noise"),
    "box and blur": Kind(Box((2, 4)), scene="blur"),
    "box with a shadow of its own": Kind(Box((2, 4)), shadow=True),
    "box on squared paper": Kind(Box((2, 4)), scene="squared"),
    "box on dark paper": Kind(Box((2, 4)), chalk=True),
    "dark sheet on a light table": Kind(around=Around(table=(0.7, 0.95), sides=(4,)), chalk=True),
    "large picture": Kind(Box((10, 10)), side=3000),
    "small picture": Kind(Box((1, 1), height=(0.45, 0.55), gap=(0.12, 0.2)), side=40),
    "small picture, drawn": Kind(Box((1, 1), height=(0.45, 0.55), gap=(0.12, 0.2)), side=40, drawn=True),
    "sheet on a dark table": Kind(around=Around(table=DARK)),
    "sheet on a light table": Kind(around=Around(table=LIGHT)),
    "sheet on a grey table": Kind(around=Around(table=(0.3, 0.6))),
    "narrow sheet on a dark table": Kind(around=Around(table=DARK, sides=(4,), width=(0.15, 0.25))),
    "scanner's border": Kind(around=Around(table=(0.0, 0.02), sides=(4,), width=(0.012, 0.07), slant=0)),
    "scanner's border on one side": Kind(around=Around(table=(0.0, 0.02), sides=(1,), width=(0.012, 0.07), slant=0)),
    "scanner's border, drawn": Kind(
        around=Around(table=(0.0, 0.0), sides=(4,), width=(0.012, 0.07), slant=0), drawn=True
    ),
    "fading border": Kind(around=Around(table=(0.0, 0.05), width=(0.03, 0.1), slant=0, fading=True)),
    "vignette": Kind(around=Around(vignette=True)),
    "thumb": Kind(around=Around(thumb=True)),
    "box on a sheet on a dark table": Kind(Box((2, 4), height=(0.2, 0.3)), around=Around(table=DARK)),
    "box in a scanner's border": Kind(
        Box((2, 4), height=(0.2, 0.3)), around=Around(table=(0, 0.02), width=(0.012, 0.05), slant=0)
    ),
}


def framed_photograph(digit: NDArray[np.uint8], kind: Kind, rng: np.random.Generator) -> bytes:
    """A picture file of an MNIST digit, (28, 28) uint8, with its surroundings."""
    seen = scene("dark paper" if kind.chalk else kind.scene, rng)
    side = kind.side or seen.size
    share = rng.uniform(*kind.box.height) if kind.box else seen.height / seen.size
    if kind.around and kind.around.table:
        share = min(share, 0.4)
    seen = replace(seen, size=side, height=max(12, int(side * share)))
    if kind.drawn:
        seen = replace(seen, paper=1.0, ink=0.0)
    ink = placed(digit, seen, rng, _room(kind, seen))
    lines = lines_on(seen, rng)
    reflectance = seen.paper * np.where(lines, seen.line, 1.0)
    frame = np.zeros_like(ink)
    if kind.box:
        frame = _box_lines(kind.box, ink, seen.height, rng)
        if kind.shadow:
            away = max(2, round(0.02 * seen.height))
            cast = ndimage.gaussian_filter(np.roll(frame, (away, away), (0, 1)), away / 2)
            reflectance *= 1 - 0.5 * np.clip(cast, 0, 1)
        darkness = rng.uniform(*kind.box.grey)
        line = rng.uniform(0.7, 0.95) if seen.paper < 0.5 else 0.0 if kind.drawn else darkness * seen.paper
        reflectance = reflectance * (1 - frame) + line * frame
    reflectance = reflectance * (1 - ink) + seen.ink * ink
    if kind.around:
        reflectance = _surrounded(reflectance, kind.around, rng)
    if kind.box and kind.box.at_edge:
        reflectance, frame = _cut(reflectance, frame, kind.box, rng)
    if kind.drawn:
        return _file(np.clip(reflectance, 0, 1), "PNG", 0)
    light = light_on(reflectance.shape[0], seen, rng)[:, : reflectance.shape[1]]
    if light.shape != reflectance.shape:
        light = np.ones_like(reflectance)
    blur = (0.4 if side < 100 else 0.6) + seen.blur * seen.height
    image = reflectance[..., None]
    if kind.colour:
        image = image * (1 - frame[..., None]) + np.array(kind.colour) * frame[..., None]
    image = ndimage.gaussian_filter(image * light[..., None], (blur, blur, 0))
    image = image + rng.normal(0, seen.noise, image.shape[:2])[..., None]
    return _file(np.clip(image, 0, 1), "JPEG", seen.quality)


def _file(image: Field, form: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.squeeze((image * 255 + 0.5).astype(np.uint8))).save(buffer, form, quality=quality)
    return buffer.getvalue()


def _room(kind: Kind, seen: Scene) -> int:
    """Pixels that the digit keeps from the picture's edges."""
    side, height = seen.size, seen.height
    room = side / 20
    if kind.box:
        lines = kind.box.line[1] * (3 if kind.box.copies > 1 else 1)
        around = (1 + kind.box.touched) * kind.box.gap[1] * height * 1.1 + 1.5 * lines + 0.02 * side
        room = max(room, min(around, (side - height * 1.05) / 2 - 2))
    if kind.around:
        width = kind.around.width[1] if kind.around.table else 0.1
        slanted = np.tan(np.radians(kind.around.slant)) / 2 if kind.around.table else 0
        room += side * (width + slanted) if kind.box is None else side * 0.1
    return int(min(room, (side - height * 1.05) / 2 - 2))


def _box_lines(box: Box, ink: Field, height: int, rng: np.random.Generator) -> Field:
    """Share of line in each pixel, of 2 x 2 points or more in each."""
    side = len(ink)
    rows, columns = np.flatnonzero((ink > 0.3).any(axis=1)), np.flatnonzero((ink > 0.3).any(axis=0))
    width = rng.uniform(*box.line)
    gap = rng.uniform(*box.gap) * height
    square = rng.random() < 0.5
    tall, wide = len(rows) / 2 + gap, len(columns) / 2 + gap
    if square:
        wide = max(tall, wide)
    middle = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    limit = min(*middle, side - middle[0], side - middle[1]) - width - 1
    tall, wide = min(tall, limit), min(wide, limit)
    fine = 4 if side < 100 else 2 if side < 1000 else 1
    at = (np.arange(side * fine) + 0.5) / fine
    y, x = at[:, None] - middle[0], at[None, :] - middle[1]
    if box.touched:
        away = (tall - len(rows) / 2 + rng.uniform(0, width)) * rng.choice([-1, 1])
        aside = (wide - len(columns) / 2 + rng.uniform(0, width)) * rng.choice([-1, 1])
        y, x = (y - away, x) if rng.random() < 0.5 else (y, x - aside)
    turn = np.radians(rng.choice([-1, 1]) * rng.uniform(0.2, 1) * box.angle)
    y, x = y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)
    if box.perspective:
        lean = rng.uniform(-box.perspective, box.perspective, 2)
        depth = 1 + lean[0] * y / tall + lean[1] * x / wide
        y, x = y / depth, x / depth
    whole = _one_box(box, y, x, tall, wide, width, rng)
    if box.copies > 1:
        apart = width + rng.uniform(1.5, 3) * width
        whole |= _one_box(box, y, x, tall + apart, wide + apart, width, rng)
    lines: Field = whole.reshape(side, fine, side, fine).mean(axis=(1, 3))
    return lines


def _one_box(
    box: Box, y: Field, x: Field, tall: float, wide: float, width: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    if box.cells:
        return _cells(box.cells, y, x, tall, wide, width)
    radius = box.corner * 2 * min(tall, wide)
    over_y, over_x = np.abs(y) - (tall - radius), np.abs(x) - (wide - radius)
    outside = np.hypot(np.maximum(over_y, 0), np.maximum(over_x, 0)) + np.minimum(np.maximum(over_y, over_x), 0)
    distance = outside - radius
    lines = (distance >= 0) & (distance < width)
    if box.dashes:
        along = np.where(over_y > over_x, x, y) + 1000 * width
        lines &= along % (width * sum(box.dashes)) < width * box.dashes[0]
    if box.marks:
        short = 0.25 * min(tall, wide)
        lines &= (np.abs(np.abs(y) - tall) < short) & (np.abs(np.abs(x) - wide) < short)
    if box.sides == 3:
        missing = rng.integers(4)
        edge = (y < -tall, y > tall, x < -wide, x > wide)[missing]
        lines &= ~edge
    return lines


def _cells(which: str, y: Field, x: Field, tall: float, wide: float, width: float) -> NDArray[np.bool_]:
    """Cells beside this one, of the same size."""
    upright = np.abs((x + wide) % (2 * wide + width) - 0) < width
    flat = np.abs((y + tall) % (2 * tall + width)) < width
    if which == "grid":
        return upright | flat
    inside = np.abs(y) < tall + width
    if which == "row":
        return (upright & inside) | ((np.abs(y) >= tall) & inside)
    return (upright & inside & (y > -0.3 * tall)) | ((y >= tall) & (y < tall + width) & (x > -1e9))


def _surrounded(reflectance: Field, around: Around, rng: np.random.Generator) -> Field:
    side = len(reflectance)
    y, x = (np.indices(reflectance.shape) + 0.5) / side
    if around.vignette:
        return reflectance * (1 - rng.uniform(0.5, 0.9) * (2 * ((y - 0.5) ** 2 + (x - 0.5) ** 2)) ** 1.5)
    if around.thumb:
        middle = rng.uniform(0.1, 0.9)
        blob = ((y - 1.02) / rng.uniform(0.08, 0.13)) ** 2 + ((x - middle) / rng.uniform(0.1, 0.2)) ** 2 < 1
        turned = np.rot90(blob, rng.integers(4))
        soft = ndimage.gaussian_filter(turned.astype(float), side / 150)
        return reflectance * (1 - soft) + rng.uniform(0.1, 0.35) * soft
    assert around.table is not None
    level, count = rng.uniform(*around.table), int(rng.choice(around.sides))
    first, opposite = int(rng.integers(4)), bool(rng.random() < 0.3)
    turns = range(4) if count == 4 else (first, (first + (2 if opposite else 1)) % 4)[:count]
    slant = np.tan(np.radians(rng.uniform(-around.slant, around.slant)))
    for turn in turns:
        width = rng.uniform(*around.width)
        edge = width + slant * (x - 0.5)
        share = np.clip((edge - y) / width, 0, 1) if around.fading else np.clip((edge - y) * side + 0.5, 0, 1)
        share = np.rot90(share, turn)
        reflectance = reflectance * (1 - share) + level * share
    return reflectance


def _cut(reflectance: Field, frame: Field, box: Box, rng: np.random.Generator) -> tuple[Field, Field]:
    """The picture cut so that the box's lines are its edges, or only what is inside some of them."""
    rows, columns = np.flatnonzero((frame > 0.3).any(axis=1)), np.flatnonzero((frame > 0.3).any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if box.at_edge == "over":
        side = len(reflectance)
        gone = rng.random(4) < 0.5
        deep = round(box.line[1]) + 2
        inside = (top + deep, bottom - deep, left + deep, right - deep)
        edges = (0, side, 0, side)
        top, bottom, left, right = (one if cut else other for cut, one, other in zip(gone, inside, edges, strict=True))
    place = slice(top, bottom), slice(left, right)
    return reflectance[place], frame[place]


def framed_photographs(images: NDArray[np.uint8], rows: NDArray[np.int64], kind: str, seed: int = 0) -> list[bytes]:
    """A file for each of the digits in `rows`, the same digits for every kind."""
    rng = np.random.default_rng([seed, *kind.encode()])
    return [framed_photograph(images[row], KINDS[kind], rng) for row in rows]
