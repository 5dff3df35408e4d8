"""A user's file: models and an optimizer that have what the built-in ones have not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn
from torch.nn import functional as F

import mnist_ff


class NoisyNetwork(nn.Module):
    """BatchNorm, nn.Dropout, draws from torch's generator and counts in evaluation too, draws from its own generator, a
    frozen weight, tied weights, a mask of minus infinity, and a part in float64."""

    def __init__(self, inputs: int, units: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, units)
        self.norm = nn.BatchNorm1d(units)
        self.drop = nn.Dropout(0.3)
        self.up = nn.Linear(units, units)
        self.down = nn.Linear(units, units)
        self.down.weight = self.up.weight
        self.last = nn.Linear(units, classes).double()
        self.scale = nn.Parameter(torch.tensor(1.5), requires_grad=False)
        self.rng = torch.Generator().manual_seed(1)
        self.register_buffer("mask", torch.full((units,), -math.inf).index_fill_(0, torch.arange(units - 1), 0))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.flatten(1))
        x = x + 0.01 * torch.rand_like(x)
        self.steps += 1
        if self.training:
            x = x + 0.01 * torch.randn(x.shape, generator=self.rng)
        x = self.drop(F.relu(self.norm(x)))
        x = x + self.down(F.relu(self.up(x)))
        return self.last((x * (x + self.mask).softmax(1) * self.scale).double())


@mnist_ff.register("model", "noisy")
@dataclass(frozen=True)
class Noisy:
    """A network that draws and normalises."""

    units: Annotated[int, "units of the hidden layers", mnist_ff.Range(at_least=2)] = 16

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return NoisyNetwork(math.prod(shape), self.units, classes)


class Convolutions(nn.Module):
    """Two convolutions with BatchNorm, over (B, H, W) or (B, C, H, W)."""

    def __init__(self, shape: tuple[int, ...], classes: int, channels: int) -> None:
        super().__init__()
        self.shape = (1, *shape)[-3:]
        self.layers = nn.Sequential(
            nn.Conv2d(self.shape[0], channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.LazyLinear(classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.reshape(-1, *self.shape))


@mnist_ff.register("model", "cnn")
@dataclass(frozen=True)
class CNN:
    """A small convolutional network."""

    channels: Annotated[int, "channels of each layer", mnist_ff.Range(at_least=1)] = 4

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Convolutions(shape, classes, self.channels)


class Averaging(torch.optim.Optimizer):
    """SGD by the mean of the last gradients, with noise; it counts in a plain integer and keeps a list."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1
                state["earlier"] = [*state.get("earlier", []), parameter.grad.clone()][-2:]
                mean = sum(state["earlier"]) / len(state["earlier"])
                noise = torch.randn_like(parameter) / state["count"]
                parameter.sub_(group["lr"] * (mean + 0.001 * noise))


@mnist_ff.register("optimizer", "averaging")
@dataclass(frozen=True)
class AveragingKeys:
    """SGD by the mean of the last gradients."""

    lr: float = 0.1

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return Averaging(parameters, self.lr)
