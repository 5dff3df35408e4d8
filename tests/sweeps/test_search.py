"""A search: its space, its samplers, its count over processes and kills, and pruning that stops a run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.config.compose import Composer
from mnist_ff.config.passwords import without_password
from mnist_ff.errors import ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Score, StopKind, StopReason
from mnist_ff.runs.tables import EPOCH_COLUMNS
from mnist_ff.sweeps.search.plan import (
    OBJECTIVES,
    PRUNERS,
    SAMPLERS,
    Pruner,
    SearchPlan,
    Trial,
    Twin,
    Verdict,
    check_plan,
)
from mnist_ff.sweeps.search.processes import lives, own_process
from mnist_ff.sweeps.search.reporter import Reporter, StudyLink
from mnist_ff.sweeps.search.space import Choices, Floats, Integers, Space, corners
from mnist_ff.sweeps.search.storage import open_storage
from mnist_ff.sweeps.search.study import Search
from mnist_ff.sweeps.search.sweeper import SearchSweep
from mnist_ff.sweeps.search.syntax import split_overrides
from mnist_ff.training.callbacks import Pruning
from tests.support.commands import Command
from tests.support.processes import Forked, Started

SPACE: Space = {
    "optimizer.lr": Floats(1e-4, 1e-1, log=True),
    "model.dropout": Floats(0.0, 0.6),
    "trainer.batch_size": Integers(32, 256, step=32),
    "optimizer": Choices(("adam", "sgd")),
}
COUNTABLE: Space = {"trainer.batch_size": Integers(10, 30, step=10), "optimizer": Choices(("adam", "sgd"))}


def plan(where: Path | str = "search.journal", **changes: Any) -> SearchPlan:
    plain = SearchPlan(
        study="test",
        storage=str(where if "://" in str(where) else Path(where).absolute()),
        n_trials=6,
        objective="validation_accuracy",
        sampler="tpe",
        n_startup_trials=3,
        seed=0,
        pruner=Pruner("asha", min_epochs=1, factor=3, max_epochs=9),
        space=SPACE,
    )
    return replace(plain, **changes)


def link() -> StudyLink:
    return StudyLink(str(Path("search.journal").absolute()), "test")


def worth(trial: Trial) -> float:
    """A function of the words with its best near lr 0.01 and no dropout."""
    import math

    return 1.0 - 0.1 * abs(math.log10(float(trial.words["optimizer.lr"])) + 2) - float(trial.words["model.dropout"])


def run_all(search: Search, value: Callable[[Trial], float] = worth) -> list[Trial]:
    found = []
    while (trial := search.claim()) is not None:
        search.record_result(trial.number, Verdict("complete", value(trial)))
        found.append(trial)
    return found


def states(where: str = "search.journal", study: str = "test") -> list[str]:

    storage = open_storage(where if "://" in where else str(Path(where).absolute()))
    return [trial.state.name for trial in storage.get_all_trials(storage.get_study_id_from_name(study))]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_decides_every_suggestion(sampler: str) -> None:
    space = COUNTABLE if sampler == "grid" else SPACE
    n = 6 if sampler == "grid" else 14
    value = (lambda trial: float(trial.words["trainer.batch_size"])) if sampler == "grid" else worth
    found = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        search = Search(plan(f"{name}.journal", sampler=sampler, space=space, seed=seed, n_trials=n))
        found[name] = [trial.words for trial in run_all(search, value)]
    assert found["a"] == found["b"] != found["c"]
    assert len(found["a"]) == n
    assert len({json.dumps(dict(words)) for words in found["a"]}) == n, "no point twice"


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_suggestions_do_not_depend_on_the_process(sampler: str) -> None:
    """A new Search for every trial, as resumes and other processes have it, samples what one Search does."""
    whole = [trial.words for trial in run_all(Search(plan("whole.journal", sampler=sampler, n_trials=12)))]
    pieces = []
    for _ in range(12):
        search = Search(plan("pieces.journal", sampler=sampler, n_trials=12))
        trial = search.claim()
        assert trial is not None
        search.record_result(trial.number, Verdict("complete", worth(trial)))
        pieces.append(trial.words)
    assert pieces == whole


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_informed_samplers_beat_random(sampler: str) -> None:
    def mean_of_the_last(sampler: str) -> float:
        found = [
            worth(trial)
            for seed in range(3)
            for trial in run_all(Search(plan(f"{sampler}{seed}.journal", sampler=sampler, seed=seed, n_trials=40)))[
                -15:
            ]
        ]
        return sum(found) / len(found)

    assert mean_of_the_last(sampler) > mean_of_the_last("random") + 0.05


def test_the_journal_of_cmaes_holds_no_pickle() -> None:
    run_all(Search(plan(sampler="cmaes", n_trials=25)))
    text = Path("search.journal").read_text()
    assert "mnist_ff:generation" in text
    assert "optimizer:" not in text
    assert not re.search(r'"800[2-5][0-9a-f]{20}', text), "a pickle's first bytes in hexadecimal"


def test_words_stay_in_their_space() -> None:
    for sampler in ("tpe", "random", "cmaes"):
        for trial in run_all(Search(plan(f"{sampler}.journal", sampler=sampler, n_trials=25))):
            assert 1e-4 <= float(trial.words["optimizer.lr"]) <= 1e-1
            assert 0 <= float(trial.words["model.dropout"]) <= 0.6
            assert int(trial.words["trainer.batch_size"]) % 32 == 0
            assert trial.words["optimizer"] in ("adam", "sgd")
            assert trial.overrides()[-1] == f"optimizer={trial.words['optimizer']}"


def test_the_grid_is_gone_through_once() -> None:
    found = run_all(Search(plan(sampler="grid", space=COUNTABLE, n_trials=6)), lambda trial: 0.5)
    assert {(trial.words["trainer.batch_size"], trial.words["optimizer"]) for trial in found} == {
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


def test_a_grid_ends_where_it_ends(mnist_ff: Command) -> None:
    search = Search(plan(sampler="grid", space=COUNTABLE, n_trials=20))
    found = run_all(search, lambda trial: float(trial.words["trainer.batch_size"]))
    assert len(found) == len({json.dumps(dict(trial.words)) for trial in found}) == 6
    search_result = search.answer()
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


def test_corners_hold_every_end() -> None:
    found = list(corners(SPACE))
    assert len(found) == 2**4
    assert {row["optimizer.lr"] for row in found} == {"0.0001", "0.1"}
    wide: Space = {f"k{index}": Floats(0, 1) for index in range(20)} | {"c": Choices(tuple("abcdefg"))}
    rows = list(corners(wide))
    assert len(rows) == 7
    assert {row["c"] for row in rows} == set("abcdefg")
    assert {row["k3"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize("storage", ["search.journal", "sqlite:///search.db"])
def test_n_trials_counts_failures_and_resumes(storage: str) -> None:
    search = Search(plan(storage))
    for verdict in (Verdict("failed", reason="diverged: a loss"), Verdict("complete", 0.5), Verdict("pruned", 0.1)):
        trial = search.claim()
        assert trial is not None
        search.record_result(trial.number, verdict)
    again = Search(plan(storage))
    assert [trial.number for trial in run_all(again)] == [3, 4, 5]
    assert again.claim() is None
    assert Counter(states(storage)) == {"COMPLETE": 4, "FAIL": 1, "PRUNED": 1}
    more = Search(plan(storage, n_trials=8))
    assert [trial.number for trial in run_all(more)] == [6, 7]


@pytest.mark.parametrize("storage", ["search.journal", "sqlite:///search.db"])
def test_an_interrupted_trial_goes_on_under_its_number(storage: str) -> None:
    search = Search(plan(storage))
    first = search.claim()
    assert first is not None
    search.record_result(first.number, Verdict("interrupted", reason="stopped by SIGINT"))
    assert Search(plan(storage)).claim() == first
    assert states(storage) == ["RUNNING"]


def test_answer_names_best_trial_and_importance() -> None:
    search = Search(plan(n_trials=30))
    assert search.answer().best_trial is None
    found = run_all(search)
    answer = search.answer()
    best = max(found, key=worth)
    assert (answer.best_trial, answer.best_value, answer.best_words) == (best.number, worth(best), best.words)
    assert answer.counts == {"complete": 30, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert sum(answer.importance.values()) == pytest.approx(1, abs=1e-3)
    assert max(answer.importance, key=lambda key: answer.importance[key]) in ("model.dropout", "optimizer.lr")


def test_the_smallest_loss_is_the_best() -> None:
    search = Search(plan(objective="validation_loss"))
    found = run_all(search)
    assert search.answer().best_trial == min(found, key=worth).number


def test_another_space_is_another_study() -> None:
    Search(plan())
    for changes in ({"space": COUNTABLE}, {"fixed": ("optimizer.rho=0.8",)}):
        with pytest.raises(ConfigError, match="has a study of that name with a different space"):
            Search(plan(**changes))
    Search(plan(space=COUNTABLE, study="other"))


@pytest.mark.parametrize("storage", ["/dev/null/x", "/proc/x/y", "sqlite:////proc/x/y.db"])
def test_unlockable_storage_is_one_line(storage: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR, f"hydra.sweeper.storage={storage}")
    assert code == 2, err
    assert f"error: hydra.sweeper.storage={storage}: cannot be" in err
    assert err.count("\n") == 1
    assert not Path("outputs").exists()


def test_fewer_trials_than_have_ended_are_refused() -> None:
    run_all(Search(plan(n_trials=3)))
    with pytest.raises(ConfigError, match=r"n_trials=2: study test has 3 trials that have already ended"):
        Search(plan(n_trials=2))
    assert Search(plan(n_trials=3)).answer().counts["complete"] == 3


def test_failing_storage_is_named_without_password() -> None:
    with pytest.raises(ConfigError) as caught:
        Search(plan("mysql://me:secret@nowhere/db"))
    assert "hydra.sweeper.storage=mysql://nowhere/db: cannot be opened" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert without_password("/a@b/c") == "/a@b/c"


@pytest.mark.parametrize(
    "storage",
    ["mysql://me:sec,ret@nowhere/db", "postgresql://me:sec@ret@h/db", "'postgresql://h/db?user=me&password=sec=ret'"],
)
def test_a_password_is_refused_before_it_stands_anywhere(storage: str, mnist_ff: Command) -> None:
    for word in (f"hydra.sweeper.storage={storage}", f"++hydra.sweeper.storage={storage}"):
        code, out, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR, word)
        assert code == 2
        assert "set the environment variable MNIST_FF_STORAGE_PASSWORD" in err
        assert "sec" not in out + err.replace("processes", "")
    assert os.listdir() == []


def test_a_password_in_a_preset_is_refused_too(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR, "hydra.sweeper={storage:'mysql://me:secret@h/db'}")
    assert code == 2
    assert "contains a password" in err
    assert "secret" not in err
    assert os.listdir() == []


def test_environment_password_reaches_only_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    opened = []

    def refuse(url: str, **_: object) -> None:
        opened.append(url)
        raise RuntimeError(f"no way to {url}, not with p@ss")

    monkeypatch.setenv("MNIST_FF_STORAGE_PASSWORD", "p@ss")
    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    with pytest.raises(ConfigError) as caught:
        open_storage("postgresql://me@h/db")
    assert opened == ["postgresql://me:p%40ss@h/db"]
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)


def test_a_torn_last_line_is_cut() -> None:
    search = Search(plan())
    search.claim()
    whole = Path("search.journal").read_bytes()
    Path("search.journal").write_bytes(whole + b'{"op_code":4,"wor')
    again = Search(plan())
    assert again.claim() is not None
    assert states() == ["RUNNING", "RUNNING"]


WORKER = """
import sys, time
from mnist_ff.sweeps.search.plan import Verdict
from mnist_ff.sweeps.search.study import Search
from tests.sweeps.test_search import plan, worth
search = Search(plan(sys.argv[1], n_trials=int(sys.argv[2]), sampler="random"))
while (trial := search.claim()) is not None:
    print(trial.number, trial.words["optimizer.lr"], flush=True)
    time.sleep(float(sys.argv[3]))
    search.record_result(trial.number, Verdict("complete", worth(trial)))
