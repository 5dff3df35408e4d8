"""The fused step on CUDA: Triton kernels between the matrix products, and side streams."""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch.optim import Optimizer

from mnist_ff.data.load import Split
from mnist_ff.engine.fused import FlatParameters, FusedBatch, Layer, Workspace
from mnist_ff.engine.step import PLAIN_OPTIONS, StepOptions
from mnist_ff.models.mlp import MLP
from mnist_ff.optim.base import apply_rule
from mnist_ff.optim.part import Rule

log = logging.getLogger("mnist_ff")


@functools.cache
def why_no_kernels() -> str | None:
    """Why Triton cannot build kernels for the CUDA device here, or None where it can: it asks for a C compiler."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        from mnist_ff.engine.triton_kernels import gather

        images = torch.zeros(1, 1, dtype=torch.uint8, device="cuda")
        gather(images, torch.zeros(1, dtype=torch.int64, device="cuda"), torch.zeros(1, 1, device="cuda"))
    except Exception as error:  # a compiler's failures have no common kind
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


def triton_version() -> str:
    """Its module's: the distribution has other names on other systems."""
    import triton

    version: str = triton.__version__
    return version


class Aside:
    """A second stream: work that follows what is queued so far, and that the main one meets again later."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def fork(self) -> Iterator[None]:
        """Inside the block work is queued aside."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """What is queued from now on waits for what is aside."""
        torch.cuda.current_stream().wait_stream(self._stream)


class CudaBatch(FusedBatch):
    """FusedBatch with one kernel where torch needs several, and the gradients of the parameters beside the way back.

    The masks are still drawn by the network's own generator, all of a pass in one call.
    """

    def __init__(
        self,
        model: MLP,
        flat: FlatParameters,
        optimizer: Optimizer,
        split: Split,
        options: StepOptions = PLAIN_OPTIONS,
        rule: Rule | None = None,
    ) -> None:
        super().__init__(model, flat, optimizer, split, options)
        from mnist_ff.engine import triton_kernels as cuda_kernels

        self._kernels = cuda_kernels
        device = flat.whole.device
        self._chance, self._heavy, self._light = Aside(device), Aside(device), Aside(device)
        self._words: dict[int, torch.Tensor] = {}
        if rule is not None:
            self._update = functools.partial(apply_rule, optimizer, rule)

    def _workspace(self, batch: int) -> Workspace:
        space = super()._workspace(batch)
        *hidden, last = space.layers
        sizes = [layer.after.numel() for layer in hidden]
        self._words[batch] = torch.empty((sum(sizes) + 3) // 4, dtype=torch.int64, device=space.pixels.device)
        draws = torch.split(self._words[batch].view(torch.int16)[: sum(sizes)], sizes)
        with_draws = [
            replace(layer, mask=replace(layer.mask, draws=part.view(layer.after.shape)))
            for layer, part in zip(hidden, draws, strict=True)
        ]
        return replace(space, layers=(*with_draws, last))

    def _take(self, space: Workspace, rows: torch.Tensor) -> None:
        if self._as_stored and self._objective.teacher is None:
            self._kernels.gather(self._images, rows, space.inputs)
        else:
            super()._take(space, rows)

    def _inputs(self, space: Workspace, images: torch.Tensor | None) -> torch.Tensor | None:
        if self._model.dropout.dropped:
            with self._chance.fork():
                words = self._words[len(space.pixels)]
                words.random_(-(2**63), None, generator=self._model.dropout.rng)
        return super()._inputs(space, images)

    def _forward(self, space: Workspace) -> None:
        inputs, dropout = space.inputs, self._model.dropout
        *hidden, last = space.layers
        if dropout.dropped:
            self._chance.join()
        for index, layer in enumerate(hidden):
            torch.mm(inputs, layer.weight_t, out=layer.before)
            self._kernels.hidden(
                layer.before,
                layer.after,
                layer.bias,
                layer.mask.draws if dropout.dropped else None,
                self._scale(index),
                dropout.threshold,
                self._model.activation,
            )
            inputs = layer.after
        if self._objective.plain:
            torch.mm(inputs, last.weight_t, out=last.before)
        else:
            torch.addmm(last.bias, inputs, last.weight_t, alpha=self._scale(len(hidden)), out=last.before)

    def _loss(self, space: Workspace, labels: torch.Tensor, answers: torch.Tensor | None, logs: torch.Tensor) -> None:
        if not self._objective.plain:
            super()._loss(space, labels, answers, logs)
            return
        last = space.layers[-1]
        scale, share = self._scale(len(space.layers) - 1), self._objective.share / len(labels)
        self._kernels.cross_entropy(last.before, last.bias, labels, logs, last.delta, scale, share)

    def _backward(self, space: Workspace, again: bool) -> None:
        super()._backward(space, again)
        self._heavy.join()
        self._light.join()

    def _weight_gradient(self, layer: Layer, inputs: torch.Tensor, scale: float, before: int) -> None:
        with self._heavy.fork():
            super()._weight_gradient(layer, inputs, scale, before)

    def _bias_gradient(self, layer: Layer, ones: torch.Tensor, before: int) -> None:
        with self._light.fork():
            super()._bias_gradient(layer, ones, before)

    def _delta_below(self, layer: Layer, below: Layer, scale: float) -> None:
        torch.mm(layer.delta, layer.weight, out=below.delta)
        self._kernels.through(
            below.delta,
            below.before,
            below.after,
            below.mask.draws if self._model.dropout.dropped else None,
            scale,
            self._model.dropout.threshold,
            self._model.activation,
        )
