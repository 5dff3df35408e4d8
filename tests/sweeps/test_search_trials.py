"""Trials: samplers, pruning, repeats and the result."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest

from mnist_ff.errors import ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Score, StopKind, StopReason
from mnist_ff.sweeps.search.plan import (
    OBJECTIVES,
    PRUNERS,
    SAMPLERS,
    Pruner,
    Twin,
    Verdict,
)
from mnist_ff.sweeps.search.reporter import Reporter
from mnist_ff.sweeps.search.space import Choices
from mnist_ff.sweeps.search.study import Search
from mnist_ff.training.callbacks import Pruning
from tests.support.commands import Command
from tests.support.search import COUNTABLE, SPACE, TWO_POINTS, link, plan, run_all, runs_in, states, worth


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_decides_every_suggestion(sampler: str) -> None:
    space = COUNTABLE if sampler == "grid" else SPACE
    n = 6 if sampler == "grid" else 14
    value = (lambda trial: float(trial.values["trainer.batch_size"])) if sampler == "grid" else worth
    found = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        search = Search(plan(f"{name}.journal", sampler=sampler, space=space, seed=seed, n_trials=n))
        found[name] = [trial.values for trial in run_all(search, value)]
    assert found["a"] == found["b"] != found["c"]
    assert len(found["a"]) == n
    assert len({json.dumps(dict(words)) for words in found["a"]}) == n, "no point twice"


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
    assert search.result().best_trial is None
    found = run_all(search)
    result = search.result()
    best = max(found, key=worth)
    assert (result.best_trial, result.best_value, result.best_words) == (best.number, worth(best), best.values)
    assert result.counts == {"complete": 30, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert sum(result.importance.values()) == pytest.approx(1, abs=1e-3)
    assert max(result.importance, key=lambda key: result.importance[key]) in ("model.dropout", "optimizer.lr")


def test_the_smallest_loss_is_the_best() -> None:
    search = Search(plan(objective="validation_loss"))
    found = run_all(search)
    assert search.result().best_trial == min(found, key=worth).number


def test_another_space_is_another_study() -> None:
    Search(plan())
    for changes in ({"space": COUNTABLE}, {"fixed": ("optimizer.rho=0.8",)}):
        with pytest.raises(ConfigError, match="has a study of that name with a different space"):
            Search(plan(**changes))
    Search(plan(space=COUNTABLE, study="other"))


def test_fewer_trials_than_have_ended_are_refused() -> None:
    run_all(Search(plan(n_trials=3)))
    with pytest.raises(ConfigError, match=r"n_trials=2: study test has 3 trials that have already ended"):
        Search(plan(n_trials=2))
    assert Search(plan(n_trials=3)).result().counts["complete"] == 3


def test_no_warning_reaches_the_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sampler in ("tpe", "random", "cmaes"):
            for pruner in PRUNERS:
                where = f"{sampler}{pruner}.journal"
                search = Search(plan(where, sampler=sampler, pruner=Pruner(pruner, 1, 3, 9)))
                run_all(search)
                search.result()


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


@pytest.mark.slow
def test_seeds_that_differ_are_no_repeats(mnist_ff: Command) -> None:
    assert mnist_ff("train", "-m", *TWO_POINTS, "hydra.sweeper.n_trials=3", "seed=null", "hydra.sweep.dir=s")[0] == 0
    assert runs_in(Path("s")) == 3


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
    assert here.result().counts["pruned"] == 2
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
            word = trial.values["optimizer"]
            found = search.twin(trial.number, f"digest of {word}") if word in seen else None
            assert word not in seen or found == Twin(seen[word], Verdict("complete", 0.5))
            seen.setdefault(word, trial.number)
            search.record_result(trial.number, Verdict("complete", 0.5))
            if len(seen) == 2 and found is not None:
                break


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
