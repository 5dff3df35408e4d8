"""What the fused step asks of the device, and how torch does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch.optim import Optimizer

from mnist_ff.engine.step import PLAIN_OPTIONS, StepOptions
from mnist_ff.engine.workspace import Arrangement, Layer, Mask, Workspace
from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.models.mlp import MLP


class Ops(Arrangement, Protocol):
    """The operations of one step; the tensors that they read and write are the workspace's.

    A pass is a forward and a backward one between begin_pass() and end_pass(): in it, work may run beside the rest.
    """

    def gather(self, images: torch.Tensor, rows: torch.Tensor, space: Workspace) -> None:
        """Fill the inputs (B, D) with `rows` (B,) int64 of `images` (N, D); the pixels may serve on the way."""

    def begin_pass(self, space: Workspace) -> None:
        """Before the network's inputs are made."""

    def hidden(self, layer: Layer) -> None:
        """act = f(scale x inputs x weight_t + bias), masked where there is dropout."""

    def loss(
        self, space: Workspace, labels: torch.Tensor, teacher_probs: torch.Tensor | None, log_probs: torch.Tensor
    ) -> None:
        """The last layer, its log-probabilities (B, K) float32, and its grad: the objective's by the logits."""

    def param_grads(self, layer: Layer, accumulate: bool) -> None:
        """weight_grad and bias_grad from the layer's grad; added to what they are on request."""

    def act_backward(self, above: Layer, layer: Layer) -> None:
        """The layer's grad from that of the one above, whose inputs it makes."""

    def end_pass(self) -> None:
        """After the last gradient."""

    def update(self) -> None:
        """The optimizer's update of all parameters."""


class TorchOps:
    """Each operation in torch's own."""

    def __init__(self, model: MLP, optimizer: Optimizer, options: StepOptions = PLAIN_OPTIONS) -> None:
        self.by_unit = next(model.parameters()).device.type == "cpu"
        self._dropout, self._drops = model.dropout, model.dropout.dropped > 0
        self._activation = ACTIVATIONS[model.activation]
        self._objective, self._share = options.objective, options.objective.share
        self._for_labels: dict[int, torch.Tensor] = {}  # by batch size, see Objective.gradient()
        self._update: Callable[[], object] = getattr(optimizer, "update", optimizer.step)

    def make_masks(self, acts: Sequence[torch.Tensor]) -> list[Mask]:
        """As Ops; each has its own random words: other threads would sleep while all are drawn in one call."""
        return [Mask.over(act) for act in acts]

    def gather(self, images: torch.Tensor, rows: torch.Tensor, space: Workspace) -> None:
        torch.index_select(images, 0, rows, out=space.pixels)
        if space.inputs is not space.pixels:
            space.inputs.copy_(space.pixels)

    def begin_pass(self, space: Workspace) -> None:
        """Nothing runs beside anything."""

    def hidden(self, layer: Layer) -> None:
        self._product(layer)
        self._activation.forward(layer.pre_act, layer.act)
        if self._drops:
            assert layer.mask is not None
            layer.mask.draw(self._dropout)

    def loss(
        self, space: Workspace, labels: torch.Tensor, teacher_probs: torch.Tensor | None, log_probs: torch.Tensor
    ) -> None:
        """As Ops, softmax and gradient in fp32."""
        last, count = space.layers[-1], labels.shape[0]
        self._product(last)
        if space.by_class is None:
            torch.log_softmax(last.pre_act, 1, dtype=torch.float32, out=space.log_probs)
        else:
            torch.log_softmax(last.pre_act_t, 0, dtype=torch.float32, out=space.by_class)
        if count not in self._for_labels:
            self._for_labels[count] = space.log_probs.new_full((count, 1), self._objective.label_grad)
        self._objective.gradient(
            last.pre_act, space.log_probs, labels, teacher_probs, space.logits_grad, self._for_labels[count]
        )
        torch.mul(space.logits_grad, self._share / count, out=last.grad)
        log_probs.copy_(space.log_probs)

    def _product(self, layer: Layer) -> None:
        """pre_act = scale x inputs x weight_t + bias; addmm() would first fill pre_act with the bias."""
        torch.mm(layer.inputs, layer.weight_t, out=layer.pre_act)
        torch.add(layer.bias, layer.pre_act, alpha=layer.scale, out=layer.pre_act)

    def param_grads(self, layer: Layer, accumulate: bool) -> None:
        weight_grad(layer, accumulate)
        bias_grad(layer, accumulate)

    def act_backward(self, above: Layer, layer: Layer) -> None:
        torch.addmm(layer.grad, above.grad, above.weight, beta=0, alpha=above.scale, out=layer.grad)
        self._activation.backward(layer.grad, layer.pre_act, layer.act)
        if self._drops and not self._activation.masks_itself:
            assert layer.mask is not None
            layer.grad_bits.bitwise_and_(layer.mask.keep)

    def end_pass(self) -> None:
        """Nothing ran beside anything."""

    def update(self) -> None:
        self._update()


def weight_grad(layer: Layer, accumulate: bool) -> None:
    """(out, in) from the layer's grad (B, out) and its inputs (B, in)."""
    grad, beta = layer.weight_grad, int(accumulate)
    torch.addmm(grad, layer.grad_t, layer.inputs, beta=beta, alpha=layer.scale, out=grad)


def bias_grad(layer: Layer, accumulate: bool) -> None:
    """(1, out): the sum of the layer's grad over the batch."""
    if accumulate:
        layer.bias_grad.add_(layer.grad.sum(0))
    else:
        torch.sum(layer.grad, 0, keepdim=True, out=layer.bias_grad)
