"""The loop: against numpy, the order of events, and who may wait for the device."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from itertools import chain, repeat

import numpy as np
import pytest
import torch
from torch import nn

from mnist_ff.data.load import Data, as_input
from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.errors import DivergedError
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import MLP
from mnist_ff.runs.records import BatchRecord, EpochRecord, Outcome, Plan, Position, Score, StopReason
from mnist_ff.training.callbacks import Callback, Checkpoint, LossHistory
from mnist_ff.training.evaluation import EpochScores, evaluate
from mnist_ff.training.learner import Learner
from mnist_ff.training.loop import Listeners, fit
from tests.support import reference
from tests.support.configs import make_config
from tests.support.mnist import random_split

CPU = torch.device("cpu")
SCORE = Score(1.0, 0.5, 1, 2)
SMALL = ("model.hidden=[32,16]", "trainer.batch_size=64", "trainer.epochs=2")


def run(data: Data, *overrides: str, callbacks: tuple[Callback, ...] = ()) -> tuple[MLP, Outcome, list[float]]:
    learner, history = Learner(make_config(*SMALL, *overrides), data), LossHistory()
    outcome = learner.fit(learner.plan(), [history, *callbacks])
    assert isinstance(learner.model, MLP)
    return learner.model, outcome, history.losses


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("hidden", [[500, 300], [20], []])
def test_training_steps_equal_an_independent_numpy_network(small_data: Data, hidden: list[int], engine: str) -> None:
    words = ["model.dropout=0", f"model.hidden={hidden}", "trainer.batch_size=32", f"trainer.engine={engine}"]
    config = make_config(*words)
    model = build_model(config.model, 0, CPU)
    layers = list(model.layers)  # read before the fused step moves them into one buffer
    expected = reference.Network(
        [layer.weight.detach().numpy() for layer in layers],
        [layer.bias.detach().numpy() for layer in layers],
        lr=0.001,
        rho=0.9,
        eps=1e-6,
    )
    step, _ = build_step(StepParts(model, config.optimizer, config.trainer, small_data.train))
    rows = torch.randperm(600, generator=torch.Generator().manual_seed(5)).repeat(2)[: 20 * 32]
    losses = step(rows)[:, 0].tolist()
    pixels = small_data.train.images.numpy().reshape(600, 784) / 255.0
    labels = small_data.train.labels.numpy()
    theirs = [expected.step(pixels[batch], labels[batch]) for batch in rows.numpy().reshape(20, 32)]
    assert abs(losses[0] - theirs[0]) < 1e-6
    np.testing.assert_allclose(losses, theirs, atol=1e-4)
    assert theirs[-1] < theirs[0] - 0.1, "the reference itself must have learnt"


def test_losses_are_the_same_for_every_sync(small_data: Data) -> None:
    _, _, live = run(small_data, "trainer.sync_every=1")
    for sync in ("3", "1000", "null"):
        _, _, losses = run(small_data, f"trainer.sync_every={sync}")
        assert losses == live
    assert len(live) == 2 * math.ceil(600 / 64)


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_nothing_in_the_batch_loop_reads_the_device(
    small_data: Data, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Every way a tensor's value can reach Python is closed while a chunk of batches trains."""
    config = make_config(*SMALL)
    model = build_model(config.model, 0, CPU)
    trainer = replace(config.trainer, engine=engine)
    step, _ = build_step(StepParts(model, config.optimizer, trainer, small_data.train))

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a tensor was read in the batch loop")

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    figures = step(torch.arange(600))
    monkeypatch.undo()
    assert figures.shape == (10, 2)


