"""Metrics: what the built-in ones compute, what any may return, and that measuring changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_ff.config import registry
from mnist_ff.config.registry import Part, names
from mnist_ff.config.schema import MetricConfig
from mnist_ff.data.load import Data, Split
from mnist_ff.errors import BadRunError, RunError
from mnist_ff.models.mlp import MLP
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import EpochRecord
from mnist_ff.runs.tables import (
    EPOCH_COLUMNS,
    EPOCHS,
    MOST_METRIC_COLUMNS,
    epoch_row,
    last_epoch,
    metric_columns,
    with_columns,
)
from mnist_ff.trackers.base import epoch_metrics
from mnist_ff.trackers.heard import facts_of_files
from mnist_ff.training.callbacks import Callback, LossHistory
from mnist_ff.training.learner import Learner
from mnist_ff.training.measure import Metrics, undisturbed
from mnist_ff.training.metrics.calibration import calibration
from mnist_ff.training.metrics.dead_units import dead_units
from mnist_ff.training.metrics.gradient_norms import gradient_norms
from mnist_ff.training.metrics.weight_norms import weight_norms
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.mnist import make_split

BUILT_IN = ("calibration", "dead_units", "gradient_norms", "weight_norms")
QUICK = ("data=mnist_5k", "model.hidden=[16,8]", "trainer.plots=false", "trainer.threads=1")
Registered = Callable[..., str]


@pytest.fixture
def metric() -> Iterator[Registered]:
    """Registers a function as a metric, by a name of its own; all are gone afterwards."""
    made: list[Part] = []

    def make(function: Callable[..., Any], name: str = "own") -> str:
        made.append(Part("metric", name, MetricConfig, function))
        registry.register(made[-1])
        return name

    yield make
    for part in made:
        registry.unregister(part)


class Own(nn.Module):
    """A network with all that metrics must leave alone: BatchNorm, two kinds of dropout, its own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 36, 10)
        self.rng = torch.Generator().manual_seed(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.norm(self.conv(images.view(-1, 1, 28, 28))))
        if self.training:
            hidden = hidden * (torch.rand(hidden.shape, generator=self.rng) < 0.9)
        logits: torch.Tensor = self.head(self.drop(hidden).flatten(1))
        return logits


def flat_split(samples: int) -> Split:
    """Random images as the built-in network takes them, whatever their form in a data set."""
    split = make_split(samples)
    return Split(split.images.flatten(1).float() / 255, split.labels)


def learner(model: nn.Module | None, *overrides: str, metrics: Sequence[str] = ()) -> Learner:
    split = make_split(256)
    words = ("model.hidden=[16]", "trainer.batch_size=64", "trainer.epochs=3", *overrides)
    return Learner(make_config(*words, metrics=list(metrics)), Data("random", split, split), model)


class Epochs(Callback):
    def __init__(self) -> None:
        self.records: list[EpochRecord] = []

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        self.records.append(epoch)


def test_every_built_in_metric_is_known_by_name() -> None:
    assert names("metric") == BUILT_IN


