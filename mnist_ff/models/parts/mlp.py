"""model=mlp: a feed-forward network with dropout after every hidden layer."""

from __future__ import annotations

from typing import Any

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import ModelConfig


def _build(config: ModelConfig, seed: int, device: Any) -> Any:
    from mnist_ff.models.mlp import build_model

    return build_model(config, seed, device)


register(Part("model", "mlp", ModelConfig, _build, legacy={"input_dropout": 0.0, "input_noise": 0.0}))
