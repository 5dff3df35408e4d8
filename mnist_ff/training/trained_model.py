"""The trained network of a run."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable

import torch
from torch import nn

from mnist_ff.config.registry import GIVEN
from mnist_ff.config.schema import Config
from mnist_ff.engine.device import prepared
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.models.build import StateEntry, build_model
from mnist_ff.models.user_module import SAVED_AS, check_savable, taken_by, to_train
from mnist_ff.runs.directory import CHECKPOINT, Run
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.reading import written_at
from mnist_ff.training.checkpoint import check_entries, check_weights, load_weights

WEIGHTS = "model.safetensors"


def check_ended_well(run: Run) -> None:
    """Check that a run has final weights. Errors: BadRunError."""
    summary = run.summary()
    weights, checkpoint = (written_at(run.file(name)) for name in (WEIGHTS, CHECKPOINT))
    if summary is None and (weights == 0 or weights < checkpoint):
        raise BadRunError(
            f"{run.path}: the run has not ended and has no final weights; if it is not training, "
            f"mnist-ff train {shlex.quote(f'resume={run.path}')} resumes it"
        )
    if summary is not None and summary.score is None:
        raise BadRunError(f"{run.path}: the run ended as {summary.status}; it has no weights to evaluate")


def load_model(run: Run, config: Config, device: torch.device) -> nn.Module:
    """The trained network of a run with this config, on `device`, in evaluation mode.

    Errors: BadRunError; RunError if there is too little memory.
    """
    path, spec = run.file(WEIGHTS), run.data_spec()
    check_weights(path, config.model, spec)
    try:
        model = build_model(config.model, config.seed or 0, device, spec)
    except RuntimeError as error:  # torch raises it if memory runs out
        raise RunError(f"{run.path}: the network: {str(error).splitlines()[0]}") from None
    load_weights(path, model)
    return model.train(False)


def trained_model(
    run: Run, config: Config, module: nn.Module | None, warn: Callable[[str], None], device: str | torch.device
) -> nn.Module:
    """A run's trained network on `device`, in evaluation mode.

    module: the model that the run was trained with, if it came from Python; the run's weights are loaded into it.
    Errors: BadRunError; ConfigError for a module that the run does not need, or a device that is not available.
    """
    check_ended_well(run)
    given = config.model.name == GIVEN["model"]
    if module is not None and not given:
        raise ConfigError(f"module: {run.path} was trained with model={config.model.name}; leave it out")
    if given and module is None:
        raise BadRunError(f"{run.path}: its model came from Python; give it again: model(module)")
    if not given:
        check_parts(run, config, warn, groups=("model",))
    trainer = dataclasses.replace(config.trainer, device=str(device), precision="fp32")
    with prepared(trainer, config.seed or 0) as place:
        return load_model(run, config, place) if module is None else _given(run, config.seed or 0, module, place)


def _given(run: Run, seed: int, module: nn.Module, device: torch.device) -> nn.Module:
    path, spec = run.file(WEIGHTS), run.data_spec()
    taken = taken_by(module, spec) if isinstance(module, nn.Module) else spec
    network = to_train(module, seed, device, taken, "module")
    check_savable(network, "module")
    state = network.state_dict().items()
    check_entries(path, {name: StateEntry((SAVED_AS[value.dtype],), tuple(value.shape)) for name, value in state})
    load_weights(path, network)
    return network.train(False)