print("done", flush=True)
"""


def worker(storage: str, n_trials: int, seconds: float) -> Forked:
    return Forked(WORKER, storage, str(n_trials), str(seconds))


def lines_of(process: Forked) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    *lines, last = out.splitlines()
    assert last == "done"
    return lines


@pytest.mark.parametrize("storage", ["search.journal", "sqlite:///search.db"])
def test_processes_share_a_storage_without_losing_trials(storage: str) -> None:
    processes = [worker(storage, 24, 0.02) for _ in range(3)]
    found = [lines_of(process) for process in processes]
    numbers = sorted(int(line.split()[0]) for lines in found for line in lines)
    assert numbers == list(range(24))
    assert len({line.split()[1] for lines in found for line in lines}) == 24, "no two draw the same numbers"
    assert sum(bool(lines) for lines in found) > 1, "more than one took part"
    assert states(storage) == ["COMPLETE"] * 24


def test_only_dead_processes_trials_are_failed() -> None:
    dying, living = worker("search.journal", 6, 60), worker("search.journal", 6, 60)
    try:
        owned = [int(process.first_line().split()[0]) for process in (dying, living)]
        os.kill(dying.pid, signal.SIGKILL)
        dying.communicate()
        search = Search(plan(sampler="random"))
        (said,) = search.recover()
        assert said == f"trial {owned[0]} was left running by a process that no longer exists: failed"
        assert search.recover() == []
        found = run_all(search)
        assert len(found) == 4
        assert sorted([*owned, *(trial.number for trial in found)]) == list(range(6)), "six in all"
        counts = search.answer().counts
        assert counts == {"complete": 4, "pruned": 0, "failed": 1, "running": 1, "waiting": 0}
    finally:
        for process in (dying, living):
            process.kill()
            process.communicate()
    assert len(search.recover()) == 1


def test_ended_trial_of_a_killed_process_counts(tmp_path: Path) -> None:
    process = worker("search.journal", 2, 60)
    process.first_line()
    search = Search(plan(sampler="random", n_trials=2))
    directory = tmp_path / "run"
    ended_run(directory, "finished", 0.75)
    search.started(0, directory)
    process.kill()
    process.communicate()
    assert search.recover() == ["trial 0 was left running by a process that no longer exists: complete"]
    assert search.answer().best_value == 0.75


def test_ended_run_is_settled_by_its_own_sweep(tmp_path: Path) -> None:
    """A job that was left in Slurm and ends as the sweep is resumed would else stay running for ever."""
    search = Search(plan(sampler="random", n_trials=3))
    for number, status in enumerate(("finished", "interrupted", "interrupted")):
        assert search.claim() is not None
        ended_run(tmp_path / str(number), status, 0.75)
        search.started(number, tmp_path / str(number))
    with Run(tmp_path / "0").locked(), Run(tmp_path / "1").locked():
        assert search.recover() == []
        assert search.recover(own=tmp_path, left=[0, 2]) == []
        assert search.recover(own=tmp_path, left=[2]) == [
            "trial 0 was left running by a process that no longer exists: complete"
        ]
    assert states() == ["COMPLETE", "RUNNING", "RUNNING"]


def ended_run(directory: Path, status: str, accuracy: float) -> None:
    """What a run's end leaves, as far as a search reads it."""
    from mnist_ff.runs.directory import Run
    from mnist_ff.runs.records import Summary

    run = Run.create(directory)
    cells = {"epoch": "0", "validation_loss": "0.5", "validation_accuracy": f"{accuracy}"}
    row = ",".join(cells.get(column, "1") for column in EPOCH_COLUMNS)
    run.file("epochs.csv").write_text(",".join(EPOCH_COLUMNS) + "\n" + row + "\n")
    run.write_summary(Summary(status, "why", Score(0.5, 0.7, 7, 10), 1, 1, 1, 0, None, "mnist_5k", None))


