"""The network's size, initialisation and dropout."""

from __future__ import annotations

import math

import pytest
import torch

from mnist_ff.config.schema import ModelConfig
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import Dropout, count_parameters
from tests.support.configs import make_config

CPU = torch.device("cpu")


def model_config(*overrides: str) -> ModelConfig:
    return make_config(*overrides).model


def test_the_tutorials_network_has_545810_parameters() -> None:
    assert count_parameters(build_model(model_config(), 0, CPU)) == 545_810


@pytest.mark.parametrize("hidden", [[], [1], [7, 3, 2], [64] * 6])
def test_any_depth(hidden: list[int]) -> None:
    model = build_model(model_config(f"model.hidden={hidden}"), 0, CPU)
    sizes = [784, *hidden, 10]
    assert count_parameters(model) == sum(a * b + b for a, b in zip(sizes, sizes[1:], strict=False))
    assert model(torch.rand(4, 784)).shape == (4, 10)


def test_glorot_uniform_range_and_zero_biases() -> None:
    model = build_model(model_config(), 0, CPU)
    for layer in model.layers:
        fan_out, fan_in = layer.weight.shape
        limit = math.sqrt(6 / (fan_in + fan_out))
        assert layer.weight.abs().max() <= limit
        assert layer.weight.abs().max() > 0.99 * limit
        assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()


def test_weights_are_a_function_of_the_seed_alone() -> None:
    first = build_model(model_config(), 3, CPU).state_dict()
    torch.rand(5)  # somebody else's draw from torch's own generator
    again, other = build_model(model_config(), 3, CPU).state_dict(), build_model(model_config(), 4, CPU).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


@pytest.mark.parametrize("p", [0.0, 0.1, 0.4, 0.5, 0.9, 0.999])
def test_dropout_has_its_rate_and_keeps_mean(p: float) -> None:
    dropout = Dropout(p, torch.Generator().manual_seed(1))
    x = torch.ones(400, 500)
    y = dropout(x)
    n = x.numel()
    dropped = (y == 0).float().mean().item()
    noise = 5 * math.sqrt(p * (1 - p) / n)
    assert abs(dropped - p) <= noise + 1 / 65536
    assert abs(y.mean().item() - 1) <= noise / (1 - p) + 1e-6
    assert set(y.unique().tolist()) <= {0.0, y.max().item()}


def test_dropout_is_independent_across_units_and_steps() -> None:
    dropout = Dropout(0.4, torch.Generator().manual_seed(1))
    shape, steps = (64, 500), 200
    masks = torch.stack([dropout.mask(shape, CPU) for _ in range(steps)]).double()
    per_unit = masks.mean((0, 1))  # 12,800 draws a unit
    sigma = math.sqrt(0.24 / (steps * shape[0]))
    assert (per_unit - 0.6).abs().max() < 5 * sigma
    assert (per_unit - 0.6).std() == pytest.approx(sigma, rel=0.2)
    flat = masks.flatten(1) - 0.6
    between_steps = (flat[:-1] * flat[1:]).mean() / 0.24
    assert abs(between_steps) < 5 / math.sqrt((steps - 1) * flat.shape[1])
    for lag in (1, 2, 3, 4):  # four units share a 64-bit word
        between_units = (flat[:, lag:] * flat[:, :-lag]).mean() / 0.24
        assert abs(between_units) < 5 / math.sqrt(flat.numel())


def test_dropout_rests_in_evaluation_and_at_zero() -> None:
    x = torch.rand(10, 10)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).train(False)(x) is x
