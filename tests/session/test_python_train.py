"""mnist_ff.train(): everything that the train command writes, also with the caller's own data and model."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import mnist_ff
from mnist_ff.errors import BadRunError, ConfigError, DataError, MnistError
from mnist_ff.runs.records import Status
from tests.support.commands import Command, only_run
from tests.support.mnist import make_split
from tests.support.runs import assert_seconds_add_up

SMALL = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "trainer.device=cpu")
QUICK = ("trainer.epochs=2", "trainer.batch_size=100", "trainer.plots=false", "trainer.device=cpu")


def arrays(train: int = 600, test: int = 200) -> list[torch.Tensor]:
    first, second = make_split(train, 1), make_split(test, 2)
    return [first.images, second.images, first.labels, second.labels]


def module(seed: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10)
        )


def saved_tensors(run: mnist_ff.Run, name: str) -> dict[str, torch.Tensor]:
    return load_file(run.file(name))


def weights(run: mnist_ff.Run) -> bytes:
    return run.file("model.safetensors").read_bytes()


def test_it_writes_what_the_command_writes(mnist_ff: Command, capsys: pytest.CaptureFixture[str]) -> None:
    import mnist_ff as package

    run = package.train(*SMALL[:3], "trainer.device=cpu", directory="from_python")
    out = capsys.readouterr().out
    assert "run directory  from_python" in out
    assert mnist_ff("train", *SMALL[:3], "trainer.device=cpu", "hydra.run.dir=by_command")[0] == 0
    theirs = {path.relative_to("by_command") for path in Path("by_command").rglob("*")}
    assert {path.relative_to(run.path) for path in run.path.rglob("*")} == theirs
    for name in ("config.yaml", "model.safetensors", "predictions.safetensors", ".hydra/config.yaml"):
        assert run.file(name).read_bytes() == Path("by_command", name).read_bytes(), name
    assert run.losses() == package.Run.open("by_command").losses()
    assert run.environment()["argv"] == ["mnist_ff.train", *SMALL[:3], "trainer.device=cpu"]
    summary = run.summary()
    assert summary is not None
    assert summary.status is Status.FINISHED
    assert_seconds_add_up(summary.seconds)
    for words in (["evaluate", "from_python"], ["compare", "from_python", "by_command"], ["report", "from_python"]):
        assert mnist_ff(*words)[0] == 0
    assert mnist_ff("train", "resume=from_python", "trainer.epochs=2")[0] == 0


def test_without_a_directory_it_stands_in_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    run = mnist_ff.train(*SMALL, verbose=False)
    assert run.path.samefile(only_run())
    assert capsys.readouterr() == ("", "")


def test_given_data_and_model_leave_a_whole_run(mnist_ff: Command) -> None:
    import mnist_ff as package

    model, history = module(), package.LossHistory()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    words = ("trainer.epochs=2", "trainer.batch_size=100", "data.validation_split=0.2", "trainer.device=cpu")
    run = package.train(*words, data=arrays(), model=model, directory="run", callbacks=[history], verbose=False)
    assert history.losses == pytest.approx(run.losses())
    assert len(history.losses) == 10
    assert [parameter.grad for parameter in model.parameters()] == [None] * 6
    assert model.training
    saved = load_file("run/model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    config = run.config()
    assert (config.data.name, config.model.name, config.data.validation_split) == ("arrays", "module", 0.2)
    text = run.file("config.yaml").read_text()
    assert "type: torch.nn.modules.container.Sequential" in text
    assert re.search("sha256: [0-9a-f]{64}\n", text)
    names = {path.name for path in run.path.iterdir()}
    assert {"batches.csv", "epochs.csv", "report.html", "plots", "predictions.safetensors", "checkpoint.pt"} <= names
    Path("run/report.html").unlink()
    assert mnist_ff("report", "run")[0] == 0
    assert Path("run/report.html").stat().st_size > 50_000
    package.train(*SMALL, directory="other", verbose=False)
    code, out, err = mnist_ff("compare", "run", "other")
    assert code == 0, err
    assert "run" in out
    assert "broken" not in out
    assert mnist_ff("runs", ".")[0] == 0


class Flat(nn.Module):
    """Takes flat images only, lazily or not."""

    def __init__(self, lazy: bool) -> None:
        super().__init__()
        self.first: nn.Module = nn.LazyLinear(10) if lazy else nn.Linear(784, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 2:
            raise ValueError("give (B, D)")
        return self.first(images)  # type: ignore[no-any-return]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_module_of_flat_images_trains_resumes_and_reports(mnist_ff: Command, lazy: bool) -> None:
    import mnist_ff as package

    words, model = [*QUICK, "augment=shift", "trainer.plots=true"], Flat(lazy)
    run = package.train(*words, data=arrays(), model=model, directory="run", verbose=False)
    images = saved_tensors(run, "predictions.safetensors")
    assert images["kept_images"].shape[1:] == images["worst_images"].shape[1:] == (28, 28)
    assert saved_tensors(run, "augmented.safetensors")["images"].shape[2:] == (28, 28)
    again = Flat(lazy)
    with torch.no_grad():
        logits = model(arrays()[1].flatten(1) / 255)
    assert np.allclose(logits.softmax(1), images["probabilities"], atol=1e-5)
    package.train("trainer.epochs=3", resume="run", data=arrays(), model=again, verbose=False)
    whole = package.train(*words, "trainer.epochs=3", data=arrays(), model=Flat(lazy), directory="w", verbose=False)
    assert len(whole.losses()) == 18
    assert len(run.losses()) == 18
    assert mnist_ff("report", "run")[0] == 0


def test_a_module_that_takes_both_sees_images_as_before() -> None:
    seen = set()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.LazyLinear(4)
            self.last = nn.LazyLinear(10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.add(tuple(images.shape[1:]))
            return self.last(self.first(images).flatten(1))  # type: ignore[no-any-return]

    model = Both()
    mnist_ff.train(*QUICK, data=arrays(), model=model, directory="run", verbose=False)
    assert seen == {(28, 28)}
    assert model.first.weight.shape == (4, 28)
    with pytest.raises(MnistError, match=r"fails on \(2, 28, 28\) float32 images"):
        mnist_ff.train(*QUICK, data=arrays(), model=nn.Linear(5, 10), directory="other", verbose=False)


WITHOUT_PYTHON = (
    ["evaluate", "run"],
    ["predict", "run", "--index", "3"],
    ["export", "run", "--format", "onnx"],
    ["train", "resume=run", "trainer.epochs=3"],
    ["train", "--config-of", "run"],
)


def test_commands_say_what_only_python_has(mnist_ff: Command) -> None:
    import mnist_ff as package

    package.train(*QUICK, data=arrays(), model=module(), directory="run", verbose=False)
    package.train(*QUICK, "model.hidden=[8]", data=arrays(), directory="half", verbose=False)
    for words in WITHOUT_PYTHON:
        code, out, err = mnist_ff(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), words
        assert "its data and model came from Python" in err
        assert "mnist_ff.train(resume='run', data=..., model=...)" in err
    code, _, err = mnist_ff("evaluate", "half")
    assert code == 2
    assert "mnist_ff.train(resume='half', data=...)" in err


def test_a_resume_in_python_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    words = (*QUICK, "data.validation_split=0.2", "trainer.ema=0.9")
    data = arrays()
    whole = mnist_ff.train(*words, "trainer.epochs=4", data=data, model=module(), directory="whole", verbose=False)
    first = mnist_ff.train(*words, data=data, model=module(), directory="parts", verbose=False)
    again = mnist_ff.train("trainer.epochs=4", data=data, model=module(9), resume=first, verbose=False)
    assert again.losses() == whole.losses()
    assert weights(again) == weights(whole)
    assert mnist_ff.train("trainer.epochs=4", data=data, model=module(), resume="parts").path == Path("parts")
    assert "nothing to do" in capsys.readouterr().out


def test_a_resume_wants_the_same_again() -> None:
    data = arrays()
    mnist_ff.train(*QUICK, data=data, model=module(), directory="run", verbose=False)
    mnist_ff.train(*SMALL, directory="other", verbose=False)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for given, reason in (
        ({}, "data and model came from Python"),
        ({"data": data}, "mnist_ff.train(resume='run', data=..., model=...)"),
        ({"data": arrays(500), "model": module()}, "data: is not what run was trained with (sha256 "),
        ({"data": data, "model": nn.Linear(784, 10)}, "model: is not what run was trained with (type "),
    ):
        with pytest.raises(MnistError, match=re.escape(reason)):
            mnist_ff.train("trainer.epochs=3", resume="run", verbose=False, **given)  # type: ignore[arg-type]
    other = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(MnistError):
        mnist_ff.train("trainer.epochs=3", resume="run", data=data, model=other, verbose=False)
    assert {path: path.read_bytes() for path in before} == before or set(before) <= set(Path("run").rglob("*"))
    with pytest.raises(ConfigError, match="data: other was trained with data=mnist_5k"):
        mnist_ff.train("trainer.epochs=3", resume="other", data=data, verbose=False)
    with pytest.raises(BadRunError, match="nowhere"):
        mnist_ff.train(resume="nowhere")


def test_ctrl_c_keeps_the_run_resumable(capsys: pytest.CaptureFixture[str]) -> None:
    class Press(mnist_ff.Callback):
        def on_epoch_end(self, record: Any) -> None:
            signal.raise_signal(signal.SIGINT)

    data = arrays()
    whole = mnist_ff.train(*QUICK, data=data, model=module(), directory="whole", verbose=False)
    run = mnist_ff.train(*QUICK, data=data, model=module(), directory="run", callbacks=[Press()])
    summary = run.summary()
    assert summary is not None
    assert (summary.status, summary.epochs) == (Status.INTERRUPTED, 1)
    assert "train further  mnist_ff.train(resume='run', data=..., model=...)" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = mnist_ff.train(data=data, model=module(), resume=run, verbose=False)
    assert (again.losses(), weights(again)) == (whole.losses(), weights(whole))


def test_own_parts_and_folders_from_python() -> None:
    Path("own_parts.py").write_text(
        "from dataclasses import dataclass\nimport mnist_ff\n\n"
        "@mnist_ff.register('model', 'line_of_python')\n@dataclass(frozen=True)\nclass Line:\n"
        "    wide: bool = False\n\n    def build(self, shape, classes):\n        import torch\n"
        "        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, classes))\n"
    )
    Path("conf/trainer").mkdir(parents=True)
    Path("conf/trainer/quick.yaml").write_text("defaults: [default]\nepochs: 1\nbatch_size: 100\nplots: false\n")
    words = ("model=line_of_python", "trainer=quick", "trainer.device=cpu")
    run = mnist_ff.train(*words, data=arrays(), parts="own_parts.py", config_dir=Path("conf"), verbose=False)
    assert run.file("parts/own_parts.py").read_bytes() == Path("own_parts.py").read_bytes()
    assert run.config().trainer.batch_size == 100
    with pytest.raises(ConfigError, match="model=line_of_python: must be one of"):
        mnist_ff.train(*words[:1], data=arrays())
    with pytest.raises(ConfigError, match="config_dir=nowhere: no such folder"):
        mnist_ff.train(config_dir=["nowhere"])


WRONG = (
    ({"data": [1, 2]}, "data: must be from"),
    ({"model": nn.Linear}, "model: is the class Linear"),
    ({"model": 3}, "model: is a int"),
    ({"directory": "a", "resume": "b"}, "directory: a resumed run stays"),
    ({"callbacks": [print]}, "callbacks: must be a list"),
    ({"parts": 3}, "parts: is a int"),
    ({"config_dir": 3}, "config_dir: is a int"),
    ({"parts": "nothing.py"}, "nothing.py"),
    ({"verbose": "yes"}, "verbose="),
)


@pytest.mark.parametrize(("given", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_a_wrong_argument_is_one_clear_error(given: dict[str, Any], reason: str) -> None:
    with pytest.raises((ConfigError, DataError), match=re.escape(reason)) as caught:
        mnist_ff.train(*(QUICK if {"data", "model"} & given.keys() else SMALL), **given)
    assert not Path("outputs").exists()
    assert "\n" not in str(caught.value)


WRONG_WORDS = {
    "optimizer.lrr=1": "did you mean optimizer.lr?",
    "hydra.run.dir=x": "is only for the command",
    "seed=1,2": "trains one run",
    "data=mnist": "duplicates the argument data=",
    "data.root=x": "duplicates the argument data=",
    "model.hidden=[3]": "duplicates the argument model=",
    "resume=x": "no such key resume",
    "data.validation_split=0.001": "leaves 599 images to train and 1 to validate",
}


@pytest.mark.parametrize("word", WRONG_WORDS)
def test_a_wrong_override_is_one_clear_error(word: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(WRONG_WORDS[word])):
        mnist_ff.train(word, *QUICK, data=arrays(), model=module(), directory="run")
    assert not Path("run").exists()


def test_a_directory_is_never_shared() -> None:
    Path("there").mkdir()
    with pytest.raises(ConfigError, match="there: already exists"):
        mnist_ff.train(*SMALL, directory="there")


def test_a_failed_run_says_so_and_the_callers_error_comes_out() -> None:
    class Broken(mnist_ff.Callback):
        def on_epoch_end(self, record: Any) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        mnist_ff.train(*QUICK, data=arrays(), directory="run", callbacks=[Broken()], verbose=False)
    summary = mnist_ff.Run.open("run").summary()
    assert summary is not None
    assert summary.status is Status.FAILED
    assert_seconds_add_up(summary.seconds)


def test_given_data_may_be_numpy_or_from_load_data() -> None:
    plain = [np.asarray(array) for array in arrays()]
    first = mnist_ff.train(*QUICK, data=plain, directory="a", verbose=False)
    second = mnist_ff.train(*QUICK, data=arrays(), directory="b", verbose=False)
    assert first.config() == second.config()
    assert weights(first) == weights(second)
    loaded = mnist_ff.load_data("data=mnist_5k", "data.validation_split=0.25")
    third = mnist_ff.train(*QUICK, data=loaded, directory="c", verbose=False)
    assert "validation_loss" in third.epochs()[0]
    assert json.loads(third.file("environment.json").read_text())["data"]["name"] == "arrays"


def test_names_for_what_python_gives_are_reserved(mnist_ff: Command) -> None:
    Path("taken.py").write_text(
        "from dataclasses import dataclass\nimport mnist_ff\n\n@mnist_ff.register('model', 'module')\n"
        "@dataclass(frozen=True)\nclass Own:\n    def build(self, shape, classes): ...\n"
    )
    code, _, err = mnist_ff("train", "--parts", "taken.py")
    assert code == 2
    assert "taken.py:4: model=module: stands for what Python gives" in err
    assert "data=arrays: must be one of" in mnist_ff("train", "data=arrays")[2]


@pytest.mark.parametrize(("shape", "classes"), [((28, 28), 26), ((3, 32, 32), 5), ((12,), 4)])
def test_given_data_of_any_shape_and_classes(mnist_ff: Command, shape: tuple[int, ...], classes: int) -> None:
    import mnist_ff as package

    rng = torch.Generator().manual_seed(1)
    labels = torch.arange(2 * classes * 20) % classes
    images = 0.5 * torch.rand(len(labels), *shape, generator=rng)
    images.flatten(1)[torch.arange(len(labels)), labels] = 1.0
    half = len(labels) // 2
    data = [images[:half], images[half:], labels[:half], labels[half:]]
    size = int(torch.tensor(shape).prod())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(size, classes))
    words = ("trainer.epochs=1", "trainer.batch_size=20", "trainer.device=cpu")
    for name, model in (("mlp", None), ("module", linear)):
        run = package.train(*words, data=data, model=model, directory=name, verbose=False)
        assert (run.data_spec().shape, len(run.data_spec().classes)) == (shape, classes)
        assert run.file("report.html").is_file()
    code, out, err = mnist_ff("compare", "mlp", "module")
    assert (code, out.count("finished  ")) == (0, 2), err
