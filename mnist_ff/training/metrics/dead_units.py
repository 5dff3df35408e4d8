"""metrics=[dead_units]: which share of the hidden units never does anything?"""

from __future__ import annotations

import torch
from torch import nn

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import MetricConfig
from mnist_ff.data.load import Split
from mnist_ff.training.hidden import watched


@torch.no_grad()
def dead_units(model: nn.Module, split: Split) -> dict[str, float]:
    """The share of each layer's hidden units that are zero on every image, 0 to 1.

    What a hidden unit is and its layer's name: see watched(). A layer that runs several times counts all its runs. A
    model with a single layer has no values.
    """
    alive: dict[str, torch.Tensor] = {}

    def see(key: str, values: torch.Tensor) -> None:
        found, known = _alive(values), alive.get(key)
        alive[key] = found if known is None or known.shape != found.shape else known | found

    with watched(model, see):
        for images, _ in split.batches():
            model(images)
    shares = [1 - found.double().mean() for found in alive.values()]
    return dict(zip(alive, torch.stack(shares).tolist() if shares else (), strict=True))


def _alive(values: torch.Tensor) -> torch.Tensor:
    """Which units of (B, units, ...) are not zero everywhere, (units,) bool."""
    return (values != 0).movedim(1, 0).flatten(1).any(1)


register(Part("metric", "dead_units", MetricConfig, dead_units))
