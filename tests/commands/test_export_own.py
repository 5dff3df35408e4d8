"""Exports of a user's models, and of the built-in network for other images."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mnist_ff.config import own_parts
from mnist_ff.models import build
from tests.support.commands import Command

PARTS = str(Path(__file__).parents[1] / "support" / "own_models.py")
WORDS = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"]
needs_onnxscript = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="the extra onnx is not installed"
)


@pytest.mark.slow
@needs_onnxscript
@pytest.mark.parametrize("softmax", [False, True])
def test_own_model_as_onnx_answers_as_the_model(softmax: bool, mnist_ff: Command) -> None:
    import onnx
    import onnxruntime

    assert mnist_ff("train", "--parts", PARTS, *WORDS, "model=cnn")[0] == 0
    words = ["--softmax"] if softmax else []
    code, out, err = mnist_ff("export", "--parts", PARTS, "run", "--format", "onnx", *words)
    assert code == 0, err
    name = "probabilities" if softmax else "logits"
    assert f"images (B, 28, 28) float32 in [0, 1] to {name} (B, 10)" in out
    assert "on 1,000 test images" in out
    session = onnxruntime.InferenceSession("run.onnx", providers=["CPUExecutionProvider"])
    (into,), (result,) = session.get_inputs(), session.get_outputs()
    assert (into.name, into.shape, into.type) == ("images", ["B", 28, 28], "tensor(float)")
    assert (result.name, result.shape) == (name, ["B", 10])
    for batch in (1, 5):
        answer = session.run(None, {"images": np.zeros((batch, 28, 28), np.float32)})[0]
        assert answer.shape == (batch, 10)
    assert b"own_models.py" not in Path("run.onnx").read_bytes(), "no path of the user's files"
    facts = {entry.key: entry.value for entry in onnx.load("run.onnx").metadata_props}
    assert json.loads(facts["mnist_ff"])["architecture"]["model"]["channels"] == 4


@needs_onnxscript
def test_a_model_that_draws_matches_no_onnx_file(mnist_ff: Command) -> None:
    assert mnist_ff("train", "--parts", PARTS, *WORDS, "model=noisy")[0] == 0
    code, _, err = mnist_ff("export", "--parts", PARTS, "run", "--format", "onnx")
    assert code == 1
    assert "differs from the model" in err
    assert not Path("run.onnx").exists()


BRANCHING = """
import math
from dataclasses import dataclass
import mnist_ff
import torch


class Branching(torch.nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, classes)

    def forward(self, x):
        return self.layer(x.flatten(1)) if float(x.sum()) > 5 else self.layer(x.flatten(1)) * 2


@mnist_ff.register("model", "branching")
@dataclass(frozen=True)
class Parts:
    def build(self, shape, classes):
        return Branching(math.prod(shape), classes)
"""


@needs_onnxscript
def test_a_model_that_cannot_be_exported_is_one_line(mnist_ff: Command) -> None:
    Path("branching.py").write_text(BRANCHING)
    assert mnist_ff("train", "--parts", "branching.py", *WORDS, "model=branching")[0] == 0
    code, _, err = mnist_ff("export", "--parts", "branching.py", "run", "--format", "onnx")
    assert code == 1
    assert "torch.onnx.export cannot export this model" in err
    assert "--format safetensors and torch can" in err
    assert len(err.strip().splitlines()) == 1
    assert not list(Path().glob("*.onnx*"))


def test_own_model_without_exporter_is_one_line(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    assert mnist_ff("train", "--parts", PARTS, *WORDS, "model=cnn")[0] == 0
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else original(name))
    code, _, err = mnist_ff("export", "--parts", PARTS, "run", "--format", "onnx")
    assert code == 2
    assert "needs onnxscript: pip install 'mnist-ff[onnx]'" in err


@pytest.mark.parametrize("model", ["noisy", "cnn"])
def test_own_models_weights_are_read_back_and_fit(model: str, mnist_ff: Command) -> None:
    assert mnist_ff("train", "--parts", PARTS, *WORDS, f"model={model}")[0] == 0
    for form in ("safetensors", "torch"):
        code, out, err = mnist_ff("export", "--parts", PARTS, "run", "--format", form)
        assert code == 0, err
        assert "weights" in out
    with safe_open("run.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["mnist_ff"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    assert facts["architecture"]["model"]["name"] == model
    assert facts["input"].startswith("(B, 28, 28) float32")
    saved = torch.load("run.pt", weights_only=True)
    with own_parts.loaded([PARTS]):
        from tests.support.configs import make_config

        network = build.build_model(make_config(f"model={model}").model, 1, torch.device("cpu"))
    network.load_state_dict(tensors)
    network.load_state_dict(saved["state_dict"])
    own = network.state_dict()
    assert all(torch.equal(tensors[name], value) for name, value in own.items())
