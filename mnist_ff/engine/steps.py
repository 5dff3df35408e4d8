"""Train on row numbers; return losses that are still on the device.

A *batch step* trains on one batch and leaves its log-probabilities in a place on the device. A *step* is what fit()
calls: it trains on a chunk of batches, one after another or as replays of a CUDA graph, and works out the figures of
all of them at once. Neither ever waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mnist_ff.config.schema import OptimizerConfig, TrainerConfig
from mnist_ff.data.augment.build import Augment
from mnist_ff.data.load import Split, as_input
from mnist_ff.engine.cuda_step import CudaBatch, why_no_kernels
from mnist_ff.engine.fused import FlatParameters, FusedBatch
from mnist_ff.errors import ConfigError
from mnist_ff.models.mlp import MLP
from mnist_ff.models.plain import why_not_plain
from mnist_ff.optim.objective import PLAIN, Objective, build_objective
from mnist_ff.optim.optimizer import READS_A_TENSOR, build_optimizer, set_rate
from mnist_ff.optim.weight_updates import Updates
from mnist_ff.runs.records import CLASSES

BatchStep = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""(rows (B,) int64, labels (B,) int64, logs (B, 10) float32): train on the rows, write the log-probabilities."""

Capture = Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]
"""Record what a function does to the device, and return a function that does it again."""


class Step(Protocol):
    """Trains on a chunk of batches."""

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = ..., rates: Sequence[float] = ...
    ) -> torch.Tensor:
        """Train on `rows` (R,) int64, batch after batch; return (batches, 2) on the device: loss, right answers.

        `stopped` is asked after each batch, by GraphSteps after each replay of up to 25; when it answers, nothing more
        is trained, and the figures are those of fewer batches.
        `rates` are the batches' learning rates; without them the optimizer keeps its own.
        """


def never() -> None:
    """No reason to stop."""


def _why_no_logits(answer: object) -> str:
    """What is wrong with what a module returned in training."""
    if isinstance(answer, torch.Tensor):
        return "no gradient reaches a parameter from what forward() returns in training; leave out detach()"
    return f"forward() returns a {type(answer).__name__} in training; let it return the (B, {CLASSES}) logits alone"


class EagerBatch:
    """One step of any module as PyTorch runs it: gather, forward, backward, update."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        split: Split,
        precision: torch.dtype,
        compiled: bool,
        objective: Objective = PLAIN,
        augment: Augment | None = None,
        updates: Updates | None = None,
    ) -> None:
        self._model = model
        self._forward = torch.compile(model) if compiled else model
        self._optimizer = optimizer
        self._images = split.images
        self._precision = precision
        self._objective, self._augment, self._updates = objective, augment, updates

    def __call__(self, rows: torch.Tensor, labels: torch.Tensor, logs: torch.Tensor) -> None:
        """Train on `rows` (B,) with `labels` (B,); write log-probabilities, dropout on, into `logs` (B, 10)."""
        self._model.train()
        images = as_input(self._images.index_select(0, rows))
        if self._augment is not None:
            images = self._augment(images)
        self._optimizer.zero_grad(set_to_none=True)
        if self._objective.epsilon:
            images.requires_grad_()
        normalised = self._add_gradient(images, labels)
        if self._objective.epsilon:
            assert images.grad is not None
            self._add_gradient(self._objective.adversaries(images, images.grad), labels)
        if self._updates is not None:
            self._updates.before()
        self._optimizer.step()
        if self._updates is not None:
            self._updates.after()
        logs.copy_(normalised)

    def _add_gradient(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Add the gradient of these images' share of the objective; return their log-probabilities (B, 10)."""
        low = self._precision != torch.float32
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            logits = self._forward(images)
        if not isinstance(logits, torch.Tensor) or not logits.requires_grad:  # a user's module may differ in training
            raise ConfigError(f"model: {_why_no_logits(logits)}")
        logits = logits.float()
        normalised = F.log_softmax(logits, 1)
        if self._objective.plain:
            loss = F.nll_loss(normalised, labels)
        else:
            loss = self._objective.loss(logits, normalised, labels, self._objective.answers(images.detach()))
        if self._objective.epsilon:
            loss = self._objective.share * loss
        loss.backward()  # type: ignore[no-untyped-call]
        return normalised.detach()