def test_what_is_known_of_other_processes() -> None:
    own = own_process()
    assert lives(own) is True
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert lives(replace(own, pid=gone.pid)) is False
    assert lives(replace(own, start="1")) is False, "another process has its number now"
    assert lives(replace(own, host="elsewhere")) is None
    assert lives(replace(own, namespace="pid:[1]")) is None
    assert lives(replace(own, boot="before")) is (False if own.machine else None)


def test_trial_of_another_machine_is_kept() -> None:
    search = Search(plan())
    trial = search.claim()
    assert trial is not None
    text = Path("search.journal").read_text()
    Path("search.journal").write_text(text.replace(f'"host":"{own_process().host}"', '"host":"far"'))
    search = Search(plan())
    assert search.recover() == ["trial 0 may be running on far; it is left as it is"]
    assert states() == ["RUNNING"]
    search.started(0, Path("own/0"))
    assert search.recover(own=Path("own")) == ["trial 0 was left running by a process that no longer exists: failed"]


def test_no_warning_reaches_the_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sampler in ("tpe", "random", "cmaes"):
            for pruner in PRUNERS:
                where = f"{sampler}{pruner}.journal"
                search = Search(plan(where, sampler=sampler, pruner=Pruner(pruner, 1, 3, 9)))
                run_all(search)
                search.answer()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_only_hopeless_trials_are_pruned(pruner: str, objective: str) -> None:
    """Reports come through links alone, as from jobs in other processes."""
    search = Search(plan(pruner=Pruner(pruner, 1, 3, 9), n_trials=12, objective=objective))
    lengths = {}
    for quality in (0.9, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.95):
        trial = search.claim()
        assert trial is not None
        report = Reporter(link(), trial.number)
        for epoch in range(1, 10):
            reason = report(epoch, Score(1 - quality, quality, 1, 1))
            if reason is not None:
                break
        lengths[trial.number] = epoch
        search.record_result(trial.number, Verdict("pruned" if reason else "complete", quality))
    assert lengths[0] == lengths[11] == 9
    assert sum(length < 9 for length in lengths.values()) >= 5
    if pruner == "asha":
        assert reason is None
        assert min(lengths.values()) == 1


