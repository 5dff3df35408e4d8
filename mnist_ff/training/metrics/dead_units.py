"""metrics=[dead_units]: which share of the hidden units never does anything?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import MetricConfig
from mnist_ff.data.load import Split
from mnist_ff.training.metrics.weight_norms import layer_key


@torch.no_grad()
def dead_units(model: nn.Module, split: Split) -> dict[str, float]:
    """The share of each layer's hidden units that are zero on every image, 0 to 1.

    Hidden units are the inputs of linear and convolutional layers (nn.Linear, nn.Conv1d, ...): numbers of the last
    dimension, or channels. Each is counted under the name of the linear or convolutional layer that ran before, whose
    outputs they are after activation, normalisation and pooling; the first layer's input is the image and not counted.
    This holds for any module, whether activations are modules or functions. A layer that runs several times counts all
    its runs. A model with a single layer has no values.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | _ConvNd)}
    alive: dict[str, torch.Tensor] = {}
    before: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if before:
                found = _alive(inputs[0], -1 if isinstance(layer, nn.Linear) else 1)
                key = layer_key(before[-1])
                known = alive.get(key)
                alive[key] = found if known is None or known.shape != found.shape else known | found
            before.append(name)

        return look

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(hook(name)).remove)
        for images, _ in split.batches():
            before.clear()
            model(images)
    shares = [1 - found.double().mean() for found in alive.values()]
    return dict(zip(alive, torch.stack(shares).tolist() if shares else (), strict=True))


def _alive(values: torch.Tensor, dimension: int) -> torch.Tensor:
    """Which units are not zero everywhere, (units,) bool."""
    return (values != 0).movedim(dimension, 0).flatten(1).any(1)


register(Part("metric", "dead_units", MetricConfig, dead_units))
