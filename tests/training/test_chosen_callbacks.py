"""Callbacks that a config chooses: what they hear, what they see of the model, and what becomes of a change to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.config.legacy import identity_fields
from mnist_ff.data.load import Data
from mnist_ff.errors import RunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.places import is_own, seal
from mnist_ff.runs.records import BatchRecord, EpochRecord, Outcome, Plan
from mnist_ff.session.resume import recipe
from mnist_ff.training.callbacks import Callback
from mnist_ff.training.chosen_callbacks import ChosenCallback, ModelView
from mnist_ff.training.learner import Learner
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.mnist import make_split

QUICK = ("data=mnist_5k", "model.hidden=[16]", "trainer.plots=false", "trainer.threads=1", "trainer.epochs=2")
PARTS = '''
"""Callbacks as a user writes them."""
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
import mnist_ff
import torch

@mnist_ff.register("callback", "journal")
@dataclass
class Journal(mnist_ff.Callback):
    """Writes down what it hears."""
    file: Annotated[str, "name of the file"]
    every: Annotated[int, "epochs between two lines", mnist_ff.Range(at_least=1)] = 1
    lines: list = field(default_factory=list, init=False)

    def on_train_begin(self, plan):
        self.lines.append(f"begin {plan.first_step} {plan.steps}")

    def on_batch_end(self, batch):
        torch.rand(3)
        self.last = batch.step

    def on_epoch_end(self, epoch):
        if (epoch.epoch + 1) % self.every == 0:
            norms = " ".join(f"{name} {float(value.norm()):.6g}" for name, value in epoch.model.items())
            self.lines.append(f"epoch {epoch.epoch} step {self.last} {norms} {dict(epoch.metrics)}")

    def on_train_end(self, outcome):
        Path(self.file).write_text("\\n".join([*self.lines, f"end {outcome.steps}", ""]))

@mnist_ff.register("callback", "meddler")
@dataclass(frozen=True)
class Meddler(mnist_ff.Callback):
    """Changes the model."""
    def on_epoch_end(self, epoch):
        epoch.model["layers.0.weight"].zero_()

@mnist_ff.register("callback", "broken")
@dataclass(frozen=True)
class Broken(mnist_ff.Callback):
    """Raises."""
    def on_epoch_begin(self, epoch):
        raise KeyError("mine")
'''


@pytest.fixture
def parts() -> str:
    Path("own_callbacks.py").write_text(PARTS)
    return "--parts=own_callbacks.py"


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.view: ModelView | None = None

    def on_train_begin(self, plan: Plan) -> None:
        self.events.append("train begins")

    def on_epoch_begin(self, epoch: int) -> None:
        self.events.append(f"epoch {epoch} begins")

    def on_batch_end(self, batch: BatchRecord) -> None:
        self.events.append(f"batch {batch.step}")

    def on_chunk_end(self, batch: BatchRecord) -> None:
        self.events.append(f"chunk {batch.step}")

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        assert isinstance(epoch.model, ModelView)
        self.view, self.names = epoch.model, list(epoch.model)
        self.weights = {name: epoch.model[name] for name in epoch.model if name != "layers.1.bias"}
        self.events.append(f"epoch {epoch.epoch} ends")

    def on_train_end(self, outcome: Outcome) -> None:
        self.events.append("train ends")


def trained(model: nn.Module | None, callback: Callback) -> Learner:
    split = make_split(128)
    config = make_config("model.hidden=[16]", "trainer.batch_size=64", "trainer.epochs=1")
    learner = Learner(config, Data("random", split, split), model)
    learner.fit(learner.plan(), [ChosenCallback("mine", callback, learner.model)])
    return learner


def test_a_callback_hears_everything_and_sees_the_parameters() -> None:
    recorder = Recorder()
    learner = trained(None, recorder)
    assert recorder.events == [
        "train begins",
        "epoch 0 begins",
        "batch 0",
        "batch 1",
        "chunk 1",
        "epoch 0 ends",
        "train ends",
    ]
    assert recorder.names == [name for name, _ in learner.model.named_parameters()]
    for name, value in recorder.weights.items():
        assert torch.equal(value, learner.model.get_parameter(name))
        assert not value.requires_grad


def test_what_was_read_may_be_kept_and_nothing_is_read_later() -> None:
    recorder = Recorder()
    learner = trained(None, recorder)
    assert recorder.view is not None
    recorder.weights["layers.0.weight"].zero_()  # its own by now
    assert bool(learner.model.get_parameter("layers.0.weight").any())
    with pytest.raises(RuntimeError, match=r"layers\.1\.bias: epoch\.model can be read in on_epoch_end only"):
        recorder.view["layers.1.bias"]


def hear_an_epoch(told: ChosenCallback) -> None:
    told.on_epoch_end(EpochRecord(0, 1.0, 0.5, None, None, 1.0))
    told.raise_failure()


CHANGES: dict[str, Callable[[torch.Tensor], object]] = {
    "in place": lambda weight: weight.add_(1e-3),
    "by data": lambda weight: weight.data.mul_(2),
    "by numpy": lambda weight: np.copyto(weight.numpy(), 0),
    "by a view": lambda weight: weight.view(-1)[3:4].fill_(9),
    "one element": lambda weight: weight.__setitem__((0, 0), 5),
    "to NaN": lambda weight: weight.fill_(float("nan")),
    "by resizing": lambda weight: weight.resize_(1),
    "by set_": lambda weight: weight.set_(torch.zeros(2)),
    "negative zero": lambda weight: weight.copysign_(torch.tensor(-1.0)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_an_error_and_reaches_no_weight(change: Callable[[torch.Tensor], object]) -> None:
    class Meddler(Callback):
        def on_epoch_end(self, epoch: EpochRecord) -> None:
            assert epoch.model is not None
            change(epoch.model["weight"])

    torch.manual_seed(0)
    model = nn.Linear(784, 10)
    view = model.weight.detach().clone()
    told = ChosenCallback("mine", Meddler(), model)
    with pytest.raises(RunError, match=r"callbacks=mine: changed weight in epoch\.model; the model is read-only"):
        hear_an_epoch(told)
    assert torch.equal(model.weight, view)


def test_the_view_takes_no_other_tensors() -> None:
    view = ModelView(nn.Linear(2, 2))
    for change in (lambda: view.__setitem__("weight", torch.ones(2, 2)), lambda: view.__delitem__("weight")):
        with pytest.raises(TypeError, match=re.escape("work on a copy: tensor.clone()")):
            change()
    with pytest.raises(KeyError):
        view["nothing"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_parameters_of_any_kind_are_compared(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_parameter("scalar", nn.Parameter(torch.tensor(float("nan"), dtype=dtype)))
    model.register_parameter("turned", nn.Parameter(torch.arange(6, dtype=dtype).view(2, 3).T))
    model.register_parameter("none", nn.Parameter(torch.empty(0, dtype=dtype)))
    view = ModelView(model)
    assert len(dict(view)) == 3
    assert view.close() is None
    other = ModelView(model)
    other["turned"][2, 1] += 1
    assert other.close() == "turned"


def test_callbacks_change_no_byte_and_no_experiment(parts: str, mnist_ff: Command) -> None:
    words = (*QUICK, "metrics=[calibration]")
    assert mnist_ff("train", *words, "hydra.run.dir=plain")[0] == 0
    chosen = ("callbacks=[journal]", "callbacks.journal.file=journal.txt", "callbacks.journal.every=2")
    code, _, err = mnist_ff("train", parts, *words, *chosen, "hydra.run.dir=told")
    assert code == 0, err
    lines = Path("journal.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["begin", "epoch", "end"]
    assert "calibration/ece" in lines[1]
    assert "layers.1.bias" in lines[1]
    for name in ("batches.csv", "model.safetensors"):
        assert Path("told", name).read_bytes() == Path("plain", name).read_bytes()
    assert "every: 2" in Path("told/config.yaml").read_text()


def test_a_resume_keeps_or_changes_callbacks(parts: str, mnist_ff: Command) -> None:
    chosen = ("callbacks=[journal]", "callbacks.journal.file=journal.txt")
    assert mnist_ff("train", parts, *QUICK, *chosen, "hydra.run.dir=run")[0] == 0
    Path("journal.txt").unlink()
    code, _, err = mnist_ff("train", parts, "resume=run", "trainer.epochs=3")
    assert code == 0, err
    assert len(Path("journal.txt").read_text().splitlines()) == 3
    Path("journal.txt").unlink()
    code, _, err = mnist_ff("train", parts, "resume=run", "trainer.epochs=4", "callbacks=[]")
    assert code == 0, err
    assert not Path("journal.txt").exists()
    assert [entry["changes"].get("callbacks") for entry in Run.open("run").environment()["history"]] == [None, {}]


def test_a_changed_model_fails_the_run_in_one_line(parts: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", parts, *QUICK, "callbacks=[meddler]", "hydra.run.dir=run")
    assert code == 1
    assert "callbacks=meddler: changed layers.0.weight in epoch.model; the model is read-only" in err
    assert len(err.strip().splitlines()) == 1
    summary = Run.open("run").summary()
    assert summary is not None
    assert summary.status == "failed"


def test_a_callback_that_raises_fails_the_run(parts: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", parts, *QUICK, "callbacks=[broken]", "hydra.run.dir=run")
    assert code == 1
    assert "KeyError: 'mine'" in err
    assert "own_callbacks.py" in err
    summary = Run.open("run").summary()
    assert summary is not None
    assert summary.status == "failed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["callbacks=[jornal]"], "callbacks=jornal: must be one of broken, journal, meddler; did you mean journal?"),
        (["callbacks=[journal]"], "callbacks.journal.file: has no value; set it with callbacks.journal.file=VALUE"),
        (
            ["callbacks=[journal]", "callbacks.journal.file=x", "callbacks.journal.every=0"],
            "callbacks.journal.every=0: must be at least 1",
        ),
        (["callbacks=[journal]", "callbacks.journal.fil=x"], "did you mean callbacks.journal.file?"),
        (["callbacks=null"], "callbacks=null: leave it out, or use one of"),
    ],
)
def test_wrong_choices_are_refused(words: list[str], message: str, parts: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", parts, *QUICK, *words)
    assert code == 2
    assert message in err
    assert not Path("outputs").exists()


def test_help_and_messages_name_own_callbacks(parts: str, mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", parts, "--help")
    assert code == 0
    assert re.search(r"callbacks= +broken \| journal \| meddler", out)
    assert re.search(r"callbacks\.journal\.every +epochs between two lines", out)


def test_a_sweep_tells_its_callbacks(parts: str, mnist_ff: Command) -> None:
    chosen = ("callbacks=[journal]", "callbacks.journal.file=journal.txt")
    words = ("-m", parts, *QUICK[:-1], "trainer.epochs=1", *chosen, "hydra.sweep.dir=sweep")
    code, _, err = mnist_ff("train", *words, "seed=1,2")
    assert code == 0, err
    assert len(Path("journal.txt").read_text().splitlines()) == 3
    code, _, err = mnist_ff("train", *words[:-1], "callbacks.journal.file=1.txt,2.txt")
    assert (code, "jobs 0 and 1 are the same" in err) == (2, True)


def test_configs_without_them_are_as_they_were() -> None:
    config = make_config()
    plain = config_to_dict(config)
    assert not {"callbacks", "logger", "metrics"} & plain.keys()
    assert config_from(plain) == config
    assert not {"callbacks", "metrics"} & identity_fields(config).keys()
    assert "monitor_mode" not in identity_fields(config)["trainer"]
    assert recipe(config) != recipe(make_config(metrics=["calibration"]))


def test_a_seal_of_a_config_without_callbacks_is_the_older_one() -> None:
    config = make_config()
    assert is_own(config, seal(config))


def test_a_run_with_own_callbacks_and_metrics_is_read_without_their_file(parts: str, mnist_ff: Command) -> None:
    with Path("own_callbacks.py").open("a") as file:
        file.write('\n@mnist_ff.register("metric", "one")\ndef one(model, split):\n    return 1\n')
    words = (*QUICK, "data.validation_split=0.2", "trainer.monitor=one", "trainer.monitor_mode=max")
    chosen = ("callbacks=[journal]", "callbacks.journal.file=journal.txt", "metrics=[one,calibration]")
    code, _, err = mnist_ff("train", parts, *words, *chosen, "trainer.keep_best=true", "hydra.run.dir=run")
    assert code == 0, err
    for command in (["compare", "run"], ["runs", "."], ["report", "run"], ["evaluate", "run"]):
        code, out, err = mnist_ff(*command)
        assert code == 0, err
        assert "broken" not in out
    code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=3")
    assert code == 2
    assert "callbacks=journal, metrics=one: not registered" in err
    assert "run/parts/own_callbacks.py" in err
    code, _, err = mnist_ff("train", parts, "resume=run", "trainer.epochs=3")
    assert code == 0, err
    code, out, _ = mnist_ff("train", parts, "--config-of", "run", "hydra.run.dir=again")
    assert code == 0
    assert "its callbacks are not used; set callbacks=[journal] on the command line" in out
    assert "callbacks" not in Path("again/config.yaml").read_text()


def test_callbacks_given_from_python_see_the_same(small_data: Data) -> None:
    import mnist_ff

    class Watch(mnist_ff.Callback):
        def on_epoch_end(self, epoch: EpochRecord) -> None:
            assert epoch.model is not None
            self.last = {name: value.numpy() for name, value in epoch.model.items()}, dict(epoch.metrics)

    watch, words = Watch(), ["model.hidden=[8]", "metrics=[weight_norms]"]
    model, _ = mnist_ff.run_network(small_data, epochs=1, callbacks=[watch], verbose=False, overrides=words)
    weights, metrics = watch.last
    assert all(np.array_equal(value, model.get_parameter(name).detach().numpy()) for name, value in weights.items())
    assert metrics["weight_norms/layers.1"] == pytest.approx(np.linalg.norm(weights["layers.1.weight"]), rel=1e-5)

    class Meddler(mnist_ff.Callback):
        def on_epoch_end(self, epoch: EpochRecord) -> None:
            assert epoch.model is not None
            epoch.model["layers.1.bias"].add_(1)

    with pytest.raises(RunError, match=r"callbacks=Meddler: changed layers\.1\.bias"):
        mnist_ff.run_network(small_data, epochs=1, callbacks=[Meddler()], verbose=False, overrides=words)
