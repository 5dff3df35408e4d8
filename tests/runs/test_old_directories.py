"""Directories that an older mnist-ff left (tests/fixtures/old.tar.xz) open, score, export, repeat and resume.

They were made on another machine, so that new losses are compared within what a processor may change; what stands in
the files is compared exactly. Their images are drawn, and none of them is MNIST's.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.fixtures.old_data import synthetic_cache
from tests.support.commands import Command

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "old.tar.xz"
RUNS = ("run", "interrupted", "sweep/0", "sweep/1", "search/0", "search/1")
STOPPED_AT = 34
"""Batches that the interrupted run had, of 360: in the middle of its sixth epoch."""


@pytest.fixture(autouse=True)
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """./run, ./interrupted, ./sweep and ./search, and the images that they were trained on."""
    synthetic_cache(tmp_path / "cache" / "mnist-ff")
    monkeypatch.setenv("MNIST_FF_DATA", str(tmp_path / "cache" / "mnist-ff"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.unpack_archive(OLD, tmp_path / "unpacked", filter="data")
    for path in (tmp_path / "unpacked" / "old").iterdir():
        path.rename(tmp_path / path.name)


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def losses(path: str) -> list[float]:
    return [float(row["loss"]) for row in rows(f"{path}/batches.csv")]


def rates(path: str) -> list[str]:
    return [row["lr"] for row in rows(f"{path}/batches.csv")]


def close(values: list[float], tolerance: float = 1e-4) -> Any:
    return pytest.approx(values, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("run", RUNS)
def test_it_is_scored_as_it_was(run: str, mnist_ff: Command) -> None:
    before = read(f"{run}/summary.json")["score"]
    code, _, err = mnist_ff("evaluate", run)
    assert code == 0, err
    (found,) = read(f"{run}/evaluation.json").values()
    assert (found["correct"], found["samples"]) == (before["correct"], 20)
    assert found["loss"] == pytest.approx(before["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "path", ["run", *(pytest.param(path, marks=pytest.mark.slow) for path in ("interrupted", "sweep", "search"))]
)
def test_its_page_is_written(path: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("report", path)
    assert code == 0, err
    assert "</html>" in Path(path, "report.html").read_text()


def test_all_are_compared(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("compare", "run", "interrupted", "sweep", "search", "--json")
    assert code == 0, err
    found = {row["run"]: row for row in json.loads(out)["runs"]}
    assert sorted(found) == sorted(RUNS)
    for run, row in found.items():
        summary = read(f"{run}/summary.json")
        assert row["status"] == summary["status"], run
        if row["status"] == "finished":
            assert row["test"] == {key: summary["score"][key] for key in ("accuracy", "loss", "samples")}, run


@pytest.mark.parametrize("sweep", ["sweep", "search"])
def test_a_sweeps_table_is_what_it_was(sweep: str, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("compare", sweep, "--csv")
    assert code == 0, err
    before, after = rows(f"{sweep}/sweep.csv"), list(csv.reader(out.splitlines()))
    columns = list(before[0])
    assert after[0] == [*columns, "ece", "brier"], "new columns stand at the end"
    assert [dict(zip(columns, row, strict=False)) for row in after[1:]] == before


def test_all_are_listed(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("runs", ".", "--all", "--json")
    assert code == 0, err
    assert {Path(row["path"]).name for row in json.loads(out)} >= {"run", "interrupted"}
    assert "broken" not in out


@pytest.mark.parametrize(("form", "end"), [("safetensors", "safetensors"), ("torch", "pt"), ("onnx", "onnx")])
@pytest.mark.parametrize(
    "run", ["run", *(pytest.param(run, marks=pytest.mark.slow) for run in ("interrupted", "search/1"))]
)
def test_it_is_exported(run: str, form: str, end: str, mnist_ff: Command) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    code, _, err = mnist_ff("export", run, "--format", form, "--out", f"model.{end}")
    assert code == 0, err
    assert Path(f"model.{end}").is_file()
    if form == "safetensors":
        weights = load_file(f"{run}/model.safetensors")
        exported = load_file("model.safetensors")
        assert sorted(exported) == sorted(weights)
        assert all(np.array_equal(exported[name], value) for name, value in weights.items())


def test_its_network_reads_a_digit(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("predict", "run", "--index", "3", "--json")
    assert code == 0, err
    probabilities = load_file("run/predictions.safetensors")["probabilities"][3]
    assert str(int(probabilities.argmax())) in out


@pytest.mark.parametrize("run", ["run", pytest.param("sweep/1", marks=pytest.mark.slow)])
def test_it_is_repeated(run: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "--config-of", run, "hydra.run.dir=again")
    assert code == 0, err
    assert losses("again") == close(losses(run))
    assert rates("again") == rates(run)
    before, after = (yaml.safe_load(Path(path, "config.yaml").read_text()) for path in (run, "again"))
    for section in ("model", "optimizer", "schedule", "augment", "trainer", "seed"):
        assert {**_section(after, section), **_section(before, section)} == _section(after, section), section


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config[name]
    return value if isinstance(value, dict) else {name: value}


@pytest.mark.slow
def test_interrupted_run_resumes_as_if_uninterrupted(mnist_ff: Command) -> None:
    before = Path("interrupted/batches.csv").read_text()
    config = Path("interrupted/config.yaml").read_bytes()
    assert before.count("\n") == STOPPED_AT + 1
    code, _, err = mnist_ff("train", "resume=interrupted")
    assert code == 0, err
    assert Path("interrupted/batches.csv").read_text().startswith(before)
    assert Path("interrupted/config.yaml").read_bytes() == config
    summary = read("interrupted/summary.json")
    assert (summary["status"], summary["epochs"], summary["steps"]) == ("finished", 60, 360)
    assert len(read("interrupted/environment.json")["history"]) == 1
    assert mnist_ff("train", "--config-of", "interrupted", "hydra.run.dir=whole")[0] == 0
    assert rates("interrupted") == rates("whole")
    parted, whole = losses("interrupted"), losses("whole")
    assert parted[: STOPPED_AT + 20] == close(whole[: STOPPED_AT + 20]), "masks, order, momentum and images go on"
    assert math.fsum(parted[-6:]) == pytest.approx(math.fsum(whole[-6:]), rel=0.05)


def test_a_finished_run_is_given_another_epoch(mnist_ff: Command) -> None:
    before = Path("run/batches.csv").read_text()
    code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=3")
    assert code == 0, err
    assert Path("run/batches.csv").read_text().startswith(before)
    assert mnist_ff("train", "--config-of", "run", "trainer.epochs=3", "hydra.run.dir=whole")[0] == 0
    assert losses("run") == close(losses("whole"))
    assert mnist_ff("train", "resume=run", "model.hidden=[3]")[0] == 2


def test_a_whole_sweep_has_nothing_left(mnist_ff: Command) -> None:
    before = {run: Path(run, "model.safetensors").stat().st_mtime_ns for run in ("sweep/0", "sweep/1")}
    code, _, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 0, err
    assert before == {run: Path(run, "model.safetensors").stat().st_mtime_ns for run in before}


def test_a_sweep_trains_the_job_that_is_missing(mnist_ff: Command) -> None:
    table, lost = rows("sweep/sweep.csv"), losses("sweep/1")
    weights = Path("sweep/0/model.safetensors").stat().st_mtime_ns
    shutil.rmtree("sweep/1")
    code, _, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 0, err
    assert Path("sweep/0/model.safetensors").stat().st_mtime_ns == weights
    assert losses("sweep/1") == close(lost)
    assert [(row["run"], row["status"]) for row in rows("sweep/sweep.csv")] == [
        (row["run"], row["status"]) for row in table
    ]


def test_a_search_goes_on(mnist_ff: Command) -> None:
    pytest.importorskip("optuna")
    before = {row["run"]: {**row, "rank": ""} for row in rows("search/sweep.csv")}
    code, _, err = mnist_ff("train", "-m", "resume=search", "hydra.sweeper.n_trials=3")
    assert code == 0, err
    after = {row["run"]: {**row, "rank": ""} for row in rows("search/sweep.csv")}
    assert sorted(after) == ["0", "1", "2"]
    assert {run: after[run] for run in before} == before
    assert read("search/search.json")["counts"]["complete"] == 3