def test_the_reason_says_what_was_too_little() -> None:
    search = Search(plan())
    reasons = []
    for quality in (0.9, 0.1):
        trial = search.claim()
        assert trial is not None
        reasons.append(Reporter(link(), trial.number)(1, Score(0.5, quality, 1, 1)))
    assert reasons == [None, "asha: validation accuracy 0.1000 after epoch 1 is not among the best 1/3"]


REPORTER = """
import pickle, sys
from mnist_ff.runs.records import Score, StopKind, StopReason
from mnist_ff.sweeps.search.reporter import Reporter
report = Reporter(pickle.loads(bytes.fromhex(sys.argv[1])), int(sys.argv[2]))
print(report(1, Score(0.5, float(sys.argv[3]), 1, 1)))
"""


@pytest.mark.parametrize("storage", ["search.journal", "sqlite:///search.db"])
def test_a_trial_is_pruned_from_another_process(storage: str) -> None:
    import pickle

    search = Search(plan(storage))
    where = StudyLink(search.plan.storage, "test")
    said = []
    for quality in ("0.9", "0.1"):
        trial = search.claim()
        assert trial is not None
        words = [pickle.dumps(where).hex(), str(trial.number), quality]
        process = Forked(REPORTER, *words)
        out, err = process.communicate()
        assert process.returncode == 0, err
        said.append(out.strip())
    assert said == ["None", "asha: validation accuracy 0.1000 after epoch 1 is not among the best 1/3"]


