"""`mnist_ff.open_run` and `mnist_ff.runs`, with pandas and with NumPy, also for broken directories."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

import mnist_ff
from mnist_ff.errors import BadRunError, ConfigError, MnistError
from mnist_ff.runs.records import Status
from tests.support.commands import Command
from tests.support.mnist import make_split

QUICK = ("data=mnist_5k", "model.hidden=[8]", "trainer.plots=false", "trainer.device=cpu", "trainer.threads=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """outputs/ with two runs, the second with a validation split and a name."""
    root = tmp_path_factory.mktemp("opened") / "outputs"
    mnist_ff.train(*QUICK, "trainer.epochs=1", directory=root / "2026-01-01_00-00-00_aaaa", verbose=False)
    words = ("trainer.epochs=2", "data.validation_split=0.2", "optimizer.lr=0.002", "name=small")
    mnist_ff.train(*QUICK, *words, directory=root / "2026-01-02_00-00-00_bbbb", verbose=False)
    return root


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained.parent)
    return trained


def test_a_run_is_opened_by_path_word_and_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = mnist_ff.open_run("last")
    assert run.path == Path("outputs/2026-01-02_00-00-00_bbbb")
    assert "last is outputs/2026-01-02_00-00-00_bbbb: the newest of 2" in capsys.readouterr().err
    assert mnist_ff.open_run(run.path).path == mnist_ff.open_run(run).path == mnist_ff.open_run(run.run).path
    assert mnist_ff.open_run("best").path.parent == Path("outputs")
    assert (run.name, run.status, run.reason) == ("small", "finished", None)
    assert (run.config.optimizer.lr, run.values["optimizer.lr"], run.classes[3]) == (0.002, 0.002, "3")
    assert run.summary is not None
    assert (run.summary.status, run.summary.epochs) == (Status.FINISHED, 2)
    assert repr(run).startswith("OpenedRun('outputs/2026-01-02_00-00-00_bbbb', finished, ")


def test_pandas_and_numpy_tables_are_equal(here: Path) -> None:
    frames, arrays = mnist_ff.open_run("last"), mnist_ff.open_run("last", tables="numpy")
    for name, length in (("batches", 2 * 13), ("epochs", 2), ("predictions", 1_000)):
        frame, array = getattr(frames, name), getattr(arrays, name)
        assert isinstance(frame, pd.DataFrame)
        assert isinstance(array, np.ndarray)
        assert len(frame) == len(array) == length
        for column in set(array.dtype.names or ()) - {"probabilities"}:
            np.testing.assert_array_equal(frame[column].to_numpy(), array[column])
            assert frame[column].dtype == array[column].dtype
    assert list(frames.batches) == ["step", "epoch", "batch", "loss", "lr", "samples"]
    assert frames.batches["loss"].tolist() == frames.run.losses()
    assert frames.batches["step"].tolist() == list(range(26))
    assert frames.epochs["test_accuracy"].isna().all()
    assert frames.epochs["validation_accuracy"].between(0, 1).all()
    table = arrays.predictions
    np.testing.assert_array_equal(frames.predictions[[f"p{n}" for n in range(10)]], table["probabilities"])
    score = frames.run.summary().score  # type: ignore[union-attr]
    assert score is not None
    assert (table["label"] == table["predicted"]).mean() == pytest.approx(score.accuracy)


def test_the_model_gives_the_saved_predictions(here: Path) -> None:
    run = mnist_ff.open_run("last", tables="numpy")
    model = run.model()
    assert not model.training
    images = mnist_ff.load_data("data=mnist_5k").test.images.float() / 255
    with torch.no_grad():
        probabilities = model(images).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, run.predictions["probabilities"], atol=1e-5)
    with pytest.raises(ConfigError, match="was trained with model=mlp; leave it out"):
        run.model(nn.Linear(784, 10))


def test_own_models_need_their_module_or_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = make_split(300, 1), make_split(100, 2)
    data = [first.images, second.images, first.labels, second.labels]
    words = ("trainer.epochs=1", "trainer.batch_size=100", "trainer.plots=false", "trainer.device=cpu")
    model = nn.Linear(784, 10)
    run = mnist_ff.train(*words, data=data, model=model, directory="given", verbose=False)
    with pytest.raises(BadRunError, match="its model came from Python"):
        mnist_ff.open_run(run).model()
    again = mnist_ff.open_run("given").model(nn.Linear(784, 10))
    assert isinstance(again, nn.Linear)
    assert torch.equal(again.weight, model.weight)
    with pytest.raises(MnistError, match=r"model\.safetensors"):
        mnist_ff.open_run("given").model(nn.Sequential(nn.Linear(784, 8), nn.Linear(8, 10)))
    Path("own.py").write_text(
        "from dataclasses import dataclass\nimport mnist_ff, torch\n\n"
        '@mnist_ff.register("model", "flat")\n@dataclass(frozen=True)\nclass Flat:\n'
        "    def build(self, shape, classes):\n"
        "        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, classes))\n"
    )
    mnist_ff.train(*words, "model=flat", data=data, directory="own", parts="own.py", verbose=False)
    opened = mnist_ff.open_run("own")
    with pytest.raises(BadRunError, match="model=flat: not registered"):
        opened.model()
    assert isinstance(opened.model(parts="own.py"), nn.Sequential)


def test_opening_needs_neither_torch_nor_pandas(here: Path) -> None:
    code = (
        "import sys, mnist_ff\n"
        "import mnist_ff.runs.directory\n"
        "sys.modules['pandas'] = None\n"
        "import importlib.util; importlib.util.find_spec = lambda name, *_: None\n"
        "run = mnist_ff.open_run('last')\n"
        "print(type(run.batches).__name__, len(run.predictions), run.summary.status, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here.parent)
    assert done.stdout.split() == ["ndarray", "1000", "finished", "False"], done.stderr


def test_runs_lists_and_chooses(here: Path) -> None:
    assert [run.name for run in mnist_ff.runs()] == ["small", None]
    assert [run.name for run in mnist_ff.runs(str(here), sort="began", reverse=True)] == [None, "small"]
    assert [run.name for run in mnist_ff.runs(name="sm*")] == ["small"]
    assert [run.name for run in mnist_ff.runs(where="optimizer.lr=0.001")] == [None]
    assert [run.name for run in mnist_ff.runs(where=["optimizer.lr=0.002", "score>0"], status="finished")] == ["small"]
    assert len(mnist_ff.runs(limit=1)) == 1
    assert mnist_ff.runs(data="mnist") == []
    assert mnist_ff.runs(since="2030-01-01") == []
    frame = pd.DataFrame([{**run.values, "accuracy": run.summary.score.accuracy} for run in mnist_ff.runs()])
    assert frame["optimizer.lr"].tolist() == [0.002, 0.001]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"status": "finish"}, "status finish: must be one of"),
    ({"where": "nonsense"}, "nonsense"),
    ({"where": "optimiser.lr=1"}, "did you mean optimizer.lr"),
    ({"since": "yesterday"}, "yesterday"),
    ({"limit": 0}, "limit=0: must be at least 1"),
    ({"tables": "polars"}, "tables='polars': must be 'auto', 'pandas' or 'numpy'"),
    ({"folder": "nowhere"}, "nowhere"),
    ({"folder": 3}, "folder: is a int"),
    ({"status": 3}, "status: is a int"),
    ({"name": ["a"]}, "name: is a list"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_wrong_filters_raise_our_errors(options: dict[str, Any], message: str, here: Path) -> None:
    with pytest.raises(MnistError) as caught:
        mnist_ff.runs(**options)
    assert message in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_missing_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mnist_ff.runs() == []
    for word in ("last", "nothing", "", "/", "a\0b", "x" * 5000):
        with pytest.raises(MnistError):
            mnist_ff.open_run(word)
    with pytest.raises(ConfigError, match="run: is a int"):
        mnist_ff.open_run(3)  # type: ignore[arg-type]
    with pytest.raises(BadRunError):
        mnist_ff.runs("/no/such/place")


def broken_files() -> Iterator[tuple[str, bytes]]:
    yield "batches.csv", b"step,epoch,batch,loss,lr,samples\n0,0,0,1,1,nan\n"
    yield "batches.csv", b"step,epoch,batch,loss,lr,samples\n1e300,0,0,1,1,1\n"
    yield "batches.csv", b"step,epoch,batch,loss,lr,samples\n0.5,0,0,1,1,1\n"
    yield "batches.csv", b"step,epoch,batch,loss,lr,samples\n,0,0,1,1,1\n"
    yield "batches.csv", b"step,epoch,batch,loss,lr,samples\ninf,0,0,1,1,1\n"
    yield "batches.csv", b"a,b\n"
    yield "epochs.csv", b"\xff\xfe"
    yield "epochs.csv", b""
    yield "summary.json", b'{"status": "finished"}'
    yield "summary.json", b"[" * 10_000
    yield "config.yaml", b"a: [&x [*x]]"
    yield "config.yaml", b"\0"
    yield "environment.json", b'{"data": {"shape": [1e9], "classes": []}}'
    yield "predictions.safetensors", b"\xff" * 100
    yield "model.safetensors", b"\x08\0\0\0\0\0\0\0{}      "


ATTRIBUTES = ("config", "values", "classes", "summary", "batches", "epochs", "predictions", "model")


@pytest.mark.parametrize("tables", ["pandas", "numpy"])
def test_broken_directories_raise_our_errors_only(tables: Any, trained: Path, tmp_path: Path) -> None:
    import shutil

    for number, (name, content) in enumerate(broken_files()):
        copy = tmp_path / str(number)
        shutil.copytree(trained / "2026-01-01_00-00-00_aaaa", copy)
        (copy / name).write_bytes(content)
        run, failed = mnist_ff.open_run(copy, tables=tables), []
        for attribute in ATTRIBUTES:
            try:
                found = getattr(run, attribute)
                if attribute == "model":
                    found()
            except MnistError:
                failed.append(attribute)
        assert failed, (name, content)
        assert run.status
        assert repr(run)


def test_predictions_of_unknown_classes_are_refused(trained: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(trained / "2026-01-01_00-00-00_aaaa", copy)
    tensors = load_file(copy / "predictions.safetensors")
    save_file({**tensors, "answers": np.full_like(tensors["answers"], 99)}, copy / "predictions.safetensors")
    with pytest.raises(BadRunError, match="refers to classes that do not exist"):
        _ = mnist_ff.open_run(copy).predictions


def test_a_run_that_has_not_ended(trained: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(trained / "2026-01-01_00-00-00_aaaa", copy)
    for name in ("summary.json", "model.safetensors", "predictions.safetensors"):
        (copy / name).unlink()
    run = mnist_ff.open_run(copy)
    assert (run.summary, run.status) == (None, "interrupted")
    assert len(run.batches) == 16
    with pytest.raises(BadRunError, match="has not ended and has no final weights"):
        run.model()
    with pytest.raises(BadRunError):
        _ = run.predictions
    resumed = mnist_ff.train("trainer.epochs=2", resume=run, verbose=False)
    assert len(mnist_ff.open_run(resumed).epochs) == 2


def test_runs_is_a_function_and_a_package(mnist_ff: Command) -> None:
    import mnist_ff as package
    from mnist_ff import runs

    assert callable(package.runs)
    assert runs is package.runs
    assert importlib.util.find_spec("mnist_ff.runs.records") is not None
    assert json.dumps(package.__all__)
    assert package.runs.directory.Run is package.Run  # type: ignore[attr-defined]
