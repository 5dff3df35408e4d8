"""The tutorial's Python functions."""

from __future__ import annotations

import copy
import inspect
import math
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import mnist_ff
from mnist_ff.config.compose import compose
from mnist_ff.config.schema import Config
from mnist_ff.data.load import Data
from mnist_ff.errors import ConfigError, DataError, DivergedError
from mnist_ff.optim.base import torch_optimizer
from mnist_ff.runs.records import BatchRecord, EpochRecord
from tests.support.mnist import make_split

ONE = {"epochs": 1, "batch": 64, "verbose": False, "device": "cpu"}


def test_the_package_is_lazy() -> None:
    code = (
        "import sys, mnist_ff; assert 'torch' not in sys.modules; mnist_ff.errors; assert 'torch' not in sys.modules;"
        "mnist_ff.model.MLP; assert 'torch' in sys.modules; mnist_ff.LossHistory"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"models", "optim", "data"} <= set(dir(mnist_ff))
    for name in ("nothing", "no.thing", "model.MLP", "_private", ""):
        assert not hasattr(mnist_ff, name)
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


def test_every_accepted_array_shape_same_losses(small_data: Data) -> None:
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
    from mnist_ff.runs.directory import Run

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
        ((np.zeros((5, 784)), np.full(5, 0.7)), "must be integers"),
        ((np.zeros((5, 784)), np.array(list("abcde"))), "not numbers"),
        ((np.zeros((5, 783)), np.zeros(5, int)), "1 classes; there must be 2 to 1,000"),
        ((np.zeros((5, 784)), np.zeros(4, int)), "shapes"),
        ((np.full((5, 784), 255.0), np.zeros(5, int)), r"must be in \[0, 1\]"),
        ((np.full((5, 784), np.nan), np.zeros(5, int)), r"must be in \[0, 1\]"),
        ((np.zeros((5, 784), int), np.zeros(5, int)), "int64"),
        ((np.zeros((5, 784)), np.full(5, -1)), "from 0 on"),
        ((np.zeros((5, 784)), np.full(5, 1000)), "1,001 classes"),
        ((np.zeros((0, 784)), np.zeros(0, int)), "at least one"),
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


@pytest.mark.slow
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
    from mnist_ff.runs.directory import Run

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
    assert re.search(r"^score  loss \d\.\d{4}, accuracy \d+\.\d\d %$", out, re.MULTILINE)


@contextmanager
def set_to(setter: Callable[[Any], object], value: Any, back: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(back)


class Watching(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        return function(*given, **(named or {}))


def denormal(wanted: bool) -> None:
    torch.set_flush_denormal(wanted)


def deterministic(wanted: bool) -> None:
    torch.use_deterministic_algorithms(wanted, warn_only=wanted)


def tf32(precision: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = precision


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": partial(set_to, torch.set_default_dtype, torch.float64, torch.float32),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "no gradients": partial(torch.set_grad_enabled, False),
    "a default device": partial(set_to, torch.set_default_device, "meta", None),
    "a device's block": partial(torch.device, "meta"),
    "autocast": partial(torch.autocast, "cpu"),
    "deterministic": partial(set_to, deterministic, True, False),
    "small numbers flushed": partial(set_to, denormal, True, False),
    "a function mode": Watching,
    "short products": partial(set_to, torch.set_float32_matmul_precision, "medium", "highest"),
    "tf32 products": partial(set_to, tf32, "tf32", "none"),
}


def settings() -> dict[str, object]:
    """torch's modes as a caller sees them."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.get_deterministic_debug_mode(),
        "flushed": sys.float_info.min / 2 == 0,
        "threads": torch.get_num_threads(),
        "products": [place.fp32_precision for place in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)],
        "chance": torch.get_rng_state().tolist(),
    }


@cache
def _composed(words: tuple[str, ...]) -> Config:
    return compose(words)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words make the same config: Hydra makes it once."""
    monkeypatch.setattr("mnist_ff.api.compose", lambda words: _composed(tuple(words)))


def lazy_network() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))


@pytest.fixture(scope="module")
def few() -> Data:
    return Data("few", make_split(128, 1), make_split(50, 2))


