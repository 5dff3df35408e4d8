"""Fast evaluation of the built-in network on a CPU: its forward pass without autograd, on uint8 pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.models.mlp import MLP


class Inference:
    """The forward pass of an MLP without dropout, noise and autograd, in buffers that all batches share."""

    def __init__(self, model: MLP, batch_size: int, precision: torch.dtype = torch.float32) -> None:
        """For up to `batch_size` images at a time, with the current weights. precision: dtype of the products."""
        values = [parameter.detach().to(precision) for parameter in model.parameters()]
        weights, biases = values[::2], values[1::2]
        self._layers = [(weight.t(), bias) for weight, bias in zip(weights, biases, strict=True)]
        self._activate = ACTIVATIONS[model.activation].forward
        sizes = [weights[0].shape[1], *map(len, biases)]
        self._buffers = [weights[0].new_empty(batch_size, size) for size in sizes]  # (batch_size, units) each

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, on_layer: Callable[[str, torch.Tensor], None] | None = None
    ) -> torch.Tensor:
        """Images (B, *shape), uint8 in [0, 255] or float32 in [0, 1], to logits (B, K) float32.

        on_layer: called with each hidden layer's name and its activations (B, units), which the next batch overwrites.
        """
        inputs, *outputs = (buffer[: len(images)] for buffer in self._buffers)
        inputs.copy_(images.flatten(1))
        scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
        for number, ((weight, bias), out) in enumerate(zip(self._layers, outputs, strict=True)):
            torch.mm(inputs, weight, out=out)
            torch.add(bias, out, alpha=scale, out=out)
            if number < len(outputs) - 1:
                self._activate(out, out)
                if on_layer is not None:
                    on_layer(f"layers.{number}", out)
            inputs, scale = out, 1.0
        return inputs.float() if inputs.dtype != torch.float32 else inputs.clone()