def test_a_storage_that_goes_away_stops_no_run(caplog: pytest.LogCaptureFixture) -> None:
    search = Search(plan())
    trial = search.claim()
    assert trial is not None
    report = Reporter(link(), trial.number)
    search.record_result(trial.number, Verdict("failed"))
    assert report(1, Score(0.5, 0.1, 1, 10)) is None
    assert "could not be reported" in caplog.text


def test_pruning_never_acts_after_the_last_epoch() -> None:
    from mnist_ff.runs.records import EpochRecord, Plan

    heard: list[tuple[int, float]] = []

    def report(epoch: int, score: Score) -> str | None:
        heard.append((epoch, score.accuracy))
        return "hopeless" if score.accuracy < 0.5 else None

    pruning = Pruning(report)
    pruning.on_train_begin(Plan(3, 100, 10, None, 0.1))
    for epoch, accuracy in enumerate((0.9, 0.8, 0.1)):
        pruning.on_epoch_end(EpochRecord(epoch, 1.0, 0.5, None, Score(1.0, accuracy, 1, 10), 1.0))
        assert pruning() is None
    assert heard == [(1, 0.9), (2, 0.8), (3, 0.1)]
    pruning.on_epoch_end(EpochRecord(0, 1.0, 0.5, None, Score(1.0, 0.2, 1, 10), 1.0))
    assert pruning() == StopReason(StopKind.PRUNING, "hopeless")


