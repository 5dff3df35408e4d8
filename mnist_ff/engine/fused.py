"""The fused step: a training step without autograd and allocation; one buffer for weights, one for gradients.

The same arithmetic as the plain step on the same random bits. What is folded together (the scale of pixels and of
dropout into the matrix products) moves the last digits only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from mnist_ff.data.load import Split, as_input
from mnist_ff.engine.step import PLAIN_OPTIONS, StepOptions
from mnist_ff.models.mlp import MLP, Dropout
from mnist_ff.runs.records import CLASSES, INPUTS

aten = torch.ops.aten

Derivative = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""(delta, before, after): multiply delta by the activation's derivative, in place."""


def _relu(z: torch.Tensor, out: torch.Tensor) -> None:
    torch.clamp_min(z, 0, out=out)


def _relu_derivative(delta: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> None:
    aten.threshold_backward.grad_input(delta, after, 0, grad_input=delta)


def _tanh_derivative(delta: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> None:
    aten.tanh_backward.grad_input(delta, after, grad_input=delta)


def _sigmoid_derivative(delta: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> None:
    aten.sigmoid_backward.grad_input(delta, after, grad_input=delta)


def _gelu_derivative(delta: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> None:
    aten.gelu_backward.grad_input(delta, before, grad_input=delta)


def _silu_derivative(delta: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> None:
    aten.silu_backward.grad_input(delta, before, grad_input=delta)


def _gelu(z: torch.Tensor, out: torch.Tensor) -> None:
    aten.gelu.out(z, out=out)


def _silu(z: torch.Tensor, out: torch.Tensor) -> None:
    aten.silu.out(z, out=out)


def _tanh(z: torch.Tensor, out: torch.Tensor) -> None:
    torch.tanh(z, out=out)


def _sigmoid(z: torch.Tensor, out: torch.Tensor) -> None:
    torch.sigmoid(z, out=out)


Activation = Callable[[torch.Tensor, torch.Tensor], None]

ACTIVATIONS: dict[str, tuple[Activation, Derivative]] = {
    "relu": (_relu, _relu_derivative),
    "tanh": (_tanh, _tanh_derivative),
    "sigmoid": (_sigmoid, _sigmoid_derivative),
    "gelu": (_gelu, _gelu_derivative),
    "silu": (_silu, _silu_derivative),
}
NEEDS_INPUT = {"gelu", "silu"}
"""Activations whose derivative is taken from their input, which must therefore survive them."""

MASKS_ITSELF = {"relu"}
"""Activations whose derivative is zero wherever their masked output is."""


class FlatParameters:
    """A model's parameters and gradients as views of one buffer each, so that an update is a few calls in all."""

    def __init__(self, model: nn.Module) -> None:
        parameters = list(model.parameters())
        values = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self.whole = nn.Parameter(values)
        self.gradient = torch.zeros_like(values)
        self.whole.grad = self.gradient
        self.sizes = [parameter.numel() for parameter in parameters]
        self.shapes = [parameter.shape for parameter in parameters]
        values_and_gradients = zip(self.views(values), self.views(self.gradient), strict=True)
        for parameter, (value, gradient) in zip(parameters, values_and_gradients, strict=True):
            parameter.data = value
            parameter.grad = gradient

    def views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """A buffer of the same length cut and shaped like the parameters."""
        parts = torch.split(buffer, self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True)
class Mask:
    """Room for the mask of one (B, units) tensor."""

    target: torch.Tensor  # the tensor's own memory as integers as wide as a unit
    words: torch.Tensor  # 64-bit random words, four units each
    draws: torch.Tensor  # (B, units) int16, the same memory
    keep: torch.Tensor  # (B, units) integers as wide as a unit: all ones keep, zero drops

    @classmethod
    def over(cls, tensor: torch.Tensor) -> Mask:
        """For `tensor` (B, units), float32 or bfloat16."""
        whole = torch.int16 if tensor.dtype.itemsize == 2 else torch.int32
        words = torch.empty((tensor.numel() + 3) // 4, dtype=torch.int64, device=tensor.device)
        draws = words.view(torch.int16)[: tensor.numel()].view(tensor.shape)
        keep = draws if whole == torch.int16 else torch.empty_like(tensor, dtype=whole)
        return cls(tensor.view(whole), words, draws, keep)

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


@dataclass(frozen=True)
class Layer:
    """One layer's static buffers for one batch size; weights and gradients are shared by all sizes."""

    weight: torch.Tensor  # (out, in), in the precision of the products
    weight_t: torch.Tensor  # the same, transposed
    bias: torch.Tensor  # (out,), the same precision
    weight_gradient: torch.Tensor
    bias_gradient: torch.Tensor
    before: torch.Tensor  # (B, out)
    after: torch.Tensor  # (B, out), after activation and mask; may be the same memory as before
    delta: torch.Tensor  # (B, out), the loss's gradient by `before`
    delta_t: torch.Tensor
    delta_bits: torch.Tensor
    mask: Mask  # of `after`


@dataclass(frozen=True)
class Workspace:
    """Everything a step of one batch size writes to."""

    pixels: torch.Tensor  # (B, 784), as the images are stored
    inputs: torch.Tensor  # (B, 784) in the precision of the products, unscaled if they are the images as stored
    input_mask: Mask | None
    gradient: torch.Tensor  # (B, 10) float32
    layers: tuple[Layer, ...]
    minus_one: torch.Tensor  # (B, 1) float32
    ones: torch.Tensor  # (1, B), in the precision of the products


class FusedBatch:
    """One training step of an MLP in a fixed set of buffers."""

    def __init__(
        self,
        model: MLP,
        flat: FlatParameters,
        optimizer: Optimizer,
        split: Split,
        options: StepOptions = PLAIN_OPTIONS,
    ) -> None:
        self._model = model
        self._objective, self._augment, self._updates = options.objective, options.augment, options.updates
        precision = options.precision
        self._update: Callable[[], object] = getattr(optimizer, "update", optimizer.step)
        self._precision = precision
        self._images = split.images.flatten(1)
        self._as_stored = options.augment is None and model.input_noise.std == 0 and options.objective.epsilon == 0
        pixel_scale = 1 / 255 if self._as_stored and self._images.dtype == torch.uint8 else 1.0
        self._input_scale = pixel_scale * model.input_dropout.scale
        self._activate, self._derivative = ACTIVATIONS[model.activation]
        self._flat = flat
        master = flat.whole.detach()
        self._low = precision != torch.float32
        self._weights = master.to(precision) if self._low else master
        self._gradient = torch.zeros_like(self._weights) if self._low else flat.gradient
        self._master = master
        self._workspaces: dict[int, Workspace] = {}

    @torch.no_grad()
    def __call__(self, rows: torch.Tensor, labels: torch.Tensor, logs: torch.Tensor) -> None:
        """Train on `rows` (B,) with `labels` (B,); write log-probabilities, dropout on, into `logs` (B, 10)."""
        space = self.space(len(rows))
        if self._low:
            self._weights.copy_(self._master)
        self._take(space, rows)
        images = None if self._as_stored else self._seen(space)
        self._pass(space, images, labels, logs)
        if self._objective.epsilon:
            assert images is not None
            adversaries = self._objective.adversaries(images, self._input_gradient(space))
            self._pass(space, adversaries, labels, torch.empty_like(logs), again=True)
        if self._low:
            self._flat.gradient.copy_(self._gradient)
        if self._updates is None:
            self._update()
            return
        self._updates.before()
        self._update()
        self._updates.after()

    def _take(self, space: Workspace, rows: torch.Tensor) -> None:
        """Put the images of these rows where the pass looks for them."""
        torch.index_select(self._images, 0, rows, out=space.pixels)
        if self._as_stored and space.inputs is not space.pixels:
            space.inputs.copy_(space.pixels)

    def _seen(self, space: Workspace) -> torch.Tensor:
        """The pixels as the training sees them, (B, 784) float32 in [0, 1]."""
        images = as_input(space.pixels)
        return images if self._augment is None else self._augment(images)

    def _pass(
        self,
        space: Workspace,
        images: torch.Tensor | None,
        labels: torch.Tensor,
        logs: torch.Tensor,
        again: bool = False,
    ) -> None:
        """The gradient of these images, of the pixels as they are stored for None; `again` adds it to that before."""
        answers = self._inputs(space, images)
        self._forward(space)
        self._loss(space, labels, answers, logs)
        self._backward(space, again)

    def _inputs(self, space: Workspace, images: torch.Tensor | None) -> torch.Tensor | None:
        """Make the network's inputs; return the teacher's answers to them, if there is one."""
        if images is None:
            answers = None if self._objective.teacher is None else self._objective.answers(as_input(space.pixels))
        else:
            answers = self._objective.answers(images)
            if self._model.input_noise.std:
                images = images + self._model.input_noise.draw(torch.empty_like(images))
            space.inputs.copy_(images)
        if space.input_mask is not None:
            space.input_mask.draw(self._model.input_dropout)
        return answers

    def _forward(self, space: Workspace) -> None:
        inputs = space.inputs
        *hidden, last = space.layers
        for index, layer in enumerate(hidden):
            torch.addmm(layer.bias, inputs, layer.weight_t, alpha=self._scale(index), out=layer.before)
            self._activate(layer.before, layer.after)
            inputs = layer.after
            if self._model.dropout.dropped:
                layer.mask.draw(self._model.dropout)
        torch.addmm(last.bias, inputs, last.weight_t, alpha=self._scale(len(hidden)), out=last.before)

    def _scale(self, index: int) -> float:
        """What the inputs of a layer as they lie in memory are to be multiplied by."""
        if index == 0:
            return self._input_scale
        return self._model.dropout.scale if self._model.dropout.dropped else 1.0

    def _loss(self, space: Workspace, labels: torch.Tensor, answers: torch.Tensor | None, logs: torch.Tensor) -> None:
        """Log-probabilities in fp32, and the objective's gradient; the cross-entropy's is (softmax - one-hot) / B."""
        last = space.layers[-1]
        torch.log_softmax(last.before, 1, dtype=torch.float32, out=logs)
        if self._objective.plain:
            torch.exp(logs, out=space.gradient).scatter_add_(1, labels[:, None], space.minus_one)
        else:
            self._objective.gradient(last.before, logs, labels, answers, out=space.gradient)
        torch.mul(space.gradient, self._objective.share / len(labels), out=last.delta)

    def _backward(self, space: Workspace, again: bool) -> None:
        layers, before = space.layers, int(again)
        for index in range(len(layers) - 1, -1, -1):
            layer = layers[index]
            below = layers[index - 1] if index else None
            inputs = space.inputs if below is None else below.after
            scale = self._scale(index)
            self._weight_gradient(layer, inputs, scale, before)
            self._bias_gradient(layer, space.ones, before)
            if below is not None:
                self._delta_below(layer, below, scale)

    def _weight_gradient(self, layer: Layer, inputs: torch.Tensor, scale: float, before: int) -> None:
        weight = layer.weight_gradient
        torch.addmm(weight, layer.delta_t, inputs, beta=before, alpha=scale, out=weight)

    def _bias_gradient(self, layer: Layer, ones: torch.Tensor, before: int) -> None:
        bias = layer.bias_gradient
        torch.addmm(bias, ones, layer.delta, beta=before, out=bias)

    def _delta_below(self, layer: Layer, below: Layer, scale: float) -> None:
        torch.addmm(below.delta, layer.delta, layer.weight, beta=0, alpha=scale, out=below.delta)
        self._derivative(below.delta, below.before, below.after)
        if self._model.dropout.dropped and self._model.activation not in MASKS_ITSELF:
            below.delta_bits.bitwise_and_(below.mask.keep)

    def _input_gradient(self, space: Workspace) -> torch.Tensor:
        """The last pass's gradient by its images (B, 784), but for a positive factor."""
        first = space.layers[0]
        gradient = first.delta @ first.weight
        if space.input_mask is not None:
            gradient.view(space.input_mask.keep.dtype).bitwise_and_(space.input_mask.keep)
        return gradient

    def space(self, batch: int) -> Workspace:
        """The buffers for this batch size, made when first asked for."""
        if batch not in self._workspaces:
            self._workspaces[batch] = self._workspace(batch)
        return self._workspaces[batch]

    def _workspace(self, batch: int) -> Workspace:
        device, precision = self._master.device, self._precision
        weights = self._flat.views(self._weights)
        gradients = self._flat.views(self._gradient)
        layers = tuple(
            self._layer(batch, weight, bias, weight_gradient, bias_gradient)
            for weight, bias, weight_gradient, bias_gradient in zip(
                weights[::2], weights[1::2], gradients[::2], gradients[1::2], strict=True
            )
        )
        pixels = torch.empty(batch, INPUTS, dtype=self._images.dtype, device=device)
        same = self._images.dtype == precision and self._as_stored  # else the pixels are needed after their masks
        inputs = pixels if same else torch.empty(batch, INPUTS, dtype=precision, device=device)
        return Workspace(
            pixels=pixels,
            inputs=inputs,
            input_mask=Mask.over(inputs) if self._model.input_dropout.dropped else None,
            gradient=torch.empty(batch, CLASSES, device=device),
            layers=layers,
            minus_one=torch.full((batch, 1), -1.0, device=device),
            ones=torch.ones(1, batch, dtype=precision, device=device),
        )

    def _layer(
        self,
        batch: int,
        weight: torch.Tensor,
        bias: torch.Tensor,
        weight_gradient: torch.Tensor,
        bias_gradient: torch.Tensor,
    ) -> Layer:
        device, precision, units = weight.device, self._precision, len(bias)
        whole = torch.int16 if precision.itemsize == 2 else torch.int32

        def room() -> torch.Tensor:
            return torch.empty(batch, units, dtype=precision, device=device)

        before, delta = room(), room()
        after = room() if self._model.activation in NEEDS_INPUT else before
        return Layer(
            weight=weight,
            weight_t=weight.t(),
            bias=bias,
            weight_gradient=weight_gradient,
            bias_gradient=bias_gradient[None, :],
            before=before,
            after=after,
            delta=delta,
            delta_t=delta.t(),
            delta_bits=delta.view(whole),
            mask=Mask.over(after),
        )
