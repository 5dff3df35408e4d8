"""predict on folders, labelled folders and pictures of several digits; unsure predictions; calibration in evaluate."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_ff.analysis.calibration import reliability, threshold
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import fixed, percent
from mnist_ff.runs.predictions import read_held_out, read_probabilities
from tests.support.commands import Command
from tests.support.mnist import mnist_test_images, mnist_test_labels
from tests.support.processes import in_a_terminal
from tests.support.runs import whole_run
from tests.support.several_digits import drawing_of


def save(row: int, path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - mnist_test_images()[row]).save(path)


def test_unsure_is_below_the_threshold_of_held_out_images(trained_run: Path, mnist_ff: Command) -> None:
    held_out = read_held_out(Run(trained_run))
    found = threshold(held_out.probabilities, held_out.labels)
    assert found is not None
    numbers = list(map(str, range(60)))
    entries = json.loads(mnist_ff("predict", str(trained_run), "--index", *numbers, "--json")[1])
    assert {entry["threshold"] for entry in entries} == {found.value}
    assert {entry["unsure"] for entry in entries} == {True, False}
    assert all(entry["unsure"] == (entry["top"][0]["probability"] < found.value) for entry in entries)
    unsure = next(number for number, entry in zip(numbers, entries, strict=True) if entry["unsure"])
    code, out, err = mnist_ff("predict", str(trained_run), "--index", unsure)
    assert code == 0
    assert "%  unsure" in out
    assert err.startswith("1 of 1 unsure: top probability below ")
    assert "unsure" not in mnist_ff("predict", str(trained_run), "--index", unsure, "--unsure-below", "0")[1]
    assert "is not a number from 0 to 1" in mnist_ff("predict", str(trained_run), "--unsure-below", "2")[2]


def test_several_digits_in_a_folder_of_folders(trained_run: Path, mnist_ff: Command) -> None:
    images = mnist_test_images()
    save(0, "p/b/seven.png")
    Path("p/a.png").write_bytes(drawing_of([[images[0], images[1]], [images[3]]], np.random.default_rng(0)))
    Path("p/notes.txt").touch()
    code, out, err = mnist_ff("predict", str(trained_run), "p", "--json")
    assert (code, err) == (0, "skipped p/notes.txt: not a PNG or JPEG file\n")
    several, one = json.loads(out)
    assert (several["image"], several["answer"], several["read"]) == ("p/a.png", None, "72\n0")
    assert (one["image"], one["answer"], one["read"], one["parts"]) == ("p/b/seven.png", 7, "7", [])
    out = mnist_ff("predict", str(trained_run), "p/a.png")[1]
    assert out.startswith("p/a.png   72 / 0   3 digits in 2 lines")
    assert "\n  digit 2   2  " in out
    assert len(json.loads(mnist_ff("predict", str(trained_run), "p/a.png", "--single", "--json")[1])[0]["parts"]) == 0


def test_labelled_folders_are_scored(trained_run: Path, mnist_ff: Command) -> None:
    labels = mnist_test_labels()
    for row in range(40):
        save(row, f"digits/{labels[row]}/{row}.png")
    Path("digits/1/broken.png").write_text("no picture")
    code, out, err = mnist_ff("predict", str(trained_run), "digits", "--labels", "--json")
    assert code == 2
    assert "digits/1/broken.png: is not a PNG or JPEG image" in err
    found = json.loads(out)
    right = sum(entry["answer"] == entry["label"] for entry in found["predictions"])
    assert (found["images"], found["correct"], found["accuracy"]) == (40, right, right / 40)
    assert np.array(found["confusion"]).sum(axis=1).tolist() == np.bincount(labels[:40], minlength=10).tolist()
    assert found["not_read"] == ["digits/1/broken.png: is not a PNG or JPEG image"]
    Path("digits/1/broken.png").unlink()
    code, out, _ = mnist_ff("predict", str(trained_run), "digits", "--labels")
    assert (code, out.splitlines()[0].startswith(f"accuracy {right / 40:.2%}".replace("%", " %"))) == (0, True)
    save(0, "digits/seven/0.png")
    code, out, err = mnist_ff("predict", str(trained_run), "digits", "--labels")
    assert (code, out) == (2, "")
    assert err == ("error: digits: seven: not a class of this run, whose classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n")
    assert "--labels: give one folder" in mnist_ff("predict", str(trained_run), "--labels", "--index", "0")[2]


def test_pictures_are_read_in_batches(trained_run: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_ff.commands.predict.AT_ONCE", 4)
    for row in range(14):
        save(row, f"p/{row:02}.png")
    entries = json.loads(mnist_ff("predict", str(trained_run), "p", "--json", "--index", "5")[1])
    assert [Path(entry["image"]).stem for entry in entries] == [f"{row:02}" for row in range(14)] + ["test image 5"]


def test_evaluate_prints_and_saves_the_calibration(trained_run: Path, mnist_ff: Command) -> None:
    saved = read_probabilities(Run(trained_run))
    expected = reliability(saved.probabilities, saved.labels)
    code, out, err = mnist_ff("evaluate", str(trained_run), "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["reliability"]["ece"] == pytest.approx(expected.ece, abs=1e-6)
    assert values["reliability"]["brier"] == pytest.approx(expected.brier, abs=1e-6)
    assert [row["images"] for row in values["reliability"]["coverage"]] == [row.images for row in expected.coverage]
    kept = json.loads((trained_run / "evaluation.json").read_text())["mnist test"]
    assert kept["reliability"] == values["reliability"]
    assert {key: values[key] for key in ("run", "data", "split")} == {
        "run": str(trained_run), "data": "mnist", "split": "test",
    }  # fmt: skip
    out = mnist_ff("evaluate", str(trained_run))[1]
    assert f"ECE {percent(expected.ece)}, Brier score {fixed(expected.brier, 4)}" in out


def test_a_run_with_a_validation_split_saves_its_probabilities() -> None:
    found = read_held_out(whole_run("run", "data.validation_split=0.1"))
    assert (found.images, len(found.labels)) == ("validation", 400)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_in_a_terminal_no_line_is_cut_or_wrapped(columns: int, trained_run: Path, real_mnist: Path) -> None:
    Path("run").symlink_to(trained_run)
    Path("p").mkdir()
    images, labels = mnist_test_images(), mnist_test_labels()
    Path("p/a.png").write_bytes(drawing_of([[images[0], images[1]], [images[3]]], np.random.default_rng(0)))
    for row in range(30):
        save(row, f"d/{labels[row]}/{row}.png")
    for words in (["predict", "run", "p"], ["predict", "run", "d", "--labels"], ["evaluate", "run"]):
        code, seen = in_a_terminal(*words, columns=columns)
        assert code == 0, seen
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
        assert max(len(line.rstrip()) for line in plain.splitlines()) <= columns, plain
