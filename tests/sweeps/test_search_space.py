"""Search spaces: Hydra's syntax, values and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.config.compose import Composer
from mnist_ff.errors import ConfigError
from mnist_ff.sweeps.search.plan import (
    Pruner,
    check_plan,
)
from mnist_ff.sweeps.search.space import Choices, Floats, Integers, Space, corners
from mnist_ff.sweeps.search.study import Search
from mnist_ff.sweeps.search.syntax import split_overrides
from tests.support.commands import Command
from tests.support.search import COUNTABLE, LR, SPACE, SPLIT, WORDS, plan, run_all, sweep_dir


def test_words_stay_in_their_space() -> None:
    for sampler in ("tpe", "random", "cmaes"):
        for trial in run_all(Search(plan(f"{sampler}.journal", sampler=sampler, n_trials=25))):
            assert 1e-4 <= float(trial.values["optimizer.lr"]) <= 1e-1
            assert 0 <= float(trial.values["model.dropout"]) <= 0.6
            assert int(trial.values["trainer.batch_size"]) % 32 == 0
            assert trial.values["optimizer"] in ("adam", "sgd")
            assert trial.overrides()[-1] == f"optimizer={trial.values['optimizer']}"


def test_the_grid_is_gone_through_once() -> None:
    found = run_all(Search(plan(sampler="grid", space=COUNTABLE, n_trials=6)), lambda trial: 0.5)
    assert {(trial.values["trainer.batch_size"], trial.values["optimizer"]) for trial in found} == {
        (size, name) for size in ("10", "20", "30") for name in ("adam", "sgd")
    }


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sampler": "tpee"}, "hydra.sweeper.sampler=tpee: must be one of tpe, random, grid, cmaes"),
        ({"pruner": Pruner("median", 1, 3, 9)}, "hydra.sweeper.pruner=median: must be one of none, asha, hyperband"),
        ({"pruner": Pruner("asha", 1, 1, 9)}, "hydra.sweeper.factor=1: must be at least 2"),
        ({"n_trials": 0}, "hydra.sweeper.n_trials=0: must be at least 1"),
        ({"objective": "test_accuracy"}, "a search on the test images overfits them"),
        ({"objective": "speed"}, "must be one of validation_accuracy, validation_loss"),
        ({"space": {}}, "nothing to search"),
        ({"sampler": "grid"}, "optimizer.lr: sampler=grid needs a finite set of values"),
        ({"sampler": "cmaes", "space": {"optimizer": Choices(("sgd", "adam"))}}, "no key has an interval or a range"),
        ({"space": {"k": Floats(1, 1)}}, "k: goes from 1 to 1; the first must be smaller"),
        ({"space": {"k": Floats(0, 1, log=True)}}, "k: starts at 0; a log scale needs values above 0"),
        ({"space": {"k": Floats(0, 1, step=-1)}}, "k: has step -1"),
        ({"space": {"k": Floats(1, 2, log=True, step=0.1)}}, "k: has a step and a log scale"),
        ({"space": {"k": Choices(("a", "a"))}}, "k: has a value twice"),
        ({"sampler": "grid", "space": {"k": Integers(0, 10**6)}}, "1,000,001 points are more than 100,000"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_plan(plan(**changes))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_corners_hold_every_end() -> None:
    found = list(corners(SPACE))
    assert len(found) == 2**4
    assert {row["optimizer.lr"] for row in found} == {"0.0001", "0.1"}
    wide: Space = {f"k{index}": Floats(0, 1) for index in range(20)} | {"c": Choices(tuple("abcdefg"))}
    rows = list(corners(wide))
    assert len(rows) == 7
    assert {row["c"] for row in rows} == set("abcdefg")
    assert {row["k3"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize(
    ("word", "dimension"),
    [
        ("optimizer.lr=interval(0.1,0.5)", Floats(0.1, 0.5)),
        ("optimizer.lr=tag(log,interval(1e-4,1e-2))", Floats(1e-4, 1e-2, log=True)),
        ("optimizer.lr=interval(1,2)", Floats(1.0, 2.0)),
        ("trainer.sync_every=tag(log,interval(1,235))", Integers(1, 235, log=True)),
        ("trainer.batch_size=interval(16,64)", Integers(16, 64)),
        ("trainer.batch_size=int(interval(16.0,64.0))", Integers(16, 64)),
        ("trainer.batch_size=tag(log,interval(16,64))", Integers(16, 64, log=True)),
        ("trainer.batch_size=tag(int,log,interval(16,64))", Integers(16, 64, log=True)),
        ("trainer.epochs=range(1,4)", Integers(1, 3)),
        ("trainer.epochs=range(5)", Integers(0, 4)),
        ("trainer.batch_size=range(32,129,32)", Integers(32, 128, step=32)),
        ("model.dropout=range(0,0.7,0.1)", Floats(0.0, 0.6, step=0.1)),
        ("optimizer=adam,sgd", Choices(("adam", "sgd"))),
        ("optimizer=choice(adam,sgd)", Choices(("adam", "sgd"))),
        ("optimizer=glob(*,exclude=[a*,r*])", Choices(("lion", "nadam", "sgd"))),
        ("model.hidden=[500,300],[300],[]", Choices(("[500,300]", "[300]", "[]"))),
        ("trainer.shuffle=true,false", Choices(("True", "False"))),
        ("trainer.sync_every=25,null", Choices(("25", "null"))),
        ("name='a b','c=d'", Choices(("'a b'", "'c=d'"))),
    ],
)
def test_every_form_of_hydras_sweep_syntax(word: str, dimension: object) -> None:
    assert parsed(word) == ([], {word.split("=")[0]: dimension})


def parsed(*words: str) -> tuple[list[str], Space]:
    composer = Composer()
    return split_overrides([composer.parse(word) for word in words])


def test_plain_values_are_fixed_the_last_wins() -> None:
    fixed, space = parsed("optimizer.lr=0.1,0.2", "seed=3", "optimizer.lr=interval(0.1,0.2)", "seed=4")
    assert fixed == ["seed=4"]
    assert space == {"optimizer.lr": Floats(0.1, 0.2)}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("optimizer.lr=interval(2,1)",), "optimizer.lr: goes from 2 to 1; the first must be smaller"),
        (("optimizer.lr=tag(log,interval(0,1))",), "optimizer.lr: starts at 0; a log scale needs values above 0"),
        (("optimizer.lr=tag(lin,interval(0,1))",), "tag lin: must be one of float, int, log"),
        (("optimizer.lr=tag(log,choice(0.1,0.2))",), "tag log needs an interval or a range"),
        (("trainer.epochs=tag(int,interval(0.5,2))",), "the bounds of an interval of integers must be integers"),
        (("trainer.epochs=range(1,2)",), "has 1 values; a search needs at least two"),
        (("trainer.epochs=range(3,1,-1)",), "the step must be above 0"),
        (("model.dropout=tag(log,range(0.1,0.5,0.1))",), "has a step and a log scale; use tag(log,interval(...))"),
        (("optimizer=shuffle(adam,sgd)",), "shuffle has no effect: the sampler chooses the order"),
        (("optimizer.lr=0.1,0.1",), "optimizer.lr: has a value twice"),
        (("optimizer.lrr=interval(0,1)",), "no such key optimizer.lrr; did you mean optimizer.lr?"),
        (("optimizer.lr=interval(0.1",), "optimizer.lr=interval(0.1: "),
        (("optimizer.lr=0.1",), "hydra/sweeper=optuna: nothing to search"),
        ((LR, "model.dropout=interval(0.5,1.5)"), "model.dropout=1.5: must be at least 0 and below 1"),
        ((LR, "optimizer.momentum=interval(0.1,0.9)"), "optimizer.momentum: is not a key of optimizer=rmsprop"),
        ((LR, "hydra.sweeper.objective=test_accuracy"), "a search on the test images overfits them"),
        ((LR, "data.validation_split=0"), "data.validation_split=0: a search needs held-out training images"),
        ((LR, "hydra.sweeper.sampler=tpee"), "hydra.sweeper.sampler=tpee: must be one of tpe, random, grid, cmaes"),
        ((LR, "hydra.sweeper.sampler=grid"), "optimizer.lr: sampler=grid needs a finite set of values"),
        ((LR, "hydra.sweeper.n_trials=0"), "hydra.sweeper.n_trials=0: must be an integer of at least 1"),
        ((LR, "hydra.sweeper.n_trials=many"), "hydra.sweeper.n_trials=many: must be an integer"),
        ((LR, "hydra.sweeper.n_trails=4"), "n_trails"),
        ((LR, "data.validation_split=0.1,0.2"), "data.validation_split: cannot be searched"),
        ((LR, "hydra.sweeper.study_name="), "hydra.sweeper.study_name=: is empty"),
        ((LR, "hydra.sweeper.study_name=null"), "hydra.sweeper.study_name=: is empty"),
        ((LR, "sweep.rows=[{seed:1}]"), "sweep.rows: cannot be combined with a search"),
    ],
)
def test_impossible_search_is_refused_before_writing(words: tuple[str, ...], complaint: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *WORDS, *([] if "split" in str(words) else [SPLIT]), *words)
    assert code == 2
    assert complaint in " ".join(err.split()) or complaint in err
    assert "Traceback" not in err
    assert err.count("\n") <= 4
    assert not Path("outputs").exists()


def test_search_dry_run_prints_space_writes_nothing(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", "-m", "dry_run=true", "sweep=search")
    assert code == 0, err
    assert "jobs" not in err, "what is checked first are corners, however many trials there will be"
    assert "corners of the search space: checking the values of each ...\n" in err
    assert "optimizer.lr  0.0001 to 0.01, logarithmic" in out
    assert "model.dropout  0 to 0.6 in steps of 0.1" in out
    assert "model.activation  one of relu, gelu, silu" in out
    assert "up to 30 trials by tpe, pruned by asha; nothing was written" in out
    assert not Path("outputs").exists()


def test_typed_keys_replace_the_search_presets(mnist_ff: Command) -> None:
    words = (
        "data=mnist_5k",
        "model.hidden=[16]",
        "trainer.epochs=1",
        "trainer.plots=false",
        "hydra.sweeper.n_trials=2",
    )
    code, _, err = mnist_ff("train", "-m", "sweep=search", *words, "model.activation=relu", "hydra.sweeper.n_jobs=2")
    assert code == 0, err
    jobs = json.loads((sweep_dir() / "jobs.json").read_text())["jobs"]
    assert len(jobs) == 2
    assert all("model.activation=relu" in job["overrides"] for job in jobs)
    assert len({job["config"]["optimizer"]["rho"] for job in jobs}) == 2


@pytest.mark.parametrize(
    "word",
    [
        "hydra.launcher.n_jobs={_target_:os.system,_args_:[touch pwned]}",
        "+hydra.callbacks.x._target_=os.system",
        "name=${oc.env:HOME}",
        "hydra.job.name=x",
    ],
)
def test_the_words_of_a_saved_search_call_nothing(word: str, mnist_ff: Command) -> None:
    from mnist_ff.runs.jobs import SweepPlan, write_plan

    Path("s").mkdir()
    write_plan(Path("s"), SweepPlan((), (*WORDS, SPLIT, LR, word)))
    code, _, err = mnist_ff("train", "-m", "resume=s")
    assert code == 2
    assert "contains an interpolation" in err
    assert sorted(path.name for path in Path().iterdir()) == ["s"]
