"""metrics=[weight_norms]: how large the weights of each layer are."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import MetricConfig
from mnist_ff.data.load import Split


@torch.no_grad()
def weight_norms(model: nn.Module, split: Split) -> dict[str, float]:
    """The L2 norm of each layer's weights, biases not counted; a layer is any module with parameters of its own."""
    return norms_by_layer({name: weight for name, weight in model.named_parameters() if "bias" not in name})


def norms_by_layer(tensors: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Tensors by their parameters' names to the L2 norm of each layer's tensors together."""
    squares: dict[str, list[torch.Tensor]] = {}
    for name, tensor in tensors.items():
        squares.setdefault(layer_key(name.rpartition(".")[0]), []).append(tensor.double().square().sum())
    totals = torch.stack([torch.stack(found).sum().sqrt() for found in squares.values()]) if squares else torch.empty(0)
    return dict(zip(squares, totals.tolist(), strict=True))  # one wait for the device


def layer_key(name: str) -> str:
    """A module's name as the key of a metric, such as layers.0; "model" for the model itself."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[-100:] or "model"


register(Part("metric", "weight_norms", MetricConfig, weight_norms))
