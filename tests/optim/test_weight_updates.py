"""Rules of optimizers, clipping and bounds of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mnist_ff.models.mlp import MLP
from mnist_ff.optim.weight_updates import Updates
from tests.optim.test_optimizer import optimizer_config, steps
from tests.support import reference
from tests.support.configs import make_config


def test_rmsprop_takes_its_decay_off_first() -> None:
    ours, gradients = steps(optimizer_config("optimizer.weight_decay=0.5"), 50)
    p, v = np.ones((7, 5)), np.zeros((7, 5))
    for g in gradients:
        p, v = reference.rmsprop(p * (1 - 0.001 * 0.5), g, v, lr=0.001, rho=0.9, eps=1e-6)
    np.testing.assert_allclose(ours, p, rtol=1e-6)


def test_lion_is_its_papers_program() -> None:
    ours, gradients = steps(optimizer_config("optimizer=lion", "optimizer.weight_decay=0.5", "optimizer.lr=0.01"), 50)
    p, m = np.ones((7, 5)), np.zeros((7, 5))
    for g in gradients:
        update = np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
        p = p - 0.01 * (update + 0.5 * p)
    np.testing.assert_allclose(ours, p, rtol=1e-9)


def test_nadam_is_torchs() -> None:
    ours, gradients = steps(optimizer_config("optimizer=nadam", "optimizer.weight_decay=0.1"), 20)
    parameter = torch.nn.Parameter(torch.ones(7, 5, dtype=torch.float64))
    theirs = torch.optim.NAdam([parameter], weight_decay=0.1, decoupled_weight_decay=True)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        theirs.step()
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-7)


def test_only_long_gradients_are_clipped() -> None:
    model = MLP([4], "relu", 0.0)
    updates = Updates(model, make_config("trainer.clip_norm=2").trainer)
    for length, kept in ((10.0, 2.0), (1.5, 1.5)):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        whole = sum(parameter.numel() for parameter in model.parameters()) ** 0.5
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad *= length / whole
        updates.before()
        squares = sum(
            float((parameter.grad.double() ** 2).sum())
            for parameter in model.parameters()
            if parameter.grad is not None
        )
        assert squares**0.5 == pytest.approx(kept, rel=1e-5)


def test_max_norm_bounds_incoming_weights() -> None:
    model = MLP([3], "relu", 0.0)
    first = model.layers[0].weight
    with torch.no_grad():
        first.fill_(0)
        first[0, 0], first[1, 1], first[1, 2] = 0.5, 3.0, 4.0
    Updates(model, make_config("trainer.max_norm=2").trainer).after()
    torch.testing.assert_close(first[:, :3], torch.tensor([[0.5, 0, 0], [0, 1.2, 1.6], [0, 0, 0]]))


def test_weights_that_are_not_trained_keep_their_norm() -> None:
    model = MLP([3], "relu", 0.0)
    first = model.layers[0].weight.requires_grad_(False)
    before = first.clone()
    Updates(model, make_config("trainer.max_norm=0.1").trainer).after()
    assert torch.equal(first, before)
    assert float(model.layers[1].weight.detach().norm(dim=1).max()) <= 0.1 + 1e-6
