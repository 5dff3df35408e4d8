"""metrics=[dead_units]: the fraction of hidden units that are zero for every image."""

from __future__ import annotations

import torch
from torch import nn

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import MetricConfig
from mnist_ff.data.load import Split
from mnist_ff.training.hidden import watched


@torch.no_grad()
def dead_units(model: nn.Module, split: Split) -> dict[str, float]:
    """The fraction of each hidden layer's units that are zero for every image, from 0 to 1.

    See watched() for what hidden units are and how layers are named. If a layer is called several times, a dead unit is
    zero in all calls. A model with a single layer has no values.
    """
    alive: dict[str, torch.Tensor] = {}

    def on_layer(key: str, values: torch.Tensor) -> None:
        found, known = _alive(values), alive.get(key)
        alive[key] = found if known is None or known.shape != found.shape else known | found

    with watched(model, on_layer):
        for images, _ in split.batches():
            model(images)
    shares = [1 - found.double().mean() for found in alive.values()]
    return dict(zip(alive, torch.stack(shares).tolist() if shares else (), strict=True))


def _alive(values: torch.Tensor) -> torch.Tensor:
    """Which units of activations (B, units, ...) are not always zero, (units,) bool."""
    return (values != 0).movedim(1, 0).flatten(1).any(1)


register(Part("metric", "dead_units", MetricConfig, dead_units))
