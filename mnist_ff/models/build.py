"""The configured network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import nn

from mnist_ff.config.registry import part, source_of
from mnist_ff.config.schema import ModelConfig
from mnist_ff.data.seeds import generator
from mnist_ff.errors import ConfigError, PartError
from mnist_ff.models.mlp import MLP
from mnist_ff.models.user_module import SAVED_AS, check_savable, give_lazy_shapes, to_train
from mnist_ff.runs.records import MNIST_SPEC, DataSpec


def build_model(config: ModelConfig, seed: int, device: torch.device, spec: DataSpec = MNIST_SPEC) -> nn.Module:
    """The configured network with its weights drawn from `seed`, on `device`: images to (B, classes) logits.

    torch's own generators are seeded for the builder, and are after it as they were.
    Errors: PartError for one that is not the built-in network and cannot be trained or saved.
    """
    what = source_of("model", config.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "weights").initial_seed())
        model: nn.Module = part("model", config.name).build(config, spec, seed, device)
        if type(model) is MLP:
            return model
        try:
            network = to_train(model, seed, device, spec, what)
            check_savable(network, what)
        except ConfigError as error:
            raise PartError(str(error)) from error.__cause__
    return network


@dataclass(frozen=True)
class StateEntry:
    """What a tensor of a network's state_dict is: its possible types, as safetensors names them, and its shape."""

    kinds: tuple[str, ...]
    shape: tuple[int, ...]


def described_state(config: ModelConfig, spec: DataSpec = MNIST_SPEC) -> dict[str, StateEntry]:
    """The entries of the configured network's state_dict.

    The network is built on torch's meta device, which takes no memory for its numbers, as far as its builder can do
    without them. Errors: ConfigError.
    """
    try:
        network = _on_meta(config, spec)
    except Exception:  # a builder that reads numbers, such as by item() or from numpy, fails there in any way
        network = build_model(config, 0, torch.device("cpu"), spec)
    state = network.state_dict().items()
    return {name: StateEntry((SAVED_AS[value.dtype],), tuple(value.shape)) for name, value in state}


def _on_meta(config: ModelConfig, spec: DataSpec) -> nn.Module:
    meta = torch.device("meta")
    with meta, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the real build says them
        network: nn.Module = part("model", config.name).build(config, spec, 0, meta)
        if any(nn.parameter.is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
            give_lazy_shapes(network, meta, spec, source_of("model", config.name))
    check_savable(network, source_of("model", config.name))
    return network