def test_the_host_waits_once_a_chunk(small_data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original: Callable[..., list[float]] = torch.Tensor.tolist

    def counted(self: torch.Tensor) -> list[float]:
        reads.append(len(self))
        return original(self)

    def forbidden(self: torch.Tensor) -> float:
        raise AssertionError("a tensor was read by itself")

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    monkeypatch.setattr("mnist_ff.training.learner.score", lambda *_: SCORE)
    monkeypatch.setattr(torch.Tensor, "item", forbidden)
    run(small_data, "trainer.sync_every=4", "trainer.epochs=1")
    assert reads == [4, 4, 2]


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.batches: list[BatchRecord] = []

    def on_train_begin(self, plan: Plan) -> None:
        self.events.append(("train begin",))

    def on_epoch_begin(self, epoch: int) -> None:
        self.events.append(("epoch begin", epoch))

    def on_batch_end(self, batch: BatchRecord) -> None:
        self.batches.append(batch)
        self.events.append(("batch end", batch.batch))

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        self.events.append(("epoch end", epoch.epoch))

    def on_train_end(self, outcome: Outcome) -> None:
        self.events.append(("train end",))


def test_callbacks_hear_kerass_order_and_true_numbers(small_data: Data) -> None:
    recorder = Recorder()
    _, outcome, _ = run(small_data, callbacks=(recorder,))
    epoch = [("batch end", batch) for batch in range(10)]
    assert recorder.events == [
        ("train begin",),
        ("epoch begin", 0),
        *epoch,
        ("epoch end", 0),
        ("epoch begin", 1),
        *epoch,
        ("epoch end", 1),
        ("train end",),
    ]
    assert [record.step for record in recorder.batches] == list(range(20))
    assert [record.samples for record in recorder.batches[:10]] == [64] * 9 + [24]
    assert {record.lr for record in recorder.batches} == {0.001}
    first = recorder.batches[:10]
    assert outcome.epochs[0].train_loss == pytest.approx(sum(r.loss * r.samples for r in first) / 600)
    assert outcome.epochs[0].train_accuracy == pytest.approx(sum(r.correct for r in first) / 600)


@pytest.mark.parametrize(("stop_at", "saved"), [(None, [0, 3, 6, 8]), (4, [0, 3, 5])])
def test_checkpoint_interval_and_a_checkpoint_at_the_end(stop_at: int | None, saved: list[int]) -> None:
    positions: list[Position] = []
    plan = Plan(8, 20, 10, None, 0.1, checkpoint_epochs=3)
    recorder = Recorder()
    stopped = lambda: "stop" if ("epoch end", stop_at) in recorder.events else None  # noqa: E731
    step = lambda rows, *_: torch.zeros(2, 2)  # noqa: E731
    fit(
        step,
        EpochScores,
        lambda epoch: torch.arange(20),
        plan,
        Listeners([recorder, Checkpoint(positions.append)], stopped),
    )
    assert [(position.epoch, len(position.batches)) for position in positions] == [(epoch, 0) for epoch in saved]


def test_each_epoch_visits_every_row_once_reshuffled() -> None:
    from tests.support.mnist import make_split

    split = make_split(600)

    def order(epoch: int, *overrides: str) -> torch.Tensor:
        return Learner(make_config(*SMALL, *overrides), Data("random", split, split)).row_order(epoch)

    orders = [order(0), order(1)]
    assert all(torch.equal(rows.sort().values, torch.arange(600)) for rows in orders)
    assert not torch.equal(*orders)
    assert torch.equal(order(1), orders[1]), "a function of (seed, epoch), not of history"
    assert not torch.equal(order(0, "seed=1"), orders[0])
    assert torch.equal(order(3, "trainer.shuffle=false"), torch.arange(600))


def test_non_finite_loss_stops_the_run(small_data: Data) -> None:
    with pytest.raises(DivergedError, match=r"epoch 1, batch .* \(lr 1e\+30\); try a smaller optimizer.lr"):
        run(small_data, "optimizer.lr=1e30", "optimizer=sgd")


def test_stopping_keeps_what_was_done(small_data: Data) -> None:
    heard = Recorder()
    learner = Learner(make_config(*SMALL, "trainer.sync_every=4"), small_data)
    # asked after each of 10 batches, 3 chunks and the epoch, then after 4 batches of the next
    reason = StopReason.from_signal("SIGINT")
    answers = chain([None] * 17, repeat(reason))
    outcome = learner.fit(learner.plan(), [heard], lambda: next(answers))
    assert (outcome.steps, len(outcome.epochs), outcome.stopped) == (14, 1, reason)
    assert len(heard.batches) == 14
    assert heard.events[-1] == ("train end",)


def test_large_images_are_scored_a_few_at_a_time() -> None:
    split, counts = random_split((3, 256, 256), 4, 50), list[int]()
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256 * 256, 4))
    model.register_forward_pre_hook(lambda _, given: counts.append(len(given[0])))
    found = evaluate(model, split)
    assert sum(counts) == 50
    assert max(counts) < 50
    with torch.no_grad():
        whole = model(as_input(split.images)).softmax(1)
    torch.testing.assert_close(found.probabilities, whole)


def test_a_batchs_record_is_a_frozen_dataclass() -> None:
    record = BatchRecord(step=7, epoch=1, batch=2, loss=0.5, lr=0.1, samples=4, correct=3)
    assert record == BatchRecord(7, 1, 2, 0.5, 0.1, 4, 3)
    assert hash(record) == hash(pickle.loads(pickle.dumps(record)))
    assert asdict(replace(record, loss=1.0)) == {**asdict(record), "loss": 1.0}
    assert repr(record) == "BatchRecord(step=7, epoch=1, batch=2, loss=0.5, lr=0.1, samples=4, correct=3)"
    with pytest.raises(FrozenInstanceError):
        record.loss = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError, match="correct"):
        BatchRecord(7, 1, 2, 0.5, 0.1, 4)  # type: ignore[call-arg]


def test_every_batch_is_heard_however_a_callback_has_its_method(small_data: Data) -> None:
    heard: list[int] = []
    ready = Callback()
    ready.on_batch_end = lambda batch: heard.append(batch.step)  # type: ignore[method-assign]
    _, outcome, _ = run(small_data, callbacks=(ready, Callback()))
    assert heard == list(range(outcome.steps))
