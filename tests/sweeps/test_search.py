"""Whole searches: their files, ends, resumes and errors."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from mnist_ff.errors import ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import Score
from mnist_ff.runs.tables import EPOCH_COLUMNS
from mnist_ff.sweeps.search.reporter import Reporter, StudyLink
from mnist_ff.sweeps.search.study import Search
from tests.support.commands import Command
from tests.support.processes import Held, Started
from tests.support.search import COUNTABLE, LR, SPLIT, TWO_POINTS, WORDS, plan, run_all, runs_in, states, sweep_dir


def test_a_grid_ends_where_it_ends(mnist_ff: Command) -> None:
    search = Search(plan(sampler="grid", space=COUNTABLE, n_trials=20))
    found = run_all(search, lambda trial: float(trial.values["trainer.batch_size"]))
    assert len(found) == len({json.dumps(dict(trial.values)) for trial in found}) == 6
    search_result = search.result()
    assert (search_result.n_trials, search_result.grid, search_result.counts["waiting"]) == (6, 6, 0)
    words = (*WORDS, SPLIT, "trainer.epochs=1", "optimizer.lr=0.001,0.002", "hydra.sweeper.sampler=grid")
    said = "the grid has 2 points, so the search ends before n_trials=20"
    assert said in mnist_ff("train", "-m", "dry_run=true", *words)[1]
    code, out, err = mnist_ff("train", "-m", *words, "hydra.sweep.dir=s")
    assert code == 0, err
    assert said in out
    assert "2/2  job 1" in out
    assert "resume=s" not in out
    assert runs_in(Path("s")) == 2


def test_without_the_extra_one_line_names_it(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR)
    assert code == 2
    assert err == "error: hydra/sweeper=optuna: needs optuna, which is not installed: pip install 'mnist-ff[search]'\n"
    assert not Path("outputs").exists()


def statuses(directory: Path) -> list[str]:
    summaries = [json.loads((directory / str(job) / "summary.json").read_text()) for job in range(runs_in(directory))]
    return [summary["status"] for summary in summaries]


def test_a_search_prunes_and_ends_in_a_result(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR, "hydra.sweeper.n_trials=6")
    assert code == 0, err
    directory = sweep_dir()
    found = statuses(directory)
    assert len(found) == 6
    assert set(found) == {"finished", "pruned"}
    search_result = json.loads((directory / "search.json").read_text())
    assert search_result["counts"] == {
        "complete": found.count("finished"),
        "pruned": found.count("pruned"),
        "failed": 0,
        "running": 0,
        "waiting": 0,
    }
    accuracies = {}
    for job, status in enumerate(found):
        rows = (directory / str(job) / "epochs.csv").read_text().splitlines()[1:]
        summary = json.loads((directory / str(job) / "summary.json").read_text())
        assert len(rows) == summary["epochs"] == (3 if status == "finished" else summary["epochs"])
        if status == "pruned":
            assert len(rows) < 3
            assert summary["cause"].startswith("asha: validation accuracy 0.")
            assert (directory / str(job) / "model.safetensors").is_file()
        else:
            accuracies[job] = float(rows[-1].split(",")[EPOCH_COLUMNS.index("validation_accuracy")])
    best = max(accuracies, key=lambda job: accuracies[job])
    assert (search_result["best_trial"], search_result["best_value"]) == (best, accuracies[best])
    assert f"best trial {best}: validation accuracy {percent(accuracies[best])}  optimizer.lr=" in out
    assert json.loads((directory / "sweep.json").read_text())["search"] == search_result
    assert f"best trial {best}" in (directory / "sweep.md").read_text()
    assert out.count("  job ") == 6
    code, out, _ = mnist_ff("compare", str(directory))
    assert f"best trial {best}" in out
    # and on: more trials in the same directory and study
    more = ("hydra.sweeper.n_trials=8", "sweep.on_error=stop")
    code, out, err = mnist_ff("train", "-m", f"resume={directory}", *more)
    assert code == 0, err
    assert "8 trials of study mnist-ff" in out
    assert "search further  mnist-ff train -m resume=" in out
    assert "hydra.sweeper.n_trials=16" in out
    assert "6 of them already done" in out
    assert runs_in(directory) == 8
    code, out, _ = mnist_ff("train", "-m", f"resume={directory}", "hydra.sweeper.n_trials=8")
    assert runs_in(directory) == 8, "nothing is done twice"
    code, _, err = mnist_ff("train", "-m", f"resume={directory}", "seed=3")
    assert code == 2
    assert "the space and fixed values of a search cannot be changed" in err


def test_the_same_search_suggests_the_same_trials(mnist_ff: Command) -> None:
    words = (*WORDS, SPLIT, LR, "trainer.epochs=1", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_startup_trials=2")
    found = []
    for place in "ab":
        assert mnist_ff("train", "-m", *words, f"hydra.sweep.dir={place}")[0] == 0
        jobs = json.loads(Path(place, "jobs.json").read_text())["jobs"]
        found.append([job["overrides"] for job in jobs])
    assert found[0] == found[1]


def test_diverged_and_impossible_trials_are_failed_trials(mnist_ff: Command) -> None:
    words = ("optimizer=sgd", "optimizer.lr=0.1,1e30", "trainer.epochs=1", "hydra.sweeper.sampler=grid")
    code, out, err = mnist_ff("train", "-m", *WORDS, SPLIT, *words, "seed=1,2", "hydra.sweeper.n_trials=4")
    assert code == 1, err
    directory = sweep_dir()
    assert sorted(statuses(directory)) == ["diverged", "diverged", "finished", "finished"]
    counts = json.loads((directory / "search.json").read_text())["counts"]
    assert (counts["complete"], counts["failed"]) == (2, 2)
    assert out.count("try a smaller optimizer.lr") >= 2


IMPOSSIBLE = (
    *WORDS, SPLIT, "trainer.epochs=1", "hydra.sweeper.pruner=none", "hydra.sweep.dir=s",
    "optimizer=sgd", "optimizer.momentum=0.9,0", "optimizer.nesterov=true,false",
    f"seed={','.join(map(str, range(40)))}",  # more corners than are tried before
)  # fmt: skip
"""Nesterov without momentum is refused: about every fourth trial."""


def test_impossible_trial_is_a_failed_row(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", "-m", *IMPOSSIBLE, "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler=random")
    search_result = json.loads(Path("s/search.json").read_text())
    refused = search_result["refused"]
    assert 0 < len(refused) < 6
    assert len(refused) == search_result["counts"]["failed"]
    assert code == 1, err
    for trial in refused:
        assert f"failed  {trial['number']}    {trial['reason']}" in out
        assert "optimizer.momentum=0" in trial["words"]
    assert f"{len(refused)} failed" in out
    assert "6/6  job" in out or refused[-1]["number"] == 5, "it is counted in the progress"
    rows = {row["run"]: row for row in json.loads(Path("s/sweep.json").read_text())["runs"]}
    assert {run for run, row in rows.items() if row["status"] == "failed"} == {str(t["number"]) for t in refused}
    before = mnist_ff("compare", "s", "--csv")[1]
    assert mnist_ff("train", "-m", "resume=s")[0] == 1, "it is not forgotten"
    assert mnist_ff("compare", "s", "--csv")[1] == before
    code, _, _ = mnist_ff(
        "train", "-m", *IMPOSSIBLE, "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler=random", "hydra.sweep.dir=t",
        "sweep.on_error=stop",
    )  # fmt: skip
    assert code == 1
    assert len(json.loads(Path("t/search.json").read_text())["refused"]) == 1


def test_a_search_trains_no_configuration_again(mnist_ff: Command) -> None:
    """Two at once, and on after a resume; a kill between the two files of a repeat loses nothing."""
    more = ("hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2", "hydra.sweep.dir=s")
    code, out, err = mnist_ff("train", "-m", *TWO_POINTS, *more)
    assert code == 0, err
    assert runs_in(Path("s")) == 2
    assert out.count("not trained again: trial") == 3
    assert "5/5  trial" in out
    assert states("s/search.journal", "mnist-ff") == ["COMPLETE"] * 5
    search_result = json.loads(Path("s/search.json").read_text())
    paths = [path for path in Path("s").iterdir() if path.is_dir()]
    trained = {path.name: Run(path).epochs()[-1]["validation_accuracy"] for path in paths}
    assert len(search_result["repeated"]) == 3
    for trial in search_result["repeated"]:
        assert trial["value"] == trained[str(trial["of"])]
        job = json.loads(Path("s/jobs.json").read_text())["jobs"][[*sorted(trained)].index(str(trial["of"]))]
        assert set(trial["words"]) <= set(job["overrides"])
    assert search_result["best_value"] == max(trained.values())
    assert str(search_result["best_trial"]) in trained
    rows = {row["run"]: row for row in json.loads(Path("s/sweep.json").read_text())["runs"]}
    assert Counter(row["status"] for row in rows.values()) == {"finished": 2, "repeated": 3}
    assert "same configuration as trial" in rows[str(search_result["repeated"][0]["number"])]["reason"]
    code, out, err = mnist_ff("train", "-m", "resume=s", "hydra.sweeper.n_trials=7")
    assert code == 0, err
    assert out.count("not trained again: trial") == 2
    assert len(json.loads(Path("s/search.json").read_text())["repeated"]) == 5
    assert runs_in(Path("s")) == 2


@pytest.mark.slow
def test_a_diverged_configuration_fails_without_training(mnist_ff: Command) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e20,1e30", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=s")
    code, out, err = mnist_ff("train", "-m", *TWO_POINTS, *words)
    assert code == 1, err
    assert runs_in(Path("s")) == 2
    assert out.count("has the same configuration: training diverged") + out.count("same configuration: the loss") >= 2
    assert json.loads(Path("s/search.json").read_text())["counts"]["failed"] == 4


def test_a_search_leaves_no_connection_open(mnist_ff: Command) -> None:
    """However it ends: well, refused, or by an exception."""
    import gc
    import sqlite3

    def connections() -> int:
        gc.collect()
        return sum(type(found) is sqlite3.Connection for found in gc.get_objects())

    before = connections()
    storage = "sqlite:///search.db"
    with Search(plan(storage)) as search:
        search.claim()
    with pytest.raises(ConfigError, match="has a study of that name"):
        Search(plan(storage, space=COUNTABLE))
    with pytest.raises(RuntimeError, match="anything"), Search(plan(storage)) as search:
        raise RuntimeError("anything")
    with Reporter(StudyLink(search.plan.storage, "test"), 0) as report:
        assert report(1, Score(0.5, 0.1, 1, 10)) is None
    assert mnist_ff("train", "-m", *TWO_POINTS, "hydra.sweeper.n_trials=1", f"hydra.sweeper.storage={storage}")[0] == 0
    assert connections() == before


@pytest.mark.slow
def test_killed_search_resumes_to_n_trials() -> None:
    words = (*WORDS, SPLIT, "optimizer.lr=tag(log,interval(1e-3,1e-2))", "hydra.sweeper.pruner=none")
    words += ("trainer.epochs=25", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=s")
    started = Held("s/1", 20, "train", "-m", *words)
    started.process.kill()
    started.end()
    again = Started("train", "-m", "resume=s")
    code, out, err = again.end()
    assert code == 1, err
    assert "trial 1 was left running by a process that no longer exists: failed" in out
    assert states("s/search.journal", "mnist-ff") == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert statuses(Path("s")) == ["finished", "failed", "finished", "finished"]
    assert "its process was killed" in out
    assert json.loads(Path("s/search.json").read_text())["counts"]["complete"] == 3


@pytest.mark.slow
def test_interrupted_search_resumes_its_trial_from_checkpoint() -> None:
    words = (*WORDS, SPLIT, "optimizer.lr=tag(log,interval(1e-3,1e-2))", "hydra.sweeper.pruner=none")
    words += ("trainer.epochs=60", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=s")
    started = Held("s/0", 40, "train", "-m", *words)
    started.hear(signal.SIGINT)
    started.let_go()
    assert started.end()[0] == 130
    assert statuses(Path("s")) == ["interrupted"]
    assert states("s/search.journal", "mnist-ff")[0] == "WAITING"
    code, _, err = Started("train", "-m", "resume=s").end()
    assert code == 0, err
    assert statuses(Path("s")) == ["finished", "finished"]
    assert states("s/search.journal", "mnist-ff") == ["COMPLETE", "COMPLETE"]
    history = json.loads(Path("s/0/environment.json").read_text())["history"]
    assert len(history) == 1, "it went on"


def test_useless_pruner_and_constant_objective_warn(mnist_ff: Command) -> None:
    words = (*WORDS, SPLIT, LR, "hydra.sweeper.n_trials=1", "hydra.sweep.dir=s")
    said = "warning: hydra.sweeper.min_epochs=3 is not below trainer.epochs=3: no trial can be pruned"
    assert said not in mnist_ff("train", "-m", *words, "dry_run=true")[1]
    assert said not in mnist_ff("train", "-m", *words, "dry_run=true", "hydra.sweeper.pruner=none")[1]
    code, out, err = mnist_ff("train", "-m", *words, "hydra.sweeper.min_epochs=3")
    assert code == 0, err
    assert said in out
    code, _, err = mnist_ff("train", "-m", "resume=s", "hydra.sweeper.objective=validation_loss")
    assert code == 2
    assert "resume=: the objective of a search cannot be changed" in err


def test_a_search_whose_journal_is_gone_mixes_nothing(mnist_ff: Command) -> None:
    words = (*WORDS, SPLIT, LR, "trainer.epochs=1", "hydra.sweeper.n_trials=1", "hydra.sweep.dir=s")
    assert mnist_ff("train", "-m", *words)[0] == 0
    Path("s/search.journal").unlink()
    code, _, err = mnist_ff("train", "-m", "resume=s", "hydra.sweeper.seed=7")
    assert code == 1
    assert "its job 0 is not trial 0 of study mnist-ff" in err


def test_shared_study_of_another_space_is_refused(mnist_ff: Command) -> None:
    words = (*WORDS, SPLIT, "trainer.epochs=1", "hydra.sweeper.n_trials=1", "hydra.sweeper.storage=shared.journal")
    assert mnist_ff("train", "-m", *words, LR, "hydra.sweep.dir=a")[0] == 0
    code, _, err = mnist_ff("train", "-m", *words, "model.dropout=interval(0.1,0.2)", "hydra.sweep.dir=b")
    assert code == 2
    assert "has a study of that name with a different space" in err
    assert not Path("b").exists()
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    code, out, err = mnist_ff("train", "-m", "resume=../a", "hydra.sweeper.n_trials=2")
    assert code == 0, err
    assert "1 of them already done" in out


def test_resumed_search_finds_teacher_from_another_folder(mnist_ff: Command) -> None:
    words = ("data=mnist_5k", "model.hidden=[4]", "trainer.epochs=1", "trainer.plots=false")
    assert mnist_ff("train", *words, "hydra.run.dir=teacher")[0] == 0
    taught = ("trainer.teacher=teacher", "trainer.teacher_weight=0.5", "hydra.sweeper.pruner=none")
    few = ("hydra.sweeper.n_trials=1", "hydra.sweep.dir=s")
    assert mnist_ff("train", "-m", "hydra/sweeper=optuna", *words, SPLIT, LR, *taught, *few)[0] == 0
    expected = str(Path("teacher").absolute())
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    code, out, err = mnist_ff("train", "-m", "resume=../s", "hydra.sweeper.n_trials=2")
    assert code == 0, out + err
    assert [Run(Path("../s", job)).config().trainer.teacher for job in "01"] == [expected] * 2
