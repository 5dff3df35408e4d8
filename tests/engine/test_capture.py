"""A CUDA graph of any module's step, with a graph that is none: what it may not stand for, and what a trial leaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnist_ff.engine import build as engine
from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.engine.chance import own_generators
from mnist_ff.optim.optimizers import build_optimizer
from mnist_ff.optim.weight_updates import Updates
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.steps import CPU, fake_capture

Forward = Callable[[Any, torch.Tensor], torch.Tensor]
WORDS = ("optimizer=adam", "trainer.batch_size=64", "trainer.ema=0.9", "trainer.clip_norm=1")


class Plain(nn.Module):
    """BatchNorm, dropout from torch's generator, and noise from one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 10)
        )
        self.rng = torch.Generator().manual_seed(3)
        self.count, self.seen, self.cache = 0, [], None
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.cache is None:
            self.cache = torch.ones(1)
        x = x + 0.01 * torch.randn(x.shape, generator=self.rng)
        return self.layers(x) * self.cache


def with_forward(before: Callable[[Any], None]) -> nn.Module:
    class Changing(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            before(self)
            return super().forward(x)

    torch.manual_seed(0)
    return Changing()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """build_step as on CUDA; the list says when graphs are captured and replayed."""
    calls: list[str] = []
    monkeypatch.setattr(engine, "choose_engine", lambda *_: "graph")
    monkeypatch.setattr(engine, "capture_cuda", fake_capture(calls))
    monkeypatch.setattr(engine, "build_optimizer", lambda config, parameters, **_: build_optimizer(config, parameters))
    return calls


def parts_of(model: nn.Module, *words: str) -> StepParts:
    config = make_config(*WORDS, *words)
    return StepParts(model, config.optimizer, config.trainer, make_split(200), updates=Updates(model, config.trainer))


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    rng = {name: generator.get_state() for name, generator in own_generators(model).items()}
    return {**{name: value.clone() for name, value in model.state_dict().items()}, **rng}


def test_any_modules_step_as_a_graph_equals_the_eager_one(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for graph in (False, True):
        model = with_forward(lambda module: None)
        if not graph:
            with monkeypatch.context() as plain:
                plain.setattr(engine, "choose_engine", lambda *_: "eager")
                step, _ = build_step(parts_of(model))
        else:
            step, _ = build_step(parts_of(model))
        assert step.info.engine == ("graph" if graph else "eager")
        assert step.info.notes == ()
        torch.manual_seed(1)
        figures = torch.cat([step(torch.arange(200)) for _ in range(3)])
        results.append({"figures": figures, "global": torch.get_rng_state(), **state_of(model)})
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
    assert "replay" in calls


def test_trying_a_capture_leaves_everything(calls: list[str]) -> None:
    model = with_forward(lambda module: None)
    torch.manual_seed(5)
    before, chance = state_of(model), torch.get_rng_state()
    parts = parts_of(model)
    step, optimizer = build_step(parts)
    assert step.info.engine == "graph"
    assert calls == ["capture", "capture"]
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[name]) for name, value in state_of(model).items())
    assert not any(value.any() for state in optimizer.state.values() for value in state.values())
    assert parts.updates is not None
    assert not any(value.any() for value in parts.updates.tensors())


def count(module: Any) -> None:
    module.count += 1


def replace_buffer(module: Any) -> None:
    module.total = module.total + 1


def in_place(module: Any) -> None:
    module.cache = torch.ones(1) if module.cache is None else module.cache.mul_(1)


