"""The configured network."""

from __future__ import annotations

import torch
from torch import nn

from mnist_ff.config.registry import part
from mnist_ff.config.schema import ModelConfig
from mnist_ff.runs.records import MNIST_SPEC, DataSpec


def build_model(config: ModelConfig, seed: int, device: torch.device, spec: DataSpec = MNIST_SPEC) -> nn.Module:
    """The configured network with its weights drawn from `seed`, on `device`: images to (B, classes) logits."""
    model: nn.Module = part("model", config.name).build(config, spec, seed, device)
    return model