def test_calibration_is_guos_and_briers() -> None:
    torch.manual_seed(0)
    model, split = nn.Linear(784, 10), flat_split(2_500)
    with torch.no_grad():
        model.weight.mul_(30)
        probs = model(split.images).double().softmax(1).numpy()
    labels, sure = split.labels.numpy(), probs.max(1)
    ece = 0.0
    for edge in range(15):
        inside = (sure > edge / 15) & (sure <= (edge + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs((probs.argmax(1) == labels)[inside].mean() - sure[inside].mean())
    brier = np.square(probs - np.eye(10)[labels]).sum(1).mean()
    found = calibration(model, split)
    assert found == {"ece": pytest.approx(ece, rel=1e-9), "brier": pytest.approx(brier, rel=1e-9)}
    assert found["ece"] > 0.01


@pytest.mark.parametrize("bias", [20.0, -20.0])
def test_a_sure_model_is_calibrated_by_what_it_gets_right(bias: float) -> None:
    model, split = nn.Linear(784, 10), flat_split(1_000)
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([bias, *[-bias] * 9]) if bias > 0 else torch.zeros(10))
    right = float((split.labels == 0).double().mean())
    expected = 1 - right if bias > 0 else abs(0.1 - right)
    assert calibration(model, split)["ece"] == pytest.approx(expected, abs=1e-6)


def test_dead_units_of_the_built_in_network() -> None:
    model, split = MLP([20, 10], "relu", 0.5), flat_split(1_500)
    with torch.no_grad():
        for layer, killed in ((0, 5), (1, 3)):
            model.layers[layer].weight[:killed] = 0
            model.layers[layer].bias[:] = 1
            model.layers[layer].bias[:killed] = -1
            model.layers[layer].weight[killed:].abs_()
    assert dead_units(model, split) == {"layers.0": 0.25, "layers.1": pytest.approx(0.3)}
    assert dead_units(MLP([], "relu", 0.0), split) == {}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_unit_that_one_image_of_another_batch_wakes_is_alive() -> None:
    model, split = MLP([4], "relu", 0.0), Split(torch.zeros(2_001, 784), torch.zeros(2_001, dtype=torch.int64))
    split.images[2_000, 0] = 1
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.tensor([[1.0], [-1.0], [1.0], [0.0]]).expand(4, 784))
        model.layers[0].bias.zero_()
    assert dead_units(model, split) == {"layers.0": 0.5}