CHANGES = {
    "a counter": (count, "a graph would not change count"),
    "a list": (lambda module: module.seen.append(1), "a graph would not change seen"),
    "a tensor that is no buffer": (in_place, "a graph would not change cache"),
    "another buffer": (replace_buffer, "whole state before its first update"),
    "Python's chance": (lambda module: random.random(), "a graph would not change Python's random numbers"),
    "NumPy's chance": (lambda module: np.random.rand(), "a graph would not change NumPy's random numbers"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_what_a_graph_would_leave_out_stays_eager(change: Any, reason: str, calls: list[str]) -> None:
    model = with_forward(change)
    step, _ = build_step(parts_of(model))
    assert step.info.engine == "eager"
    (note,) = step.info.notes
    assert note.startswith("no CUDA graph: ")
    assert reason in note
    assert torch.equal(model.total, torch.zeros(())), "what the trial changed is undone"
    assert torch.isfinite(step(torch.arange(200))).all()


def hooked(model: nn.Module) -> nn.Module:
    model.layers[1].register_forward_hook(lambda *_: None)
    return model


def watched(model: nn.Module) -> nn.Module:
    next(model.parameters()).register_post_accumulate_grad_hook(lambda _: None)
    return model


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (hooked, "layers.1 has a hook"),
        (watched, "layers.1.weight has a hook"),
        (nn.DataParallel, "the model is a DataParallel"),
    ],
)
def test_a_model_that_calls_python_stays_eager(change: Any, reason: str, calls: list[str]) -> None:
    step, _ = build_step(parts_of(change(Plain())))
    assert (step.info.engine, step.info.notes) == ("eager", (f"no CUDA graph: {reason}",))
    assert calls == []


def test_a_capture_that_fails_is_one_line_and_eager(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(one: Any, generators: Any) -> Any:
        one()
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        except RuntimeError:
            raise RuntimeError("capture invalidated")  # noqa: B904 (as torch does)

    monkeypatch.setattr(engine, "capture_cuda", failing)
    model = with_forward(lambda module: None)
    before = state_of(model)
    step, _ = build_step(parts_of(model))
    assert step.info.engine == "eager"
    reason = "the step cannot be captured (operation not permitted when stream is capturing)"
    assert step.info.notes == (f"no CUDA graph: {reason}",)
    assert all(torch.equal(value, before[name]) for name, value in state_of(model).items())


def test_an_optimizer_without_known_state_has_no_graph() -> None:
    model, cuda = Plain(), torch.device("cuda")  # nothing is computed there
    trainer = make_config().trainer
    assert engine.choose_engine(model, trainer, cuda, "rmsprop") == "graph"
    assert engine.choose_engine(model, trainer, cuda, "sgd", is_scheduled=True) == "eager"
    assert engine.choose_engine(model, replace(trainer, compile=True), cuda, "rmsprop") == "eager"
    assert engine.choose_engine(model, trainer, CPU, "rmsprop") == "eager"


@pytest.mark.gpu
def test_any_module_is_captured_on_cuda() -> None:
    device, results = torch.device("cuda"), []
    for name in ("eager", "graph"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)).to(device)
        config = make_config(*WORDS, f"trainer.engine={name}")
        step, _ = build_step(StepParts(model, config.optimizer, config.trainer, make_split(200).to(device)))
        assert step.info.engine == name, step.info.notes
        results.append((torch.cat([step(torch.arange(200, device=device)) for _ in range(3)]), model.state_dict()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_dropout_differs_between_replays_on_cuda_and_what_waits_stays_eager() -> None:
    device, config = torch.device("cuda"), make_config(*WORDS, "optimizer=sgd", "optimizer.lr=1e-12")
    split = make_split(200).to(device)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)).to(device)
    step, _ = build_step(StepParts(model, config.optimizer, config.trainer, split))
    assert step.info.engine == "graph", step.info.notes
    rows = torch.arange(64, device=device).repeat(20)
    assert len(step(rows[:128])[:, 0].unique()) == 2
    waiting = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).to(device)
    original = waiting.forward
    waiting.forward = lambda x: original(x) * float(x.max() >= 0)  # type: ignore[method-assign]
    step, _ = build_step(StepParts(waiting, config.optimizer, config.trainer, split))
    assert step.info.engine == "eager"
    assert torch.isfinite(step(rows[:128])).all()
    dropped, _ = build_step(StepParts(model, config.optimizer, config.trainer, split))
    assert dropped.info.engine == "graph", "after a capture that failed the next one works"
