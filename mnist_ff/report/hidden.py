"""hidden.safetensors for a page: activity of the hidden layers, and the map of the test images."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.analysis.canvas import png
from mnist_ff.errors import BadRunError, MissingFileError
from mnist_ff.report.images import shrunk
from mnist_ff.report.packing import packed, rounded
from mnist_ff.report.predictions import Predictions
from mnist_ff.runs.directory import HIDDEN, Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.reading import LARGEST_NUMBER
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import FLOAT_TYPES, INTEGER_TYPES, Wanted, check_tensors, opened_tensors

MAX_HIDDEN_BYTES = 256 << 20
MEAN = re.compile(r"([0-9]{1,2})/([A-Za-z0-9_.-]{1,100})/mean")
"""The name of a layer's tensor."""
MOST_LAYERS, MOST_UNITS, MOST_POINTS = 64, 1 << 20, 20_000
CURVE_POINTS = 100
"""Of a layer's curve."""
SHEET_BYTES, SHEET_WIDTH = 450_000, 32
"""Of the picture that holds the map's images: bytes in the page at most, images in a row."""
LARGEST = 32_767
"""A coordinate of the map in the page, as int16."""
SMALLEST = 1e-30
"""A map that is smaller than this is one point."""


@dataclass(frozen=True)
class Layer:
    """One hidden layer over the test images."""

    name: str
    units: int
    dead: int
    """Units that are zero on every image."""
    mean: float
    """Of all units' values."""
    active: float
    """Share of a layer's values that are not zero."""
    curve: list[float]
    """The share of images on which a unit is active, from the most active unit to the least."""


def hidden_layers(run: Run) -> list[Layer]:
    """Activity of each hidden layer; none of a run that did not record it. Errors: BadRunError."""
    try:
        with opened_tensors(run.file(HIDDEN), MAX_HIDDEN_BYTES) as saved:
            names = sorted(filter(MEAN.fullmatch, saved.keys()), key=lambda name: int(name.partition("/")[0]))
            return [_layer(saved, name) for name in names[:MOST_LAYERS]]
    except MissingFileError:
        return []


def _layer(saved: Any, name: str) -> Layer:
    """Errors: ValueError."""
    shape = saved.get_slice(name).get_shape()
    units = shape[0] if len(shape) == 1 else 0
    if not 0 < units <= MOST_UNITS:
        raise ValueError(
            f"{name} is of shape {' x '.join(map(str, shape)) or '()'}, expected 1 to {MOST_UNITS:,} units"
        )
    other = name.removesuffix("mean") + "active"
    check_tensors(saved, {key: Wanted(FLOAT_TYPES, (units,)) for key in (name, other)})
    mean, active = (np.asarray(saved.get_tensor(key)).astype(np.float64) for key in (name, other))
    if not np.abs(mean).max() <= LARGEST_NUMBER or not (active.min() >= 0 and active.max() <= 1.001):
        raise ValueError(f"{name} holds no activity")
    ordered = -np.sort(-active)
    places = np.unique(np.linspace(0, units - 1, CURVE_POINTS).astype(np.int64))
    dead, curve = int((active == 0).sum()), rounded(ordered[places])
    return Layer(name.split("/")[1], units, dead, float(mean.mean()), float(active.mean()), curve)


