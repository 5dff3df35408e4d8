"""The network, its initialisation and its dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from mnist_ff.data.seeds import generator
from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.runs.records import CLASSES, INPUTS

INITIALISERS: dict[str, Callable[..., torch.Tensor]] = {
    "glorot_uniform": nn.init.xavier_uniform_,
    "glorot_normal": nn.init.xavier_normal_,
    "he_uniform": nn.init.kaiming_uniform_,
    "he_normal": nn.init.kaiming_normal_,
}

LEVELS = 1 << 16


class Dropout(nn.Module):
    """Inverted dropout from 16-bit random words: each unit is dropped with probability p, to 1/65536.

    Four units share a 64-bit draw, which is several times faster on a CPU than one Bernoulli draw a unit. Kept units
    are scaled by the inverse of the mask's real probability, so the mean is exact.
    """

    def __init__(self, p: float, rng: torch.Generator | None = None) -> None:
        super().__init__()
        self.dropped = min(round(p * LEVELS), LEVELS - 1)  # of the 65,536 values, those that drop
        self.threshold = LEVELS // 2 - self.dropped  # as a signed 16-bit number: a draw below it keeps
        self.scale = LEVELS / (LEVELS - self.dropped)
        self.rng = rng

    def mask(self, shape: Sequence[int], device: torch.device) -> torch.Tensor:
        """A fresh mask, bool: True keeps."""
        count = 1
        for length in shape:
            count *= length
        words = torch.empty((count + 3) // 4, dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=self.rng)  # the whole range: the default leaves the top bit zero
        return (words.view(torch.int16)[:count] < self.threshold).view(*shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.dropped == 0:
            return x
        return x * self.mask(x.shape, x.device) * self.scale


class Noise(nn.Module):
    """Gaussian noise on what passes, in training only (Keras's GaussianNoise)."""

    def __init__(self, std: float, rng: torch.Generator | None = None) -> None:
        super().__init__()
        self.std = std
        self.rng = rng

    def draw(self, out: torch.Tensor) -> torch.Tensor:
        """Fill `out`, float32, with fresh noise and return it."""
        return out.normal_(0, self.std, generator=self.rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.std == 0:
            return x
        return x + self.draw(torch.empty_like(x, dtype=torch.float32))


class MLP(nn.Module):
    """Fully connected layers with an activation and dropout after each hidden one; noise and dropout on the input.

    Maps images (B, *shape) float32 in [0, 1], `inputs` numbers each, to (B, classes) logits.
    """

    def __init__(
        self,
        hidden: Sequence[int],
        activation: str,
        dropout: float,
        rng: torch.Generator | None = None,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
        *,
        inputs: int = INPUTS,
        classes: int = CLASSES,
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden, classes]
        self.layers = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        self.activation = activation
        self.dropout = Dropout(dropout, rng)
        self.input_dropout = Dropout(input_dropout, rng)
        self.input_noise = Noise(input_noise, rng)

    def draw_from(self, rng: torch.Generator) -> None:
        """Take all masks and noise from this generator, in the order in which forward() needs them."""
        self.dropout.rng = self.input_dropout.rng = self.input_noise.rng = rng

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *hidden, last = self.layers
        activate = ACTIVATIONS[self.activation].function
        x = self.input_dropout(self.input_noise(x if x.ndim < 3 else x.flatten(1)))
        for layer in hidden:
            x = self.dropout(activate(layer(x)))
        logits: torch.Tensor = last(x)
        return logits


def seed_dropout(model: MLP, seed: int, device: torch.device) -> None:
    """Give the model's masks a fresh stream of their own on the device that it will train on."""
    model.draw_from(generator(seed, "dropout", device=device))


def initialise(model: MLP, init: str, rng: torch.Generator) -> None:
    """Draw the weights layer by layer from the input on; set the biases to zero."""
    for layer in model.layers:
        assert isinstance(layer, nn.Linear)
        INITIALISERS[init](layer.weight, generator=rng)
        nn.init.zeros_(layer.bias)


def count_parameters(model: nn.Module) -> int:
    """Numbers that training adjusts."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