def figures_of(logs: torch.Tensor, labels: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Each batch's mean loss and count of right answers, (batches, 2), from a chunk's log-probabilities (R, 10)."""
    losses = logs.gather(1, labels[:, None])[:, 0].neg_()
    right = (logs.argmax(1) == labels).float()
    whole, rest = divmod(len(labels), batch_size)
    cut = whole * batch_size
    figures = torch.empty(whole + (rest > 0), 2, device=logs.device)
    if whole:
        figures[:whole, 0] = losses[:cut].view(whole, batch_size).mean(1)
        figures[:whole, 1] = right[:cut].view(whole, batch_size).sum(1)
    if rest:
        figures[whole, 0] = losses[cut:].mean()
        figures[whole, 1] = right[cut:].sum()
    return figures


class Steps:
    """Batch after batch. The optimizer is needed where rates are given."""

    def __init__(
        self, batch_step: BatchStep, split: Split, batch_size: int, optimizer: Optimizer | None = None
    ) -> None:
        self._batch_step = batch_step
        self._optimizer = optimizer
        self._labels = split.labels
        self._batch_size = batch_size

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        labels = self._labels.index_select(0, rows)
        logs = torch.empty(len(rows), CLASSES, device=rows.device)
        parts = (torch.split(tensor, self._batch_size) for tensor in (rows, labels, logs))
        done = 0
        for number, batch in enumerate(zip(*parts, strict=True)):
            if rates:
                assert self._optimizer is not None
                set_rate(self._optimizer, rates[number])
            self._batch_step(*batch)
            done += len(batch[0])
            if stopped() is not None:
                break
        return figures_of(logs[:done], labels[:done], self._batch_size)


class GraphSteps:
    """Batch after batch as replays of a captured graph: the host only says 'again'.

    A graph trains one batch or several in a row. The chunk's rows, labels and log-probabilities and the number of the
    batch stand in static buffers: each replay takes its own rows by the number, trains, writes its part and counts up.
    A short last batch has its own graph. Where rates are given, `rate` is the tensor that the optimizer reads: each
    batch's own is put into it. Warm-up and capture leave no trace in `state`, the tensors that training changes, nor
    in the generators. All of `state` must be there before: what an update makes has no value to go back to.
    """

    WARM_UP = 3
    TOGETHER = 25
    """Batches that a graph trains while there are so many: they share what is done once a replay, 17 us on an H200."""

    def __init__(
        self,
        batch_step: BatchStep,
        split: Split,
        batch_size: int,
        state: Callable[[], Sequence[torch.Tensor]],
        generators: Sequence[torch.Generator],
        capture: Capture,
        rate: torch.Tensor | None = None,
    ) -> None:
        self._batch_step = batch_step
        self._split = split
        self._batch_size = batch_size
        self._state = state
        self._generators = generators
        self._capture = capture
        self._rows = torch.zeros_like(split.labels)
        self._labels = torch.zeros_like(split.labels)
        self._logs = torch.zeros(len(split), CLASSES, device=split.labels.device)
        self._number = torch.zeros(1, dtype=torch.int64, device=split.labels.device)
        self._rate = rate
        self._rates = torch.zeros(len(split) // batch_size + 1, device=split.labels.device)
        self._replays: dict[int, Callable[[], None]] = {}

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        """As a Step; `stopped` is asked after each replay."""
        if rates:
            assert self._rate is not None
            self._rates[: len(rates)].copy_(torch.tensor(rates))
        elif self._rate is not None:
            self._rates.copy_(self._rate.expand_as(self._rates))
        labels = self._labels[: len(rows)]
        parts = [(images, self._replay(images)) for images in self._parts(len(rows))]
        self._rows[: len(rows)].copy_(rows)
        torch.index_select(self._split.labels, 0, rows, out=labels)
        self._number.zero_()
        done = 0
        for images, replay in parts:
            replay()
            done += images
            if stopped() is not None:
                break
        return figures_of(self._logs[:done], labels[:done], self._batch_size)

    def prepare(self, images: int) -> None:
        """Do what the first chunk of so many images would wait for: capture graphs, have the device load its code."""
        for part in self._parts(images):
            self._replay(part)
        figures_of(self._logs[:images], self._labels[:images], self._batch_size)

    def _parts(self, images: int) -> list[int]:
        """How many images each replay of a chunk trains on."""
        together = self.TOGETHER * self._batch_size
        several, left = divmod(images, together)
        single, rest = divmod(left, self._batch_size)
        return [together] * several + [self._batch_size] * single + ([rest] if rest else [])

    def _replay(self, images: int) -> Callable[[], None]:
        if images not in self._replays:
            self._replays[images] = self._captured(images)
        return self._replays[images]

    def _captured(self, images: int) -> Callable[[], None]:
        some = self._some(images)
        changed = [*self._state(), *([] if self._rate is None else [self._rate])]
        before = [(tensor, tensor.clone()) for tensor in changed]
        states = [generator.get_state() for generator in self._generators]
        for _ in range(self.WARM_UP):
            self._number.zero_()
            some()
        self._number.zero_()
        replay = self._capture(some, self._generators)
        known = {tensor.data_ptr() for tensor, _ in before}
        if any(tensor.data_ptr() not in known for tensor in self._state()):
            raise RuntimeError("an optimizer in a CUDA graph must have its whole state before its first update")
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
        return replay

    def _some(self, images: int) -> Callable[[], None]:
        """What one replay does: it holds tensors, not this object, which would else wait for the garbage collector."""
        batch_step, batch_size, rate, rates = self._batch_step, self._batch_size, self._rate, self._rates
        all_rows, all_labels, all_logs, first = self._rows, self._labels, self._logs, self._number
        offsets = torch.arange(images, device=first.device)
        batches = torch.arange(-(-images // batch_size), device=first.device)
        logs = torch.zeros(images, CLASSES, device=first.device)

        def some() -> None:
            places, numbers = first * batch_size + offsets, first + batches
            rows, labels = all_rows.index_select(0, places), all_labels.index_select(0, places)
            parts = (torch.split(tensor, batch_size) for tensor in (rows, labels, logs))
            for number, batch in zip(torch.split(numbers, 1), zip(*parts, strict=True), strict=True):
                if rate is not None:
                    torch.index_select(rates, 0, number, out=rate)
                batch_step(*batch)
            all_logs.index_copy_(0, places, logs)
            first.add_(len(batches))

        return some


@dataclass(frozen=True)
class CudaReplay:
    """A CUDA graph beside the function that it recorded: it writes to that one's tensors and does not keep them."""

    graph: torch.cuda.CUDAGraph
    recorded: Callable[[], None]

    def __call__(self) -> None:
        self.graph.replay()


def capture_cuda(one: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
    """Record one step as a CUDA graph; masks differ between replays, because the generators are registered."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        one()
    return CudaReplay(graph, one)


def choose_engine(
    model: nn.Module,
    trainer: TrainerConfig,
    device: torch.device,
    optimizer: str | None = None,
    moving_rate: bool = False,
) -> str:
    """The engine that trainer.engine means here.

    auto takes graph for the built-in network on CUDA, fused for it on a CPU, and eager for all else: a network that
    was changed in any way is not the built-in one. With a rate that moves, a graph needs an `optimizer` that reads it
    from the device.
    Errors: ConfigError for one that this model or device cannot have.
    """
    asked, other = trainer.engine, why_not_plain(model)
    fixed = moving_rate and optimizer not in READS_A_TENSOR
    if asked == "graph" and device.type != "cuda":
        raise ConfigError(f"trainer.engine=graph: needs a CUDA device, and this is {device.type}; use auto")
    if asked == "graph" and fixed:
        raise ConfigError(
            f"trainer.engine=graph: optimizer={optimizer} cannot change its rate in a CUDA graph; use "
            f"schedule=constant without warm-up, trainer.engine=auto, or one of {', '.join(sorted(READS_A_TENSOR))}"
        )
    if asked in ("fused", "graph") and other is not None:
        raise ConfigError(
            f"trainer.engine={asked}: is for the built-in network as it is, and here {other}; use trainer.engine=auto"
        )
    if asked != "auto":
        return asked
    if trainer.compile or other is not None or device.type not in ("cpu", "cuda"):
        return "eager"
    return "graph" if device.type == "cuda" and not fixed else "fused"


def build_steps(
    model: nn.Module,
    config: OptimizerConfig,
    trainer: TrainerConfig,
    split: Split,
    device: torch.device,
    *,
    moving_rate: bool = False,
    augment: Augment | None = None,
    teacher: nn.Module | None = None,
    updates: Updates | None = None,
) -> tuple[Step, Optimizer]:
    """The step and its optimizer for a model on its device.

    moving_rate: whether the step will be given rates. teacher: the network that trainer.teacher names, on the device.
    updates: the model's own, for who wants the average of its weights.
    Errors: ConfigError, as choose_engine.
    """
    engine = choose_engine(model, trainer, device, config.name, moving_rate)
    precision = torch.bfloat16 if trainer.precision == "bf16" else torch.float32
    objective = build_objective(trainer, teacher)
    batch_step: BatchStep
    fused = isinstance(model, MLP) and engine != "eager"
    flat = FlatParameters(model) if fused else None
    parameters: list[nn.Parameter] = list(model.parameters()) if flat is None else [flat.whole]
    optimizer = build_optimizer(config, parameters, capturable=engine == "graph")
    updates = updates or Updates(model, trainer)
    around = updates if updates.needed else None
    if flat is not None and isinstance(model, MLP):
        kind = CudaBatch if device.type == "cuda" and why_no_kernels() is None else FusedBatch
        batch_step = kind(model, flat, optimizer, split, precision, objective, augment, around)
    else:
        batch_step = EagerBatch(model, optimizer, split, precision, trainer.compile, objective, augment, around)
    if engine != "graph":
        return Steps(batch_step, split, trainer.batch_size, optimizer), optimizer
    rate = torch.tensor([config.lr], device=device) if moving_rate else None
    if rate is not None:
        set_rate(optimizer, rate[0])
    graph = GraphSteps(
        batch_step,
        split,
        trainer.batch_size,
        lambda: training_state([*parameters, *model.buffers(), *updates.tensors()], optimizer),
        [*_generators(model), *([] if augment is None else [augment.rng])],
        capture_cuda,
        rate,
    )
    return graph, optimizer


def training_state(tensors: Sequence[torch.Tensor], optimizer: Optimizer) -> list[torch.Tensor]:
    """Every tensor that a step changes: the model's parameters and buffers, and the optimizer's own."""
    own = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return [*(tensor.detach() for tensor in tensors), *own]


def _generators(model: nn.Module) -> list[torch.Generator]:
    """What the built-in network's step draws from."""
    assert isinstance(model, MLP), "a graph is for it alone"
    return [] if model.dropout.rng is None else [model.dropout.rng]
