"""Weights and training state to files and back. Nothing is ever unpickled beyond tensors and plain containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mnist_ff.errors import BadRunError
from mnist_ff.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write training state so that the file is whole or the one before stays."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights as safetensors, by the names of its state_dict."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary)


def load_weights(path: Path, model: nn.Module) -> None:
    """Put saved weights into `model`. Errors: BadRunError naming the file when they do not fit or cannot be read."""
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise BadRunError(f"{path.parent}: has no {path.name}; the run did not end well") from None
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise BadRunError(f"{path}: {str(error).splitlines()[0]}") from None
