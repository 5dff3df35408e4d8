"""Activations of the hidden layers of any model, and the principal axes of the last hidden layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from mnist_ff.training.metrics.weight_norms import layer_key

OnLayer = Callable[[str, torch.Tensor], None]
"""Called with the key of a hidden layer and its activations, (B, units, ...)."""
MAX_LAYERS = 64
"""Hidden layers that are recorded: the first ones."""
MAX_VALUES = 8 << 20
"""Maximum number of activations of the last hidden layer to keep. Beyond that only every second, third, ... image is
kept."""
FITTED_IMAGES = 1_000
"""About how many images the principal axes are computed from."""
MAX_COVARIANCE_UNITS = 1_024
"""Maximum number of units for which the covariance matrix is computed."""
SUBSPACE, ITERATIONS = 6, 12
"""Dimension of the subspace, and number of iterations, of the subspace iteration that finds the two axes."""


@contextmanager
def watched(model: nn.Module, on_layer: OnLayer) -> Iterator[None]:
    """Inside the block `on_layer` is called for each hidden layer of every forward pass.

    Hidden units are the inputs of linear and convolutional layers (nn.Linear, nn.Conv1d, ...): features of the last
    dimension, or channels. They are named after the previous linear or convolutional layer, whose outputs they are
    after activation, normalisation and pooling. The first layer is left out: its input is the image. This works for
    any module, whether its activations are modules or functions.
    """
    before: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], dict[str, object]], None]:
        def record_inputs(layer: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
            values = inputs[0] if inputs else named.get("input")
            if before and isinstance(values, torch.Tensor) and values.ndim > 1:
                on_layer(layer_key(before[-1]), values.movedim(-1 if isinstance(layer, nn.Linear) else 1, 1))
            before.append(name)

        return record_inputs

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(lambda *_: before.clear()).remove)
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear | _ConvNd):
                stack.callback(layer.register_forward_pre_hook(hook(name), with_kwargs=True).remove)
        yield


@dataclass(frozen=True)
class LayerActivity:
    """Statistics of a hidden layer over all images."""

    mean: torch.Tensor
    """(units,) float32: the mean activation of each unit."""
    active: torch.Tensor
    """(units,) float32: the fraction of images for which a unit is not zero. A dead unit has 0."""


class HiddenUnits:
    """Collects activations of the hidden layers while a split is evaluated, batch by batch."""

    def __init__(self, images: int) -> None:
        """images: the number of images in the split."""
        self._images = images
        self._sums: dict[str, list[torch.Tensor]] = {}
        self._current: torch.Tensor | None = None
        self._stored: torch.Tensor | None = None
        self._stored_rows = self._images_seen = 0

    def __call__(self, key: str, values: torch.Tensor) -> None:
        """Add a layer's activations (B, units, ...). Over positions they are averaged; a channel is active if it is at
        any position."""
        values = values.detach()
        active = values.sign().abs_()
        if values.ndim > 2:
            values, active = values.flatten(2).mean(2), active.flatten(2).amax(2)
        known = self._sums.get(key)
        ones = values.new_ones(len(values))
        found = [(ones @ values).float(), (ones @ active).float()]
        if known is not None and known[0].shape == found[0].shape:
            for total, more in zip(known, found, strict=True):
                total += more
        elif known is None and len(self._sums) < MAX_LAYERS:
            self._sums[key] = found
        self._current = values

    def end_of_batch(self, images: int) -> None:
        """To be called after the forward pass of each batch, with its number of images."""
        values, self._current = self._current, None
        if values is not None and len(values) == images:
            stride = self._stride(values.shape[1])
            some = values[-self._images_seen % stride :: stride]
            if self._stored is None:
                self._stored = some.new_empty(-(-self._images // stride), some.shape[1], dtype=torch.float32)
            room = self._stored[self._stored_rows : self._stored_rows + len(some)]
            if room.shape == some.shape:
                room.copy_(some)
                self._stored_rows += len(some)
        self._images_seen += images

    def _stride(self, units: int) -> int:
        return max(1, math.ceil(self._images * units / MAX_VALUES))

    def layers(self) -> dict[str, LayerActivity]:
        """The hidden layers' statistics by key, in the order of the forward pass."""
        return {
            key: LayerActivity(*(total.cpu() / max(1, self._images_seen) for total in totals))
            for key, totals in self._sums.items()
        }

    def last_layer(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rows of images (M,) int64 and the last hidden layer's activations for them, (M, units). None without a hidden
        layer."""
        if self._stored is None or self._stored_rows < len(self._stored):  # the last layer was not always the same
            return None
        stride = self._stride(self._stored.shape[1])
        return torch.arange(0, self._images, stride, device=self._stored.device), self._stored


def principal_axes(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean (units,) and the first two principal axes (units, 2) of values (N, units).

    Computed by subspace iteration from a fixed start, so that the same values give the same axes. The largest component
    of each axis in absolute value is positive.
    """
    some = values[:: max(1, math.ceil(len(values) / FITTED_IMAGES))]
    mean = some.mean(0)
    some = some - mean
    units = values.shape[1]
    matrix = some.t() @ some if units <= MAX_COVARIANCE_UNITS else None
    basis = _start(units, min(SUBSPACE, units), values)
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(some.t() @ (some @ basis) if matrix is None else matrix @ basis)[0]
    _, turn = torch.linalg.eigh((some @ basis).t() @ (some @ basis))
    axes = basis @ turn.flip(1)[:, :2]
    sign = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return mean, axes * sign


def _start(units: int, count: int, like: torch.Tensor) -> torch.Tensor:
    """The start of the iteration (units, count): cosines, to which no principal axis is likely to be orthogonal."""
    places = torch.arange(units, dtype=like.dtype, device=like.device)[:, None] + 0.5
    return torch.cos(places * (torch.arange(count, dtype=like.dtype, device=like.device) + 0.7))
