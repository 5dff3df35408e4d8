"""What is known of many runs: plans, rows, groups, rankings, files; from directories that a generator makes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mnist_ff.analysis import sweep_plot as picture
from mnist_ff.analysis.formats import legend, table_of, to_csv, to_json, to_markdown, write_files
from mnist_ff.analysis.ranking import Ranking, differing, rank_rows, sorted_by, text
from mnist_ff.analysis.rows import collect, one_line, read_row
from mnist_ff.analysis.statistics import Sample, differ, sample, t_975
from mnist_ff.analysis.sweep_plot import draw_sweep, importance, spaced_by_factors, sweep_figure
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.jobs import SweepPlan, check_same_grid, read_job, read_plan, same_experiment, state_of, write_plan
from mnist_ff.runs.progress_line import count_of
from mnist_ff.runs.search_result import SearchResult, further, read_search_result, write_search_result
from mnist_ff.sweeps import progress
from mnist_ff.sweeps.summary import conclude
from tests.support.commands import Command
from tests.support.processes import in_a_terminal
from tests.support.sweep_maker import jobs_of, make_sweep, product, write_run

GRID = list(product(optimizer__lr=[0.001, 0.01, 0.1], seed=[0, 1, 2]))
SWEEP = Path("sweep")
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: bad\n  and more\n'


def score(values: dict) -> float:
    """0.001 is best, 0.01 nearly as good, 0.1 bad; seeds move it by 0.2 %."""
    return {0.001: 0.950, 0.01: 0.9495, 0.1: 0.60}[values["optimizer.lr"]] + 0.002 * (values["seed"] - 1)


def test_a_plan_reads_back_as_it_was() -> None:
    plan = make_sweep(SWEEP, GRID, score, "seed=null", "model.hidden=[3,4]", "name='a: b #c'")
    assert read_plan(SWEEP) == plan
    assert read_job(SWEEP, "4") == plan.jobs[4]
    assert all(state_of(SWEEP, job) == "finished" for job in plan.jobs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda jobs: jobs[0].update(subdir="../out"), "is outside the sweep's directory"),
        (lambda jobs: jobs[0].update(subdir="/tmp/out"), "is outside the sweep's directory"),
        (lambda jobs: jobs[0].update(subdir="a/../../out"), "is outside the sweep's directory"),
        (lambda jobs: jobs[0].update(subdir=".hydra"), "is outside the sweep's directory"),
        (lambda jobs: jobs[0].update(subdir="a\0b"), "not a directory name"),
        (lambda jobs: jobs[0].update(subdir=7), "not a directory name"),
        (lambda jobs: jobs[1].update(subdir="0"), "two jobs share a directory"),
        (lambda jobs: jobs[0].update(number="x"), "number is 'x'"),
        (lambda jobs: jobs[0].update(overrides="seed=0"), "not a list of texts"),
        (lambda jobs: jobs[0]["config"].update(seed=5), "differs from the saved one"),
        (lambda jobs: jobs[0]["config"].update(_target_="os.system"), "no such key"),
        (lambda jobs: jobs[0]["config"]["optimizer"].update(lr=-1), "optimizer.lr=-1"),
        (lambda jobs: jobs[0].pop("digest"), "digest"),
        (lambda jobs: jobs.__setitem__(0, 3), "jobs.json"),
    ],
)
def test_a_plan_is_not_trusted(change: Callable[[list], None], reason: str) -> None:
    make_sweep(SWEEP, GRID[:3], score)
    values = json.loads((SWEEP / "jobs.json").read_text())
    change(values["jobs"])
    (SWEEP / "jobs.json").write_text(json.dumps(values))
    with pytest.raises(BadRunError, match=r"jobs\.json") as error:
        read_plan(SWEEP)
    assert reason in str(error.value)


def test_one_job_is_read_from_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    trap = ('name=\'"subdir": "2", "digest": \'',)
    jobs = [replace(job, overrides=trap) for job in jobs_of(GRID)]
    SWEEP.mkdir()
    write_plan(SWEEP, SweepPlan(tuple(jobs)))
    assert [read_job(SWEEP, job.subdir) for job in jobs] == jobs
    with pytest.raises(BadRunError, match="has no job 77"):
        read_job(SWEEP, "77")
    values = json.loads((SWEEP / "jobs.json").read_text())
    (SWEEP / "jobs.json").write_text(json.dumps(values))  # in another form
    assert read_job(SWEEP, "4") == jobs[4]
    values["jobs"][4]["subdir"] = "../4"
    for form in (json.dumps(values), (SWEEP / "jobs.json").read_text().replace('"seed": 2', '"seed": 3')):
        (SWEEP / "jobs.json").write_text(form)
        with pytest.raises(BadRunError, match=r"jobs\.json"):
            read_job(SWEEP, "4")


def test_one_of_many_jobs_reads_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (base,) = jobs_of([{}])
    jobs = [replace(base, number=number, subdir=str(number)) for number in range(10_000)]
    SWEEP.mkdir()
    write_plan(SWEEP, SweepPlan(tuple(jobs)))
    monkeypatch.setattr("mnist_ff.runs.jobs.read_plan", lambda directory: pytest.fail("all ten thousand were read"))
    assert read_job(SWEEP, "9999") == jobs[9999]


@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", '{"words": [], "jobs": 3}', "[" * 100_000, "\0", "null"])
def test_a_plan_that_is_none_is_named(text: str) -> None:
    SWEEP.mkdir()
    (SWEEP / "jobs.json").write_text(text)
    with pytest.raises(BadRunError, match=r"sweep/jobs\.json"):
        read_plan(SWEEP)


def test_another_grid_is_refused_with_the_first_difference() -> None:
    jobs = jobs_of(GRID)
    plan = SweepPlan(tuple(jobs))
    check_same_grid(plan, jobs)
    with pytest.raises(ConfigError, match=r"8 jobs requested, but this sweep has 9"):
        check_same_grid(plan, jobs[:-1])
    other = jobs_of([*GRID[:5], {"optimizer.lr": 0.5, "seed": 0}, *GRID[6:]])
    with pytest.raises(ConfigError, match=r"job 5 would be optimizer.lr=0.5 seed=0, but this sweep's is"):
        check_same_grid(plan, other)


def test_open_values_of_jobs_are_decided_by_runs() -> None:
    (job,) = jobs_of([{}], "seed=null")
    settled = replace(job.config, seed=77, trainer=replace(job.config.trainer, threads=2))
    settled = replace(settled, data=replace(settled.data, root="/elsewhere"))
    assert same_experiment(job.config, settled)
    assert not same_experiment(job.config, replace(settled, model=replace(settled.model, dropout=0.1)))
    (fixed,) = jobs_of([{"seed": 3}])
    assert not same_experiment(fixed.config, settled)


def test_states_of_a_job() -> None:
    jobs = jobs_of(GRID[:4])
    SWEEP.mkdir()
    assert state_of(SWEEP, jobs[0]) == "new"
    (SWEEP / "0" / ".hydra").mkdir(parents=True)
    assert state_of(SWEEP, jobs[0]) == "new"
    (SWEEP / "0" / "config.yaml").touch()
    assert state_of(SWEEP, jobs[0]) == "begun"
    for job, status in zip(jobs[1:], ("finished", "failed", "interrupted"), strict=True):
        write_run(SWEEP / job.subdir, job.config, 0.9, status)
    assert [state_of(SWEEP, job) for job in jobs[1:]] == ["finished", "begun", "begun"]
    with pytest.raises(BadRunError, match="a different experiment"):
        state_of(SWEEP, replace(jobs[1], config=jobs[2].config))


def test_every_status_is_a_row_with_its_reason() -> None:
    jobs = jobs_of([{"seed": seed} for seed in range(9)])
    SWEEP.mkdir()
    write_plan(SWEEP, SweepPlan(tuple(jobs)))
    write_run(SWEEP / "0", jobs[0].config, 0.9)
    write_run(SWEEP / "1", jobs[1].config, 0.0, "diverged", "the loss became nan\nsecond line")
    write_run(SWEEP / "2", jobs[2].config, 0.0, "failed", TRACEBACK)
    write_run(SWEEP / "3", jobs[3].config, 0.0)
    (SWEEP / "3" / "summary.json").unlink()
    write_run(SWEEP / "4", jobs[4].config, 0.9)
    (SWEEP / "4" / "summary.json").write_text("[")
    write_run(SWEEP / "5", jobs[5].config, 0.9)
    (SWEEP / "5" / "config.yaml").write_text("!!python/object/apply:os.system ['touch pwned']")
    write_run(SWEEP / "6", jobs[0].config, 0.9)
    (SWEEP / "7").mkdir()
    (SWEEP / "7" / "config.yaml").touch()
    rows = collect([SWEEP])
    assert [(row.label, row.status) for row in rows] == [
        ("0", "finished"),
        ("1", "diverged"),
        ("2", "failed"),
        ("3", "interrupted"),
        ("4", "broken"),
        ("5", "broken"),
        ("6", "broken"),
        ("7", "interrupted"),
        ("8", "not started"),
    ]
    reasons = [row.reason for row in rows]
    assert reasons[:3] == [None, "the loss became nan", "ValueError: bad"]
    assert "summary.json" in (reasons[4] or "")
    assert "config.yaml" in (reasons[5] or "")
    assert "a different experiment" in (reasons[6] or "")
    assert not Path("pwned").exists()
    ranking = rank_rows(rows)
    assert [row.label for row in ranking.bad] == list("12345678")
    write_files(ranking, SWEEP, drawn=False)
    assert all(row.reason in (SWEEP / "sweep.csv").read_text() for row in rows if row.status in ("failed", "diverged"))


def test_a_run_in_training_is_running() -> None:
    (job,) = jobs_of([{}])
    write_run(SWEEP / "0", job.config, 0.9)
    (SWEEP / "0" / "summary.json").unlink()
    with Run(SWEEP / "0").locked():
        assert read_row(SWEEP / "0").status == "running"
    assert read_row(SWEEP / "0").status == "interrupted"


def test_runs_without_saved_jobs_are_read() -> None:
    make_sweep(SWEEP, GRID[:2], score)
    (SWEEP / "jobs.json").unlink()
    assert [row.label for row in collect([SWEEP])] == ["0", "1"]
    assert [row.label for row in collect([SWEEP / "1", SWEEP / "0"])] == ["sweep/1", "sweep/0"]
    assert len(collect([SWEEP, SWEEP / "0"])) == 3
    Path("empty").mkdir()
    with pytest.raises(BadRunError, match="does not exist"):
        collect([Path("nowhere")])
    with pytest.raises(BadRunError, match="not a run directory"):
        collect([Path("empty")])


def test_table_has_only_keys_that_differ() -> None:
    values = [("adam", 1e-8, 0.1, 0, "a"), ("adam", 1e-8, 0.2, 1, "b"), ("sgd", 0.9, 0.1, 0, "a")]
    names = ("optimizer.name", "optimizer.beta", "optimizer.lr", "seed", "data.root")
    configs = [dict(zip(names, row, strict=True)) for row in values]
    configs.append({"optimizer.name": "rmsprop", "optimizer.lr": 0.1, "seed": 0, "data.root": "a"})
    keys, common = differing(configs)
    assert keys == ["optimizer.name", "optimizer.lr", "seed"]
    assert common == {}
    keys, common = differing(configs[:2])
    assert keys == ["optimizer.lr", "seed"]
    assert common == {"optimizer.name": "adam", "optimizer.beta": 1e-8}


def test_seeds_are_grouped_and_noise_is_marked() -> None:
    make_sweep(SWEEP, GRID, score)
    ranking = rank_rows(collect([SWEEP]))
    assert ranking.ranked_by == "test accuracy"
    assert ranking.keys == ("optimizer.lr", "seed")
    assert [group.values for group in ranking.groups] == [{"optimizer.lr": lr} for lr in (0.001, 0.01, 0.1)]
    best = ranking.groups[0].sample
    assert (best.n, best.mean, best.std) == (3, pytest.approx(0.95), pytest.approx(0.002))
    assert best.half == pytest.approx(4.302653 * 0.002 / math.sqrt(3), rel=1e-4)
    assert [group.like_the_one_before for group in ranking.groups] == [False, True, False]


def test_the_same_seed_again_is_no_second_sample() -> None:
    make_sweep(SWEEP, GRID, score)
    shutil.copytree(SWEEP / "0", "copy")
    rows = collect([SWEEP / "0", Path("copy"), SWEEP / "1"])
    ranking = rank_rows(rows)
    group, again = ranking.groups
    assert (group.sample.n, [row.label for row in group.rows]) == (2, ["sweep/0", "sweep/1"])
    assert (again.again, again.rank, [row.label for row in again.rows]) == (True, None, ["copy"])
    assert ranking.ranked == (group,)
    assert ranking.pruned == ()
    cells = table_of(ranking).ranked[1]
    assert (cells[0], cells[1], cells[-1]) == ("=", "-", "copy")
    assert "=: same seed and keys as another run; not counted in n, mean and std." in legend(ranking)
    assert [line.split(",")[:2] for line in to_csv(ranking).splitlines()[1:]] == [
        ["1", "sweep/0"],
        ["1", "sweep/1"],
        ["", "copy"],
    ]


def test_copied_run_is_in_the_table(mnist_ff: Command) -> None:
    make_sweep(SWEEP, GRID, score)
    shutil.copytree(SWEEP / "0", "copy")
    code, out, err = mnist_ff("compare", "sweep/0", "copy", "--html", "page.html")
    assert code == 0, err
    assert [line.split()[-1] for line in out.splitlines() if line.startswith(("1 ", "= "))] == ["sweep/0", "copy"]
    assert "2 finished, 1 the same seed again" in out
    rows = re.findall(r"<tr.*?</tr>", Path("page.html").read_text(), re.DOTALL)
    assert any("copy" in row and "sweep/0" not in row for row in rows)
    drawn = sweep_figure(rank_rows(collect([SWEEP / "0", Path("copy")])), "x").axes[0]
    assert len(drawn.get_yticklabels()) == 1


def test_threads_that_were_left_open_are_no_difference() -> None:
    plan = make_sweep(SWEEP, GRID, score)
    for job, threads in zip(plan.jobs[:8], (1, 1, 1, 1, 2, 2, 2, 2), strict=True):
        text = (SWEEP / job.subdir / "config.yaml").read_text()
        (SWEEP / job.subdir / "config.yaml").write_text(text.replace("threads: null", f"threads: {threads}"))
    shutil.rmtree(SWEEP / "8")
    ranking = rank_rows(collect([SWEEP]))
    assert ranking.keys == ("optimizer.lr", "seed")
    assert [group.sample.n for group in ranking.groups] == [3, 3, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": {"total": 10**400}},
        {"score": {"loss": 0.1, "accuracy": 7.0, "correct": 1, "samples": 2}},
        {"score": {"loss": 0.1, "accuracy": 0.5, "correct": math.inf, "samples": 2}},
        {"score": {"loss": 0.1, "accuracy": 0.5, "correct": 1, "samples": 10**400}},
    ],
)
def test_impossible_numbers_break_their_row_only(change: dict) -> None:
    make_sweep(SWEEP, GRID[:2], score)
    path = SWEEP / "0" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert [row.status for row in collect([SWEEP])] == ["broken", "finished"]


def test_validation_decides_where_there_is_a_split() -> None:
    make_sweep(SWEEP, GRID, score, "data.validation_split=0.1")
    ranking = rank_rows(collect([SWEEP]))
    assert ranking.ranked_by == "validation accuracy"
    assert ranking.groups[0].sample.mean == pytest.approx(0.955)
    assert ranking.groups[0].test_accuracy is not None
    assert ranking.groups[0].images == 400


SPLIT = "data.validation_split=0.1"


def losses_of(losses: Sequence[float], *, pruned: Collection[int] = (), **keys: Sequence[Any]) -> None:
    """A search's runs with these validation losses; accuracies are the other way round, so that they rank otherwise."""
    grid = list(product(**keys))
    plan = make_sweep(SWEEP, grid, lambda values: 0.9, SPLIT)
    for job, loss in zip(plan.jobs, losses, strict=True):
        epochs = SWEEP / job.subdir / "epochs.csv"
        head, row = epochs.read_text().splitlines()
        cells = dict(zip(head.split(","), row.split(","), strict=True))
        cells |= {"validation_loss": str(loss), "validation_accuracy": str(0.5 + loss / 10)}
        epochs.write_text(f"{head}\n{','.join(cells.values())}\n")
        if job.number in pruned:
            summary = SWEEP / job.subdir / "summary.json"
            summary.write_text(summary.read_text().replace('"finished"', '"pruned"'))


