"""Sweeps, resumed runs and reproductions made with the user's own config files, with and without their folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mnist_ff.config.options import options, using_folders
from mnist_ff.config.spelled import spelled
from mnist_ff.runs.directory import Run
from tests.config.test_options import FILES, write
from tests.support.commands import Command

PRESET = """\
# @package _global_
sweep:
  on_error: stop
  rows:
    - {optimizer: slow, optimizer.rho: 0.8}
    - {optimizer: adam}
"""
SEARCH = """\
# @package _global_
data:
  validation_split: 0.25
hydra:
  sweeper:
    n_trials: 2
    params:
      optimizer.rho: interval(0.8,0.95)
"""


@pytest.fixture
def own() -> Path:
    write("own", {"sweep/rows.yaml": PRESET, "sweep/seek.yaml": SEARCH})
    return write("own", FILES)


@pytest.mark.parametrize("launcher", ["basic", "pair", pytest.param("local", marks=pytest.mark.slow)])
def test_a_grid_is_resumed_without_the_folder(mnist_ff: Command, own: Path, launcher: str) -> None:
    write("own", {"hydra/launcher/local.yaml": "defaults: [submitit_local]\narray_parallelism: 2\n"})
    words = ["experiment=mine", "sweep=rows", f"hydra/launcher={launcher}", "hydra.sweep.dir=s"]
    code, out, err = mnist_ff("train", "-m", "--config-dir", "own", *words)
    assert code == 0, err
    assert "optimizer.name=rmsprop" in out
    configs = [Run(Path("s", job)).config() for job in ("0", "1")]
    assert [(config.optimizer.name, config.trainer.epochs) for config in configs] == [("rmsprop", 1), ("adam", 1)]
    plan = json.loads(Path("s/jobs.json").read_text())
    assert plan["config_dirs"] == [str(own)]
    before = Path("s/1/batches.csv").read_bytes()
    shutil.rmtree("s/1")
    own.rename("moved")
    code, out, err = mnist_ff("train", "-m", "resume=s")
    assert code == 0, err
    assert Path("s/1/batches.csv").read_bytes() == before
    assert not any(word.endswith(("=pair", "=rows")) for word in plan["words"])


def test_what_files_say_is_spelled_out(own: Path) -> None:
    write("own", {"hydra/launcher/three.yaml": "defaults:\n  - pair\n  - _self_\nn_jobs: 3\n"})
    write("own", {"hydra/launcher/looked_up.yaml": "defaults: [joblib]\nn_jobs: ${oc.env:JOBS}\n"})
    groups = ("hydra/launcher", "sweep")
    with using_folders([own]):
        assert spelled(["hydra/launcher=three", "seed=1,2", "hydra.launcher.n_jobs=4"], groups) == (
            "hydra/launcher=joblib",
            "hydra.launcher.n_jobs=3",
            "seed=1,2",
            "hydra.launcher.n_jobs=4",
        )
        assert spelled(["sweep=rows"], groups) == (
            "sweep.on_error=stop",
            "sweep.rows=[{optimizer:slow,optimizer.rho:0.8},{optimizer:adam}]",
        )
        assert spelled(["sweep=pair"], groups) == ("hydra.sweeper.params={seed:'1,2'}",)
        same = ("hydra/launcher=looked_up", "hydra/launcher=joblib", "sweep=lr", "experiment=mine")
        assert spelled(same, groups) == same
        assert options().part("hydra/launcher", "three") == "joblib"


def test_a_search_names_the_folder_that_it_needs(mnist_ff: Command, own: Path) -> None:
    words = ["experiment=mine", "sweep=seek", "hydra/sweeper=short", "hydra.sweeper.n_trials=1", "hydra.sweep.dir=s"]
    code, out, err = mnist_ff("train", "-m", "--config-dir", "own", *words)
    assert code == 0, err
    assert Run(Path("s/0")).config().optimizer.lr == 0.0005
    assert f"mnist-ff train -m resume=s hydra.sweeper.n_trials=2 --config-dir {own}\n" in out
    code, out, err = mnist_ff("train", "-m", "resume=s", "hydra.sweeper.n_trials=2")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: experiment=mine: must be one of")
    assert f"was started with --config-dir {own}, which a resume of it needs too" in err
    code, out, err = mnist_ff("train", "-m", "--config-dir", "own", "resume=s", "hydra.sweeper.n_trials=2")
    assert code == 0, err
    assert Path("s/1/summary.json").is_file()


def test_a_run_needs_no_folder(mnist_ff: Command, own: Path) -> None:
    code, _, err = mnist_ff("train", "--config-dir", "own", "experiment=mine", "logger=[]", "hydra.run.dir=run")
    assert code == 0, err
    own.rename("moved")
    for words in (
        ["train", "resume=run", "trainer.epochs=2"],
        ["train", "--config-of", "run", "hydra.run.dir=again", "trainer.epochs=1"],
        ["evaluate", "run"],
        ["report", "run"],
        ["compare", "run", "again"],
    ):
        code, _, err = mnist_ff(*words)
        assert code == 0, (words, err)
    first = Run(Path("run")).losses()
    assert Run(Path("again")).losses() == first[: len(first) // 2]
    assert "rmsprop" in Path("run/config.yaml").read_text()


def test_an_own_recipe_is_reproduced(mnist_ff: Command, own: Path) -> None:
    code, _, err = mnist_ff("reproduce", "--config-dir", "own", "mine", "--seeds", "2", "model.hidden=[4]")
    assert code == 0, err
    (path,) = Path("outputs/reproduce").glob("mine*.json")
    row = json.loads(path.read_text())
    assert row["changes"] == {"model.hidden": [4]}
    assert row["command"] == f"mnist-ff reproduce mine --config-dir {own} 'model.hidden=[4]' --seeds 2"
    (sweep,) = Path("outputs/sweeps").iterdir()
    shutil.rmtree(sweep / "1")
    path.unlink()
    own.rename("moved")
    code, _, err = mnist_ff("reproduce", "mine", "--resume", str(sweep))
    assert code == 0, err
    again = json.loads(path.read_text())
    assert {key: again[key] for key in ("changes", "command", "accuracy")} == {
        key: row[key] for key in ("changes", "command", "accuracy")
    }
    code, _, err = mnist_ff("reproduce", "mine", "--seeds", "2")
    assert code == 2
    assert "mine: no such recipe" in err


def test_lr_find_and_bench_take_the_folder(mnist_ff: Command, own: Path) -> None:
    code, out, err = mnist_ff(
        "lr-find", "--config-dir", "own", "experiment=mine", "--steps", "20", "--first", "1e-4", "--last", "1"
    )
    assert code == 0, err
    assert f"mnist-ff train --config-dir {own} experiment=mine optimizer.lr=" in out
    words = ["--config-dir", "own", "optimizer=slow", "data=mnist_5k", "model.hidden=[8]"]
    code, _, err = mnist_ff("bench", *words, "--rounds", "1", "--steps", "2", "--no-start-up")
    assert code == 0, err
