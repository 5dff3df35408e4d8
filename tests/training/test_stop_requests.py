"""If a callback asks to stop or raises, training ends properly and keeps everything so far."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mnist_ff as package
from mnist_ff.data.load import Data
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import BatchRecord, EpochRecord, Outcome, Plan, Status, StopKind
from mnist_ff.training.callbacks import Callback
from mnist_ff.training.chosen_callbacks import ChosenCallback
from mnist_ff.training.learner import Learner
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.mnist import make_split

QUICK = ("data=mnist_5k", "model.hidden=[8]", "trainer.plots=false", "trainer.threads=1", "trainer.device=cpu")
PARTS = '''
from dataclasses import dataclass
import mnist_ff

@mnist_ff.register("callback", "enough")
@dataclass(frozen=True)
class Enough(mnist_ff.Callback):
    """Stops after some epochs."""
    epochs: int = 1
    def on_epoch_end(self, epoch):
        if epoch.epoch + 1 == self.epochs:
            self.stop_training("loss is\\nlow enough")

@mnist_ff.register("callback", "broken")
@dataclass(frozen=True)
class Broken(mnist_ff.Callback):
    """Raises after some batches."""
    step: int = 25
    def on_batch_end(self, batch):
        if batch.step == self.step:
            raise KeyError("mine")
'''


class AsksToStop(Callback):
    """Asks to stop in one event, and records all events."""

    def __init__(self, event: str) -> None:
        self.event, self.heard, self.outcome = event, [], None

    def hear(self, event: str) -> None:
        self.heard.append(event)
        if event == self.event:
            self.stop_training("mine")

    def on_train_begin(self, plan: Plan) -> None:
        self.hear("train begins")

    def on_epoch_begin(self, epoch: int) -> None:
        self.hear(f"epoch {epoch} begins")

    def on_batch_end(self, batch: BatchRecord) -> None:
        self.hear(f"batch {batch.step}")

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        self.hear(f"epoch {epoch.epoch} ends")

    def on_train_end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.heard.append("train ends")


def learner_of(sync_every: int | None = 2) -> Learner:
    split = make_split(300)
    words = ["model.hidden=[8]", "trainer.batch_size=50", "trainer.epochs=3"]
    return Learner(make_config(*words, f"trainer.sync_every={sync_every}"), Data("random", split, split))


@pytest.mark.parametrize(
    ("event", "steps", "last"),
    [
        ("train begins", 0, "epoch 0 begins"),
        ("epoch 1 begins", 6, "epoch 1 begins"),
        ("batch 6", 8, "batch 7"),  # the chunk is heard to its end
        ("batch 11", 12, "epoch 1 ends"),
        ("epoch 1 ends", 12, "epoch 1 ends"),
    ],
)
def test_training_stops_before_the_next_chunk(event: str, steps: int, last: str) -> None:
    learner, asks = learner_of(), AsksToStop(event)
    outcome = learner.fit(learner.plan(), [ChosenCallback("asks", asks, learner.model)])
    assert outcome.steps == steps
    assert outcome.stopped is not None
    assert (outcome.stopped.kind, outcome.stopped.text) == (StopKind.CALLBACK, "stopped by callback asks: mine")
    assert asks.heard[-2:] == [last, "train ends"]
    assert asks.outcome == outcome


def test_a_request_after_the_last_epoch_changes_nothing_and_is_forgotten() -> None:
    learner, asks = learner_of(), AsksToStop("epoch 2 ends")
    told = ChosenCallback("asks", asks, learner.model)
    assert learner.fit(learner.plan(), [told]).stopped is None
    asks.event = "never"
    assert learner.fit(learner.plan(), [told]).steps == 18


def test_on_train_end_is_called_before_an_exception_is_raised() -> None:
    class Breaks(Callback):
        def on_batch_end(self, batch: BatchRecord) -> None:
            raise LookupError(f"at {batch.step}")

    learner, other = learner_of(), AsksToStop("never")
    callbacks = [ChosenCallback("breaks", Breaks(), learner.model), ChosenCallback("other", other, learner.model)]
    with pytest.raises(LookupError, match="at 0"):
        learner.fit(learner.plan(), callbacks)
    assert other.heard == ["train begins", "epoch 0 begins", "batch 0", "batch 1", "train ends"]


def test_keras_spelling_is_refused(small_data: Data) -> None:
    class Keras(Callback):
        def on_epoch_end(self, epoch: EpochRecord) -> None:
            self.stop_training: Any = True

    words = ["model.hidden=[8]"]
    with pytest.raises(package_error(), match=r"callbacks=Keras: stop_training is a method; call self\.stop_training"):
        package.run_network(small_data, epochs=2, callbacks=[Keras()], overrides=words, verbose=False)

    with pytest.raises(package_error(), match="stop_training is a method"):

        @package.register("callback", "keras")
        @dataclass
        class Registered(Callback):
            stop_training: bool = False  # type: ignore[assignment]


def package_error() -> type[Exception]:
    from mnist_ff.errors import MnistError

    return MnistError


def test_run_network_keeps_model_and_losses(small_data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    class Breaks(Callback):
        def on_batch_end(self, batch: BatchRecord) -> None:
            if batch.step == 5:
                raise SystemExit("mine")

    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    words = ["trainer.sync_every=3"]
    first = model[1].weight.detach().clone()
    with pytest.raises(SystemExit) as caught:
        package.run_network(small_data, model, epochs=2, batch=50, callbacks=[Breaks()], overrides=words, verbose=False)
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert partial.model is model
    assert len(partial.losses) == 6
    assert not torch.equal(model[1].weight, first)
    asks = AsksToStop("epoch 0 ends")
    _, losses = package.run_network(small_data, model, epochs=3, batch=100, callbacks=[asks], overrides=words)
    assert len(losses) == -(-len(small_data.train) // 100)
    assert f"stopped by callback AsksToStop: mine, after {len(losses)} batches" in capsys.readouterr().out


def test_train_keeps_a_run_that_can_be_resumed(small_data: Data) -> None:
    class Breaks(Callback):
        def on_epoch_end(self, epoch: EpochRecord) -> None:
            if epoch.epoch == 1:
                raise ValueError("mine")

    words = ("model.hidden=[8]", "trainer.batch_size=100", "trainer.plots=false", "trainer.device=cpu")
    whole = package.train(*words, "trainer.epochs=3", data=small_data, directory="whole", verbose=False)
    with pytest.raises(ValueError, match="mine") as caught:
        package.train(*words, "trainer.epochs=3", data=small_data, directory="cut", callbacks=[Breaks()], verbose=False)
    run = caught.value.partial  # type: ignore[attr-defined]
    assert isinstance(run, Run)
    assert (len(run.losses()), len(run.epochs())) == (2 * len(whole.losses()) // 3, 2)
    resumed = package.train(resume=run, data=small_data, verbose=False)
    assert resumed.losses() == whole.losses()
    assert resumed.file("model.safetensors").read_bytes() == whole.file("model.safetensors").read_bytes()


@pytest.fixture
def parts() -> str:
    Path("stopping.py").write_text(PARTS)
    return "--parts=stopping.py"


def test_a_chosen_callback_stops_a_run_that_finishes(parts: str, mnist_ff: Command) -> None:
    words = (*QUICK, "trainer.epochs=3", "callbacks=[enough]", "hydra.run.dir=run")
    code, out, err = mnist_ff("train", parts, *words)
    assert code == 0, err
    assert "finished: stopped by callback enough: loss is low enough, after 16 batches" in out
    summary = Run.open("run").summary()
    assert summary is not None
    assert (summary.status, summary.epochs, summary.stopped_on_request) == (Status.FINISHED, 1, True)
    assert summary.cause == "stopped by callback enough: loss is low enough"
    code, _, err = mnist_ff("train", parts, "resume=run", "trainer.epochs=4")
    assert code == 0, err
    summary = Run.open("run").summary()
    assert summary is not None
    assert (summary.epochs, summary.cause) == (4, None)


def test_a_chosen_callback_that_raises_leaves_a_run_to_resume(parts: str, mnist_ff: Command) -> None:
    words = (*QUICK, "trainer.epochs=2")
    assert mnist_ff("train", *words, "hydra.run.dir=whole")[0] == 0
    code, out, err = mnist_ff("train", parts, *words, "callbacks=[broken]", "trainer.sync_every=5", "hydra.run.dir=run")
    assert (code, "KeyError: 'mine'" in err, "stopping.py" in err) == (1, True, True)
    assert "resume         mnist-ff train resume=run --parts stopping.py" in out
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("failed", 26)
    code, _, err = mnist_ff("train", parts, "resume=run", "callbacks=[]")
    assert code == 0, err
    for name in ("batches.csv", "model.safetensors"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_sweep_counts_such_jobs_as_finished(parts: str, mnist_ff: Command) -> None:
    words = ("-m", parts, *QUICK, "trainer.epochs=3", "callbacks=[enough]", "hydra.sweep.dir=sweep", "seed=1,2")
    code, _, err = mnist_ff("train", *words)
    assert code == 0, err
    for job in ("0", "1"):
        summary = json.loads(Path("sweep", job, "summary.json").read_text())
        assert (summary["status"], summary["epochs"]) == ("finished", 1)
    code, out, _ = mnist_ff("train", "-m", parts, "resume=sweep")
    assert code == 0
    assert "training" not in out
