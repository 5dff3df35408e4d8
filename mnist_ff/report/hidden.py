"""Page data from hidden.safetensors: activity of the hidden layers, and the map of the test images."""

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
"""The name of a tensor with mean activities: layer number, layer name, "mean"."""
MAX_LAYERS, MAX_UNITS, MAX_POINTS = 64, 1 << 20, 20_000
"""Hidden layers shown, units of a layer, and points of the map."""
CURVE_POINTS = 100
"""Points of a layer's activity curve."""
SHEET_BYTES, SHEET_WIDTH = 450_000, 32
"""Size in the page, and images per row, of the picture that holds the map's images."""
INT16_MAX = 32_767
"""Map coordinates are scaled to the range of int16."""
MIN_EXTENT = 1e-30
"""Avoids division by zero when all points of the map coincide."""


@dataclass(frozen=True)
class Layer:
    """The activity of a hidden layer on the test images."""

    name: str
    units: int
    dead: int
    """Number of units that are zero on every image."""
    mean: float
    """Mean activity of all units."""
    active: float
    """Share of activities that are not zero, 0 to 1."""
    curve: list[float]
    """Share of images on which a unit is active, most active unit first."""


def hidden_layers(run: Run) -> list[Layer]:
    """The activity of each hidden layer; empty if the run did not record it. Errors: BadRunError."""
    try:
        with opened_tensors(run.file(HIDDEN), MAX_HIDDEN_BYTES) as saved:
            names = sorted(filter(MEAN.fullmatch, saved.keys()), key=lambda name: int(name.partition("/")[0]))
            return [_layer(saved, name) for name in names[:MAX_LAYERS]]
    except MissingFileError:
        return []


def _layer(saved: Any, name: str) -> Layer:
    """Read one layer. Errors: ValueError."""
    shape = saved.get_slice(name).get_shape()
    units = shape[0] if len(shape) == 1 else 0
    if not 0 < units <= MAX_UNITS:
        raise ValueError(f"{name} is of shape {' x '.join(map(str, shape)) or '()'}, expected 1 to {MAX_UNITS:,} units")
    other = name.removesuffix("mean") + "active"
    check_tensors(saved, {key: Wanted(FLOAT_TYPES, (units,)) for key in (name, other)})
    mean, active = (np.asarray(saved.get_tensor(key)).astype(np.float64) for key in (name, other))
    if not np.abs(mean).max() <= LARGEST_NUMBER or not (active.min() >= 0 and active.max() <= 1.001):
        raise ValueError(f"{name} holds no activity")
    ordered = -np.sort(-active)
    points = np.unique(np.linspace(0, units - 1, CURVE_POINTS).astype(np.int64))
    dead, curve = int((active == 0).sum()), rounded(ordered[points])
    return Layer(name.split("/")[1], units, dead, float(mean.mean()), float(active.mean()), curve)


def map_part(run: Run, spec: DataSpec, predictions: Predictions | None) -> dict[str, Any] | None:
    """Map coordinates of the test images, and the images that the page does not contain already.

    None if the run did not record a map. Errors: BadRunError.
    """
    try:
        with opened_tensors(run.file(HIDDEN), MAX_HIDDEN_BYTES) as saved:
            if predictions is None or "map" not in saved.keys():  # noqa: SIM118 (not a dict)
                return None
            _check_map(saved, spec)
            points, rows, image_rows = (
                np.asarray(saved.get_tensor(name)) for name in ("map", "map_rows", "image_rows")
            )
            images = np.asarray(saved.get_tensor("images"))
            variance = _variance(saved)
    except MissingFileError:
        return None
    points, rows = points[:MAX_POINTS].astype(np.float64), rows[:MAX_POINTS].astype(np.int64)
    image_rows = image_rows.astype(np.int64)
    for found in (rows, image_rows):
        if found.size and not (found.min() >= 0 and found.max() < len(predictions.labels)):
            raise BadRunError(f"{run.file(HIDDEN)}: not readable (it refers to images that do not exist)")
    if not np.abs(points).max(initial=0) <= LARGEST_NUMBER:  # also refuses NaN
        raise BadRunError(f"{run.file(HIDDEN)}: not readable (a coordinate of its map is not a valid number)")
    sheet, shown = _sheet(shrunk(images, spec))
    return {
        "points": packed(np.rint(INT16_MAX * _spread_out(points)), "<i2"),
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
    width = np.maximum(high - low, MIN_EXTENT)
    return np.where(high - low > MIN_EXTENT, 2 * (points - low) / width - 1, 0)


def _variance(saved: Any) -> list[float] | None:
    """The share of the variance along each axis; None if the run did not record it. Errors: ValueError."""
    if "map_variance" not in saved.keys():  # noqa: SIM118 (not a dict)
        return None
    check_tensors(saved, {"map_variance": Wanted(FLOAT_TYPES, (2,))})
    shares = np.asarray(saved.get_tensor("map_variance")).astype(np.float64)
    if not (shares.min() >= 0 and shares.max() <= 1.001):
        raise ValueError("map_variance holds no shares")
    return rounded(shares)


def _check_map(saved: Any, spec: DataSpec) -> None:
    """Check the tensors of the map. Errors: ValueError for unexpected types, shapes or lengths."""
    rows, images = Wanted(INTEGER_TYPES, (None,)), Wanted(("U8",), (None, *spec.shape))
    check_tensors(
        saved, {"map": Wanted(FLOAT_TYPES, (None, 2)), "map_rows": rows, "image_rows": rows, "images": images}
    )
    for one, other in (("map", "map_rows"), ("images", "image_rows")):
        if saved.get_slice(one).get_shape()[0] != saved.get_slice(other).get_shape()[0]:
            raise ValueError("its tensors do not match each other")


def _sheet(images: NDArray[Any]) -> tuple[str, int]:
    """Images (K, C, h, w) tiled into one grey PNG, in base64, and how many of them fit into SHEET_BYTES. The channels
    of an image lie below each other."""
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