def test_dead_units_of_own_modules_are_channels_or_numbers() -> None:
    model, split = Own().eval(), flat_split(100)
    with torch.no_grad():
        model.norm.bias[:] = torch.tensor([-1000.0, 1000.0, -1000.0, 1000.0])
    assert dead_units(model, split) == {"conv": 0.5}
    deep = nn.Sequential(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten())
    with torch.no_grad():
        deep[1].weight.zero_()
        deep[1].bias.copy_(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    assert dead_units(deep, split) == {"1": 0.25}


def test_norms_are_those_of_each_layer() -> None:
    torch.manual_seed(0)
    model, split = Own().eval(), flat_split(1_200)
    assert weight_norms(model, split) == {
        name: pytest.approx(float(getattr(model, name).weight.detach().norm()), rel=1e-6)
        for name in ("conv", "norm", "head")
    }
    found = gradient_norms(model, split)
    F.cross_entropy(model(split.images[:1_000]), split.labels[:1_000]).backward()  # type: ignore[no-untyped-call]
    for name in ("conv", "norm", "head"):
        gradients = torch.cat([parameter.grad.flatten() for parameter in getattr(model, name).parameters()])
        assert found[name] == pytest.approx(float(gradients.norm()), rel=1e-5)


def test_norms_of_a_frozen_or_unused_layer() -> None:
    model = MLP([], "relu", 0.0)
    model.register_parameter("unused", nn.Parameter(torch.ones(4)))
    model.register_module("frozen", nn.Linear(3, 3).requires_grad_(False))
    assert set(gradient_norms(model, flat_split(50))) == {"model", "layers.0"}
    assert gradient_norms(model, flat_split(50))["model"] == 0
    assert weight_norms(model, flat_split(50))["model"] == 2


def hostile(model: nn.Module, split: Split) -> float:
    """A metric that does whatever a metric must not."""
    torch.manual_seed(1)
    model.train()
    for images, labels in split.batches(100):
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.ones(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
            parameter.requires_grad_(False)
    next(iter(model.parameters())).data = torch.zeros(1)
    torch.rand(1)
    return 1.0


@pytest.mark.parametrize("model", [None, Own])
@pytest.mark.parametrize("words", [(), ("trainer.ema=0.9", "augment=shift", "trainer.evaluate_every=2")])
def test_measuring_changes_no_step(model: type | None, words: tuple[str, ...], metric: Registered) -> None:
    def trained(metrics: Sequence[str]) -> tuple[list[float], dict[str, torch.Tensor], list[float]]:
        torch.manual_seed(0)
        made = learner(None if model is None else model(), *words, metrics=metrics)
        history, epochs = LossHistory(), Epochs()
        made.fit(made.plan(), [history, epochs])
        state = {**made.model.state_dict(), **{f"rng {name}": value for name, value in _generators(made).items()}}
        return history.losses, state, [epoch.test.loss for epoch in epochs.records if epoch.test is not None]

    plain, measured = trained([]), trained([*BUILT_IN, metric(hostile)])
    assert plain[0] == measured[0]
    assert plain[2] == measured[2]
    assert plain[1].keys() == measured[1].keys()
    assert all(torch.equal(value, measured[1][name]) for name, value in plain[1].items())


def _generators(made: Learner) -> dict[str, torch.Tensor]:
    found = {name: rng.get_state() for name, rng in made.chance._own.items()}
    return found | {"torch": torch.get_rng_state()}


def test_everything_is_as_it_was_after_a_hostile_metric() -> None:
    model, split = Own(), flat_split(200)
    model.norm.eval()  # a module that is frozen alone stays so
    model.head.weight.requires_grad_(False)
    model.conv.weight.grad = torch.full_like(model.conv.weight, 7)
    gradient, places = model.conv.weight.grad, [parameter.data_ptr() for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = model.rng.get_state(), torch.get_rng_state()

    def failing() -> None:
        with undisturbed(model):
            assert not model.training
            assert model.conv.weight.grad is None
            hostile(model, split)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert places == [parameter.data_ptr() for parameter in model.parameters()]
    assert model.conv.weight.grad is gradient
    assert bool((gradient == 7).all())
    assert (model.training, model.norm.training, model.drop.training) == (True, False, True)
    assert (model.head.weight.requires_grad, model.conv.weight.requires_grad) == (False, True)
    assert torch.equal(states[0], model.rng.get_state())
    assert torch.equal(states[1], torch.get_rng_state())


def test_the_averaged_weights_are_measured() -> None:
    made, epochs = learner(None, "trainer.ema=0.9", metrics=["weight_norms"]), Epochs()
    made.fit(made.plan(), [epochs])
    found, now = epochs.records[-1].metrics, weight_norms(made.model, made.data.test)
    assert found["weight_norms/layers.0"] != now["layers.0"]
    made.use_averages()
    assert found == {f"weight_norms/{key}": value for key, value in weight_norms(made.model, made.data.test).items()}


def test_the_validation_images_are_measured_where_there_are_some(metric: Registered) -> None:
    split, other = make_split(256), make_split(30, seed=1)
    name = metric(lambda model, split: len(split))
    config = make_config("model.hidden=[16]", "trainer.batch_size=64", "trainer.epochs=1", metrics=[name])
    for validation, images in ((None, 256), (other, 30)):
        made, epochs = Learner(config, Data("random", split, split, validation)), Epochs()
        made.fit(made.plan(), [epochs])
        assert epochs.records[0].metrics == {name: images}


@pytest.mark.parametrize(
    "value", [3, 0.5, np.float32(0.5), np.int64(3), torch.tensor(0.5), torch.tensor([[2]]), float("nan"), -math.inf]
)
def test_numbers_of_any_library_are_taken(value: Any, metric: Registered) -> None:
    name = metric(lambda model, split: {"a.b-C_1": value})
    (found,) = measured(name).values()
    assert found == pytest.approx(float(value), nan_ok=True)


def measured(*chosen: str, times: int = 1) -> dict[str, float]:
    metrics, model, split = Metrics(make_config(metrics=list(chosen))), nn.Linear(784, 10), flat_split(20)
    found = [metrics(model, split) for _ in range(times)]
    return found[-1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.5", "is a str; a metric returns a number or a dict of numbers"),
        (None, "is None; a metric returns"),
        (True, "is a bool"),
        ([0.5], "is a list"),
        (torch.zeros(2), "is a Tensor"),
        (1j, "is a complex"),
        ({"a": {"b": 1}}, "a: is a dict"),
        ({"a b": 1}, "returns the key 'a b'; a key is 1 to 100 letters"),
        ({1: 1}, "returns the key 1;"),
        ({"": 1}, "returns the key ''"),
        ({"x" * 101: 1}, "a key is 1 to 100 letters"),
        ({"a,b\n": 1}, "returns the key 'a,b"),
    ],
)
def test_what_is_no_number_names_metric_and_file(value: Any, message: str, metric: Registered) -> None:
    name = metric(lambda model, split: value)
    with pytest.raises(RunError) as caught:
        measured(name)
    text = str(caught.value)
    assert text.startswith(f"metrics={name} ({__file__}:")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"a": 1, "b": 1}, {"a": 1}, "no longer returns own/b"),
        ({"a": 1}, {"a": 1, "b": 1}, "returns own/b"),
        ({"a": 1}, 1, "returns own;"),
        (1, {}, "no longer returns own;"),
    ],
)
def test_other_keys_later_are_refused(first: Any, second: Any, message: str, metric: Registered) -> None:
    values = iter([first, second])
    with pytest.raises(RunError, match="a metric must return the same keys after every epoch") as caught:
        measured("calibration", metric(lambda model, split: next(values)), times=2)
    assert message in str(caught.value)