def found(**changes: Any) -> SearchResult:
    plain = SearchResult("s", "j", "validation_accuracy", 4, {"complete": 4}, 0, 0.9, {"optimizer.lr": "0.1"}, {})
    return replace(plain, **changes)


def test_search_for_loss_ranks_by_loss(mnist_ff: Command) -> None:
    losses_of([0.3, 0.1, 0.2], optimizer__lr=[0.001, 0.01, 0.1])
    assert rank_rows(collect([SWEEP])).ranked_by == "validation accuracy"
    write_search_result(SWEEP, found(objective="validation_loss"))
    code, out, _ = mnist_ff("compare", "sweep")
    assert code == 0
    assert "Ranked by validation loss." in out
    values = json.loads((SWEEP / "sweep.json").read_text())
    assert values["ranked_by"] == "validation loss"
    assert [group["values"]["optimizer.lr"] for group in values["groups"]] == [0.01, 0.1, 0.001]
    with (SWEEP / "sweep.csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["1", "2", "0"]
    assert "| 1 | 0.01 |" in (SWEEP / "sweep.md").read_text()
    ranking = rank_rows(collect([SWEEP]), smallest_loss=True)
    axes = sweep_figure(ranking, "x").axes[0]
    assert axes.get_ylabel() == "validation loss"
    assert list(axes.lines[0].get_ydata()) == [0.3, 0.1, 0.2]
    assert "best: 0.01" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_loss_noise_comes_from_its_seeds() -> None:
    losses_of([0.30, 0.32, 0.31, 0.33, 0.90, 0.91], optimizer__lr=[0.1, 0.2, 0.3], seed=[0, 1])
    ranking = rank_rows(collect([SWEEP]), smallest_loss=True)
    assert [group.like_the_one_before for group in ranking.groups] == [False, True, False]
    cells = table_of(ranking).ranked[0]
    assert "0.3100 ± 0.1271" in cells
    assert "The loss of a single run has no known interval" not in " ".join(legend(ranking))
    shutil.rmtree(SWEEP)
    losses_of([0.30, 0.3001], optimizer__lr=[0.1, 0.2])
    ranking = rank_rows(collect([SWEEP]), smallest_loss=True)
    assert not ranking.groups[1].like_the_one_before
    assert "The loss of a single run has no known interval." in legend(ranking)


@pytest.mark.parametrize("keys", [{"optimizer__lr": [1, 2]}, {"optimizer__lr": [1, 2], "model__dropout": [0.1, 0.2]}])
def test_the_best_loss_is_the_brightest(keys: dict[str, list[float]]) -> None:
    """A heat map's and the parallel lines' colours, and the picture of two dots."""
    losses_of([0.4, 0.1, 0.3, 0.2][: math.prod(map(len, keys.values()))], **keys)
    ranking = rank_rows(collect([SWEEP]), smallest_loss=True)
    figure = sweep_figure(ranking, "x")
    if len(keys) == 2:
        image = figure.axes[0].images[0]
        assert image.get_cmap().name == "viridis_r"
        assert [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"] == ["0.100"]


def test_pruned_runs_come_last_without_rank(mnist_ff: Command) -> None:
    losses_of([0.1, 0.2, 0.9, 0.3], pruned=[2], optimizer__lr=[0.1, 0.2, 0.3, 0.4])
    ranking = rank_rows(collect([SWEEP]))
    assert ranking.ranked_by == "validation accuracy"  # the pruned one would be the best
    made = table_of(ranking)
    assert made.columns[-3:] == ["seconds", "status", "path"]
    assert [row[0] for row in made.ranked] == ["1", "2 ≈", "3 ≈", "-"]
    assert [row[-2] for row in made.ranked] == ["finished"] * 3 + ["pruned"]
    assert made.ranked[-1][-1] == "2"
    out = mnist_ff("compare", "sweep")[1]
    assert re.search(r"^- +0\.3 .* pruned +2 *$", out, re.MULTILINE), out
    assert "Pruned runs are not ranked" in out
    with (SWEEP / "sweep.csv").open(newline="") as file:
        rows = [(row["rank"], row["run"], row["status"]) for row in csv.DictReader(file)]
    assert rows == [("1", "3", "finished"), ("2", "1", "finished"), ("3", "0", "finished"), ("", "2", "pruned")]
    groups = json.loads((SWEEP / "sweep.json").read_text())["groups"]
    assert [(group["rank"], group["status"]) for group in groups][2:] == [(3, "finished"), (None, "pruned")]
    assert "| pruned | 2 |" in (SWEEP / "sweep.md").read_text()
    axes = sweep_figure(ranking, "x").axes[0]
    assert "best: 0.4" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert next(list(line.get_xdata()) for line in axes.lines if line.get_label() == "pruned") == [0.3]


def test_setting_with_two_outcomes_is_two_rows() -> None:
    losses_of([0.1, 0.2, 0.9], pruned=[2], optimizer__lr=[0.1], seed=[0, 1, 2])
    groups = rank_rows(collect([SWEEP])).groups
    assert [(group.status, group.sample.n) for group in groups] == [("finished", 2), ("pruned", 1)]


def test_importance_uses_finished_runs_and_groups_ties() -> None:
    """Of 10 values of lr one is held by half of the runs: they must not be told apart by their order."""
    lrs = [0.5] * 10 + [0.01 * number for number in range(1, 10)]
    grid = [{"optimizer.lr": lr, "model.dropout": 0.01 * number} for number, lr in enumerate(lrs)]
    ranking = ranked(grid, lambda values: 0.5 + values["model.dropout"] if values["optimizer.lr"] == 0.5 else 0.55)
    levels = picture._levels([group.values["optimizer.lr"] for group in ranking.groups])
    half = {level for group, level in zip(ranking.groups, levels, strict=True) if group.values["optimizer.lr"] == 0.5}
    assert len(half) == 1


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"counts": {"complete": 4}}, ("search further", 8)),
        ({"counts": {"complete": 2, "waiting": 2}}, ("continue the search", None)),
        ({"counts": {"complete": 3, "running": 1}}, None),
        ({"counts": {"complete": 4}, "grid": 4}, None),
        ({"counts": {"complete": 4}, "grid": 6}, ("search further", 6)),
    ],
)
def test_search_ends_with_usable_advice(
    changes: dict[str, Any], advice: tuple[str, int | None] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sweep(SWEEP, GRID[:4], score, SPLIT)
    write_search_result(SWEEP, found(**changes))
    search_result = read_search_result(SWEEP)
    assert search_result == found(**changes)
    assert further(search_result) == advice
    assert conclude(SWEEP, Console(width=300)) == 0
    said = capsys.readouterr().out
    assert ("mnist-ff train -m resume=sweep" in said) == (advice is not None)
    if advice is not None:
        what, trials = advice
        end = f" hydra.sweeper.n_trials={trials}" if trials else ""
        assert f"{what}  mnist-ff train -m resume=sweep{end}\n" in said


def test_compare_names_its_sort_key_in_json(mnist_ff: Command) -> None:
    make_sweep(SWEEP, GRID, score, SPLIT)
    write_search_result(SWEEP, found())
    code, out, _ = mnist_ff("compare", "sweep", "--sort", "optimizer.lr")
    assert code == 0
    assert "Sorted by optimizer.lr; ranks are by validation accuracy." in out
    assert "Ranked by" not in out
    code, out, _ = mnist_ff("compare", "sweep", "--sort", "validation_loss", "--json")
    values = json.loads(out)
    assert values["search"]["best_words"] == {"optimizer.lr": "0.1"}
    assert values["sorted_by"] == "validation_loss"
    assert json.loads((SWEEP / "sweep.json").read_text())["search"]["study"] == "s"


def test_no_escape_code_reaches_the_terminal(mnist_ff: Command) -> None:
    bad = Path("sweep\x1b[31m")
    make_sweep(bad, GRID[:2], score)
    shutil.copytree(bad / "0", bad / "\x1b]0;owned\x07")
    (bad / "1" / "summary.json").unlink()
    for words in ([str(bad)], [str(bad), "--csv"], [str(bad), "--json"], [str(bad / "0"), str(bad / "1")], ["no\x1b"]):
        _, out, err = mnist_ff("compare", *words)
        assert out + err
        assert not {"\x1b", "\x07", "\x9b"} & set(out + err), words
    (code, _, err) = mnist_ff("train", "-m", f"resume={bad}", "seed=9")
    assert code == 2
    assert "\x1b" not in err


NAMES = (
    "www.evil.org",
    "http://evil.org",
    "~~gone~~",
    "<b>",
    "_a_",
    "**b**",
    "$x$",
    "[a](b)",
    "`c`",
    "a|b",
    "&amp;",
    "\\",
)


def test_a_page_shows_names_as_they_are() -> None:
    """Rendered by a Markdown library with GitHub's tables and strikethrough."""
    from markdown_it import MarkdownIt

    make_sweep(SWEEP, [{"name": name} for name in NAMES], lambda values: 0.9)
    text = to_markdown(rank_rows(collect([SWEEP])), "x <b>~~y~~ http://z", drawn=False)
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    cells = [unescape(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", html)]
    assert set(NAMES) <= set(cells)
    assert "<h1>x &lt;b&gt;~~y~~ http://z</h1>" in html
    for active in ("www.", "http://", "~~", "<", " $x$"):
        assert active not in text, active


def test_t_and_welch_are_the_books() -> None:
    """Student's table, and Welch's example worked out by hand with R's t.test."""
    for degrees, point in ((1, 12.7062), (4, 2.7764), (30, 2.0423), (31, 2.03951), (60, 2.00030), (1000, 1.96234)):
        assert t_975(degrees) == pytest.approx(point, abs=1e-4)
    first, second = Sample(5, 0.90, 0.01), Sample(5, 0.885, 0.01)  # t = 2.37 with 8 degrees, whose point is 2.306
    assert differ(first, second, 1000)
    assert not differ(first, replace(second, mean=0.886), 1000)  # t = 2.21
    assert not differ(sample([0.98]), sample([0.975]), 1000)
    assert differ(sample([0.98]), sample([0.975]), 100_000)
    assert not differ(sample([1.0]), sample([1.0]), 1000)
    assert differ(sample([0.9, 0.9]), sample([0.8, 0.8]), 1000)
    assert not differ(sample([0.95, 0.95]), sample([0.949, 0.949]), 1000), "equal counts are not without error"


def test_the_files_hold_the_answer() -> None:
    make_sweep(SWEEP, GRID, score)
    ranking = rank_rows(collect([SWEEP]))
    write_files(ranking, SWEEP, drawn=False)
    with (SWEEP / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert [row["rank"] for row in rows] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    assert float(rows[0]["test_accuracy"]) == pytest.approx(score(GRID[int(rows[0]["run"])]))
    values = json.loads((SWEEP / "sweep.json").read_text())
    assert values["groups"][0]["values"] == {"optimizer.lr": 0.001}
    assert values["groups"][0]["test_accuracy"]["n"] == 3
    assert values["groups"][1]["within_noise_of_the_one_before"] is True
    assert len(values["runs"]) == 9
    markdown = (SWEEP / "sweep.md").read_text()
    assert "| rank | optimizer.lr | n | test accuracy (%) | test std (%) | test loss |" in markdown
    assert "| 1 | 0.001 | 3 | 95.00 ± 0.50 | 0.20 |" in markdown
    assert "| 2 ≈ | 0.01 |" in markdown
    assert not list(SWEEP.glob(".*.tmp"))


def test_names_are_defused_and_escaped() -> None:
    make_sweep(SWEEP, [{"name": "=cmd()|<script>"}, {"name": "@SUM(1)"}, {"name": "-1"}], lambda values: 0.9)
    ranking = rank_rows(collect([SWEEP]))
    cells = [row["name"] for row in csv.DictReader(to_csv(ranking).splitlines())]
    assert sorted(cells) == ["'=cmd()|<script>", "'@SUM(1)", "-1"]
    markdown = to_markdown(ranking, "x", drawn=True)
    assert "<script>" not in markdown
    assert "=cmd()\\|&lt;script&gt;" in markdown
    json.dumps(to_json(ranking), allow_nan=False)


def test_a_reason_is_one_short_line() -> None:
    assert one_line(TRACEBACK) == "ValueError: bad"
    assert one_line("a\x1b[31mred\nb") == "a [31mred"
    assert len(one_line("x" * 1000)) == 200
    assert one_line("\n") == "no reason given"


def test_values_as_people_type_them() -> None:
    values = [None, True, 1e-05, 0.1 + 0.2, [500, 300], "a b", 1000000]
    assert list(map(text, values)) == ["null", "true", "1e-05", "0.30000000000000004", "[500,300]", "a b", "1000000"]


def test_sorting_by_another_column() -> None:
    make_sweep(SWEEP, GRID, score)
    ranking = rank_rows(collect([SWEEP]))
    assert [group.values["optimizer.lr"] for group in sorted_by(ranking, "optimizer.lr").groups] == [0.001, 0.01, 0.1]
    assert [group.values["optimizer.lr"] for group in sorted_by(ranking, "test_loss").groups] == [0.001, 0.01, 0.1]
    with pytest.raises(KeyError, match="test_accuracy"):
        sorted_by(ranking, "nonsense")


def ranked(grid: list[dict], accuracy: Callable[[dict], float]) -> Ranking:
    make_sweep(SWEEP, grid, accuracy)
    return rank_rows(collect([SWEEP]))


def test_numeric_key_is_drawn_as_a_curve() -> None:
    axes = sweep_figure(ranked(GRID, score), "x").axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "optimizer.lr"
    means = next(line for line in axes.lines if line.get_label() == "mean")
    assert list(means.get_ydata()) == pytest.approx([95.0, 94.95, 60.0])
    assert len(axes.collections) == 1, "the band"
    assert "best: 0.001" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_even_steps_are_a_linear_axis() -> None:
    ranking = ranked(list(product(model__dropout=[0.0, 0.2, 0.4, 0.6])), lambda values: 0.9)
    assert sweep_figure(ranking, "x").axes[0].get_xscale() == "linear"
    assert spaced_by_factors([1e-4, 2e-4, 5e-4, 1e-3])
    assert not spaced_by_factors([0.0, 0.1, 1.0])
    assert not spaced_by_factors(range(10, 110, 10))


def test_categorical_key_is_drawn_as_dots() -> None:
    ranking = ranked(
        list(product(model__activation=["tanh", "relu", "gelu"], seed=[0, 1])),
        lambda values: {"tanh": 0.8, "relu": 0.9, "gelu": 0.7}[values["model.activation"]] + values["seed"] / 1000,
    )
    axes = sweep_figure(ranking, "x").axes[0]
    names = {place: label.get_text() for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    assert [names[place] for place in sorted(names, reverse=True)] == ["relu", "tanh", "gelu"]


def test_two_keys_are_a_heat_map() -> None:
    grid = list(product(optimizer__lr=[0.001, 0.01, 0.1], model__hidden=[[300], [300, 100]]))
    axes = sweep_figure(ranked(grid, lambda values: 0.9 + values["optimizer.lr"] / 2), "x").axes[0]
    assert axes.get_xlabel() == "optimizer.lr"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["[300]", "[300,100]"]
    assert axes.images[0].get_array().round(2).tolist() == [[90.05, 90.5, 95.0]] * 2


def test_more_keys_are_parallel_coordinates_with_their_importance() -> None:
    grid = list(product(optimizer__lr=[0.001, 0.01], model__dropout=[0.1, 0.2], trainer__batch_size=[64, 128]))
    ranking = ranked(grid, lambda v: 0.9 + 3 * v["optimizer.lr"] + 0.1 * v["model.dropout"])
    shares = importance(ranking)
    assert list(shares) == ["optimizer.lr", "model.dropout", "trainer.batch_size"]
    assert shares["optimizer.lr"] == pytest.approx(0.027**2 / (0.027**2 + 0.01**2))
    assert sum(shares.values()) == pytest.approx(1)
    figure = sweep_figure(ranking, "x")
    assert [axes.get_title() for axes in figure.axes if axes.get_title() == "importance"] == ["importance"]


def test_values_beside_dots_have_their_keys_name() -> None:
    grid = [{"model.activation": name} for name in ("relu", "tanh", "gelu")]
    axes = sweep_figure(ranked(grid, lambda v: 0.9), "x").axes[0]
    assert axes.get_ylabel() == "model.activation"


def test_a_searchs_picture_has_the_importance_of_its_words() -> None:
    """The share of variance is 1 for keys whose values are all different, as a search's are."""
    grid = [{"optimizer.lr": 0.001 * n, "model.dropout": 0.1 * n} for n in range(1, 6)]
    ranking = ranked(grid, lambda v: 0.9 + v["optimizer.lr"])
    assert list(importance(ranking).values()) == [pytest.approx(1)] * 2
    bars = sweep_figure(ranking, "x", {"optimizer.lr": 0.7, "model.dropout": 0.3}).axes[1]
    assert sorted(bar.get_width() for bar in bars.patches) == [pytest.approx(30), pytest.approx(70)]
    assert bars.get_xlabel() == "PED-ANOVA (%)"
    bars = sweep_figure(ranking, "x", {"another key": 1.0}).axes[1]
    assert bars.get_xlabel().startswith("share of variance")


@pytest.mark.parametrize("grid", [[{}], [{"name": "$\\frac$"}, {"name": "漢"}], list(product(seed=[0, 1]))], ids=str)
def test_every_sweep_has_a_picture(grid: list[dict]) -> None:
    draw_sweep(ranked(grid, lambda values: 0.9), Path("sweep.png"), "a_$b$")
    assert Path("sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_fails_is_a_warning(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: object) -> None:
        raise RuntimeError("no paint")

    monkeypatch.setattr(picture, "sweep_figure", broken)
    make_sweep(SWEEP, GRID, score)
    code, out, _ = mnist_ff("compare", "sweep")
    assert code == 0
    assert "warning: could not draw the sweep's plot (no paint)" in out
    assert "sweep.png" not in (SWEEP / "sweep.md").read_text()
    assert (SWEEP / "sweep.csv").exists()


def test_compare_prints_and_rebuilds(mnist_ff: Command) -> None:
    make_sweep(SWEEP, GRID, score)
    (SWEEP / "8" / "summary.json").unlink()
    code, out, err = mnist_ff("compare", "sweep")
    assert code == 0, err
    assert "95.00 ± 0.50" in out
    assert "interrupted  8  optimizer.lr=0.1 seed=2  ended without a summary" in out
    assert "8 finished, 1 interrupted" in out
    assert {path.name for path in SWEEP.glob("sweep.*")} == {"sweep.csv", "sweep.json", "sweep.md", "sweep.png"}
    for path in SWEEP.glob("sweep.*"):
        path.unlink()
    code, out, _ = mnist_ff("compare", "sweep/0", "sweep/1", "--json")
    assert code == 0
    assert json.loads(out)["keys"] == ["seed"]
    assert not list(SWEEP.glob("sweep.*")), "single runs are compared without writing anywhere"
    assert mnist_ff("compare", ".")[0] == 0
    assert not list(Path().glob("sweep.*")), "a folder that no sweep made is only read"
    code, out, _ = mnist_ff("compare", "sweep", "--csv", "--sort", "seconds")
    assert len(out.splitlines()) == 10
    code, _, err = mnist_ff("compare", "sweep", "--sort", "nonsense")
    assert code == 2
    assert "must be one of optimizer.lr, validation_accuracy" in err
    code, _, err = mnist_ff("compare", "nowhere")
    assert (code, "does not exist" in err) == (2, True)


def test_a_narrow_terminal_gets_whole_columns() -> None:
    from mnist_ff.commands.compare import show

    ranking = ranked(GRID, score)
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    show(ranking, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert "95.00 ± 0.50" in lines[3]
    assert max(map(len, lines[:6])) <= 60
    assert max(map(len, lines)) <= 60
    assert "Columns left out for lack of space: test loss, status. --csv and --json have them." in " ".join(lines)


def test_fifo_in_a_run_does_not_block() -> None:
    make_sweep(SWEEP, GRID[:3], score)
    for job, name in (("0", "summary.json"), ("1", "epochs.csv")):
        (SWEEP / job / name).unlink()
        os.mkfifo(SWEEP / job / name)
    rows = collect([SWEEP])
    assert [row.status for row in rows] == ["broken", "broken", "finished"]
    assert "summary.json: not a run's summary (is not a file)" in (rows[0].reason or "")


@pytest.mark.parametrize("change", [{"accuracy": 0.5}, {"correct": 3}])
def test_contradictory_score_is_a_broken_row(change: dict[str, float]) -> None:
    make_sweep(SWEEP, GRID[:1], score)
    path = SWEEP / "0" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "score": {**summary["score"], **change}}))
    assert [row.status for row in collect([SWEEP])] == ["broken"]


def test_unresumable_summary_is_a_broken_row() -> None:
    plan = make_sweep(SWEEP, GRID[:1], score)
    path = SWEEP / "0" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["epochs"]
    path.write_text(json.dumps(summary))
    with pytest.raises(BadRunError):
        state_of(SWEEP, plan.jobs[0])
    assert [row.status for row in collect([SWEEP])] == ["broken"]


def test_each_finished_job_prints_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start of the first job on, which took 2.5 s of the first 30: the rest was spent on imports."""
    now, said = 1000.0, []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    jobs = jobs_of(GRID[:4])
    SWEEP.mkdir()
    watch = progress.Watch(SWEEP, jobs, ["seed"], progress.JobCounter(4, 0), said.append, lambda: None)
    for number, pause in enumerate((30, 10, 3800, 5)):
        now += pause
        write_run(SWEEP / str(number), jobs[number].config, 0.9)
        watch.look()
        watch.look()
    assert [line.partition("2.5 s")[2].split()[1:] for line in said] == [["0:08"], ["0:13"], ["21:11"], []]
    assert said[0] == "1/4  job 0  seed=0   90.00 %     2.5 s  ETA    0:08"


def test_a_terminal_says_which_jobs_are_being_trained() -> None:
    jobs = jobs_of(GRID[:4])
    SWEEP.mkdir()
    watch = progress.Watch(SWEEP, jobs, ["seed"], progress.JobCounter(4, 0), lambda line: None, lambda: None)
    assert watch.in_training() == ""
    for job in jobs[:2]:
        (SWEEP / job.subdir).mkdir()
    first, second = (Run(SWEEP / job.subdir) for job in jobs[:2])
    with first.locked():
        assert watch.in_training() == f"1/4  job 0  seed=0  epoch {count_of(1, jobs[0].config.trainer.epochs)}"
        with second.locked():
            assert watch.in_training() == "2 jobs are training: 0, 1"
    write_run(SWEEP / "2", jobs[2].config, 0.9)
    watch.look()
    with second.locked():
        assert watch.in_training().startswith("2/4  job 1  seed=")


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_a_jobs_line_fits_the_terminal_and_keeps_its_columns(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = 1000.0, []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    jobs = jobs_of([*GRID, {"optimizer.lr": 0.0001, "seed": 0}, {"optimizer.lr": 0.0001, "seed": 10}])
    SWEEP.mkdir()
    keys = ["seed", "optimizer.lr"]
    watch = progress.Watch(SWEEP, jobs, keys, progress.JobCounter(12, 0), said.append, lambda: None)
    watch.columns = columns
    for job in jobs:
        now += 700
        write_run(SWEEP / job.subdir, job.config, 0.9)
        watch.look()
    assert len(said) == 11
    assert max(map(len, said)) <= columns
    assert len({line.index(" %") for line in said}) == 1, "nothing jumps"
    assert said[0].startswith(" 1/12  ")
    assert all(re.search(r"ETA +[\d:]+$", line) for line in said)
    assert ("seed=" in said[0]) == (columns > 60)


@pytest.mark.slow
def test_comparing_many_runs_needs_no_torch() -> None:
    make_sweep(SWEEP, list(product(seed=range(300))), lambda values: 0.9)
    code = (
        "import sys\nfrom mnist_ff.cli import main\nassert main(['compare', 'sweep']) == 0\n"
        "assert not {'torch', 'hydra'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "300 finished" in done.stdout
    assert "━" not in done.stdout
    code, seen = in_a_terminal("compare", "sweep")
    assert code == 0
    assert "━" in seen[: seen.index("300 finished")]
    assert "reading" in seen
