"""model=mlp: a feed-forward network with dropout; its module is models/mlp.py, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from mnist_ff.config.constraints import OneOf
from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import ModelConfig
from mnist_ff.errors import ConfigError
from mnist_ff.models.activations import ACTIVATIONS

if TYPE_CHECKING:
    import torch

    from mnist_ff.models.mlp import MLP
    from mnist_ff.runs.records import DataSpec


@dataclass(frozen=True)
class MLPConfig(ModelConfig):
    """A feed-forward network."""

    hidden: Annotated[tuple[Annotated[int, Meta(ge=1, le=1_000_000)], ...], "units of each hidden layer"]
    dropout: Annotated[float, "dropout probability of hidden units", Meta(ge=0, lt=1)]
    input_dropout: Annotated[float, "dropout probability of pixels", Meta(ge=0, lt=1)]
    input_noise: Annotated[float, "std of Gaussian noise on the pixels (0 to 1)", Meta(ge=0, le=100)]
    activation: Annotated[str, "activation of the hidden layers", OneOf(ACTIVATIONS)]
    init: Annotated[
        Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"], "initial weights; biases are 0"
    ]


def mlp_keys(config: ModelConfig) -> MLPConfig:
    """The keys of a config for what can only be done with this network. Errors: ConfigError for another one."""
    if not isinstance(config, MLPConfig):
        raise ConfigError(f"model={config.name}: not supported here; this needs model=mlp")
    return config


def build(config: MLPConfig, spec: DataSpec, seed: int, device: torch.device) -> MLP:
    """The network with its weights drawn from `seed`, on `device`; dropout masks come from the same seed.

    Weights are drawn on the CPU: the same on every device.
    """
    import mnist_ff.models.mlp as networks
    from mnist_ff.data.seeds import generator

    model = networks.MLP(
        config.hidden,
        config.activation,
        config.dropout,
        input_dropout=config.input_dropout,
        input_noise=config.input_noise,
        inputs=spec.inputs,
        classes=len(spec.classes),
    )
    networks.initialise(model, config.init, generator(seed, "weights"))
    networks.seed_dropout(model, seed, device)
    return model.to(device)


register(Part("model", "mlp", MLPConfig, build, legacy={"input_dropout": 0.0, "input_noise": 0.0}))
