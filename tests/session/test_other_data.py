"""Runs on other images than MNIST's: trained, resumed, evaluated, shown and exported at their size and classes."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from mnist_ff import cli
from mnist_ff.data.cache import METADATA_KEY
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import loss_text
from mnist_ff.runs.records import DataSpec
from tests.support.commands import Command
from tests.support.own_data import keras_arrays, write_npz, write_pictures
from tests.support.runs import SAME

KINDS = {"colour": ((32, 32, 3), 5), "letters": ((28, 28), 26), "narrow": ((20, 12), 3), "two": ((9, 9), 2)}
WORDS = [
    "model.hidden=[16]",
    "trainer.batch_size=32",
    "trainer.plots=false",
    "trainer.device=cpu",
    "optimizer.lr=0.003",
]


def train_words(kind: str, folder: Path, *words: str) -> list[str]:
    """The words of a run on this kind of data in folder/run."""
    shape, classes = KINDS[kind]
    path = folder / "data.npz"
    if not path.exists():
        write_npz(path, keras_arrays(classes, shape, 20))
    return ["train", "data=npz", f"data.path={path}", *WORDS, *words]


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    words = train_words(request.param, folder, "trainer.epochs=6", "augment=shift", f"hydra.run.dir={folder / 'run'}")
    assert cli.main(words) == 0
    return request.param, folder


def spec_of(kind: str) -> DataSpec:
    shape, classes = KINDS[kind]
    return DataSpec(shape if len(shape) == 2 else (shape[2], *shape[:2]), tuple(map(str, range(classes))))


def test_a_run_records_its_images_and_classes(trained: tuple[str, Path]) -> None:
    kind, folder = trained
    run, spec = Run(folder / "run"), spec_of(kind)
    assert run.data_spec() == spec
    weights = load_file(run.file("model.safetensors"))
    assert weights["layers.0.weight"].shape == (16, spec.inputs)
    assert weights["layers.1.weight"].shape == (len(spec.classes), 16)
    saved = load_file(run.file("predictions.safetensors"))
    assert saved["probabilities"].shape[1] == len(spec.classes)
    assert saved["kept_images"].shape[1:] == spec.shape
    assert load_file(run.file("augmented.safetensors"))["images"].shape[2:] == spec.shape
    losses = run.losses()
    assert sum(losses[-5:]) < sum(losses[:5]), "something must have been learnt"


def test_a_stopped_run_goes_on_to_the_same_bytes(trained: tuple[str, Path], tmp_path: Path, mnist_ff: Command) -> None:
    kind, folder = trained
    path = tmp_path / "run"
    words = train_words(kind, folder, "augment=shift", f"hydra.run.dir={path}")
    assert mnist_ff(*words, "trainer.epochs=3")[0] == 0
    code, _, error = mnist_ff("train", f"resume={path}", "trainer.epochs=6")
    assert (code, error) == (0, "")
    for name in SAME:
        assert (path / name).read_bytes() == (folder / "run" / name).read_bytes(), name


def test_evaluate_repeats_the_score(trained: tuple[str, Path], mnist_ff: Command) -> None:
    kind, folder = trained
    code, out, error = mnist_ff("evaluate", str(folder / "run"))
    assert (code, error) == (0, "")
    summary = Run(folder / "run").summary()
    assert summary is not None
    assert summary.score is not None
    assert f"loss      {loss_text(summary.score.loss)}" in out
    values = json.loads((folder / "run" / "evaluation.json").read_text())["npz test"]
    assert [row["class"] for row in values["classes"]] == list(range(KINDS[kind][1]))
    assert not any("name" in row for row in values["classes"])


def test_predict_shows_test_images_and_pictures(trained: tuple[str, Path], tmp_path: Path, mnist_ff: Command) -> None:
    """A picture with a test image's pixels gives what the test image gives; another size is resized."""
    kind, folder = trained
    run = str(folder / "run")
    with np.load(folder / "data.npz") as arrays:
        pixels = arrays["x_test"][1]
    same, large = tmp_path / "same.png", tmp_path / "large.png"
    Image.fromarray(pixels).save(same)
    Image.fromarray(pixels.repeat(2, 0).repeat(3, 1)).save(large)
    code, out, error = mnist_ff("predict", run, str(same), str(large), "--index", "1", "--json")
    assert (code, error) == (0, "" if kind != "letters" else error)
    picture, resized, image = json.loads(out)
    assert len(image["probabilities"]) == len(resized["probabilities"]) == KINDS[kind][1]
    if kind != "letters":  # a picture of 28 x 28 grey pixels is prepared as a digit
        assert picture["probabilities"] == pytest.approx(image["probabilities"], abs=1e-6)
    code, out, error = mnist_ff("predict", run, "--index", "0", "1")
    assert code == 0, error
    assert all(line.startswith("2 of 2 unsure") for line in error.splitlines())  # so few images train so little
    assert "test image 1" in out


