"""The tutorial's Python functions."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mnist_ff
from mnist_ff.data.load import Data
from mnist_ff.errors import ConfigError, DataError
from mnist_ff.hydra_app.compose import compose
from mnist_ff.records import BatchRecord

ONE = {"epochs": 1, "batch": 64, "verbose": False, "device": "cpu"}


def test_the_package_is_lazy() -> None:
    code = (
        "import sys, mnist_ff; assert 'torch' not in sys.modules; mnist_ff.LossHistory; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(mnist_ff.__all__) <= set(dir(mnist_ff))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mnist_ff.nothing  # noqa: B018


def test_the_tutorials_session(small_data: Data, tmp_path: Path) -> None:
    model, losses = mnist_ff.run_network(data=small_data, epochs=2, batch=64, verbose=False)
    assert len(losses) == 20
    before = losses[-1]
    again, more = mnist_ff.run_network(data=small_data, model=model, epochs=1, batch=64, verbose=False)
    assert again is model
    assert more[0] < losses[0]
    assert more[-1] < before + 0.5
    figure = mnist_ff.plot_losses(losses, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 5000
    assert figure.axes[0].get_title() == "Loss per batch"


def test_defaults_are_the_configs() -> None:
    """The signature repeats the tutorial's two numbers; the config holds them."""
    parameters = inspect.signature(mnist_ff.run_network).parameters
    trainer = compose().trainer
    assert parameters["epochs"].default == trainer.epochs
    assert parameters["batch"].default == trainer.batch_size
    assert parameters["shuffle"].default == trainer.shuffle
    assert parameters["device"].default == trainer.device
    assert parameters["seed"].default == compose().seed


def test_arrays_of_every_accepted_shape_give_the_same_losses(small_data: Data) -> None:
    train, test = small_data.train, small_data.test
    images, labels = train.images.numpy(), train.labels.numpy()
    flat = (images.reshape(600, 784).astype(np.float32) * np.float32(1 / 255), labels)
    one_hot = (images, np.eye(10)[labels])
    tensors = (train.images, train.labels)
    wide = (images.reshape(600, 784), labels.astype(np.uint8)[:, None])
    _, expected = mnist_ff.run_network(data=small_data, **ONE)
    for x, y in (flat, one_hot, tensors, wide):
        _, losses = mnist_ff.run_network(data=[x, test.images.numpy(), y, test.labels.numpy()], **ONE)
        assert losses == pytest.approx(expected, rel=1e-5)


def test_the_same_losses_as_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from mnist_ff.cli import main
    from mnist_ff.runs import Run

    words = ["data=mnist_5k", "model.hidden=[32]"]
    assert main(["train", *words, "trainer.epochs=2", "trainer.plots=false", "hydra.run.dir=run"]) == 0
    _, losses = mnist_ff.run_network(epochs=2, overrides=words, verbose=False)
    assert [float(f"{loss:.9g}") for loss in losses] == Run.open("run").losses()


def test_a_module_of_the_users_own(small_data: Data) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Linear(784, 20)
            self.drop = torch.nn.Dropout(0.2)
            self.two = torch.nn.Linear(20, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.drop(torch.tanh(self.one(x))))

    torch.manual_seed(0)
    first = Own()
    second = Own()
    second.load_state_dict(first.state_dict())
    _, losses = mnist_ff.run_network(data=small_data, model=first, **{**ONE, "epochs": 5})
    assert np.mean(losses[-10:]) < losses[0] - 0.2
    _, again = mnist_ff.run_network(data=small_data, model=second, **{**ONE, "epochs": 5})
    assert again == losses, "the seed decides a foreign module's dropout too"


def test_callbacks_and_validation_data(small_data: Data) -> None:
    class Count(mnist_ff.Callback):
        def __init__(self) -> None:
            self.seen: list[BatchRecord] = []

        def on_batch_end(self, batch: BatchRecord) -> None:
            self.seen.append(batch)

    history, count = mnist_ff.LossHistory(), Count()
    validation = (small_data.test.images[:50], small_data.test.labels[:50])
    _, losses = mnist_ff.run_network(data=small_data, callbacks=[history, count], validation_data=validation, **ONE)
    assert history.losses == losses == [record.loss for record in count.seen]


