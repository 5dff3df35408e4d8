"""Runs on own data: trained, evaluated, resumed; changed data is noticed, and a stranger's path is not read."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mnist_ff.data.sets import own
from tests.support.commands import Command
from tests.support.own_data import (
    LETTERS,
    keras_arrays,
    medmnist_arrays,
    write_idx_files,
    write_npz,
    write_pictures,
)

SMALL = ("model.hidden=[16]", "trainer.batch_size=20", "trainer.device=cpu", "trainer.threads=1")
FORMATS: dict[str, tuple[Callable[[], object], list[str], int]] = {
    "26 classes": (
        lambda: write_npz(Path("d.npz"), {**keras_arrays(), "classes": LETTERS}),
        ["data=npz", "data.path=d.npz"],
        26,
    ),
    "colour": (lambda: write_npz(Path("d.npz"), medmnist_arrays()), ["data=npz", "data.path=d.npz"], 5),
    "three sizes": (
        lambda: write_pictures(Path("d"), ("cat", "dog"), (20, 30, 40), colour=True, per_class=12),
        ["data=folder", "data.path=d", "data.size=24"],
        2,
    ),
    "IDX": (lambda: write_idx_files(Path("d"), keras_arrays(4, (12, 20)), packed=True), ["data=idx", "data.path=d"], 4),
}


def trained(mnist_ff: Command, *overrides: str) -> None:
    code, out, err = mnist_ff("train", *overrides, *SMALL, "trainer.epochs=1", "hydra.run.dir=run")
    assert code == 0, out + err


def good_npz(seed: int = 0) -> Path:
    arrays = keras_arrays(4)
    arrays["x_test"] = np.roll(arrays["x_test"], seed, axis=2)
    return write_npz(Path("d.npz"), arrays)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_trains_resumes_and_is_evaluated(kind: str, mnist_ff: Command) -> None:
    make, overrides, classes = FORMATS[kind]
    make()
    trained(mnist_ff, *overrides)
    assert Path("run/report.html").is_file()
    code, out, err = mnist_ff("train", "resume=run", "trainer.epochs=3", "trainer.plots=false")
    assert code == 0, out + err
    os.chdir("run")  # the path in the config holds anywhere
    code, out, err = mnist_ff("evaluate", ".")
    assert (code, err) == (0, ""), out + err
    found = json.loads(Path("evaluation.json").read_text())
    (entry,) = found.values()
    assert len(entry["classes"]) == classes
    score = json.loads(Path("summary.json").read_text())["score"]
    assert entry["loss"] == pytest.approx(score["loss"], rel=1e-5)


def test_the_run_records_sums_and_the_whole_path(mnist_ff: Command) -> None:
    write_npz(Path("d.npz"), medmnist_arrays())
    trained(mnist_ff, "data=npz", "data.path=d.npz", "trainer.plots=false")
    data = json.loads(Path("run/environment.json").read_text())["data"]
    assert data["validation_images"] == 20
    assert {"train_images", "test_labels", "validation_images", "classes"} <= set(data["sha256"])
    assert f"path: {Path.cwd()}/d.npz" in Path("run/config.yaml").read_text()


def test_validation_images_of_the_data_stop_early_and_rank(mnist_ff: Command) -> None:
    write_npz(Path("d.npz"), medmnist_arrays())
    trained(
        mnist_ff, "data=npz", "data.path=d.npz", "trainer.plots=false", "trainer.patience=3", "trainer.keep_best=true"
    )
    (row,) = csv.DictReader(Path("run/epochs.csv").read_text().splitlines())
    assert row["test_loss"] == ""
    assert float(row["validation_loss"]) > 0
    Path("d.npz").unlink()
    code, out, err = mnist_ff("runs", ".", "--json")
    assert code == 0, err
    (found,) = json.loads(out)
    assert json.dumps(found).count("validation") >= 1
    code, out, err = mnist_ff("compare", "run")
    assert code == 0, err
    assert "of 20" not in err


def test_other_data_ends_a_resume_and_leaves_the_run(mnist_ff: Command) -> None:
    good_npz()
    trained(mnist_ff, "data=npz", "data.path=d.npz", "trainer.plots=false")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    good_npz(seed=1)
    code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=2")
    assert code == 2
    assert "its test_images changed since" in err
    assert "a resume needs the same data" in err
    after = {path.name: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    assert {name for name in before if before[name] != after[name]} <= {"train.log"}


def test_moved_data_resumes_with_its_new_path(mnist_ff: Command) -> None:
    good_npz()
    trained(mnist_ff, "data=npz", "data.path=d.npz", "trainer.plots=false")
    shutil.move("d.npz", "moved.npz")
    code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=2", "trainer.plots=false")
    assert code == 2
    assert "d.npz: does not exist" in err
    code, out, err = mnist_ff("train", "resume=run", "trainer.epochs=2", "trainer.plots=false", "data.path=moved.npz")
    assert code == 0, out + err
    code, out, err = mnist_ff("evaluate", "run", "--data-path", "moved.npz")
    assert (code, err) == (0, "")


def test_other_data_warns_an_evaluation(mnist_ff: Command) -> None:
    good_npz()
    trained(mnist_ff, "data=npz", "data.path=d.npz", "trainer.plots=false")
    good_npz(seed=1)
    code, _, err = mnist_ff("evaluate", "run")
    assert code == 0
    assert (
        "warning: d.npz, a NumPy archive with Keras's keys: its test_images differ from those that run was trained with"
        in err
    )
    code, _, err = mnist_ff("predict", "run", "--index", "0")
    assert code == 0
    assert "its test_images differ" in err


def test_a_strangers_path_is_read_only_where_it_is_given_again(mnist_ff: Command) -> None:
    good_npz()
    trained(mnist_ff, "data=npz", "data.path=d.npz")
    text = Path("run/environment.json").read_text()
    found = json.loads(text)
    Path("run/environment.json").write_text(text.replace(found["places"], "0" * 64))
    os.mkfifo("pipe")  # whoever opens it waits for ever
    config = Path("run/config.yaml").read_text()
    Path("run/config.yaml").write_text(config.replace("/d.npz", "/pipe"))
    for words in (
        ["evaluate", "run"],
        ["predict", "run", "--index", "0"],
        ["train", "--config-of", "run"],
        ["train", "resume=run", "trainer.epochs=2"],
    ):
        code, _, err = mnist_ff(*words)
        assert code == 2, words
        assert "data.path=" in err, words
    for words in (["runs", "."], ["compare", "run"], ["report", "run"]):
        code, _, err = mnist_ff(*words)
        assert code == 0, err
    code, _, err = mnist_ff("evaluate", "run", "--data-path", "d.npz")
    assert (code, err) == (0, "")
    code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=2", "trainer.plots=false", "data.path=d.npz")
    assert code == 0, err


def test_a_strangers_sweep_over_own_files_says_what_to_do(mnist_ff: Command) -> None:
    good_npz()
    words = ("data=npz", "data.path=d.npz", "seed=1,2", "trainer.epochs=1", "trainer.plots=false")
    code, _, err = mnist_ff("train", "-m", *words, *SMALL, "hydra.sweep.dir=s")
    assert code == 0, err
    text = Path("s/jobs.json").read_text()
    Path("s/jobs.json").write_text(re.sub(r'"(places)": "[^"]+"', r'"\1": null', text))
    shutil.rmtree("s/1")
    code, _, err = mnist_ff("train", "-m", "resume=s")
    assert code == 2
    assert "is not read, as somebody else may have chosen it; start a sweep of your own with data.path=PATH" in err
    assert not Path("s/1").exists()


def test_data_path_is_for_own_files_only(mnist_ff: Command) -> None:
    code, _, err = mnist_ff(
        "train", "data=mnist_5k", "model.hidden=[4]", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"
    )
    assert code == 0, err
    code, _, err = mnist_ff("evaluate", "run", "--data-path", "x.npz")
    assert code == 2
    assert "--data-path: data=mnist_5k has no files of your own" in err
    code, _, err = mnist_ff("evaluate", "run", "--data", "npz")
    assert code == 2
    assert "--data-path PATH" in err


def test_a_sweep_over_data(mnist_ff: Command) -> None:
    for name, classes in (("a", 3), ("b", 5)):
        write_npz(Path(f"{name}.npz"), keras_arrays(classes))
    sweep = ("data=npz", "data.path=a.npz,b.npz", "trainer.epochs=1", "trainer.plots=false", "hydra.sweep.dir=s")
    code, out, err = mnist_ff("train", "-m", *sweep, *SMALL)
    assert code == 0, out + err
    assert "a.npz" in out
    rows = list(csv.DictReader(Path("s/sweep.csv").read_text().splitlines()))
    assert len(rows) == 2
    Path("b.npz").unlink()
    code, _, err = mnist_ff("compare", "s")
    assert code == 0, err
    code, _, err = mnist_ff("train", "-m", *sweep, *SMALL)
    assert code == 2
    assert "data.path=b.npz: does not exist" in err


@pytest.mark.parametrize("replaced", ["both seals", "a job's seal"])
def test_a_strangers_sweep_does_not_choose_data(replaced: str, mnist_ff: Command) -> None:
    good_npz()
    sweep = ("data=npz", "data.path=d.npz", "seed=0,1", "trainer.epochs=1", "trainer.plots=false", "hydra.sweep.dir=s")
    assert mnist_ff("train", "-m", *sweep, *SMALL)[0] == 0
    Path("d.npz").unlink()
    os.mkfifo("d.npz")  # whoever opens it waits for ever
    text = Path("s/jobs.json").read_text().replace('"places": "', '"places": "0')
    Path("s/jobs.json").write_text(text.replace('"seal": "', '"seal": "0') if replaced == "both seals" else text)
    shutil.rmtree("s/1")
    code, _, err = mnist_ff("train", "-m", "resume=s")
    assert code == 2
    assert "data.path=" in err
    assert not Path("s/1/summary.json").exists()


def test_duplicates_are_a_warning_of_the_run(mnist_ff: Command) -> None:
    arrays = keras_arrays(4)
    arrays["x_test"][:1] = arrays["x_train"][:1]
    write_npz(Path("d.npz"), arrays)
    code, out, _ = mnist_ff(
        "train", "data=npz", "data.path=d.npz", *SMALL, "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"
    )
    assert code == 0
    assert "1 of 8 test images are training images too" in out
    assert "1 of 8 test images are training images too" in Path("run/train.log").read_text()


PART = '''
from dataclasses import dataclass

import mnist_ff
import numpy as np


@mnist_ff.register("data", "saved")
@dataclass(frozen=True)
class Saved:
    """Arrays from a file."""

    def build(self):
        with np.load("d.npz") as file:
            names = {"x": "images", "y": "labels"}
            return {f"{part}_{names[key]}": file[f"{key}_{part}"] for key in names for part in ("train", "test")}
'''


def test_changes_of_a_parts_own_data_are_noticed(mnist_ff: Command) -> None:
    Path("parts.py").write_text(PART)
    good_npz()
    trained(mnist_ff, "--parts", "parts.py", "data=saved", "trainer.plots=false")
    code, _, err = mnist_ff("evaluate", "run", "--parts", "parts.py")
    assert (code, err) == (0, "")
    good_npz(seed=1)
    own._built.cache_clear()  # as in another process
    code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=2", "--parts", "parts.py")
    assert code == 2
    assert "saved: its test_images changed since" in err
