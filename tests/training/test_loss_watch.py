"""One warning for a loss at chance level or above its start, and none for a model that learns."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from mnist_ff.data.load import Data, Split
from mnist_ff.runs.records import BatchRecord, EpochRecord, Plan
from mnist_ff.training.learner import Learner
from mnist_ff.training.loss_watch import LossWatch
from tests.support.configs import make_config
from tests.support.mnist import make_split

CHANCE = math.log(10)
LABELS = torch.arange(1000) % 10


def heard(losses: Sequence[float], batches: int, correct: float = 0.1, **keys: float) -> tuple[LossWatch, list[str]]:
    """A LossWatch after these losses, in epochs of so many batches, and its warnings."""
    said: list[str] = []
    config = make_config(optimizer__lr=keys.pop("lr", 0.001))
    watch = LossWatch(config, LABELS, 10, said.append)
    watch.on_train_begin(Plan(9, batches * 100, 100, 25, config.optimizer.lr))
    for epoch in range(math.ceil(len(losses) / batches)):
        chunk = losses[epoch * batches : (epoch + 1) * batches]
        for batch, loss in enumerate(chunk):
            rate = keys.get("rate", config.optimizer.lr)
            watch.on_batch_end(BatchRecord(0, epoch, batch, loss, rate, 100, round(100 * correct)))
        watch.on_epoch_end(EpochRecord(epoch, chunk[-1], correct, None, None, 1.0))
    return watch, said


def around(level: float, count: int, noise: float = 0.05) -> list[float]:
    rng = random.Random(1)
    return [level + rng.gauss(0, noise) for _ in range(count)]


def test_no_warning_while_the_loss_falls() -> None:
    for batches in (1, 16, 235):
        for slope in (0.002, 0.02):
            falling = [max(0.05, 2.4 - slope * step) for step in range(470)]
            assert heard(falling, batches)[1] == [], (batches, slope)
    assert heard([math.exp(3 - step / 40) for step in range(200)], 100)[1] == [], "a bad start that falls"
    assert heard(around(2.4, 5), 5)[1] == [], "too short to be judged"
    assert heard(around(2.4, 400), 100, rate=1e-6)[1] == [], "a warm-up"
    assert heard(around(0.2, 100, 0.01), 100, correct=0.95)[1] == [], "trained before"


@pytest.mark.parametrize(
    ("losses", "key"),
    [
        (around(2.41, 235), "too small"),
        (
            [*(2.45 - 0.006 * step for step in range(23)), *around(2.31, 212, 0.01)],
            "too large, or see model.activation and the labels",
        ),
        ([2.4, *around(1e5, 20, 10)], "too large"),
        ([0.05, *around(1.2, 100)], "too large"),
    ],
)
def test_one_warning_names_the_likely_key(losses: list[float], key: str) -> None:
    watch, said = heard(losses * 3, len(losses))
    assert len(said) == 1
    assert f"optimizer.lr=0.001 is likely {key}" in said[0]
    assert said[0].startswith("after epoch 1 the training loss is ")
    assert watch.found is not None


def test_two_short_epochs_at_chance_are_warned_of() -> None:
    _, said = heard(around(2.41, 32), 16)
    assert len(said) == 1
    assert "after epoch 2" in said[0]
    assert "optimizer.lr=0.001 is likely too small" in said[0]


def test_a_run_that_recovers_is_not_marked() -> None:
    watch, said = heard([*around(2.4, 100), *around(0.3, 100)], 100)
    assert len(said) == 1
    assert watch.found is None


def test_one_class_is_never_judged() -> None:
    watch = LossWatch(make_config(), torch.zeros(500, dtype=torch.int64), 10, pytest.fail)
    watch.on_train_begin(Plan(1, 100, 1, None, 0.001))
    for batch in range(100):
        watch.on_batch_end(BatchRecord(batch, 0, batch, 0.0, 0.001, 1, 1))
    watch.on_epoch_end(EpochRecord(0, 0.0, 1.0, None, None, 1.0))


def shuffled(split: Split) -> Split:
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(3))
    return Split(split.images, split.labels[order])


@pytest.mark.parametrize(
    ("words", "change", "warns"),
    [
        ([], None, False),
        (["trainer.batch_size=600", "optimizer=adam"], None, False),
        (["optimizer=sgd", "optimizer.lr=0.05"], None, False),
        (["optimizer.lr=10"], None, True),
        (["optimizer.lr=1e-9"], None, True),
        ([], shuffled, True),
    ],
)
def test_real_trainings(words: list[str], change: Callable[[Split], Split] | None, warns: bool) -> None:
    train = make_split(600, 1)
    data = Data("small", train if change is None else change(train), make_split(200, 2))
    config = make_config("model.hidden=[16]", "trainer.batch_size=50", "trainer.epochs=12", *words, seed=0)
    epochs = 60 if "trainer.batch_size=600" in words else 12
    learner = Learner(config, data)
    said: list[str] = []
    watch = LossWatch(config, data.train.labels, 10, said.append)
    learner.fit(replace(learner.plan(), epochs=epochs), [watch])
    assert bool(said) == warns, said
