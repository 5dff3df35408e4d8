"""Exports: each file read by what it is for, against the model; nothing wrong is kept, nothing is overwritten."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from mnist_ff import cli
from mnist_ff.commands import export
from mnist_ff.models import onnx_graph
from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.models.mlp import MLP
from tests.support.commands import Command

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="the extra onnx is not installed"
)
WORDS = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "run"
    assert cli.main(["train", *WORDS, "model.hidden=[20,10]", f"hydra.run.dir={path}"]) == 0
    return path


@pytest.fixture
def run(trained: Path) -> Path:
    """A copy of one run, in ./run."""
    return Path(shutil.copytree(trained, "run"))


def images() -> np.ndarray:
    return np.random.default_rng(0).random((7, 784), dtype=np.float32)


def logits(run: Path, hidden: list[int], activation: str = "relu") -> np.ndarray:
    """By numpy and by torch's own functions, from the run's weights."""
    weights, x = load_file(run / "model.safetensors"), images()
    for number in range(len(hidden) + 1):
        x = x @ weights[f"layers.{number}.weight"].T + weights[f"layers.{number}.bias"]
        x = x if number == len(hidden) else ACTIVATIONS[activation].function(torch.from_numpy(x)).numpy()
    return x


def answer(path: str) -> tuple[Any, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, session.run(None, {"images": images()})[0]


@needs_onnx
@pytest.mark.parametrize(
    ("activation", "hidden"),
    [("relu", []), ("relu", [9, 8, 7, 6]), *((name, [12, 9]) for name in ACTIVATIONS)],
    ids=str,
)
def test_onnx_gives_what_the_network_gives(activation: str, hidden: list[int], mnist_ff: Command) -> None:
    words = [*WORDS, f"model.hidden={hidden}".replace(" ", ""), f"model.activation={activation}", "hydra.run.dir=run"]
    assert mnist_ff("train", *words)[0] == 0
    code, out, err = mnist_ff("export", "run", "--format", "onnx")
    assert code == 0, err
    assert "opset 13" in out
    assert "on 1,000 test images" in out
    session, found = answer("run.onnx")
    assert np.abs(found - logits(Path("run"), hidden, activation)).max() < 1e-4
    (into,), (result,) = session.get_inputs(), session.get_outputs()
    assert (into.name, into.shape, into.type) == ("images", ["B", 784], "tensor(float)")
    assert (result.name, result.shape) == ("logits", ["B", 10])


@needs_onnx
def test_softmax_and_metadata(run: Path, mnist_ff: Command) -> None:
    import onnx

    assert mnist_ff("export", "run", "--format", "onnx", "--softmax", "--out", "p.onnx")[0] == 0
    session, found = answer("p.onnx")
    expected = torch.from_numpy(logits(run, [20, 10])).softmax(1).numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert session.get_outputs()[0].name == "probabilities"
    model = onnx.load("p.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    facts = json.loads(session.get_modelmeta().custom_metadata_map["mnist_ff"])
    assert facts["architecture"] == {"hidden": [20, 10], "activation": "relu", "dropout": 0.4}
    assert facts["output"] == "(B, 10) probabilities"


@needs_onnx
@pytest.mark.parametrize("amount", [1e-2, float("nan")])
def test_wrong_onnx_graph_is_not_kept(
    amount: float, run: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tampered(layers: onnx_graph.Layers, *rest: Any) -> Any:
        (weight, bias), *others = layers
        return onnx_graph.build_graph([(weight, bias + np.float32(amount)), *others], *rest)

    monkeypatch.setattr(export, "build_graph", tampered)
    code, out, err = mnist_ff("export", "run", "--format", "onnx", "--out", "bad.onnx")
    assert (code, out) == (1, "")
    assert "bad.onnx: differs from the model" in err
    assert "the file was deleted" in err
    assert sorted(path.name for path in Path().iterdir()) == ["run"]


@needs_onnx
def test_swapped_answers_are_found(run: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def tampered(layers: onnx_graph.Layers, *rest: Any) -> Any:
        *others, (weight, bias) = layers
        return onnx_graph.build_graph([*others, (weight[::-1].copy(), bias[::-1].copy())], *rest)

    monkeypatch.setattr(export, "build_graph", tampered)
    code, _, err = mnist_ff("export", "run", "--format", "onnx")
    assert code == 1
    assert "of 1,000 predictions" in err
    assert not Path("run.onnx").exists()


def test_onnx_without_its_extra_is_one_line(run: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = mnist_ff("export", "run", "--format", "onnx")
    assert code == 2
    assert err == "error: --format onnx: needs onnx and onnxruntime: pip install 'mnist-ff[onnx]'\n"


def test_safetensors_can_be_rebuilt_from_its_header(run: Path, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("export", "run", "--format", "safetensors")
    assert code == 0, err
    assert "16,020 weights" in out
    with safe_open("run.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["mnist_ff"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = MLP(**facts["architecture"]).eval()
    model.load_state_dict(weights)
    assert facts["data"] == "mnist_5k"
    assert np.abs(model(torch.from_numpy(images())).detach().numpy() - logits(run, [20, 10])).max() < 1e-5


def test_torch_loads_with_weights_only(run: Path, mnist_ff: Command) -> None:
    assert mnist_ff("export", "run", "--format", "torch")[0] == 0
    saved = torch.load("run.pt", weights_only=True)
    model = MLP(**saved["architecture"]).eval()
    model.load_state_dict(saved["state_dict"])
    assert np.abs(model(torch.from_numpy(images())).detach().numpy() - logits(run, [20, 10])).max() < 1e-5


@pytest.mark.parametrize(
    ("form", "saver"), [("safetensors", (safetensors.torch, "save_file")), ("torch", (torch, "save"))]
)
def test_file_that_does_not_round_trip_is_removed(
    form: str, saver: tuple[Any, str], run: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight changes on its way to the file."""
    save = getattr(*saver)

    def changed(values: dict[str, Any], path: Path, **rest: Any) -> None:
        weights = values.get("state_dict", values)
        weights["layers.1.bias"] = weights["layers.1.bias"] + 1
        save(values, path, **rest)

    monkeypatch.setattr(*saver, changed)
    code, out, err = mnist_ff("export", "run", "--format", form)
    assert (code, out) == (1, "")
    assert "differs from the model; the file was deleted" in err
    assert sorted(path.name for path in Path().iterdir()) == ["run"]


