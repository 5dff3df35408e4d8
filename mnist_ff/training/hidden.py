"""What the hidden layers of any model do while images pass, and a map of the images by the last one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from mnist_ff.training.metrics.weight_norms import layer_key

See = Callable[[str, torch.Tensor], None]
"""Hears the key of a hidden layer and its units' values, (B, units, ...)."""
MOST_LAYERS = 64
"""Hidden layers that are counted, the first ones."""
MOST_NUMBERS = 8 << 20
"""Values of the last hidden layer that are kept: of more, those of every second image, or every third ..."""
FITTED = 1_000
"""Images that the map's axes are found from."""
WIDE = 1_024
"""Units, above which no matrix of units by units is made."""
BASIS, ROUNDS = 6, 12
"""Directions that are iterated for the map's two axes, and how often."""


@contextmanager
def watched(model: nn.Module, see: See) -> Iterator[None]:
    """While the block runs, `see` hears each hidden layer of every forward pass.

    Hidden units are the inputs of linear and convolutional layers (nn.Linear, nn.Conv1d, ...): numbers of the last
    dimension, or channels. Each is named after the linear or convolutional layer that ran before, whose outputs they
    are after activation, normalisation and pooling; the first layer's input is the image and not heard. This holds
    for any module, whether activations are modules or functions.
    """
    before: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], dict[str, object]], None]:
        def look(layer: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
            values = inputs[0] if inputs else named.get("input")
            if before and isinstance(values, torch.Tensor) and values.ndim > 1:
                see(layer_key(before[-1]), values.movedim(-1 if isinstance(layer, nn.Linear) else 1, 1))
            before.append(name)

        return look

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(lambda *_: before.clear()).remove)
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear | _ConvNd):
                stack.callback(layer.register_forward_pre_hook(hook(name), with_kwargs=True).remove)
        yield


@dataclass(frozen=True)
class LayerActivity:
    """One hidden layer over all images."""

    mean: torch.Tensor
    """(units,) float32: the mean value of each unit."""
    active: torch.Tensor
    """(units,) float32: the share of images on which a unit is not zero. A dead one has 0."""


class HiddenUnits:
    """Listens to the hidden layers while a split is evaluated, block by block."""

    def __init__(self, images: int) -> None:
        """For a split of so many images."""
        self._images = images
        self._sums: dict[str, list[torch.Tensor]] = {}
        self._last: torch.Tensor | None = None
        self._values: torch.Tensor | None = None
        self._kept = self._seen = 0

    def __call__(self, key: str, values: torch.Tensor) -> None:
        """Values (B, units, ...) of a layer; those of a place are averaged, and a unit is active if one is."""
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
        elif known is None and len(self._sums) < MOST_LAYERS:
            self._sums[key] = found
        self._last = values

    def end_of_block(self, images: int) -> None:
        """So many images have passed since the last call."""
        values, self._last = self._last, None
        if values is not None and len(values) == images:
            stride = self._stride(values.shape[1])
            some = values[-self._seen % stride :: stride]
            if self._values is None:
                self._values = some.new_empty(-(-self._images // stride), some.shape[1], dtype=torch.float32)
            room = self._values[self._kept : self._kept + len(some)]
            if room.shape == some.shape:
                room.copy_(some)
                self._kept += len(some)
        self._seen += images

    def _stride(self, units: int) -> int:
        return max(1, math.ceil(self._images * units / MOST_NUMBERS))

    def layers(self) -> dict[str, LayerActivity]:
        """Each hidden layer by its key, from the input on."""
        return {
            key: LayerActivity(*(total.cpu() / max(1, self._seen) for total in totals))
            for key, totals in self._sums.items()
        }

    def last_layer(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The images' rows (M,) int64, and the last hidden layer's values for them, (M, units); None without one."""
        if self._values is None or self._kept < len(self._values):  # not every block had the same layers
            return None
        stride = self._stride(self._values.shape[1])
        return torch.arange(0, self._images, stride, device=self._values.device), self._values


def principal_axes(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean (units,) and the two directions of largest variance, (units, 2), of values (N, units).

    By subspace iteration from a fixed start, so that the same values give the same axes. Of each axis the component
    that is largest in size is positive.
    """
    some = values[:: max(1, math.ceil(len(values) / FITTED))]
    mean = some.mean(0)
    some = some - mean
    units = values.shape[1]
    matrix = some.t() @ some if units <= WIDE else None
    basis = _start(units, min(BASIS, units), values)
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(some.t() @ (some @ basis) if matrix is None else matrix @ basis)[0]
    _, turn = torch.linalg.eigh((some @ basis).t() @ (some @ basis))
    axes = basis @ turn.flip(1)[:, :2]
    sign = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return mean, axes * sign


def _start(units: int, count: int, like: torch.Tensor) -> torch.Tensor:
    """Waves of different lengths: no direction is orthogonal to all of them by accident."""
    places = torch.arange(units, dtype=like.dtype, device=like.device)[:, None] + 0.5
    return torch.cos(places * (torch.arange(count, dtype=like.dtype, device=like.device) + 0.7))
