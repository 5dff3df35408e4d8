"""torch.optim.AdamW (Loshchilov, Hutter 2019, arXiv:1711.05101): Adam with decoupled weight decay."""

from __future__ import annotations

from mnist_ff.config.registry import register
from mnist_ff.optim import adam
from mnist_ff.optim.adam import AdamConfig
from mnist_ff.optim.part import Optimizer, OptimizerPart, Parameters, Rule


def build(config: AdamConfig, parameters: Parameters) -> Optimizer:
    """torch's."""
    return adam.build(config, parameters, "AdamW")


def triton_rule(config: AdamConfig) -> Rule:
    """Adam's with decoupled decay."""
    return adam.triton_rule(config, decoupled=True)


register(
    OptimizerPart(
        "optimizer",
        "adamw",
        AdamConfig,
        build,
        initial_state=adam.initial_state,
        tensor_lr=True,
        triton_rule=triton_rule,
    )
)