@pytest.fixture(scope="module")
def alone(few: Data) -> dict[str, list[float]]:
    """The losses of a call with no mode around it."""
    given = {"plain": mnist_ff.init_model("model.hidden=[8]"), "lazy": lazy_network()}
    return {name: mnist_ff.run_network(few, model, **ONE)[1] for name, model in given.items()}


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, id=name, marks=[pytest.mark.slow] * (name == "deterministic"))  # it imports a compiler
        for name, mode in MODES.items()
    ],
)
def test_torchs_modes_change_nothing_and_stay(
    mode: Callable[[], AbstractContextManager[Any]], few: Data, alone: dict[str, list[float]]
) -> None:
    with mode():
        before = settings()
        model = mnist_ff.init_model("model.hidden=[8]")
        _, losses = mnist_ff.run_network(few, model, **ONE)
        assert settings() == before
    assert losses == alone["plain"]
    assert {(p.dtype, p.device.type, p.is_inference()) for p in model.parameters()} == {(torch.float32, "cpu", False)}
    model(torch.zeros(2, 784)).sum().backward()


class Keeping(nn.Module):
    """Keeps a tensor that its first forward pass makes, as many do with masks and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.kept: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kept is None:
            self.kept = torch.full((10,), 2.0, device=x.device)
        return self.linear(x) * self.kept


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("made_in", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_lazy_layers_train_and_train_on(
    made_in: Callable[[], AbstractContextManager[Any]], few: Data, alone: dict[str, list[float]]
) -> None:
    with made_in():
        model = lazy_network()
        assert mnist_ff.run_network(few, model, **ONE)[1] == alone["lazy"]
        keeping = Keeping()
        mnist_ff.run_network(few, keeping, **ONE)
    for network in (model, keeping):
        network(torch.zeros(2, 784)).sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
    assert mnist_ff.run_network(few, model, **ONE)[1][0] < alone["lazy"][0]


def test_data_is_ordinary_in_every_mode() -> None:
    with torch.inference_mode(), torch.device("meta"):
        data = mnist_ff.load_data("data=mnist_5k")
    assert data.train.images.device.type == "cpu"
    assert not data.train.images.is_inference()


def assert_ordinary(model: nn.Module, parameters: list[nn.Parameter], tmp_path: Path) -> None:
    """Parameters of its own, the same objects as before, without gradients."""
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert len({parameter.untyped_storage().data_ptr() for parameter in parameters}) == len(parameters)
    for parameter in parameters:
        assert parameter.untyped_storage().nbytes() == parameter.numel() * 4
        assert parameter.grad is None
        assert parameter.is_leaf
    size = 4 * sum(parameter.numel() for parameter in parameters)
    safetensors.torch.save_model(model, str(tmp_path / "model.safetensors"))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert size < (tmp_path / "model.safetensors").stat().st_size < size + 2000
    assert size < (tmp_path / "model.pt").stat().st_size < size + 8000
    model.eval()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(torch.ones(2, 784)), model(torch.ones(2, 784)))
    assert size < len(pickle.dumps(copy.deepcopy(model))) < size + 40_000


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("engine", ["fused", "eager"])
@pytest.mark.parametrize("ending", ["at the end", "with Ctrl-C", "with an error", "diverged"])
def test_the_network_is_an_ordinary_module_after(ending: str, engine: str, few: Data, tmp_path: Path) -> None:
    class Ending(mnist_ff.Callback):
        def on_batch_end(self, batch: BatchRecord) -> None:
            if ending == "with Ctrl-C" and batch.step == 0:
                os.kill(os.getpid(), signal.SIGINT)
            if ending == "with an error":
                raise ZeroDivisionError

    model = mnist_ff.init_model("model.hidden=[300]").eval()
    parameters, before = list(model.parameters()), copy.deepcopy(model)
    view, optimizer = model.layers[0].weight.data, torch_optimizer("SGD", model.parameters(), lr=0.1)
    model(torch.ones(2, 784)).sum().backward()
    words = [f"trainer.engine={engine}", *(["optimizer=sgd", "optimizer.lr=1e30"] if ending == "diverged" else [])]
    given = {**ONE, "epochs": 3, "callbacks": [Ending()], "overrides": words}
    try:
        mnist_ff.run_network(few, model, **given)
    except (ZeroDivisionError, DivergedError):
        assert ending in ("with an error", "diverged")
    assert not model.training
    assert torch.equal(view, model.layers[0].weight) or ending == "diverged"
    assert not torch.equal(before.layers[0].weight, model.layers[0].weight), "it was trained"
    if ending != "diverged":
        assert_ordinary(model, parameters, tmp_path)
    model(torch.ones(2, 784)).sum().backward()
    optimizer.step()
    assert torch.equal(view, model.layers[0].weight) or ending == "diverged"


def test_a_new_network_is_ordinary_too(few: Data, tmp_path: Path) -> None:
    model, _ = mnist_ff.run_network(few, overrides=["model.hidden=[300]", "trainer.ema=0.9"], **ONE)
    assert_ordinary(model, list(model.parameters()), tmp_path)


class Answering(nn.Module):
    def __init__(self, answer: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer(self.linear(x))


def failing(logits: torch.Tensor) -> Any:
    raise KeyError("mask")


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "float64": ({"model": nn.Linear(784, 10).double()}, r"model: weight is float64.*model\.float\(\)"),
    "half": ({"model": nn.Linear(784, 10).half()}, "model: weight is float16"),
    "bfloat16": ({"model": nn.Linear(784, 10).bfloat16()}, "model: weight is bfloat16"),
    "a tuple": ({"model": Answering(lambda logits: (logits, None))}, "model: returns a tuple, not a tensor"),
    "a dict": ({"model": Answering(lambda logits: {"logits": logits})}, "model: returns a dict, not a tensor"),
    "nothing": ({"model": Answering(lambda logits: None)}, "model: returns None, not a tensor"),
    "classes": ({"model": Answering(lambda logits: logits.long())}, r"model: maps \(2, 784\) to \(2, 10\) int64"),
    "complex": ({"model": Answering(lambda logits: logits.cfloat())}, "complex64"),
    "one answer": ({"model": Answering(lambda logits: logits.sum())}, r"to \(\) float32"),
    "its own failure": ({"model": Answering(failing)}, r"model: fails on \(2, 784\) float32 images \(KeyError"),
    "another input": ({"model": nn.Linear(28, 10)}, "model: fails on"),
    "a class": ({"model": nn.Linear}, "model: is the class Linear; give an instance"),
    "a function": ({"model": torch.relu}, "model: is a builtin_function_or_method"),
    "no parameters": ({"model": nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10))}, "no train"),
    "all frozen": ({"model": nn.Linear(784, 10).requires_grad_(False)}, "no trainable parameters"),
    "no numbers": ({"model": nn.Linear(784, 10, device="meta")}, "model: cannot be moved to cpu"),
    "text for overrides": ({"overrides": "optimizer=adam"}, r"overrides: is a str; give a list"),
    "bytes for overrides": ({"overrides": b"optimizer=adam"}, "overrides: is a bytes"),
    "a dict for overrides": ({"overrides": {"optimizer": "adam"}}, "overrides: is a dict"),
    "a number for overrides": ({"overrides": 3}, "overrides: is a int"),
    "numbers in overrides": ({"overrides": ["optimizer=adam", 3]}, "overrides: 3 is a int"),
    "none in overrides": ({"overrides": [None]}, "overrides: None is None"),
    "an empty override": ({"overrides": [""]}, "KEY=VALUE"),
    "an option in overrides": ({"overrides": ["-m"]}, "KEY=VALUE"),
    "hydra's directory": ({"overrides": ["hydra.run.dir=x"]}, r"overrides: hydra\.run\.dir=x: is only for"),
    "hydra's group": ({"overrides": ["+hydra/launcher=joblib"]}, "is only for the command mnist-ff train"),
    "hydra's section": ({"overrides": ["hydra={}"]}, "is only for the command mnist-ff train"),
    "a sweep's key": ({"overrides": ["sweep.rows=3"]}, "is only for the command mnist-ff train"),
    "several values": ({"overrides": ["optimizer.lr=0.1,0.2"]}, "optimizer.lr"),
    "the epochs' key": ({"overrides": [" ++trainer.epochs=2"]}, "duplicates the argument epochs="),
    "text for epochs": ({"epochs": "3"}, "epochs='3': is a str; give an integer"),
    "a fraction for epochs": ({"epochs": 1.0}, "epochs=1.0: is a float; give an integer"),
    "true for epochs": ({"epochs": True}, "epochs=True: is a bool"),
    "none for epochs": ({"epochs": None}, "epochs=None: is None"),
    "no epochs": ({"epochs": 0}, "epochs"),
    "fewer epochs": ({"epochs": -1}, "epochs"),
    "text for batch": ({"batch": "64"}, "batch='64'"),
    "an array for batch": ({"batch": np.array([64, 64])}, "batch="),
    "text for seed": ({"seed": "0"}, "seed='0'"),
    "false for seed": ({"seed": False}, "seed=False"),
    "a huge seed": ({"seed": 2**80}, "seed"),
    "text for shuffle": ({"shuffle": "no"}, "shuffle='no': must be True or False"),
    "none for shuffle": ({"shuffle": None}, "shuffle=None: must be True or False"),
    "two for shuffle": ({"shuffle": 2}, "shuffle=2: must be True or False"),
    "text for verbose": ({"verbose": "no"}, "verbose='no': must be True or False"),
    "a number for device": ({"device": 0}, "device=0: must be auto, cpu"),
    "none for device": ({"device": None}, "device=None: must be auto, cpu"),
    "several devices": ({"device": "cpu,cuda"}, "device='cpu,cuda': must be auto, cpu"),
    "a word more in device": ({"device": "cpu' seed=3"}, "must be auto, cpu"),
    "an array for seed": ({"seed": np.array([1])}, r"seed=array\(\[1\]\): is a ndarray; give an integer"),
    "not a number for seed": ({"seed": math.nan}, "seed=nan: is a float"),
    "no value for seed": ({"seed": torch.zeros((), dtype=torch.int64, device="meta")}, "seed=tensor.*is a Tensor"),
    "thousands of digits for seed": ({"seed": 10**5000}, "seed: has 16610 bits"),
    "a tensor for epochs": ({"epochs": torch.tensor([1, 2])}, r"epochs=tensor\(\[1, 2\]\): is a Tensor; give a"),
    "a true tensor for epochs": ({"epochs": torch.tensor(True)}, r"epochs=tensor\(True\): is a Tensor"),
    "a large array for batch": ({"batch": np.eye(100)}, r"batch=array\(.*\.\.\.: is a ndarray"),
    "not a number for batch": ({"batch": np.float32("nan")}, "batch=.*nan.*: is a float32"),
    "an array for shuffle": ({"shuffle": np.array([1, 0])}, r"shuffle=array\(\[1, 0\]\): must be True or False"),
    "a tensor for shuffle": ({"shuffle": torch.tensor([True, False])}, "shuffle=tensor.*: must be True or False"),
    "not a number for shuffle": ({"shuffle": math.nan}, "shuffle=nan: must be True or False"),
    "an array for verbose": ({"verbose": np.eye(2)}, "verbose=array.*: must be True or False"),
    "a tensor for verbose": ({"verbose": torch.eye(50)}, "verbose=tensor.*: must be True or False"),
    "an array for device": ({"device": np.array(["cpu", "cpu"])}, "device=array.*: must be auto, cpu"),
    "a tensor for device": ({"device": torch.eye(9)}, "device=tensor.*: must be auto, cpu"),
    "an array for callbacks": ({"callbacks": np.array([1, 2])}, "callbacks: must be a list"),
    "a scalar for callbacks": ({"callbacks": np.array(None)}, "callbacks: must be a list"),
    "a tensor for callbacks": ({"callbacks": torch.tensor([1, 2])}, "callbacks: must be a list"),
    "a scalar tensor for callbacks": ({"callbacks": torch.tensor(1)}, "callbacks: must be a list"),
    "wrong words in an array": ({"overrides": np.array(["a", "b"])}, "KEY=VALUE"),
    "numbers for overrides": ({"overrides": np.eye(3)}, "overrides: array.* is a ndarray; an override is text"),
    "a scalar for overrides": ({"overrides": np.array("a=1")}, "overrides: is a ndarray; give a list"),
    "tensors for overrides": ({"overrides": torch.tensor([1, 2])}, r"overrides: tensor\(1\) is a Tensor"),
    "an array for model": ({"model": np.eye(2)}, "model: is a ndarray"),
    "the device meta": ({"device": torch.device("meta")}, "device"),
    "a class of callback": ({"callbacks": [mnist_ff.LossHistory]}, "callbacks: must be a list"),
    "a number for callbacks": ({"callbacks": 3}, "callbacks: must be a list"),
    "text for callbacks": ({"callbacks": "LossHistory"}, "callbacks: must be a list"),
    "a dict for callbacks": ({"callbacks": {}}, "callbacks: must be a list"),
}


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(("wrong", "reason"), ODD.values(), ids=ODD)
def test_an_odd_argument_is_one_clear_error(wrong: dict[str, Any], reason: str, few: Data) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        mnist_ff.run_network(**{"data": few, **ONE, **wrong})
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.usefixtures("_quick")
def test_unused_lazy_layer_is_an_error(few: Data) -> None:
    model = Answering(lambda logits: logits)
    model.spare = nn.LazyLinear(3)
    with pytest.raises(ConfigError, match=r"spare\.weight is still uninitialised"):
        mnist_ff.run_network(few, model, **ONE)


@pytest.mark.usefixtures("_quick")
def test_odd_arguments_of_the_other_functions() -> None:
    for call in (
        lambda: mnist_ff.init_model(3),
        lambda: mnist_ff.init_model("hydra.run.dir=x"),
        lambda: mnist_ff.init_model(seed="1"),
        lambda: mnist_ff.load_data("sweep.rows=3"),
        lambda: mnist_ff.load_data(seed=1.5),
        lambda: mnist_ff.plot_losses("losses"),
        lambda: mnist_ff.plot_losses(None),
        lambda: mnist_ff.plot_losses([[1.0]]),
        lambda: mnist_ff.plot_losses([1.0], 3),
        lambda: mnist_ff.plot_losses([1.0], "none/losses.png"),
        lambda: mnist_ff.plot_losses([1.0], "losses.doc"),
    ):
        with pytest.raises(ConfigError):
            call()


@pytest.mark.usefixtures("_quick")
def test_what_means_the_same_is_taken(few: Data) -> None:
    heard = mnist_ff.LossHistory()
    words = ["model.hidden=[8]"]
    _, expected = mnist_ff.run_network(few, overrides=words, callbacks=(each for each in [heard]), **ONE)
    assert heard.losses == expected
    given: dict[str, Any] = {"epochs": np.int64(1), "batch": torch.tensor(64), "seed": np.uint8(0)}
    given |= {"shuffle": np.True_, "verbose": 0, "device": torch.device("cpu"), "callbacks": None}
    assert mnist_ff.run_network(few, overrides=tuple(words), **given)[1] == expected
    given |= {"shuffle": torch.tensor(True), "verbose": np.array([False]), "callbacks": np.array([heard, heard])}
    assert mnist_ff.run_network(few, overrides=np.array([*words, "optimizer=rmsprop"]), **given)[1] == expected
    assert mnist_ff.run_network(few, mnist_ff.init_model(*words), overrides=None, **ONE)[1] == expected


@pytest.mark.usefixtures("_quick")
def test_training_scores_are_given_on_request(few: Data) -> None:
    class Scores(mnist_ff.Callback):
        def on_epoch_end(self, epoch: EpochRecord) -> None:
            assert epoch.train is not None
            assert epoch.train.samples == 100

    mnist_ff.run_network(few, callbacks=[Scores()], overrides=["trainer.score_train=100", "model.hidden=[8]"], **ONE)


@pytest.mark.usefixtures("_quick")
def test_read_only_arrays_train_without_a_warning(few: Data) -> None:
    arrays = [split.images.numpy().copy() for split in (few.train, few.test)]
    arrays += [split.labels.numpy().copy() for split in (few.train, few.test)]
    for array in arrays:
        array.setflags(write=False)
    mnist_ff.run_network(arrays, overrides=["model.hidden=[8]"], **ONE)  # a warning is an error here


LOSSES: dict[str, list[float]] = {
    "none": [],
    "one": [2.3],
    "one that is none": [math.nan],
    "one without end": [math.inf],
    "equal ones": [2.3] * 200,
    "zeros": [0.0] * 200,
    "zeros in between": [0.0, 1.0] * 100,
    "gaps": [2.3, math.nan, 1.0] * 100,
    "a gap first": [math.nan, *[1.0] * 200],
    "gaps alone": [math.nan] * 200,
    "without end": [1.0, math.inf] * 100,
    "without end both ways": [1.0, math.inf, -math.inf] * 100,
    "below zero": [-1.0, 1.0] * 100,
    "tiny": [5e-324] * 200,
    "huge": [1e308] * 200,
    "tiny and huge": [1e-300, 1e308] * 100,
    "all that float32 has": [1e-37, 3e38] * 100,
}


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_odd_losses_are_drawn_without_a_warning(losses: list[float], tmp_path: Path) -> None:
    figure = mnist_ff.plot_losses(losses, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 5000
    drawn = figure.axes[0].lines[0].get_ydata()
    assert [value for value in drawn if np.isfinite(value)] == [value for value in losses if abs(value) < 1e39]


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda net, x: (net(x), net(x)), "returns a tuple in training"),
        (lambda net, x: net(x).detach(), "does not depend on any parameter"),
    ],
    ids=["a tuple", "detached"],
)
def test_bad_training_mode_module_is_one_error(forward: Callable[[nn.Module, torch.Tensor], Any], said: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(784, 10)

        def forward(self, x: torch.Tensor) -> Any:
            return forward(self.net, x) if self.training else self.net(x)

    images, labels = torch.rand(20, 784), torch.arange(20) % 10
    with pytest.raises(ConfigError, match=said):
        mnist_ff.run_network([images, images, labels, labels], Odd(), epochs=1, batch=10, verbose=False)
