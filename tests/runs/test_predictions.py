"""Reading a run's saved probabilities; invalid files are an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mnist_ff.errors import BadRunError, MissingFileError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.predictions import read_held_out, read_probabilities
from mnist_ff.runs.records import DataSpec

SPEC = DataSpec((28, 28), ("a", "b", "c"))


def save(**changes: Any) -> Run:
    """A run directory with predictions for six images. Tensors that are None are left out."""
    row = np.array([0.5, 0.25, 0.25], dtype=np.float32)
    tensors = {"probabilities": np.tile(row, (6, 1)), "labels": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)}
    tensors = {name: tensor for name, tensor in {**tensors, **changes}.items() if tensor is not None}
    save_file(tensors, "predictions.safetensors")
    return Run(Path())


def test_probabilities_and_labels_of_the_test_images(tmp_path: Path) -> None:
    found = read_probabilities(save(), SPEC)
    assert found.images == read_held_out(save(), SPEC).images == "test"
    assert found.probabilities.tolist() == [[0.5, 0.25, 0.25]] * 6
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (found.probabilities.dtype, found.labels.dtype) == (np.float32, np.int64)


def test_held_out_images_are_the_validation_images_if_saved(tmp_path: Path) -> None:
    own = np.array([[0, 1, 0]] * 2, dtype=np.float32)
    run = save(validation_probabilities=own, validation_labels=np.array([1, 2], dtype=np.int16))
    found = read_held_out(run, SPEC)
    assert (found.images, found.labels.tolist(), found.probabilities.tolist()) == ("validation", [1, 2], own.tolist())
    assert len(read_probabilities(run, SPEC).labels) == 6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": None}, "labels is missing"),
        ({"probabilities": np.ones((6, 4), dtype=np.float32)}, "shape 6 x 4, expected N x 3"),
        ({"labels": np.zeros(5, dtype=np.uint8)}, "do not match"),
        ({"labels": np.full(6, 3, dtype=np.uint8)}, "classes that do not exist"),
        ({"labels": np.full(6, -1, dtype=np.int8)}, "classes that do not exist"),
        ({"probabilities": np.full((6, 3), np.nan, dtype=np.float32)}, "not probabilities"),
        ({"probabilities": np.full((6, 3), 1.5, dtype=np.float32)}, "not probabilities"),
        ({"probabilities": np.zeros((0, 3), np.float32), "labels": np.zeros(0, np.uint8)}, "do not match"),
        ({"validation_probabilities": np.ones((2, 3), np.float32)}, "validation_labels is missing"),
    ],
)
def test_an_invalid_predictions_file_is_an_error(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    run = save(**changes)
    with pytest.raises(BadRunError, match=said) as caught:
        read_held_out(run, SPEC)
    assert "\n" not in str(caught.value)


def test_too_many_predictions_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_ff.runs.predictions.MAX_PREDICTIONS", 5)
    with pytest.raises(BadRunError, match="more than 5 predictions"):
        read_probabilities(save(), SPEC)


def test_a_missing_file_and_one_that_is_not_safetensors(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_probabilities(Run(Path()), SPEC)
    Path("predictions.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BadRunError, match="not readable"):
        read_probabilities(Run(Path()), SPEC)