def test_the_same_keys_in_another_order_are_the_same_columns(metric: Registered) -> None:
    values = iter([{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    assert list(measured(metric(lambda model, split: next(values)), times=2).items()) == [("own/a", 3), ("own/b", 4)]


def test_a_metric_that_changes_the_images_is_refused(metric: Registered) -> None:
    with pytest.raises(RunError, match="changes the images or labels"):
        measured(metric(lambda model, split: float(split.images.mul_(2).sum())))


def test_too_many_values_are_refused(metric: Registered) -> None:
    name = metric(lambda model, split: {str(key): 0 for key in range(MOST_METRIC_COLUMNS + 1)})
    with pytest.raises(RunError, match="have 1,001 values; at most 1,000"):
        measured(name)


def test_a_metric_draws_the_same_numbers_each_time(metric: Registered) -> None:
    name = metric(lambda model, split: float(torch.rand(())))
    assert measured(name) == measured(name, times=3)


def write_epochs(folder: Path, metrics: Sequence[str], *values: Sequence[float]) -> None:
    rows = [
        EpochRecord(epoch, 1.0, 0.5, None, None, 1.0, metrics=dict(zip(metrics, found, strict=True)))
        for epoch, found in enumerate(values)
    ]
    text = with_columns(",".join(EPOCH_COLUMNS) + "\n", metrics) + "".join(epoch_row(row, metrics) for row in rows)
    (folder / EPOCHS).write_text(text)


def test_epochs_csv_gives_metrics_back(tmp_path: Path) -> None:
    columns = ["own", "norms/layers.0"]
    write_epochs(tmp_path, columns, [1.25, 1 / 3], [math.nan, -math.inf], [1e300, -1e-300])
    assert metric_columns(tmp_path) == tuple(columns)
    rows = Run(tmp_path).epochs()
    assert rows[0]["norms/layers.0"] == pytest.approx(1 / 3, rel=1e-9)
    assert not {"own", "norms/layers.0"} & rows[1].keys()
    assert last_epoch(tmp_path) == (3, rows[2])
    assert rows[2]["own"] == 1e300


def test_many_metrics_with_long_names_are_read(tmp_path: Path) -> None:
    columns = [f"{'n' * 100}/{'k' * 97}{number:03}" for number in range(MOST_METRIC_COLUMNS)]
    write_epochs(tmp_path, columns, [-1.23456789e-123] * len(columns))
    assert metric_columns(tmp_path) == tuple(columns)
    assert len(Run(tmp_path).epochs()[0]) == len(columns) + 4
    write_epochs(tmp_path, [*columns, "more"])
    with pytest.raises(BadRunError, match="its columns are not"):
        metric_columns(tmp_path)


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e999", "x", "1_0x", "9" * 2_000])
def test_a_foreign_metric_that_is_no_number_is_refused(cell: str, tmp_path: Path) -> None:
    write_epochs(tmp_path, ["own"], [1.0])
    text = (tmp_path / EPOCHS).read_text()
    (tmp_path / EPOCHS).write_text(f"{text.rstrip().rsplit(',', 1)[0]},{cell}\n")
    with pytest.raises(BadRunError):
        Run(tmp_path).epochs()
    with pytest.raises(BadRunError):
        last_epoch(tmp_path)


def test_a_metric_called_accuracy_may_be_a_percentage(tmp_path: Path) -> None:
    write_epochs(tmp_path, ["balanced_accuracy"], [98.5])
    assert Run(tmp_path).epochs()[0]["balanced_accuracy"] == 98.5


def test_columns_are_added_to_rows_that_were_there() -> None:
    assert with_columns("epoch,seconds\n0,1\n1,2\n", ["a", "b/c"]) == "epoch,seconds,a,b/c\n0,1,,\n1,2,,\n"


def test_trackers_hear_metrics_as_the_files_have_them(tmp_path: Path) -> None:
    metrics = {"own": 0.25, "norms/a": math.nan}
    told = epoch_metrics(EpochRecord(0, 1.0, 0.5, None, None, 1.0, metrics=metrics))
    assert told["epoch/own"] == 0.25
    assert "epoch/norms/a" not in told
    write_epochs(tmp_path, list(metrics), list(metrics.values()))
    (tmp_path / "batches.csv").write_text("step,epoch,batch,loss,lr,samples\n0,0,0,1,0.1,10\n")
    assert told == dict(list(facts_of_files(tmp_path, 0, 1))[-1].metrics)


def without_seconds(run: str) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in Run.open(run).epochs()]


def test_a_run_records_its_metrics_and_resumes_exactly(mnist_ff: Command) -> None:
    words, chosen = (*QUICK, "trainer.evaluate_every=2", "trainer.ema=0.9"), f"metrics=[{','.join(BUILT_IN)}]"
    assert mnist_ff("train", *words, "trainer.epochs=4", "hydra.run.dir=plain")[0] == 0
    assert mnist_ff("train", *words, "trainer.epochs=4", chosen, "hydra.run.dir=whole")[0] == 0
    assert mnist_ff("train", *words, "trainer.epochs=2", chosen, "hydra.run.dir=half")[0] == 0
    assert mnist_ff("train", "resume=half", "trainer.epochs=4")[0] == 0
    whole, columns = without_seconds("whole"), metric_columns(Path("whole"))
    assert len(columns) == 2 + 2 + 3 + 3
    assert [set(columns) <= row.keys() for row in whole] == [False, True, False, True]
    assert without_seconds("half") == whole
    for name in ("batches.csv", "model.safetensors"):
        assert Path("whole", name).read_bytes() == Path("plain", name).read_bytes() == Path("half", name).read_bytes()
    assert Path("plain", EPOCHS).read_text().startswith(",".join(EPOCH_COLUMNS) + "\n0,")
    known = [{key: row[key] for key in row if key not in columns} for row in whole]
    assert without_seconds("plain") == known
    assert "metrics" not in Path("plain/config.yaml").read_text()
    assert mnist_ff("compare", "plain", "whole")[0] == 0
    code, _, err = mnist_ff("train", "resume=half", "trainer.epochs=5", "metrics=[calibration]")
    assert code == 2
    assert "metrics" in err


def test_a_metric_that_is_not_finite_is_an_empty_cell_and_one_warning(mnist_ff: Command, metric: Registered) -> None:
    values = iter([1.0, math.nan, math.inf])
    name = metric(lambda model, split: next(values))
    code, out, _ = mnist_ff("train", *QUICK, "trainer.epochs=3", f"metrics=[{name}]", "hydra.run.dir=run")
    assert code == 0
    assert out.count("own is nan after epoch 2; its cell in epochs.csv is empty") == 1
    assert "own is inf" not in out
    assert [row.get("own") for row in Run.open("run").epochs()] == [1.0, None, None]


def test_a_bad_metric_fails_the_run_in_one_line(mnist_ff: Command, metric: Registered) -> None:
    name = metric(lambda model, split: "much")
    code, _, err = mnist_ff("train", *QUICK, "trainer.epochs=1", f"metrics=[{name}]", "hydra.run.dir=run")
    assert code == 1
    assert f"metrics=own ({__file__}:" in err
    assert len(err.strip().splitlines()) == 1
    summary = Run.open("run").summary()
    assert summary is not None
    assert (summary.status, summary.epochs) == ("failed", 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["metrics=[calibratio]"], "metrics=calibratio: must be one of calibration, dead_units"),
        (["metrics=[calibratio]"], "did you mean calibration?"),
        (["metrics=calibration"], "must be a list, such as metrics=[calibration]"),
        (["metrics=[calibration,calibration]"], "metrics: calibration is given twice"),
        (["trainer.monitor=validation_los"], "did you mean validation_loss?"),
        (["trainer.monitor=calibration/ece"], "metrics=[calibration] measures it"),
        (["trainer.monitor=calibration/ece", "metrics=[calibration]"], "needs trainer.monitor_mode=min or max"),
        (["trainer.monitor_mode=least"], "must be one of min, max, or null"),
        (["trainer.monitor_mode=max"], "trainer.monitor_mode=max: needs trainer.patience=EPOCHS"),
        (
            ["trainer.monitor=calibration/ece", "metrics=[calibration]", "trainer.monitor_mode=min"],
            "trainer.monitor=calibration/ece: needs trainer.patience=EPOCHS or trainer.keep_best=true",
        ),
        (
            ["trainer.monitor=calibration", "metrics=[calibration]", "trainer.monitor_mode=min", "trainer.patience=1"],
            "needs held-out training images; set data.validation_split",
        ),
    ],
)
def test_wrong_choices_are_refused(words: list[str], message: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *QUICK, *words)
    assert code == 2
    assert message in err
    assert not Path("outputs").exists()


