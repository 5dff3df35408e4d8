"""The optimizers as parts."""

from __future__ import annotations

from typing import Any

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.configs import AdamConfig, LionConfig, NadamConfig, RMSpropConfig, RMSpropTorchConfig, SGDConfig


def _build(config: OptimizerConfig, parameters: Any) -> Any:
    from mnist_ff.optim.optimizer import BUILDERS

    return BUILDERS[config.name](config, parameters)


register(Part("optimizer", "rmsprop", RMSpropConfig, _build, legacy={"weight_decay": 0.0}))
register(Part("optimizer", "rmsprop_torch", RMSpropTorchConfig, _build))
register(Part("optimizer", "sgd", SGDConfig, _build))
register(Part("optimizer", "adam", AdamConfig, _build))
register(Part("optimizer", "adamw", AdamConfig, _build))
register(Part("optimizer", "nadam", NadamConfig, _build))
register(Part("optimizer", "lion", LionConfig, _build))
