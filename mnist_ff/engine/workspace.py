"""The fused engine's memory: one buffer each for all weights and all gradients, and static tensors per batch size.

A CUDA graph keeps addresses, not tensors: what a captured step uses is held here for as long as the step lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.models.mlp import MLP, Dropout


class FlatParameters:
    """A model's parameters and gradients as views of one buffer each, so that an update is a few calls in all."""

    def __init__(self, model: nn.Module) -> None:
        parameters = list(model.parameters())
        values = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self.whole = nn.Parameter(values)
        self.grad = torch.zeros_like(values)
        self.whole.grad = self.grad
        self.sizes = [parameter.numel() for parameter in parameters]
        self.shapes = [parameter.shape for parameter in parameters]
        for parameter, value, grad in zip(parameters, self.views(values), self.views(self.grad), strict=True):
            parameter.data = value
            parameter.grad = grad

    def views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """A buffer of the same length cut and shaped like the parameters."""
        parts = torch.split(buffer, self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True)
class Mask:
    """Memory for the dropout mask of one (B, units) tensor."""

    target: torch.Tensor  # (B, units): the tensor's own memory as integers of its width
    words: torch.Tensor  # 64-bit random words, four units each
    draws: torch.Tensor  # (B, units) int16, the same memory
    keep: torch.Tensor  # (B, units) integers of the tensor's width: all ones keep, zero drops

    @classmethod
    def over(cls, tensor: torch.Tensor) -> Mask:
        """For `tensor` (B, units), float32 or bfloat16."""
        words = torch.empty((tensor.numel() + 3) // 4, dtype=torch.int64, device=tensor.device)
        return cls.cut(tensor, words, words.view(torch.int16)[: tensor.numel()])

    @classmethod
    def cut(cls, tensor: torch.Tensor, words: torch.Tensor, draws: torch.Tensor) -> Mask:
        """For `tensor` (B, units) from its part of random words: `draws` (B * units,) int16."""
        bits = _bits(tensor)
        draws = draws.view(tensor.shape)
        same = bits.dtype == torch.int16 and bits.stride() == draws.stride()
        return cls(bits, words, draws, draws if same else torch.empty_like(bits))

    def draw(self, dropout: Dropout) -> None:
        """Draw a mask and put zero where it drops, all in integers: bool and a product are three times as slow.

        A draw is clamped to the threshold or one below it; minus the threshold that is 0 or -1, which is all ones.
        """
        self.words.random_(-(2**63), None, generator=dropout.rng)
        threshold = dropout.threshold
        self.draws.clamp_(threshold - 1, threshold).sub_(threshold)
        if self.keep is not self.draws:
            self.keep.copy_(self.draws)
        self.target.bitwise_and_(self.keep)


class Arrangement(Protocol):
    """How a step wants its memory; a part of Ops."""

    by_unit: bool
    """Whether the layers' tensors are to lie unit by unit, not image by image, where that is faster."""

    def make_masks(self, acts: Sequence[torch.Tensor]) -> list[Mask]:
        """Memory for the masks of the hidden layers' activations, each (B, units)."""


@dataclass(frozen=True)
class Layer:
    """One layer's static tensors for one batch size; weights and their gradients are shared by all sizes."""

    inputs: torch.Tensor  # (B, in): the workspace's inputs, or act of the layer below
    scale: float  # what the inputs as they lie in memory are to be multiplied by
    weight: torch.Tensor  # (out, in), in the precision of the products, as are all of these
    weight_t: torch.Tensor  # (in, out), the same memory
    bias: torch.Tensor  # (out,)
    weight_grad: torch.Tensor  # (out, in)
    bias_grad: torch.Tensor  # (1, out)
    pre_act: torch.Tensor  # (B, out)
    pre_act_t: torch.Tensor  # (out, B), the same memory
    act: torch.Tensor  # (B, out), after activation and mask; the same memory as pre_act unless that is needed later
    grad: torch.Tensor  # (B, out), the loss's gradient by pre_act
    grad_t: torch.Tensor  # (out, B), the same memory
    grad_bits: torch.Tensor  # (B, out), the same memory as integers
    mask: Mask | None  # of act; the last layer has none


@dataclass(frozen=True)
class Workspace:
    """Everything that a step of one batch size writes to."""

    pixels: torch.Tensor  # (B, D), as the images are stored
    inputs: torch.Tensor  # (B, D) in the precision of the products, unscaled if they are the images as stored
    input_mask: Mask | None
    log_probs: torch.Tensor  # (B, K) float32, in memory as the logits are
    by_class: torch.Tensor | None  # (K, B), the same memory, where images lie side by side
    logits_grad: torch.Tensor  # (B, K) float32, the gradient of the batch's sum
    layers: tuple[Layer, ...]


MIN_UNITS_BY_UNIT = 256
"""Minimum number of units of a first layer for which its product is faster with each unit's values contiguous.
Measured at 10 to 512 units."""


class Buffers:
    """A model's weights and gradients in the precision of the products, and a workspace for each batch size.

    pixels: the type of the images, uint8 in [0, 255] or float32 in [0, 1]. as_stored: whether they are the inputs.
    """

    def __init__(
        self,
        model: MLP,
        flat: FlatParameters,
        precision: torch.dtype,
        pixels: torch.dtype,
        as_stored: bool,
        arrangement: Arrangement,
    ) -> None:
        self._model, self._flat, self._precision, self._arrangement = model, flat, precision, arrangement
        self._pixels, self._as_stored = pixels, as_stored
        self._low = precision != torch.float32
        self._inputs, self._classes = flat.shapes[0][1], flat.shapes[-1][0]
        self._master = flat.whole.detach()  # (P,) float32
        self._weights = self._master.to(precision) if self._low else self._master
        self._grad = torch.zeros_like(self._weights) if self._low else flat.grad
        self._workspaces: dict[int, Workspace] = {}

    def load_weights(self) -> None:
        """Take the weights as the last update left them into the products' precision."""
        if self._low:
            self._weights.copy_(self._master)

    def store_grads(self) -> None:
        """Give the gradients in the products' precision to the update."""
        if self._low:
            self._flat.grad.copy_(self._grad)

    def of(self, batch: int) -> Workspace:
        """The workspace for this batch size, made when first asked for."""
        if batch not in self._workspaces:
            self._workspaces[batch] = self._workspace(batch)
        return self._workspaces[batch]

    def _workspace(self, batch: int) -> Workspace:
        device, model = self._master.device, self._model
        pixels = torch.empty(batch, self._inputs, dtype=self._pixels, device=device)
        same = self._pixels == self._precision and self._as_stored  # else the pixels are needed after their masks
        inputs = pixels if same else torch.empty(batch, self._inputs, dtype=self._precision, device=device)
        layers = self._layers(batch, inputs)
        log_probs = torch.empty_like(layers[-1].pre_act, dtype=torch.float32)
        return Workspace(
            pixels=pixels,
            inputs=inputs,
            input_mask=Mask.over(inputs) if model.input_dropout.dropped else None,
            log_probs=log_probs,
            by_class=None if log_probs.is_contiguous() else log_probs.t(),
            logits_grad=torch.empty_like(log_probs),
            layers=layers,
        )

    def _layers(self, batch: int, inputs: torch.Tensor) -> tuple[Layer, ...]:
        pixel_scale = 1 / 255 if self._as_stored and self._pixels == torch.uint8 else 1.0
        scale = pixel_scale * self._model.input_dropout.scale
        weights, grads = self._flat.views(self._weights), self._flat.views(self._grad)
        needs_input = ACTIVATIONS[self._model.activation].needs_input
        pre_acts = [self._pre_act(batch, number) for number in range(len(weights) // 2)]
        acts = [torch.empty_like(pre_act) if needs_input else pre_act for pre_act in pre_acts]
        masks = [*self._arrangement.make_masks(acts[:-1]), None]
        layers = []
        for number, mask in enumerate(masks):
            grad = torch.empty_like(pre_acts[number])
            layers.append(
                Layer(
                    inputs=inputs,
                    scale=scale,
                    weight=weights[2 * number],
                    weight_t=weights[2 * number].t(),
                    bias=weights[2 * number + 1],
                    weight_grad=grads[2 * number],
                    bias_grad=grads[2 * number + 1][None, :],
                    pre_act=pre_acts[number],
                    pre_act_t=pre_acts[number].t(),
                    act=acts[number],
                    grad=grad,
                    grad_t=grad.t(),
                    grad_bits=_bits(grad),
                    mask=mask,
                )
            )
            inputs, scale = acts[number], self._model.dropout.scale
        return tuple(layers)

    def _pre_act(self, batch: int, number: int) -> torch.Tensor:
        """(B, units) for a layer; if by_unit, with a unit's numbers side by side.

        A CPU's products take a tenth less time so, but for those of few units with the images, which lie row by row;
        torch's log_softmax() of ten classes takes a tenth of its time.
        """
        units = self._flat.shapes[2 * number][0]
        last = 2 * number + 2 == len(self._flat.shapes)
        if self._arrangement.by_unit and (number > 0 or last or units >= MIN_UNITS_BY_UNIT):
            return self._weights.new_empty(units, batch).t()
        return self._weights.new_empty(batch, units)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as integers of the same width."""
    return tensor.view(torch.int16 if tensor.dtype.itemsize == 2 else torch.int32)
