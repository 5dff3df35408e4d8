"""The images and classes that a run's network is for, as environment.json says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import MNIST_SPEC, DataSpec
from tests.support.configs import make_config


def run_with(folder: Path, data: Any) -> Run:
    run = Run.create(folder / "run")
    run.write_config(make_config())
    run.write_json("environment.json", {"data": data})
    return run


def test_a_runs_images_and_classes_are_read(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"name": "x", "shape": [3, 32, 20], "classes": ["cat", "dog"]})
    assert run.data_spec() == DataSpec((3, 32, 20), ("cat", "dog"))


@pytest.mark.parametrize("data", [{"name": "mnist", "sha256": {}}, None, "mnist"])
def test_a_run_that_does_not_say_has_mnists(tmp_path: Path, data: Any) -> None:
    assert run_with(tmp_path, data).data_spec() == MNIST_SPEC


def test_a_run_without_the_file_has_mnists(tmp_path: Path) -> None:
    run = run_with(tmp_path, {})
    run.file("environment.json").unlink()
    assert run.data_spec() == MNIST_SPEC


GOOD: dict[str, Any] = {"shape": [28, 28], "classes": ["a", "b"]}
BAD = {
    "no classes": ({"shape": [28, 28]}, "data.classes is missing"),
    "no shape": ({"classes": ["a", "b"]}, "data.shape is missing"),
    "a text": (GOOD | {"shape": "28x28"}, "data.shape is not a list"),
    "a fraction": (GOOD | {"shape": [28.0, 28]}, "data.shape is not a list of integers"),
    "a truth": (GOOD | {"shape": [True, 28]}, "data.shape is not a list of integers"),
    "zero": (GOOD | {"shape": [0, 28]}, "shape .0, 28."),
    "below zero": (GOOD | {"shape": [-1]}, "shape"),
    "too high": (GOOD | {"shape": [257, 28]}, "up to 256 x 256"),
    "four channels": (GOOD | {"shape": [4, 28, 28]}, "3 channels"),
    "four axes": (GOOD | {"shape": [1, 1, 28, 28]}, "shape"),
    "no axes": (GOOD | {"shape": []}, "shape"),
    "a long vector": (GOOD | {"shape": [3 * 256 * 256 + 1]}, "196,608"),
    "one class": (GOOD | {"classes": ["a"]}, "1 classes; there must be 2 to 1,000"),
    "many classes": (GOOD | {"classes": [str(n) for n in range(1001)]}, "1,001 classes"),
    "a number as name": (GOOD | {"classes": ["a", 1]}, "not a list of texts"),
    "an empty name": (GOOD | {"classes": ["a", ""]}, "printable"),
    "an escape code": (GOOD | {"classes": ["a", "\x1b[2J"]}, "printable"),
    "a long name": (GOOD | {"classes": ["a", "b" * 81]}, "printable"),
    "one name twice": (GOOD | {"classes": ["a", "a"]}, "two classes named a"),
}


@pytest.mark.parametrize(("data", "said"), BAD.values(), ids=BAD.keys())
def test_impossible_images_or_classes_are_one_line(tmp_path: Path, data: Any, said: str) -> None:
    run = run_with(tmp_path, data)
    with pytest.raises(BadRunError, match=said) as caught:
        run.data_spec()
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert str(run.file("environment.json")) in str(caught.value)


def test_the_limits_themselves_are_allowed(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(1000)]
    for place, shape in enumerate(([3, 256, 256], [196_608], [1, 1])):
        run = run_with(tmp_path / str(place), {"shape": shape, "classes": names})
        assert run.data_spec() == DataSpec(tuple(shape), tuple(names))
