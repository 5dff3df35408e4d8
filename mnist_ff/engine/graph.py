"""The graph engine: batches as replays of captured CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mnist_ff.data.load import Split
from mnist_ff.engine.step import BatchStep, StepInfo, batch_metrics, never

Capture = Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]
"""Record what a function does to the device, and return a function that does it again."""


@dataclass(frozen=True)
class GraphState:
    """What training changes. It is restored after the warm-up and the capture of a graph."""

    tensors: Callable[[], Sequence[torch.Tensor]]
    """Weights, optimizer state, averages. All must exist before the first update."""
    generators: Sequence[torch.Generator] = ()
    rate: torch.Tensor | None = None
    """(1,) float32, which the optimizer reads where the step is given rates."""
    warm_up: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the batches before a capture."""


class GraphSteps:
    """Batch after batch as replays of a captured graph: the host only launches it.

    A graph trains one batch or several in a row. The chunk's rows, labels and log-probabilities and the number of the
    batch are in static buffers: each replay reads its rows by that number, trains, writes its log-probabilities and
    increments the number. A short last batch has its own graph. Where rates are given, each batch's rate is copied
    into the state's.
    """

    WARM_UP = 3
    TOGETHER = 25
    """Batches per graph, where that many are left: they share the cost of a launch, 17 us on an H200."""

    def __init__(
        self,
        batch_step: BatchStep,
        split: Split,
        batch_size: int,
        state: GraphState,
        capture: Capture,
        info: StepInfo = StepInfo("graph"),  # noqa: B008 (it is frozen)
    ) -> None:
        self.info = info
        self._batch_step = batch_step
        self._split = split
        self._batch_size = batch_size
        self._state = state
        self._capture = capture
        self._rows = torch.zeros_like(split.labels)
        self._labels = torch.zeros_like(split.labels)
        self._log_probs = torch.zeros(len(split), split.classes, device=split.labels.device)
        self._number = torch.zeros(1, dtype=torch.int64, device=split.labels.device)
        self._rate = state.rate
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
        return batch_metrics(self._log_probs[:done], labels[:done], self._batch_size)

    def prepare(self, images: int) -> None:
        """Do what the first chunk of so many images would wait for: capture graphs, have the device load its code."""
        for part in self._parts(images):
            self._replay(part)
        batch_metrics(self._log_probs[:images], self._labels[:images], self._batch_size)

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

    def forget(self) -> None:
        """Throw the graphs away."""
        self._replays.clear()

    def _captured(self, images: int) -> Callable[[], None]:
        some = self._some(images)
        changed = [*self._state.tensors(), *([] if self._rate is None else [self._rate])]
        saved = [(tensor, tensor.clone()) for tensor in changed]
        states = [generator.get_state() for generator in self._state.generators]
        try:
            with self._state.warm_up():
                for _ in range(self.WARM_UP):
                    self._number.zero_()
                    some()
            self._number.zero_()
            replay = self._capture(some, self._state.generators)
        finally:
            with torch.no_grad():
                for tensor, value in saved:
                    tensor.copy_(value)
            for generator, state in zip(self._state.generators, states, strict=True):
                generator.set_state(state)
        known = {tensor.data_ptr() for tensor, _ in saved}
        if any(tensor.data_ptr() not in known for tensor in self._state.tensors()):
            raise RuntimeError(
                "in a CUDA graph an optimizer and a model's buffers must have their whole state before its first update"
            )
        return replay

    def _some(self, images: int) -> Callable[[], None]:
        """What one replay does: it holds tensors, not this object, which would else wait for the garbage collector."""
        batch_step, batch_size, rate, rates = self._batch_step, self._batch_size, self._rate, self._rates
        all_rows, all_labels, all_log_probs, first = self._rows, self._labels, self._log_probs, self._number
        offsets = torch.arange(images, device=first.device)
        batches = torch.arange(-(-images // batch_size), device=first.device)
        log_probs = torch.zeros(images, self._log_probs.shape[1], device=first.device)

        def some() -> None:
            places, numbers = first * batch_size + offsets, first + batches
            rows, labels = all_rows.index_select(0, places), all_labels.index_select(0, places)
            parts = (torch.split(tensor, batch_size) for tensor in (rows, labels, log_probs))
            for number, batch in zip(torch.split(numbers, 1), zip(*parts, strict=True), strict=True):
                if rate is not None:
                    torch.index_select(rates, 0, number, out=rate)
                batch_step(*batch)
            all_log_probs.index_copy_(0, places, log_probs)
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