def test_load_data_and_init_model() -> None:
    data = mnist_ff.load_data("data=mnist_5k")
    assert (len(data.train), len(data.test)) == (4000, 1000)
    model = mnist_ff.init_model("model.hidden=[64]", seed=1)
    assert model(torch.zeros(2, 784)).shape == (2, 10)
    with pytest.raises(ConfigError, match=r"did you mean model\.hidden"):
        mnist_ff.init_model("model.hiden=[64]")


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (3, r"must be from load_data\(\) or"),
        ((np.zeros((5, 784)), np.zeros((5, 12))), "not one-hot"),
        ((np.zeros((5, 784)), np.zeros((5, 10))), "not one-hot"),
        ((np.zeros((5, 784)), np.full(5, 0.7)), "whole numbers"),
        ((np.zeros((5, 784)), np.array(list("abcde"))), "not numbers"),
        ((np.zeros((5, 783)), np.zeros(5, int)), "shapes"),
        ((np.zeros((5, 784)), np.zeros(4, int)), "shapes"),
        ((np.full((5, 784), 255.0), np.zeros(5, int)), r"must lie in \[0, 1\]"),
        ((np.full((5, 784), np.nan), np.zeros(5, int)), r"must lie in \[0, 1\]"),
        ((np.zeros((5, 784), int), np.zeros(5, int)), "int64"),
        ((np.zeros((5, 784)), np.full(5, 10)), "0 to 9"),
        ((np.zeros((0, 784)), np.zeros(0, int)), "there must be some"),
    ],
)
def test_arrays_that_do_not_fit(arrays: object, reason: str) -> None:
    data = [0] * 3 if arrays == 3 else [arrays[0], arrays[0], arrays[1], arrays[1]]  # type: ignore[index]
    with pytest.raises(DataError, match=reason):
        mnist_ff.run_network(data=data, epochs=1, batch=2, verbose=False)


def test_wrong_arguments_are_config_errors(small_data: Data) -> None:
    for wrong in ({"epochs": 0}, {"batch": 0}, {"batch": 601}, {"device": "gpu"}, {"overrides": ["optimizer.lr=-1"]}):
        with pytest.raises(ConfigError):
            mnist_ff.run_network(data=small_data, verbose=False, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"callbacks": mnist_ff.LossHistory()},
        {"callbacks": [3]},
        {"model": torch.nn.Linear(784, 5)},
        {"model": 3},
        {"overrides": ["seed=5"]},
        {"overrides": ["trainer.epochs=2"]},
        {"overrides": ["data.validation_split=0.1"]},
        {"model": torch.nn.Linear(784, 10), "overrides": ["model.dropout=0.1"]},
    ],
)
def test_no_argument_is_ignored(small_data: Data, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        mnist_ff.run_network(data=small_data, **{**ONE, **wrong})


def test_own_data_is_measured_by_its_own_size() -> None:
    rows = np.zeros((70_000, 784), np.uint8)
    labels = np.zeros(70_000, int)
    mnist_ff.run_network(data=[rows, rows[:10], labels, labels[:10]], **{**ONE, "batch": 65_000})


def test_the_seed_decides_a_given_networks_dropout(small_data: Data) -> None:
    first = mnist_ff.init_model()
    second = mnist_ff.init_model()
    mnist_ff.run_network(data=small_data, model=second, **ONE)
    second.load_state_dict(first.state_dict())
    losses = [mnist_ff.run_network(data=small_data, model=model, **ONE)[1] for model in (first, second)]
    assert losses[0] == losses[1]


def test_the_callers_process_is_left_as_it_was(small_data: Data) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    mnist_ff.run_network(data=small_data, overrides=["trainer.threads=2"], **ONE)
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.rand(3), expected)
    torch.set_num_threads(before)


def test_loaded_data_is_the_callers_to_change() -> None:
    data = mnist_ff.load_data("data=mnist_5k")
    data.train.images.zero_()
    assert mnist_ff.load_data("data=mnist_5k").train.images.any()


def test_the_seed_draws_the_validation_split_too(capsys: pytest.CaptureFixture[str]) -> None:
    from mnist_ff.cli import main
    from mnist_ff.runs import Run

    words = ["data=mnist_5k", "data.validation_split=0.5", "model.hidden=[8]"]
    assert main(["train", *words, "seed=3", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"]) == 0
    _, losses = mnist_ff.run_network(epochs=1, seed=3, overrides=words, verbose=False)
    assert [float(f"{loss:.9g}") for loss in losses] == Run.open("run").losses()


def test_ctrl_c_returns_the_model_and_its_losses(small_data: Data) -> None:
    before = signal.getsignal(signal.SIGINT)  # what runs in a shell's background is deaf to it

    class Interrupt(mnist_ff.Callback):
        def on_batch_end(self, record: BatchRecord) -> None:
            if record.step == 20:
                os.kill(os.getpid(), signal.SIGINT)

    model, losses = mnist_ff.run_network(
        data=small_data, epochs=10**6, batch=64, verbose=False, callbacks=[Interrupt()]
    )
    assert isinstance(model, torch.nn.Module)
    assert 20 < len(losses) < 1000
    assert signal.getsignal(signal.SIGINT) is before


def test_verbose_prints_an_epochs_line_and_the_score(small_data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    mnist_ff.run_network(data=small_data, epochs=1, batch=64)
    out = capsys.readouterr().out
    assert "epoch 1/1" in out
    assert "score [loss, accuracy]" in out