def test_a_pruned_run_is_whole() -> None:
    """A real training that is told to stop after its second epoch of five."""
    from rich.console import Console

    from mnist_ff.config.compose import compose
    from mnist_ff.runs.directory import Run
    from mnist_ff.runs.signals import Interruption
    from mnist_ff.session.request import RunRequest
    from mnist_ff.session.resolve import resolve
    from mnist_ff.session.session import train
    from mnist_ff.session.timing import Timing

    words = [
        "data=mnist_5k",
        "model.hidden=[16]",
        "trainer.epochs=5",
        "data.validation_split=0.2",
        "trainer.plots=false",
    ]
    run = Run.create(Path("run"))
    pruning = Pruning(lambda epoch, score: "asha: too little" if epoch == 2 else None)
    console = Console(quiet=True)
    summary = train(
        RunRequest(
            resolve(compose(words)), run, [], Timing(time.perf_counter()), console, Interruption(), pruning=pruning
        )
    )
    assert summary == run.summary()
    assert (summary.status, summary.cause, summary.epochs) == ("pruned", "asha: too little", 2)
    assert summary.score is not None
    assert len(run.epochs()) == 2
    assert {"model.safetensors", "predictions.safetensors", "checkpoint.pt"} <= {
        path.name for path in run.path.iterdir()
    }


WORDS = ("hydra/sweeper=optuna", "data=mnist_5k", "model.hidden=[16]", "trainer.epochs=3", "trainer.plots=false")
SPLIT = "data.validation_split=0.2"
LR = "optimizer.lr=tag(log,interval(1e-5,1e-1))"


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
        (("optimizer.lr=tag(lin,interval(0,1))",), "tag lin: there is float, int, log"),
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


def test_without_the_extra_one_line_names_it(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR)
    assert code == 2
    assert err == "error: hydra/sweeper=optuna: needs optuna, which is not installed: pip install 'mnist-ff[search]'\n"
    assert not Path("outputs").exists()


def sweep_dir() -> Path:
    (found,) = Path("outputs/sweeps").iterdir()
    return found


def statuses(directory: Path) -> list[str]:
    summaries = [json.loads((directory / str(job) / "summary.json").read_text()) for job in range(runs_in(directory))]
    return [summary["status"] for summary in summaries]


def runs_in(directory: Path) -> int:
    return sum(path.is_dir() for path in directory.iterdir())


def test_a_search_prunes_and_ends_in_an_answer(mnist_ff: Command) -> None:
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
    assert f"best trial {best}: validation accuracy {accuracies[best]:.4f}  optimizer.lr=" in out
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


TWO_POINTS = (
    "hydra/sweeper=optuna", "data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", SPLIT,
    "optimizer.lr=0.001,0.01",
)  # fmt: skip


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
def test_seeds_that_differ_are_no_repeats(mnist_ff: Command) -> None:
    assert mnist_ff("train", "-m", *TWO_POINTS, "hydra.sweeper.n_trials=3", "seed=null", "hydra.sweep.dir=s")[0] == 0
    assert runs_in(Path("s")) == 3