def map_part(run: Run, spec: DataSpec, predictions: Predictions | None) -> dict[str, Any] | None:
    """Where the last hidden layer puts test images, and the images that the page does not have already.

    None of a run that did not record it. Errors: BadRunError.
    """
    try:
        with opened_tensors(run.file(HIDDEN), MAX_HIDDEN_BYTES) as saved:
            if predictions is None or "map" not in saved.keys():  # noqa: SIM118 (it is no dict)
                return None
            _check_map(saved, spec)
            points, rows, image_rows = (
                np.asarray(saved.get_tensor(name)) for name in ("map", "map_rows", "image_rows")
            )
            images = np.asarray(saved.get_tensor("images"))
            variance = _variance(saved)
    except MissingFileError:
        return None
    points, rows = points[:MOST_POINTS].astype(np.float64), rows[:MOST_POINTS].astype(np.int64)
    image_rows = image_rows.astype(np.int64)
    for found in (rows, image_rows):
        if found.size and not (found.min() >= 0 and found.max() < len(predictions.labels)):
            raise BadRunError(f"{run.file(HIDDEN)}: not readable (it refers to images that do not exist)")
    if not np.abs(points).max(initial=0) <= LARGEST_NUMBER:  # nor NaN
        raise BadRunError(f"{run.file(HIDDEN)}: not readable (a place on its map is no possible number)")
    sheet, shown = _sheet(shrunk(images, spec))
    return {
        "points": packed(np.rint(LARGEST * _spread_out(points)), "<i2"),
        "variance": variance,
        "rows": packed(rows, "<i4"),
        "labels": packed(predictions.labels[rows], "<u2"),
        "predicted": packed(predictions.predicted[rows], "<u2"),
        "image_rows": image_rows[:shown].tolist(),
        "sheet": sheet,
        "across": SHEET_WIDTH,
    }


def map_axes(found: Mapping[str, Any] | None) -> tuple[str, str]:
    """The names of the map's axes, with the share of the variance along each where the run recorded it."""
    shares = (None if found is None else found["variance"]) or (None, None)
    named = zip(("first", "second"), shares, strict=True)
    first, second = (
        f"{which} component" + ("" if share is None else f" ({percent(share, 1)} of the variance)")
        for which, share in named
    )
    return first, second


def _spread_out(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (M, 2) from -1 to 1 along each axis; along one on which they are all the same, 0."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    width = np.maximum(high - low, SMALLEST)
    return np.where(high - low > SMALLEST, 2 * (points - low) / width - 1, 0)


def _variance(saved: Any) -> list[float] | None:
    """The share of the variance along each axis; None of a run that did not record it. Errors: ValueError."""
    if "map_variance" not in saved.keys():  # noqa: SIM118 (it is no dict)
        return None
    check_tensors(saved, {"map_variance": Wanted(FLOAT_TYPES, (2,))})
    shares = np.asarray(saved.get_tensor("map_variance")).astype(np.float64)
    if not (shares.min() >= 0 and shares.max() <= 1.001):
        raise ValueError("map_variance holds no shares")
    return rounded(shares)


def _check_map(saved: Any, spec: DataSpec) -> None:
    """Errors: ValueError for tensors of other types, shapes or lengths."""
    rows, images = Wanted(INTEGER_TYPES, (None,)), Wanted(("U8",), (None, *spec.shape))
    check_tensors(
        saved, {"map": Wanted(FLOAT_TYPES, (None, 2)), "map_rows": rows, "image_rows": rows, "images": images}
    )
    for one, other in (("map", "map_rows"), ("images", "image_rows")):
        if saved.get_slice(one).get_shape()[0] != saved.get_slice(other).get_shape()[0]:
            raise ValueError("its tensors do not match each other")


def _sheet(images: NDArray[Any]) -> tuple[str, int]:
    """Images (K, C, h, w) side by side as a grey PNG file, the channels of each below each other, in base64; of as many
    as there is room for, and how many these are."""
    count, channels, height, width = images.shape
    while count:
        lines = -(-count // SHEET_WIDTH)
        field = np.zeros((lines * SHEET_WIDTH, channels * height, width), dtype=np.uint8)
        field[:count] = np.rint(images[:count]).reshape(count, -1, width)
        tiled = field.reshape(lines, SHEET_WIDTH, channels * height, width).swapaxes(1, 2)
        sheet = base64.b64encode(png(tiled.reshape(lines * channels * height, SHEET_WIDTH * width))).decode("ascii")
        if len(sheet) <= SHEET_BYTES:
            return sheet, count
        count //= 2
    return "", 0
