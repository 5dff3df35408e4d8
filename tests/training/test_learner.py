"""The learner: what it builds, what it saves and restores, and that every caller builds it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mnist_ff as package
from mnist_ff.data.load import Data
from mnist_ff.models.mlp import MLP
from mnist_ff.training.callbacks import LossHistory
from mnist_ff.training.learner import Learner
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.mnist import make_split

SMALL = ("model.hidden=[16]", "trainer.batch_size=64", "trainer.epochs=2")
EVERYTHING = ("augment=shift", "trainer.ema=0.9", "trainer.clip_norm=1", "schedule=cosine", "optimizer=adam")


def make_learner(*overrides: str) -> Learner:
    split = make_split(300)
    return Learner(make_config(*SMALL, *overrides), Data("random", split, split))


def equal(left: Any, right: Any) -> bool:
    """Whether two state_dicts hold the same."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def test_learner_builds_the_configured_parts() -> None:
    learner = make_learner(*EVERYTHING, "trainer.score_train=100")
    assert isinstance(learner.model, MLP)
    assert learner.step.info.engine == "fused"
    assert learner.augment is not None
    assert learner.updates.ema is not None
    assert learner.plan().rates(0, range(2))[1] < learner.plan().learning_rate
    assert {part: score.samples for part, score in learner.evaluate().items()} == {"test": 300, "train": 100}


def test_equal_configs_build_equal_learners() -> None:
    assert equal(make_learner(*EVERYTHING).state_dict(), make_learner(*EVERYTHING).state_dict())
    assert not equal(make_learner("seed=1").state_dict(), make_learner("seed=2").state_dict())


def test_learner_trains_a_given_model_in_place() -> None:
    model, split = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), make_split(300)
    learner, before = Learner(make_config(*SMALL), Data("random", split, split), model), model[1].weight.clone()
    learner.fit(learner.plan())
    assert learner.model is model
    assert learner.step.info.engine == "eager"
    assert not torch.equal(model[1].weight, before)


@pytest.mark.parametrize("overrides", [(), EVERYTHING, ("optimizer=sgd", "trainer.engine=eager")])
def test_state_dict_round_trip_equals_an_unbroken_run(overrides: tuple[str, ...]) -> None:
    whole, first, second = (make_learner(*overrides) for _ in range(3))
    rows, plan, losses = whole.row_order(0)[:256], whole.plan(), []
    for learner, chunk in ((whole, range(4)), (first, range(2))):
        losses.append(learner.step(rows[: 64 * len(chunk)], rates=plan.rates(0, chunk)))
    second.load_state_dict(copy.deepcopy(first.state_dict()), 2)
    rest = second.step(rows[128:], rates=plan.rates(0, range(2, 4)))
    assert torch.equal(torch.cat([losses[1], rest]), losses[0])
    assert equal(second.state_dict(), whole.state_dict())


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_state_that_lies_otherwise_in_memory_is_the_same_state(optimizer: str) -> None:
    """A checkpoint says how its tensors lie, and torch's fused updates do not look."""
    words = (f"optimizer={optimizer}", "trainer.engine=eager")
    whole, broken = make_learner(*words), make_learner(*words)
    rows = whole.row_order(0)[:128]
    whole.step(rows)
    saved = copy.deepcopy(whole.state_dict())
    for state in saved["optimizer"]["state"].values():
        state.update({name: value.T.contiguous().T for name, value in state.items() if value.ndim == 2})
    broken.load_state_dict(saved, 1)
    assert torch.equal(whole.step(rows), broken.step(rows))
    assert equal(broken.state_dict(), whole.state_dict())


def test_averages_are_scored_and_used() -> None:
    learner = make_learner("trainer.ema=0.5")
    learner.fit(learner.plan())
    own, averaged, score = learner.state_dict()["model"], learner.averaged_weights(), learner.evaluate()["test"]
    assert not equal(own, averaged)
    learner.use_averages()
    assert equal(learner.state_dict()["model"], averaged)
    assert learner.evaluate()["test"] == score


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Learner]:
    """Every learner that is built."""
    learners, whole = [], Learner.__init__

    def recording(self: Learner, *given: Any, **named: Any) -> None:
        learners.append(self)
        whole(self, *given, **named)

    monkeypatch.setattr(Learner, "__init__", recording)
    return learners


WORDS = ("data=mnist_5k", "model.hidden=[8]")
CALLS = {
    "train": ("train", *WORDS, "trainer.epochs=1", "trainer.plots=false"),
    "lr-find": ("lr-find", *WORDS, "--steps", "10"),
    "bench": ("bench", "model.hidden=[8]", "trainer.device=cpu", "--rounds", "1", "--steps", "2", "--no-start-up"),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_command_builds_the_learner(name: str, mnist_ff: Command, built: list[Learner]) -> None:
    assert mnist_ff(*CALLS[name])[0] in (0, 1)
    assert built
    assert all(learner.config.model.hidden == (8,) for learner in built)


def test_run_network_builds_and_prepares_the_learner(
    built: list[Learner], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepared: list[Learner] = []
    monkeypatch.setattr(Learner, "prepare", lambda self, plan: prepared.append(self))
    split, history = make_split(300), LossHistory()
    data = Data("random", split, split)
    package.run_network(data, epochs=1, batch=64, callbacks=[history], verbose=False, overrides=["model.hidden=[8]"])
    assert built == prepared
    assert len(built) == 1
    assert len(history.losses) == 5