@pytest.mark.slow
def test_a_diverged_configuration_fails_without_training(mnist_ff: Command) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e20,1e30", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=s")
    code, out, err = mnist_ff("train", "-m", *TWO_POINTS, *words)
    assert code == 1, err
    assert runs_in(Path("s")) == 2
    assert out.count("has the same configuration: training diverged") + out.count("same configuration: the loss") >= 2
    assert json.loads(Path("s/search.json").read_text())["counts"]["failed"] == 4


@pytest.mark.parametrize("storage", ["search.journal", "sqlite:///search.db"])
def test_a_repeat_takes_the_earlier_result_once_known(storage: str) -> None:
    """By two processes that share a storage: the one waits, with no claim, until the other has the result."""
    here, there = Search(plan(storage)), Search(plan(storage))
    first, second = here.claim(), there.claim()
    assert first is not None
    assert second is not None
    assert here.twin(first.number, "same") is None
    twin = there.twin(second.number, "same")
    assert twin == Twin(0, None)
    assert twin is not None
    there.postpone(second.number, twin)
    other = there.claim()
    assert other is not None
    assert other.number == 2, "nobody claims what waits"
    assert there.twin(other.number, "other") is None
    here.record_result(first.number, Verdict("pruned", 0.25, "too little"))
    again = here.claim()
    assert again == second
    twin = here.twin(second.number, "same")
    assert twin == Twin(0, Verdict("pruned", 0.25, "too little"))
    assert twin is not None
    here.repeat(second.number, twin)
    assert states(storage)[:3] == ["PRUNED", "PRUNED", "RUNNING"]
    here.record_result(other.number, Verdict("complete", 0.1))
    assert here.answer().counts["pruned"] == 2
    for search in (here, there):
        search.close()


def test_what_may_not_come_again_is_tried_again() -> None:
    """A killed trial's configuration is trained by the one that waited for it; a diverged one's is not."""
    with Search(plan(n_trials=4)) as search:
        first, second = search.claim(), search.claim()
        assert first is not None
        assert second is not None
        assert search.twin(0, "same") is None
        twin = search.twin(1, "same")
        assert twin is not None
        search.postpone(1, twin)
        search.record_result(0, Verdict("failed", reason="its process was killed"))
        assert search.claim() == second
        assert search.twin(1, "same") is None
        search.record_result(1, Verdict("failed", reason="diverged", certain=True))
        third = search.claim()
        assert third is not None
        assert search.twin(2, "same") == Twin(1, Verdict("failed", reason="diverged", certain=True))