def test_a_metric_cannot_have_a_columns_name(mnist_ff: Command, metric: Registered) -> None:
    name = metric(lambda model, split: 1, name="seconds")
    code, _, err = mnist_ff("train", *QUICK, f"metrics=[{name}]")
    assert code == 2
    assert "metrics=seconds: is the name of a column" in err


def test_a_monitored_value_that_is_not_measured_names_those_that_are(mnist_ff: Command) -> None:
    words = [*QUICK, "data.validation_split=0.2", "trainer.patience=1", "trainer.monitor_mode=min"]
    code, _, err = mnist_ff("train", *words, "metrics=[calibration]", "trainer.monitor=calibration")
    assert code == 1
    assert "is not measured; metrics=calibration has calibration/ece, calibration/brier" in err


def test_keep_best_by_a_metric_also_after_a_resume(mnist_ff: Command, metric: Registered) -> None:
    heights = {1: 1.0, 2: 3.0, 3: math.nan, 4: 2.0, 5: 2.5}
    name = metric(lambda model, split: heights[epoch_of(model)])
    trained = {}

    def epoch_of(model: nn.Module) -> int:
        state = tuple(float(value.detach().double().sum()) for value in model.parameters())
        return trained.setdefault(state, len(trained) + 1)

    words = [*QUICK, "data.validation_split=0.2", f"metrics=[{name}]", f"trainer.monitor={name}"]
    words += ["trainer.monitor_mode=max", "trainer.keep_best=true", "trainer.patience=3"]
    code, out, err = mnist_ff("train", *words, "trainer.epochs=9", "hydra.run.dir=whole")
    assert code == 0, err
    assert f"early stopping: no better {name} in 3 epochs after epoch 2" in out
    assert "keeping the weights of the best epoch, 2" in out
    trained.clear()
    assert mnist_ff("train", *words, "trainer.epochs=3", "hydra.run.dir=half")[0] == 0
    code, out, err = mnist_ff("train", "resume=half", "trainer.epochs=9")
    assert code == 0, err
    assert "keeping the weights of the best epoch, 2" in out
    assert without_seconds("half") == without_seconds("whole")
    assert Path("half/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
