"""Build the configured network."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mnist_ff.config.registry import part, source_of
from mnist_ff.config.schema import ModelConfig
from mnist_ff.data.seeds import generator
from mnist_ff.errors import BadRunError, ConfigError, PartError
from mnist_ff.models.mlp import MLP
from mnist_ff.models.user_module import SAVED_AS, check_savable, give_lazy_shapes, to_train
from mnist_ff.runs.records import MNIST_SPEC, DataSpec

MAX_OTHER_ELEMENTS = 16 << 20
"""Elements that a tensor of the builder may have beyond the size of the file."""


def build_model(config: ModelConfig, seed: int, device: torch.device, spec: DataSpec = MNIST_SPEC) -> nn.Module:
    """The configured network on `device`, with weights drawn from `seed`: images to logits (B, classes).

    torch's global generators are seeded for the builder and restored after it.
    Errors: PartError for a user's network that cannot be trained or saved.
    """
    what, spec = source_of("model", config.name), taken_spec(config, spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "weights").initial_seed())
        model: nn.Module = part("model", config.name).build(config, spec, seed, device)
        if type(model) is MLP:
            return model
        try:
            network = to_train(model, seed, device, spec, what)
            check_savable(network, what)
        except BadRunError:
            raise
        except ConfigError as error:
            raise PartError(str(error)) from error.__cause__
    return network


def taken_spec(config: ModelConfig, spec: DataSpec) -> DataSpec:
    """The spec of the images that the configured network takes: the data's, or flat vectors."""
    taken = part("model", config.name).taken
    found: DataSpec = spec if taken is None else taken(spec)
    return found


@dataclass(frozen=True)
class StateEntry:
    """A tensor of a network's state_dict: its allowed dtypes, in the notation of safetensors, and its shape."""

    kinds: tuple[str, ...]
    shape: tuple[int, ...]


def described_state(config: ModelConfig, spec: DataSpec, file_bytes: int) -> dict[str, StateEntry]:
    """The entries of the configured network's state_dict, to be compared with a file of `file_bytes` bytes.

    The network is built on torch's meta device, without memory for its tensors. If that fails because the builder reads
    values, it is built on the CPU, and no tensor may be much larger than the file. Errors: PartError, BadRunError.
    """
    spec = taken_spec(config, spec)
    try:
        network = _on_meta(config, spec)
    except Exception:  # such as by item(); the error on the meta device may be of any kind
        with _LimitedTensors(file_bytes + MAX_OTHER_ELEMENTS):
            network = build_model(config, 0, torch.device("cpu"), spec)
    state = network.state_dict().items()
    return {name: StateEntry((SAVED_AS[value.dtype],), tuple(value.shape)) for name, value in state}


class _LimitedTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses to create tensors with more than so many elements inside its block. Errors: BadRunError."""

    def __init__(self, max_elements: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._max_elements = max_elements

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        sizes = args[0] if args and isinstance(args[0], list | tuple) else ()
        if all(isinstance(size, int) for size in sizes) and math.prod(sizes) > self._max_elements:
            raise BadRunError("the run's files are too small for the network of its config.yaml")
        return func(*args, **(kwargs or {}))


def _on_meta(config: ModelConfig, spec: DataSpec) -> nn.Module:
    meta = torch.device("meta")
    with meta, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the actual build shows them
        network: nn.Module = part("model", config.name).build(config, spec, 0, meta)
        if any(nn.parameter.is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
            give_lazy_shapes(network, meta, spec, source_of("model", config.name))
    check_savable(network, source_of("model", config.name))
    return network
