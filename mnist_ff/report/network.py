"""A run's weights in float16 for a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.analysis.pixels import planes
from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.report.images import shrunk, small_size
from mnist_ff.report.packing import packed
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import FLOAT_TYPES, Wanted, check_tensors, opened_tensors

MAX_PARAMETERS = 950_000
"""Of a network in a page: 2 bytes each, a third more as base64, 2.5 of a page's 4 MB."""
TILES = 100
"""First-layer units whose weights are shown."""
TILE_BYTES = 300_000
"""Of these in a page."""
NARROWEST, FLATTEST = 8, 4
"""Pixels of the shorter side of an image that can be drawn by hand; how often it goes into the longer one."""
LARGEST_HALF = 65504.0
"""The largest float16."""


class LeftOutError(Exception):
    """Why a part of a page is not there, in a sentence for its reader."""


def layer_sizes(model: MLPConfig, spec: DataSpec) -> list[int]:
    """Units from the input to the output of a network for this data."""
    return [spec.inputs, *model.hidden, len(spec.classes)]


def parameters_of(sizes: Sequence[int]) -> int:
    """Weights and biases of layers between these units."""
    return sum((before + 1) * after for before, after in pairwise(sizes))


def takes_drawings(config: Config, spec: DataSpec) -> bool:
    """Whether a drawing can be classified in a page: by the built-in network, of images in one channel."""
    channels, height, width = planes(spec)
    short, long = sorted((height, width))
    drawable = channels == 1 and short >= NARROWEST and long <= FLATTEST * short
    return isinstance(config.model, MLPConfig) and drawable


def network_part(run: Run, config: Config, spec: DataSpec) -> dict[str, Any] | None:
    """The whole network: weights as float16, biases as float32, each layer's as (out, in). None for one that takes no
    drawings.

    Errors: LeftOutError when the page has no room for it or float16 cannot hold it; BadRunError.
    """
    if not isinstance(model := config.model, MLPConfig) or not takes_drawings(config, spec):
        return None
    sizes = layer_sizes(model, spec)
    parameters = parameters_of(sizes)
    if parameters > MAX_PARAMETERS:
        raise LeftOutError(
            f"The network has {parameters:,} parameters; a page can hold {MAX_PARAMETERS:,}, so it is not included."
        )
    layers = []
    for place, (before, after) in enumerate(pairwise(sizes)):
        weight = _tensor(run, f"layers.{place}.weight", (after, before))
        bias = _tensor(run, f"layers.{place}.bias", (after,))
        if not np.abs(weight).max(initial=0) <= LARGEST_HALF or not np.isfinite(bias).all():
            raise LeftOutError("Some weights are not finite or too large for float16, so the network is not included.")
        layers.append({"in": before, "out": after, "weight": packed(weight, "<f2"), "bias": packed(bias, "<f4")})
    return {"activation": model.activation, "parameters": parameters, "layers": layers}


def first_layer(run: Run, config: Config, spec: DataSpec) -> dict[str, Any] | None:
    """The first units' incoming weights, (units, C, H, W) as int8 of the largest; None for another network.

    Errors: BadRunError.
    """
    if not isinstance(model := config.model, MLPConfig):
        return None
    units = layer_sizes(model, spec)[1]
    weight = _tensor(run, "layers.0.weight", (units, spec.inputs), min(TILES, TILE_BYTES // small_size(spec)))
    tiles = shrunk(weight.astype(np.float64), spec)
    limit = float(np.abs(tiles).max(initial=0))
    if not np.isfinite(limit):
        raise BadRunError(f"{run.path}: its weights are not finite")
    scaled = np.round(tiles * (127 / (limit or 1.0)))
    return {"units": units, "shown": len(tiles), "limit": float(f"{limit:.4g}"), "tiles": packed(scaled, "i1")}


def _tensor(run: Run, name: str, shape: Sequence[int], rows: int | None = None) -> NDArray[np.floating[Any]]:
    """One tensor, or its first rows, of a shape that is checked before its numbers are read. Errors: BadRunError."""
    path = run.file("model.safetensors")
    with opened_tensors(path) as saved:
        try:
            check_tensors(saved, {name: Wanted(FLOAT_TYPES, tuple(shape))})
        except ValueError as error:
            raise BadRunError(f"{path}: {error}") from None
        part = saved.get_slice(name)
        values: NDArray[np.floating[Any]] = part[: min(shape[0], rows or shape[0])]
        return values
