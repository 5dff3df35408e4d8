"""Weights and training state to files and back. Nothing is ever unpickled beyond tensors and plain containers."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.optim import Optimizer

from mnist_ff.config import Config
from mnist_ff.errors import BadRunError, RunError
from mnist_ff.files import replacing, write_bytes
from mnist_ff.model import MLP, build_model
from mnist_ff.optimizer import complete_state
from mnist_ff.records import Position
from mnist_ff.runs import CHECKPOINT, PREVIOUS, Run

DAMAGED = "checkpoint.damaged.pt"
SEAL = b"mnist-ff sha256\n"
"""Stands before the SHA-256 at a checkpoint's end. torch.load does not mind what follows a zip archive's end."""
KEYS = {"epoch", "batches", "model", "optimizer", "dropout", "device", "recipe"}
LATER = ("augment", "average", "best")
"""Keys that an older checkpoint does not have: None means the same."""


@dataclass(frozen=True)
class TrainingState:
    """All that decides how a run goes on."""

    position: Position
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    dropout: torch.Tensor | None
    """The state of the generator that draws the masks."""
    device: str
    """The kind of device that the generator belongs to."""
    recipe: str
    """The digest of the config's keys that make it this experiment."""
    augment: torch.Tensor | None = None
    """The state of the generator that draws the augmentation."""
    average: dict[str, torch.Tensor] | None = None
    """Of the averaged weights."""
    best: dict[str, torch.Tensor] | None = None
    """The weights of the best epoch so far, where they are kept."""


def save_checkpoint(run: Run, state: TrainingState) -> None:
    """Write the training state, sealed by its SHA-256; the one before is kept beside it until the next."""
    buffer = io.BytesIO()
    values = {
        "epoch": state.position.epoch,
        "batches": [(record.loss, record.correct, record.lr) for record in state.position.batches],
        "model": state.model,
        "optimizer": state.optimizer,
        "dropout": state.dropout,
        "device": state.device,
        "recipe": state.recipe,
        **{key: getattr(state, key) for key in LATER},
    }
    torch.save(values, buffer)
    content = buffer.getvalue()
    with replacing(run.file(CHECKPOINT), keep=run.file(PREVIOUS)) as temporary:
        temporary.write_bytes(content + SEAL + hashlib.sha256(content).digest())


def load_checkpoint(run: Run, complain: Callable[[str], None]) -> dict[str, Any]:
    """The values of the newest checkpoint that is whole; `complain` hears of one that is not, which is set aside.

    Errors: RunError when none is left, BadRunError for one that holds more than tensors and plain values.
    """
    found = [run.file(name) for name in (CHECKPOINT, PREVIOUS) if run.file(name).exists()]
    for path in found:
        try:
            return _read(path)
        except _DamagedError as error:
            complain(f"{path}: {error}" + ("; the one before it is used" if path != found[-1] else ""))
            path.replace(run.file(DAMAGED))  # or the next save would keep it in the good one's place
    what = "no checkpoint is whole" if found else "has no checkpoint"
    raise RunError(f"{run.path}: {what}; the run cannot go on, but mnist-ff train --config-of repeats it")


class _DamagedError(Exception):
    """A checkpoint is not as it was written."""


def _read(path: Path) -> dict[str, Any]:
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise _DamagedError(error.strerror) from None
    content, seal, digest = whole.rpartition(SEAL)
    sealed = bool(seal) and digest == hashlib.sha256(content).digest()
    if not sealed and not _is_archive(whole):
        raise _DamagedError("is damaged")
    try:
        values = torch.load(io.BytesIO(content if sealed else whole), weights_only=True, map_location="cpu")
    except Exception:  # what is no checkpoint fails in many ways
        if seal and not sealed:
            raise _DamagedError("is damaged") from None
        raise BadRunError(f"{path}: holds more than tensors and plain values; it was not loaded") from None
    if not isinstance(values, dict) or not values.keys() >= KEYS:
        raise BadRunError(f"{path}: is not a checkpoint of ours; it was not used")
    if not sealed:
        raise _DamagedError("is damaged")
    return {**dict.fromkeys(LATER), **values}


def _is_archive(whole: bytes) -> bool:
    """Whether the bytes are a whole zip or tar archive or a pickle: perhaps somebody's, not a broken one of ours."""
    archive = zipfile.is_zipfile(io.BytesIO(whole)) or tarfile.is_tarfile(io.BytesIO(whole))
    return archive or whole[:1] == pickle.PROTO


def load_optimizer(optimizer: Optimizer, values: dict[str, Any]) -> None:
    """Put saved state into an optimizer, and see that it fits, which torch does not. Its rate stays its own.

    Errors: ValueError; eager and fused steps, say, keep theirs differently.
    """
    options = [set(group) for group in optimizer.param_groups]
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(values)
    complete_state(optimizer)  # an older checkpoint of the start may have none
    if [set(group) for group in optimizer.param_groups] != options:
        raise ValueError("the optimizer's options are others")
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # on a graph the very tensor that it reads
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.numel() not in (1, parameter.numel()):
                raise ValueError(f"the optimizer's {name} has {value.numel()} numbers for {parameter.numel()}")


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights as safetensors, by the names of its state_dict."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(weights))


def load_weights(path: Path, model: nn.Module) -> None:
    """Put saved weights into `model`. Errors: BadRunError naming the file when they do not fit or cannot be read."""
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise BadRunError(f"{path.parent}: has no {path.name}; the run did not end well") from None
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise BadRunError(f"{path}: {str(error).splitlines()[0]}") from None


def load_model(run: Run, config: Config, device: torch.device) -> MLP:
    """The trained network of a run with this config, on `device`, in evaluation mode.

    Errors: BadRunError, RunError where there is too little memory.
    """
    try:
        model = build_model(config.model, config.seed or 0, device)
    except RuntimeError as error:  # torch's word for no memory
        raise RunError(f"{run.path}: a network of {config.model.hidden}: {str(error).splitlines()[0]}") from None
    load_weights(run.file("model.safetensors"), model)
    return model.train(False)
