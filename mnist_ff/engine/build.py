"""Choose the engine and build its step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from mnist_ff.config.schema import OptimizerConfig, TrainerConfig
from mnist_ff.data.augment.build import Augment
from mnist_ff.data.load import Split
from mnist_ff.engine.capture import beside, graph_generators, why_not_captured
from mnist_ff.engine.eager import EagerBatch
from mnist_ff.engine.fused import FusedBatch
from mnist_ff.engine.graph import GraphState, GraphSteps, capture_cuda
from mnist_ff.engine.ops import Ops, TorchOps
from mnist_ff.engine.step import Named, Step, StepInfo, StepOptions, Steps, products_dtype, unnamed
from mnist_ff.engine.triton_ops import TritonOps, triton_version, why_no_kernels
from mnist_ff.engine.workspace import FlatParameters
from mnist_ff.errors import ConfigError
from mnist_ff.models.mlp import MLP
from mnist_ff.models.unmodified import why_modified
from mnist_ff.optim.objective import build_objective
from mnist_ff.optim.optimizers import build_optimizer, optimizer_part, optimizer_parts, set_rate
from mnist_ff.optim.weight_updates import Updates
from mnist_ff.runs.records import MNIST_SPEC


@dataclass(frozen=True)
class StepParts:
    """The parts of a step. Model, images, augmentation and teacher are on the training device."""

    model: nn.Module
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    split: Split
    is_scheduled: bool = False
    """Whether the step will be called with learning rates."""
    augment: Augment | None = None
    teacher: nn.Module | None = None
    """The network of the run trainer.teacher."""
    updates: Updates | None = None
    """The model's updates, for a caller that needs its averaged weights. None: new ones."""
    shape: tuple[int, ...] = MNIST_SPEC.shape
    """Shape of an image, even if the split has flat vectors."""
    named: Named = unnamed
    """See StepOptions."""

    @property
    def device(self) -> torch.device:
        """The training device."""
        return self.split.labels.device


def choose_engine(
    model: nn.Module,
    trainer: TrainerConfig,
    device: torch.device,
    optimizer: str,
    is_scheduled: bool = False,
) -> str:
    """The engine for trainer.engine: eager, fused or graph.

    auto means graph on CUDA, fused for the built-in network on a CPU, and eager otherwise. A network that was modified
    in any way does not count as built-in: graph then captures its eager step if possible. With a scheduled learning
    rate, graph needs an `optimizer` that reads its rate from the device. A user's own optimizer always gets the eager
    step, because the fused step passes all weights as one vector.
    Errors: ConfigError for an engine that this model or device cannot use.
    """
    asked, other, elementwise = trainer.engine, why_modified(model), optimizer_part(optimizer).elementwise
    no_graph = _why_no_graph(optimizer, is_scheduled)
    if asked == "graph" and device.type != "cuda":
        raise ConfigError(f"trainer.engine=graph: needs a CUDA device, but the device is {device.type}; use auto")
    if asked == "graph" and no_graph is not None:
        raise ConfigError(f"trainer.engine=graph: {no_graph}; use trainer.engine=auto")
    if asked == "fused" and other is not None:
        raise ConfigError(
            f"trainer.engine={asked}: needs the unmodified built-in network, but {other}; use trainer.engine=auto"
        )
    if asked == "fused" and not elementwise:
        raise ConfigError(
            f"trainer.engine={asked}: needs a built-in optimizer, which may update all weights as one vector, but "
            f"optimizer={optimizer} is your own; use trainer.engine=auto"
        )
    if asked != "auto":
        return asked
    if trainer.compile or device.type not in ("cpu", "cuda"):
        return "eager"
    if device.type == "cuda" and no_graph is None:
        return "graph"
    return "fused" if other is None and elementwise else "eager"


def _why_no_graph(optimizer: str, is_scheduled: bool) -> str | None:
    """Why a CUDA graph cannot contain this optimizer's update. None if it can."""
    part = optimizer_part(optimizer)
    if part.initial_state is None:
        return f"optimizer={optimizer} does not tell its initial state"
    if is_scheduled and not part.tensor_lr:
        able = ", ".join(sorted(name for name, part in optimizer_parts().items() if part.tensor_lr))
        return f"optimizer={optimizer} cannot change its rate in a CUDA graph ({able} can)"
    return None