def test_an_older_study_is_known_by_its_values() -> None:
    with Search(plan(space={"optimizer": Choices(("adam", "sgd"))}, n_trials=9)) as search:
        seen: dict[str, int] = {}
        while (trial := search.claim()) is not None:
            word = trial.words["optimizer"]
            found = search.twin(trial.number, f"digest of {word}") if word in seen else None
            assert word not in seen or found == Twin(seen[word], Verdict("complete", 0.5))
            seen.setdefault(word, trial.number)
            search.record_result(trial.number, Verdict("complete", 0.5))
            if len(seen) == 2 and found is not None:
                break


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
    started = Started("train", "-m", *words, "trainer.epochs=25", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=s")
    deadline = time.monotonic() + 60
    while not Path("s/1/epochs.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
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
    started = Started("train", "-m", *words, "trainer.epochs=60", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=s")
    started.wait_for_rows(40, "s")
    started.process.send_signal(signal.SIGINT)
    assert started.end()[0] == 130
    assert statuses(Path("s")) == ["interrupted"]
    assert states("s/search.journal", "mnist-ff")[0] == "WAITING"
    code, _, err = Started("train", "-m", "resume=s").end()
    assert code == 0, err
    assert statuses(Path("s")) == ["finished", "finished"]
    assert states("s/search.journal", "mnist-ff") == ["COMPLETE", "COMPLETE"]
    history = json.loads(Path("s/0/environment.json").read_text())["history"]
    assert len(history) == 1, "it went on"


def test_two_searches_share_a_storage() -> None:
    words = (*WORDS, SPLIT, LR, "trainer.epochs=1", "hydra.sweeper.n_trials=7", "hydra.sweeper.storage=shared.journal")
    pair = [Started("train", "-m", *words, f"hydra.sweep.dir={place}") for place in "ab"]
    for started in pair:
        code, _, err = started.end()
        assert code == 0, err
    runs = [int(path.name) for place in "ab" for path in Path(place).iterdir() if path.is_dir()]
    assert sorted(runs) == list(range(7))
    assert set(states("shared.journal", "mnist-ff")) <= {"COMPLETE", "PRUNED"}
    assert len(states("shared.journal", "mnist-ff")) == 7


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


def test_search_dry_run_prints_space_writes_nothing(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", "-m", "dry_run=true", "sweep=search")
    assert code == 0, err
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


def test_a_finding_of_others_is_data(tmp_path: Path) -> None:
    from mnist_ff.analysis.rows import collect
    from mnist_ff.runs.search_result import lines, read_search_result

    (tmp_path / "jobs.json").write_text('{"words": [], "jobs": []}')
    path = tmp_path / "search.json"
    for text in ("", "[]", "{", "{}", "[" * 100_000, '{"study": 3}'):
        path.write_text(text)
        assert read_search_result(tmp_path) is None
    whole = {
        "study": "s\x1b[31m\n", "storage": "x", "objective": "o", "n_trials": 1, "counts": {"complete": 1},
        "best_trial": 0, "best_value": 0.5, "best_words": {}, "importance": {},
    }  # fmt: skip
    path.write_text(json.dumps(whole))
    found = read_search_result(tmp_path)
    assert found is not None
    assert "\x1b" not in "".join(lines(found))
    again = {"number": 1, "words": ["a=\x1b"], "of": 0, "value": 0.5}
    path.write_text(json.dumps({**whole, "repeated": [again]}))
    (row,) = collect([tmp_path])
    assert (row.label, row.status) == ("1", "repeated")
    assert "\x1b" not in str(row.reason)
    for wrong in (3, [3], [{**again, "of": "../x"}], [{**again, "value": "nan"}], [{**again, "of": None}]):
        path.write_text(json.dumps({**whole, "repeated": wrong}))
        assert read_search_result(tmp_path) is None
    trial = {"number": 0, "words": ["a=\x1b"], "reason": "\x1b[31m"}
    path.write_text(json.dumps({**whole, "refused": [trial]}))
    (row,) = collect([tmp_path])
    assert (row.label, row.status) == ("0", "failed")
    assert "\x1b" not in str(row.reason)
    for wrong in (3, [3], [{**trial, "number": -1}], [{**trial, "number": "../x"}], [{**trial, "reason": 3}]):
        path.write_text(json.dumps({**whole, "refused": wrong}))
        assert read_search_result(tmp_path) is None


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


@pytest.mark.parametrize("storage", [(), ("hydra.sweeper.storage=sqlite:///q.db",)], ids=["journal", "sqlite"])
def test_storage_lost_in_a_search_is_one_line(
    storage: tuple[str, ...], mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SearchSweep.launch

    def launch(self: SearchSweep, *given: Any) -> None:
        whole(self, *given)
        for path in (Path("s/search.journal"), Path("q.db")):
            path.unlink(missing_ok=True)

    monkeypatch.setattr(SearchSweep, "launch", launch)
    words = ("data=mnist_5k", "model.hidden=[4]", "trainer.epochs=1", "hydra.sweeper.pruner=none", "hydra.sweep.dir=s")
    code, out, err = mnist_ff("train", "-m", "hydra/sweeper=optuna", *words, "trainer.plots=false", SPLIT, LR, *storage)
    assert code == 1
    assert "Traceback" not in err
    assert ("q.db: the study can no longer be read" if storage else "search.journal: No such file") in err
    assert "1 finished" in out
    assert {path.name for path in Path("s").glob("sweep.*")} == {"sweep.csv", "sweep.json", "sweep.md", "sweep.png"}
