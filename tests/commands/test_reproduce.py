"""The experiments compose as they say, and a row of the table comes from runs alone."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_ff.commands.reproduce import FIRST_SEED, Row, _changes, _file_name, experiments
from mnist_ff.commands.reproduce import TABLE_HEAD as HEAD
from mnist_ff.config.compose import compose
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.schema import Config
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import percent, percent_cell
from tests.readme_recipes import CHECK_HEAD, GPU_HEAD, ORDER, RESULTS, name_of, refuse_others, rows_in, with_row
from tests.support.commands import Command

TINY = ["data=mnist_5k", "trainer.epochs=1", "model.hidden=[16]", "trainer.plots=false", "trainer.threads=1"]


def test_the_tutorial_is_the_default() -> None:
    assert compose(["experiment=tutorial"]) == compose()


CHECKS = ("debug", "overfit")
"""Presets that find faults: nobody measures them."""


@pytest.mark.parametrize("name", [name for name in experiments() if name not in ("tutorial", *CHECKS)])
def test_experiment_is_a_delta_on_one_network(name: str) -> None:
    config: Config = compose([f"experiment={name}"])
    assert config != compose()
    assert config.model.hidden == (500, 300)
    head = (conf_dir() / "experiment" / f"{name}.yaml").read_text()
    for word in (
        f"mnist-ff train experiment={name}",
        f"mnist-ff reproduce {name}",
        "Choices:",
        "Conditions and result:",
    ):
        assert word in head, word


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_goes_with_any_model(name: str) -> None:
    config = compose([f"experiment={name}"])
    assert config.model == compose().model, "keys of mlp would keep a model of the user's from being chosen"
    assert config.data.name == "mnist_5k"
    assert config.trainer.limit_batches is not None


def test_a_trick_that_is_switched_off_is_named() -> None:
    own = compose(["experiment=augmented"])
    off = compose(["experiment=augmented", "trainer.label_smoothing=0", "schedule=constant", "trainer.threads=1"])
    assert _changes(off, own) == {"trainer.label_smoothing": 0.0, "schedule.name": "constant"}
    assert _changes(own, own) == {}


def test_another_trial_or_teacher_has_another_file() -> None:
    row = Row("clean", "", 0.9, 0.1, 2, (0.8, 1.0), 1000, None, 1.0, 2.0, 0, (1, 2), {}, {"data": "mnist"}, {})
    long = [{f"data.mirrors{n}": "é" * 200} for n in (1, 2)]
    others = [{"model.dropout": 0.1}, {"model.dropout": 0.2}, *long]
    names = [_file_name(replace(row, changes=changes)) for changes in ({}, *others)]
    names += [_file_name(replace(row, conditions={"teacher": teacher})) for teacher in ("a1", "b2")]
    assert names[0] == "clean"
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 200


@pytest.mark.parametrize(
    "line", [line for head in (HEAD, GPU_HEAD) for line in rows_in(RESULTS.read_text(), head).values()]
)
def test_an_experiments_file_says_what_its_rows_say(line: str) -> None:
    _, _, accuracy, std, n, *_ = (cell.strip() for cell in line.split("|"))
    head = (conf_dir() / "experiment" / f"{name_of(line).split()[0]}.yaml").read_text()
    assert f"{accuracy.rstrip('%')} % +- {std} (std, n = {n}, seeds {FIRST_SEED} to {FIRST_SEED + int(n) - 1})" in head


def test_a_row_goes_into_the_results_as_written() -> None:
    text = f"before\n\n{HEAD}| `clean` | 1 |\n| `fashion` | 2 |\n\nafter\n"
    text = with_row(with_row(text, HEAD, "fashion", "| `fashion` | 3 |"), HEAD, "speedrun", "| `speedrun` | 4 |")
    assert text == f"before\n\n{HEAD}| `speedrun` | 4 |\n| `clean` | 1 |\n| `fashion` | 3 |\n\nafter\n"
    assert with_row(f"{HEAD}\nafter\n\nmore", HEAD, "clean", "| `clean` |") == f"{HEAD}| `clean` |\n\nafter\n\nmore"
    assert [RESULTS.read_text().count(head) for head in (HEAD, CHECK_HEAD, GPU_HEAD)] == [1, 1, 1]
    assert sorted([*ORDER, *CHECKS]) == experiments()


def test_reproduce_row_uses_fresh_runs_only(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("reproduce", "clean", *TINY, "data.validation_split=0.1", "--seeds", "2")
    assert code == 0, err
    (path,) = Path("outputs/reproduce").glob("*.json")
    row = json.loads(path.read_text())
    (sweep,) = Path("outputs/sweeps").iterdir()
    runs = [Run.open(sweep / job) for job in "01"]
    scores = [summary.score for run in runs if (summary := run.summary()) is not None and summary.score is not None]
    accuracies = [score.accuracy for score in scores]
    assert row["accuracy"] == pytest.approx(statistics.fmean(accuracies))
    assert row["std"] == pytest.approx(statistics.stdev(accuracies))
    assert (row["n"], row["seeds"], row["test_images"]) == (2, [FIRST_SEED, FIRST_SEED + 1], 1000)
    assert row["validation_accuracy"] == pytest.approx(
        statistics.fmean(run.epochs()[-1]["validation_accuracy"] for run in runs), abs=1e-6
    )
    low, high = row["interval_of_one_run"]
    assert low < row["accuracy"] < high
    assert row["config"]["optimizer"]["name"] == "adamw"
    assert row["config"]["seed"] is None
    assert row["conditions"]["torch"]
    assert row["changes"] == {
        "data.name": "mnist_5k",
        "data.validation_split": 0.1,
        "model.hidden": [16],
        "trainer.epochs": 1,
    }
    text = path.with_suffix(".md").read_text()
    assert text in out
    cells = f"| {percent(row['accuracy'])} | {percent_cell(row['std'])} | 2 |"
    assert (
        f"| `clean` `data.name=mnist_5k` `data.validation_split=0.1` `model.hidden=[16]` `trainer.epochs=1` {cells}"
        in text
    )
    with pytest.raises(SystemExit, match="is not the experiment as it stands"):
        refuse_others(Row(**row))
    command = f"mnist-ff reproduce clean {' '.join(TINY)} data.validation_split=0.1 --seeds 2".replace("[16]", "'[16]'")
    assert row["command"].replace("'model.hidden=[16]'", "model.hidden='[16]'") == command

    path.unlink()
    (sweep / "1" / "summary.json").unlink()  # as if that run had been killed
    assert mnist_ff("reproduce", "clean", "--resume", str(sweep))[0] == 0
    again = json.loads(path.read_text())
    assert (again["accuracy"], again["command"]) == (row["accuracy"], row["command"])
    assert (row["parted"], again["parted"]) == (0, 1)
    unparted = runs[0].summary()
    assert unparted is not None
    assert again["seconds_of_training"] == unparted.seconds["train"], "that of the other one is known in part only"
    assert "1 of the runs were resumed" in path.with_suffix(".md").read_text()
    assert mnist_ff("reproduce", "fashion", "--resume", str(sweep))[0] == 2
    place = sweep / "0" / "environment.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "versions": []}))
    code, _, err = mnist_ff("reproduce", "clean", "--resume", str(sweep))
    assert (code, "environment.json: versions is not an object" in err) == (2, True), err


def test_unfinished_runs_make_no_row(mnist_ff: Command) -> None:
    words = ["optimizer=sgd", "optimizer.lr=1e30", "schedule=constant"]
    code, out, _ = mnist_ff("reproduce", "tutorial", *TINY, *words, "--seeds", "2")
    assert code == 1
    assert "no row: not every run finished; continue with  mnist-ff reproduce tutorial --resume" in out
    assert not Path("outputs/reproduce").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["tutoral"], "did you mean tutorial?"),
        (["tutorial", "--seeds", "1"], "must be at least 2"),
        (["tutorial", "seed=3"], "is set by this command"),
        (["tutorial", "quickly"], "an override is KEY=VALUE"),
        (["tutorial", "trainer.epoch=3"], "no such key trainer.epoch"),
        (["tutorial", "--resume", "gone"], "is not a sweep directory"),
        (["tutorial", "--resume", "gone", "--seeds", "3"], "leave out --seeds"),
        (["tutorial", "optimizer.lr=0.1,0.2"], "optimizer.lr=0.1,0.2: has several values"),
        (["tutorial", "optimizer.lr=interval(0.1,0.2)"], "has several values"),
        (["tutorial", "sweep=lr"], "is set by this command"),
        (["tutorial", "sweep.rows=[{seed:1}]"], "is set by this command"),
        (["tutorial", "hydra/sweeper=optuna"], "is set by this command"),
        (["tutorial", "hydra.sweep={dir:elsewhere}"], "is set by this command"),
        (["tutorial", "hydra={sweep:{dir:elsewhere}}"], "is set by this command"),
    ],
)
def test_bad_words_run_nothing(words: list[str], reason: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("reproduce", *words)
    assert code == 2
    assert reason in err
    assert not Path("outputs").exists()
