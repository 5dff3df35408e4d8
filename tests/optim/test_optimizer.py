"""Optimizers against hand-written rules."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from mnist_ff.config.schema import OptimizerConfig
from mnist_ff.optim.optimizers import build_optimizer
from tests.support import reference
from tests.support.configs import make_config


def optimizer_config(*overrides: str) -> OptimizerConfig:
    return make_config(*overrides).optimizer


def steps(
    config: OptimizerConfig, count: int, dtype: torch.dtype = torch.float64
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The parameter after `count` updates on fixed gradients (some tiny), and those gradients in float64."""
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(7, 5)) * 10.0 ** rng.integers(-8, 2) for _ in range(count)]
    parameter = torch.nn.Parameter(torch.ones(7, 5, dtype=dtype))
    optimizer = build_optimizer(config, [parameter])
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient).to(dtype)
        optimizer.step()
    return parameter.detach().double().numpy(), gradients


def test_rmsprop_is_the_tutorials_rule_over_50_steps() -> None:
    ours, gradients = steps(optimizer_config(), 50)
    p, v = np.ones((7, 5)), np.zeros((7, 5))
    for g in gradients:
        p, v = reference.rmsprop(p, g, v, lr=0.001, rho=0.9, eps=1e-6)
    np.testing.assert_allclose(ours, p, rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("rho", [0.0, 0.001, 0.5, 0.9, 0.999])
def test_rmsprop_in_float32_is_the_same_rule(rho: float, decay: float) -> None:
    """float32 has torch's fused kernel, but for a tiny rho; float64 the rule operation by operation."""
    config = optimizer_config(f"optimizer.rho={rho}", f"optimizer.weight_decay={decay}", "optimizer.lr=0.01")
    np.testing.assert_allclose(steps(config, 50, torch.float32)[0], steps(config, 50)[0], rtol=2e-5, atol=1e-6)


def test_rmsprop_takes_one_pass_where_memory_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, calls = torch._fused_adamw_, []
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *args, **options: (calls.append(1), kernel(*args, **options)))
    turned = torch.ones(4, 3).t()
    for values, grad, expected in (
        (torch.ones(3, 4), torch.ones(3, 4), 1),
        (turned, torch.ones(3, 4), 0),
        (torch.ones(3, 4), turned, 0),
        (torch.ones(3, 4, dtype=torch.bfloat16), torch.ones(3, 4, dtype=torch.bfloat16), 0),
    ):
        calls.clear()
        parameter = torch.nn.Parameter(values.clone(memory_format=torch.preserve_format))
        parameter.grad = grad
        build_optimizer(optimizer_config("optimizer.lr=0.01"), [parameter]).step()
        assert len(calls) == expected
        after = 1 - 0.01 / (0.1 * (1 + 1e-6) + 0.9e-6) ** 0.5
        torch.testing.assert_close(parameter.detach().float(), torch.full((3, 4), after), atol=2e-3, rtol=0)
        assert torch.equal(parameter.grad, torch.ones_like(parameter)), "the kernel's first average is the gradient"


def test_rmsprop_differs_from_torchs_where_gradients_are_small() -> None:
    """The reference above would not notice epsilon outside the root if all gradients were large."""
    tutorial, _ = steps(optimizer_config(), 50)
    torchs, _ = steps(optimizer_config("optimizer=rmsprop_torch", "optimizer.lr=0.001", "optimizer.alpha=0.9"), 50)
    assert np.abs(tutorial - torchs).max() > 1e-4


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop_torch"])
def test_the_others_are_torchs_with_torchs_defaults(name: str) -> None:
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop_torch": torch.optim.RMSprop,
    }
    ours, gradients = steps(optimizer_config(f"optimizer={name}"), 20)
    parameter = torch.nn.Parameter(torch.ones(7, 5, dtype=torch.float64))
    theirs = kinds[name]([parameter])
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        theirs.step()
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-12)


def test_momentum_and_decay_reach_the_optimizer() -> None:
    plain, _ = steps(optimizer_config("optimizer=sgd"), 5)
    for override in ("optimizer.momentum=0.9", "optimizer.weight_decay=0.1"):
        changed, _ = steps(optimizer_config("optimizer=sgd", override), 5)
        assert np.abs(changed - plain).max() > 1e-6
    nesterov, _ = steps(optimizer_config("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"), 5)
    momentum, _ = steps(optimizer_config("optimizer=sgd", "optimizer.momentum=0.9"), 5)
    assert np.abs(nesterov - momentum).max() > 1e-6


@pytest.mark.slow
def test_no_optimizer_imports_torchs_compiler() -> None:
    """Its import takes seconds, which every training would wait for."""
    code = (
        "import sys, torch; from mnist_ff.optim.optimizers import optimizer_parts, build_optimizer\n"
        "from mnist_ff.config.compose import compose\n"
        "for name in optimizer_parts():\n"
        "    weights = torch.nn.Parameter(torch.ones(5)); weights.grad = torch.ones(5)\n"
        "    optimizer = build_optimizer(compose([f'optimizer={name}']).optimizer, [weights])\n"
        "    optimizer.step(); optimizer.load_state_dict(optimizer.state_dict()); optimizer.zero_grad()\n"
        "    assert bool((weights < 1).all())\n"
        "    assert 'torch._dynamo' not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