def test_an_export_has_the_datas_sizes(
    trained: tuple[str, Path], tmp_path: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = trained
    spec, run = spec_of(kind), str(folder / "run")
    assert mnist_ff("export", run, "--format", "torch", "--out", str(tmp_path / "net.pt"))[0] == 0
    assert mnist_ff("export", run, "--format", "safetensors", "--out", str(tmp_path / "net.safetensors"))[0] == 0
    with safe_open(tmp_path / "net.safetensors", "numpy") as file:
        facts = json.loads(file.metadata()[METADATA_KEY])
    assert (facts["shape"], facts["classes"]) == (list(spec.shape), list(spec.classes))
    assert facts["architecture"]["inputs"] == spec.inputs
    assert facts["input"].startswith(f"(B, {spec.inputs}) float32")
    if importlib.util.find_spec("onnxruntime") is None:
        return
    code, out, error = mnist_ff("export", run, "--format", "onnx", "--out", str(tmp_path / "net.onnx"))
    assert (code, error) == (0, "")
    assert f"(B, {spec.inputs}) float32 in [0, 1] to logits (B, {len(spec.classes)})" in out


def test_other_data_is_refused_in_one_line(trained: tuple[str, Path], mnist_ff: Command) -> None:
    kind, folder = trained
    code, _, error = mnist_ff("evaluate", str(folder / "run"), "--data", "mnist_5k")
    assert code == 2
    assert f"its network is for images of {spec_of(kind).text}, not 28 x 28 and 10 classes" in error
    assert error.count("\n") == 1


def test_a_teacher_for_other_images_is_refused(trained: tuple[str, Path], tmp_path: Path, mnist_ff: Command) -> None:
    kind, folder = trained
    words = [
        "train",
        "data=mnist_5k",
        *WORDS,
        f"trainer.teacher={folder / 'run'}",
        "trainer.teacher_weight=0.5",
        f"hydra.run.dir={tmp_path / 'x'}",
    ]
    code, _, error = mnist_ff(*words)
    assert code == 2
    assert f"trainer.teacher={folder / 'run'}: its network is for images of {spec_of(kind).text}" in error
    assert not (tmp_path / "x").exists()


def test_a_teacher_for_the_same_images_teaches(trained: tuple[str, Path], tmp_path: Path, mnist_ff: Command) -> None:
    kind, folder = trained
    for engine in ("eager", "fused"):
        place = tmp_path / engine
        words = [
            f"trainer.teacher={folder / 'run'}",
            "trainer.teacher_weight=0.5",
            f"trainer.engine={engine}",
            f"hydra.run.dir={place}",
        ]
        code, _, error = mnist_ff(*train_words(kind, folder, "trainer.epochs=1", *words))
        assert (code, error) == (0, "")
    eager, fused = (Run(tmp_path / engine).losses() for engine in ("eager", "fused"))
    assert eager == pytest.approx(fused, rel=1e-4)


def test_changed_data_stops_a_resume(tmp_path: Path, mnist_ff: Command) -> None:
    words = train_words("narrow", tmp_path, "trainer.epochs=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert mnist_ff(*words)[0] == 0
    before = (tmp_path / "run" / "batches.csv").read_bytes()
    write_npz(tmp_path / "data.npz", keras_arrays(4, (20, 12), 20))
    code, _, error = mnist_ff("train", f"resume={tmp_path / 'run'}", "trainer.epochs=2")
    assert code == 2
    assert error.count("\n") == 1
    assert (tmp_path / "run" / "batches.csv").read_bytes() == before


def test_named_classes_stand_beside_their_numbers(tmp_path: Path, mnist_ff: Command) -> None:
    names = ("cat", "dog", "fish")
    root = write_pictures(tmp_path / "pets", names, (16,), colour=True)
    run = tmp_path / "run"
    words = ["train", "data=folder", f"data.path={root}", *WORDS, "trainer.batch_size=6", "trainer.epochs=2"]
    assert mnist_ff(*words, f"hydra.run.dir={run}")[0] == 0
    assert Run(run).data_spec().classes == names
    out = mnist_ff("evaluate", str(run))[1]
    assert all(f"\n{number} {name} " in out for number, name in enumerate(names))
    values = json.loads((run / "evaluation.json").read_text())["folder test"]
    assert [row["name"] for row in values["classes"]] == list(names)
    picture = next((root / "test" / "fish").iterdir())
    out = mnist_ff("predict", str(run), str(picture))[1]
    assert all(f"{number} {name}  " in out for number, name in enumerate(names))
    (found,) = json.loads(mnist_ff("predict", str(run), str(picture), "--json")[1])
    assert found["name"] == names[found["answer"]] == found["top"][0]["name"]


def test_a_strangers_spec_is_checked_before_the_weights(
    trained: tuple[str, Path], tmp_path: Path, mnist_ff: Command
) -> None:
    _, folder = trained
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    environment = json.loads((run / "environment.json").read_text())
    for shape, said in (([256, 256], "layers.0.weight"), ([1 << 20, 1 << 20], "256 x 256")):
        environment["data"]["shape"] = shape
        (run / "environment.json").write_text(json.dumps(environment))
        code, _, error = mnist_ff("evaluate", str(run))
        assert code == 2
        assert said in error
        assert error.count("\n") == 1