def build_step(parts: StepParts) -> tuple[Step, Optimizer]:
    """The step and its optimizer. Errors: those of choose_engine()."""
    model, trainer, device = parts.model, parts.trainer, parts.device
    engine = choose_engine(model, trainer, device, parts.optimizer.name, parts.is_scheduled)
    if engine == "eager" or (engine == "graph" and why_modified(model) is not None):
        return _any_modules_step(parts, engine)
    assert isinstance(model, MLP), "other engines need the built-in network"
    info, flat = _describe(engine, parts), FlatParameters(model)
    optimizer = build_optimizer(parts.optimizer, [flat.whole], capturable=engine == "graph")
    updates = parts.updates or Updates(model, trainer)
    options = _options(parts, updates)
    ops: Ops = TorchOps(model, optimizer, options)
    if info.triton is not None:
        triton_rule = optimizer_part(parts.optimizer.name).triton_rule
        rule = None if triton_rule is None else triton_rule(parts.optimizer)
        ops = TritonOps(model, optimizer, options, rule)
    batch_step = FusedBatch(model, flat, ops, parts.split, options)
    if engine != "graph":
        return Steps(batch_step, parts.split, trainer.batch_size, optimizer, info), optimizer
    state = GraphState(
        lambda: training_state([flat.whole, *updates.tensors()], optimizer),
        _generators(model, parts.augment),
        _rate_on_device(optimizer, parts) if parts.is_scheduled else None,
    )
    return GraphSteps(batch_step, parts.split, trainer.batch_size, state, capture_cuda, info), optimizer


def _any_modules_step(parts: StepParts, engine: str) -> tuple[Step, Optimizer]:
    """The step of any module: eager, or captured in a CUDA graph if that works."""
    model, trainer, split = parts.model, parts.trainer, parts.split
    updates, note = parts.updates or Updates(model, trainer), None
    options = _options(parts, updates)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if engine == "graph":
        optimizer = build_optimizer(parts.optimizer, trainable, capturable=True)
        state = GraphState(
            lambda: training_state([*trainable, *model.buffers(), *updates.tensors()], optimizer),
            [*graph_generators(model, parts.device), *([] if parts.augment is None else [parts.augment.rng])],
            _rate_on_device(optimizer, parts) if parts.is_scheduled else None,
            partial(beside, parts.device),
        )
        batch_step = EagerBatch(model, optimizer, split, options)
        step = GraphSteps(batch_step, split, trainer.batch_size, state, capture_cuda)
        note = why_not_captured(model, step, parts.device, min(trainer.batch_size, len(split)))
        if note is None:
            return step, optimizer
    elif parts.device.type == "cuda" and trainer.engine == "auto" and not trainer.compile:
        note = _why_no_graph(parts.optimizer.name, parts.is_scheduled)
    info = StepInfo("eager", None, () if note is None else (f"no CUDA graph: {note}",))
    optimizer = build_optimizer(parts.optimizer, trainable)
    batch_step = EagerBatch(model, optimizer, split, options, trainer.compile)
    return Steps(batch_step, split, trainer.batch_size, optimizer, info), optimizer


def _options(parts: StepParts, updates: Updates) -> StepOptions:
    return StepOptions(
        products_dtype(parts.trainer.precision),
        build_objective(parts.trainer, parts.teacher, parts.shape),
        parts.augment,
        updates if updates.needed else None,
        parts.named,
    )


def _describe(engine: str, parts: StepParts) -> StepInfo:
    if parts.device.type != "cuda":
        return StepInfo(engine)
    notes, reason = [], why_no_kernels()
    if engine == "fused" and parts.trainer.engine == "auto":
        notes.append(f"no CUDA graph: {_why_no_graph(parts.optimizer.name, parts.is_scheduled)}")
    if reason is not None:
        notes.append(
            f"no Triton kernels; using PyTorch's, which are slower and draw other dropout masks for a seed: {reason}"
        )
        return StepInfo(engine, None, tuple(notes))
    return StepInfo(engine, triton_version(), tuple(notes))


def _rate_on_device(optimizer: Optimizer, parts: StepParts) -> torch.Tensor:
    """The learning rate as a tensor (1,), which the optimizer reads at each update."""
    rate = torch.tensor([parts.optimizer.lr], device=parts.device)
    set_rate(optimizer, rate[0])
    return rate


def training_state(tensors: Sequence[torch.Tensor], optimizer: Optimizer) -> list[torch.Tensor]:
    """All tensors that a step changes: the given ones of the model, and the optimizer's state."""
    own = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return [*(tensor.detach() for tensor in tensors), *own]


def _generators(model: MLP, augment: Augment | None) -> list[torch.Generator]:
    """The random generators of the built-in network's step."""
    found = [model.dropout.rng, None if augment is None else augment.rng]
    return [generator for generator in found if generator is not None]
