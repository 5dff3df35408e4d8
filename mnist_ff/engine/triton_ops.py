"""The fused step on CUDA: Triton kernels between the matrix products, and side streams."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

from mnist_ff.engine.ops import TorchOps, bias_grad, weight_grad
from mnist_ff.engine.step import PLAIN_OPTIONS, StepOptions
from mnist_ff.engine.workspace import Layer, Mask, Workspace
from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.models.mlp import MLP
from mnist_ff.optim.base import apply_rule
from mnist_ff.optim.part import Rule


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


class SideStream:
    """A second stream: work that follows what is queued so far, and that the main stream meets again later."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._forked = False

    @contextmanager
    def fork(self) -> Iterator[None]:
        """Inside the block, work is queued on this stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        self._forked = True
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """What is queued on the main stream from now on waits for this one, if it was forked since the last time."""
        if self._forked:
            torch.cuda.current_stream().wait_stream(self._stream)
            self._forked = False


class TritonOps:
    """Ops with one kernel where torch needs several, and the gradients of the parameters beside the backward pass.

    The masks are drawn by the network's own generator, all of a pass in one call. `rule` is the optimizer's update as
    a kernel, where there is one.
    """

    by_unit = False

    def __init__(
        self, model: MLP, optimizer: Optimizer, options: StepOptions = PLAIN_OPTIONS, rule: Rule | None = None
    ) -> None:
        from mnist_ff.engine import triton_kernels

        self._kernels = triton_kernels
        self._torch = TorchOps(model, optimizer, options)
        self._dropout, self._activation = model.dropout, ACTIVATIONS[model.activation]
        self._objective = options.objective
        self.update = self._torch.update if rule is None else functools.partial(apply_rule, optimizer, rule)
        device = next(model.parameters()).device
        self._mask_stream, self._weight_stream, self._bias_stream = (SideStream(device) for _ in range(3))

    def make_masks(self, acts: Sequence[torch.Tensor]) -> list[Mask]:
        """As Ops; they share one line of random words."""
        sizes = [act.numel() for act in acts]
        if not acts:
            return []
        words = torch.empty((sum(sizes) + 3) // 4, dtype=torch.int64, device=acts[0].device)
        draws = torch.split(words.view(torch.int16)[: sum(sizes)], sizes)
        return [Mask.cut(act, words, part) for act, part in zip(acts, draws, strict=True)]

    def gather(self, images: torch.Tensor, rows: torch.Tensor, space: Workspace) -> None:
        """As Ops, without the pixels."""
        self._kernels.gather(images, rows, space.inputs)

    def begin_pass(self, space: Workspace) -> None:
        """Draw all masks, beside the making of the inputs and the first product."""
        mask = space.layers[0].mask
        if self._dropout.dropped and mask is not None:
            with self._mask_stream.fork():
                mask.words.random_(-(2**63), None, generator=self._dropout.rng)

    def hidden(self, layer: Layer) -> None:
        self._mask_stream.join()
        torch.mm(layer.inputs, layer.weight_t, out=layer.pre_act)
        self._kernels.hidden(layer, self._draws(layer), self._dropout.threshold, self._activation)

    def loss(
        self, space: Workspace, labels: torch.Tensor, teacher_probs: torch.Tensor | None, log_probs: torch.Tensor
    ) -> None:
        """As Ops; the plain cross-entropy has a kernel."""
        last = space.layers[-1]
        if self._objective.plain:
            torch.mm(last.inputs, last.weight_t, out=last.pre_act)
            self._kernels.cross_entropy(last, labels, log_probs, self._objective.share / len(labels))
        else:
            self._torch.loss(space, labels, teacher_probs, log_probs)

    def param_grads(self, layer: Layer, accumulate: bool) -> None:
        """As Ops, beside the way down to the layers below."""
        with self._weight_stream.fork():
            weight_grad(layer, accumulate)
        with self._bias_stream.fork():
            bias_grad(layer, accumulate)

    def act_backward(self, above: Layer, layer: Layer) -> None:
        torch.mm(above.grad, above.weight, out=layer.grad)
        draws = self._draws(layer)
        self._kernels.act_backward(layer, draws, above.scale, self._dropout.threshold, self._activation)

    def end_pass(self) -> None:
        """Wait for the gradients of the parameters."""
        self._weight_stream.join()
        self._bias_stream.join()

    def _draws(self, layer: Layer) -> torch.Tensor | None:
        """(B, units) int16, where there is dropout."""
        assert layer.mask is not None
        return layer.mask.draws if self._dropout.dropped else None
