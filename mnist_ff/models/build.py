"""The configured network."""

from __future__ import annotations

import torch
from torch import nn

from mnist_ff.config.registry import part
from mnist_ff.config.schema import ModelConfig


def build_model(config: ModelConfig, seed: int, device: torch.device) -> nn.Module:
    """The configured network with its weights drawn from `seed`, on `device`: (B, 784) to (B, 10) logits."""
    model: nn.Module = part("model", config.name).build(config, seed, device)
    return model