@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_nothing_is_overwritten(form: str, run: Path, mnist_ff: Command) -> None:
    Path("kept").write_text("precious")
    Path("link").symlink_to("nowhere")
    for name in ("kept", "link", "run"):
        code, _, err = mnist_ff("export", "run", "--format", form, "--out", name)
        assert code == 2
        assert f"{name}: already exists" in err
    assert Path("kept").read_text() == "precious"
    code, _, err = mnist_ff("export", "run", "--format", form, "--out", "no/where")
    assert code == 2
    assert "no/where: folder no does not exist" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere", "--format", "torch"], "nowhere: does not exist"),
        (["run"], "--format"),
        (["run", "--format", "pickle"], "pickle"),
        (["run", "--format", "torch", "--softmax"], "--softmax: needs --format onnx"),
    ],
)
def test_bad_arguments(words: list[str], reason: str, run: Path, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("export", *words)
    assert code == 2
    assert reason in err
    assert len(err.splitlines()) == 1


def test_a_run_without_weights_is_one_line(run: Path, mnist_ff: Command) -> None:
    (run / "model.safetensors").unlink()
    (run / "summary.json").unlink()
    for command in (["export", "run", "--format", "torch"], ["predict", "run", "--index", "0"]):
        code, _, err = mnist_ff(*command)
        assert code == 2
        assert err.startswith("error: run: the run has not ended and has no final weights")


def test_a_jobs_file_is_named_by_its_sweep(trained: Path, mnist_ff: Command) -> None:
    shutil.copytree(trained, "sweep/0")
    Path("sweep/multirun.yaml").touch()
    assert mnist_ff("export", "sweep/0", "--format", "torch")[0] == 0
    assert Path("sweep-0.pt").is_file()


@needs_onnx
def test_shape_image_takes_images_and_gives_the_same(run: Path, mnist_ff: Command) -> None:
    import onnxruntime

    code, out, err = mnist_ff("export", "run", "--format", "onnx", "--shape", "image", "--out", "i.onnx", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert (values["input_shape"], values["file"], values["checked_images"]) == ([None, 1, 28, 28], "i.onnx", 1000)
    session = onnxruntime.InferenceSession("i.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["B", 1, 28, 28]
    found = session.run(None, {"images": images().reshape(-1, 1, 28, 28)})[0]
    assert np.abs(found - logits(run, [20, 10])).max() < 1e-4
    facts = json.loads(session.get_modelmeta().custom_metadata_map["mnist_ff"])
    assert facts["input_shape"] == ["B", 1, 28, 28]
    assert mnist_ff("export", "run", "--format", "onnx", "--shape", "flat", "--out", "f.onnx")[0] == 0
    assert answer("f.onnx")[0].get_inputs()[0].shape == ["B", 784]
    code, out, err = mnist_ff("export", "run", "--format", "torch", "--shape", "image")
    assert (code, out, err) == (2, "", "error: --shape: needs --format onnx; a torch file holds only weights\n")
