"""compare: separate tables for different test images, keys without effect, labels, pivot tables, plots, widths."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from mnist_ff.analysis.compare_plot import comparison_figure
from mnist_ff.analysis.formats import legend, table_of, to_csv
from mnist_ff.analysis.group_curves import curves_of
from mnist_ff.analysis.labels import group_labels, numbered, path_text, run_labels
from mnist_ff.analysis.pivot import pivot_of
from mnist_ff.analysis.ranked_table import show_tables
from mnist_ff.analysis.ranking import Ranking, rank_rows, sorted_by
from mnist_ff.analysis.rows import collect
from mnist_ff.config.convert import config_to_dict, flat
from mnist_ff.config.no_effect import NO_EFFECT
from mnist_ff.config.options import options
from mnist_ff.runs.tables import BATCH_COLUMNS
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.processes import in_a_terminal
from tests.support.sweep_maker import make_sweep, product, write_run

SCORES = {"fast": 0.92, "slow": 0.91}
LONG = Path("outputs/2026-11-28_14-05-51_ab12")


def write_runs(**words: Sequence[str]) -> list[Path]:
    """Runs by name, with their overrides, best first."""
    for number, (name, given) in enumerate(words.items()):
        config = make_config("data=mnist_5k", "seed=0", *given)
        write_run(Path(name), replace(config, name=config.name), 0.95 - number / 100)
    return list(map(Path, words))


def ranked(**words: Sequence[str]) -> Ranking:
    return rank_rows(collect(write_runs(**words)))


def with_environment(path: str, sha: str | None) -> None:
    sums = {} if sha is None else {"test_images": sha}
    (Path(path) / "environment.json").write_text(json.dumps({"data": {"name": "npz", "sha256": sums}, "history": []}))


def test_runs_on_different_test_images_are_ranked_separately(mnist_ff: Command) -> None:
    write_runs(a=["data=mnist"], b=["data=fashion_mnist"], c=["data=mnist", "seed=1", "optimizer.lr=0.01"])
    code, out, err = mnist_ff("compare", "a", "b", "c")
    assert code == 0, err
    lines = out.splitlines()
    heads = [lines.index(f"{name}, 1,000 test images:") for name in ("mnist", "fashion_mnist")]
    first, second = "\n".join(lines[heads[0] : heads[1]]), "\n".join(lines[heads[1] :])
    assert [line.split()[0] for line in first.splitlines() if line.endswith((" a", " c"))] == ["1", "2"]
    assert re.search(r"^1 .* b$", second, re.MULTILINE)
    assert "each set has its own ranking" in second
    values = json.loads(mnist_ff("compare", "a", "b", "c", "--json")[1])
    assert [table["test_images"]["data"] for table in values["tables"]] == ["mnist", "fashion_mnist"]
    assert [(group["table"], group["rank"], group["runs"]) for group in values["groups"]] == [
        (0, 1, ["a"]), (0, 2, ["c"]), (1, 1, ["b"]),
    ]  # fmt: skip
    assert [(run["run"], run["table"]) for run in values["runs"]] == [("a", 0), ("c", 0), ("b", 1)]
    cells = [line.split(",")[-3:] for line in mnist_ff("compare", "a", "b", "c", "--csv")[1].splitlines()]
    assert [cell[-1] for cell in cells] == ["test_images", *[[" 1", '000 test images"'][-1]] * 3]
    assert sorted_by(rank_rows(collect([Path("a"), Path("b")])), "seconds").tables[1].groups


def test_own_files_differ_by_their_digest() -> None:
    write_runs(**{name: ["data=npz", f"data.path=/tmp/{name}"] for name in "abc"})
    for name, sha in (("a", "1" * 64), ("b", "1" * 64), ("c", "2" * 64)):
        with_environment(name, sha)
    ranking = rank_rows(collect([Path("a"), Path("b"), Path("c")]))
    assert [[row.label for row in table.rows] for table in ranking.tables] == [["a", "b"], ["c"]]
    assert [table.title for table in ranking.tables] == [
        f"npz, 1,000 test images (SHA-256 {digit * 12})" for digit in "12"
    ]


def test_split_and_size_of_the_test_images_count_and_validation_split_does_not() -> None:
    ranking = ranked(
        a=["data=emnist", "data.split=letters"],
        b=["data=emnist", "data.split=digits"],
        c=["data=emnist", "data.split=letters", "data.validation_split=0.1"],
    )
    assert [[row.label for row in table.rows] for table in ranking.tables] == [["a", "c"], ["b"]]
    assert ranking.tables[0].title == "emnist split=letters, 1,000 test images"


def test_test_and_validation_accuracy_have_columns_of_their_own() -> None:
    ranking = ranked(a=[], b=["data.validation_split=0.1"])
    table = table_of(ranking)
    places = [table.columns.index(f"{part} accuracy (%)") for part in ("validation", "test")]
    assert [[cells[place] for place in places] for cells in table.ranked] == [["-", "95.00"], ["94.50", "94.00"]]
    assert "Ranked by test accuracy." in legend(ranking)


def test_keys_without_effect_are_left_out_and_named() -> None:
    ranking = ranked(a=["trainer.plots=false"], b=["trainer.plots=true", "trainer.threads=2", "optimizer.lr=0.01"])
    assert ranking.keys == ("optimizer.lr",)
    assert "Left out, as they change no result: trainer.threads, trainer.plots." in legend(ranking)
    assert "trainer.plots" not in table_of(ranking).columns
    same = ranked(c=["trainer.plots=false"], d=["trainer.checkpoint_every=10"])
    assert [group.again for group in same.groups] == [False, True], "the same experiment twice"


def test_keys_without_effect_that_a_sweep_varies_stay() -> None:
    make_sweep(Path("sweep"), list(product(trainer__threads=[1, 2])), lambda values: 0.9)
    assert rank_rows(collect([Path("sweep")])).keys == ("trainer.threads",)


def test_the_list_of_keys_without_effect_has_reasons_and_names_keys() -> None:
    known = set(flat(config_to_dict(make_config("data=mnist")))) | {"metrics"}
    assert options() is not None
    assert set(NO_EFFECT) <= known
    assert all(NO_EFFECT.values())
    changing = {"trainer.epochs", "trainer.device", "trainer.engine", "trainer.precision", "seed", "data.name"}
    assert not changing & set(NO_EFFECT)


def test_labels_are_unique() -> None:
    ranking = ranked(a=["name=small"], b=["name=small", "optimizer.lr=0.01"], c=["name=big", "optimizer.lr=0.02"])
    assert group_labels(ranking) == ["small (1)", "small (2)", "big"]
    assert [cells[1] for cells in table_of(ranking).ranked] == ["small (1)", "small (2)", "big"]
    both = ranked(d=["name=small"], e=["name=small", "optimizer.lr=0.01"])
    assert group_labels(both) == ["optimizer.lr=0.001", "optimizer.lr=0.01"]
    assert len(set(run_labels(both).values())) == 2
    assert numbered(["x", "x", "x (1)", "y"], ["b", "a", "c", "d"]) == ["x (3)", "x (2)", "x (1)", "y"]


def test_paths_of_a_group_are_a_brace_expansion() -> None:
    assert path_text(["0", "1"]) == "0 1"
    assert path_text(["out/0", "out/1"]) == "out/{0,1}"
    assert path_text([f"out/{number}" for number in range(9)]) == "out/{0,1,…,8}"
    assert path_text(["out/a b", "out/c"]) == "out/a b out/c"


def test_a_run_given_twice_is_reported(mnist_ff: Command) -> None:
    write_run(LONG, make_config("data=mnist_5k", "seed=0"), 0.9)
    code, out, err = mnist_ff("compare", "last", "best")
    assert code == 0
    assert "last and best are the same run; it is shown once" in err
    assert out.count(str(LONG)) == 1
    assert "McNemar" not in out
    make_sweep(Path("sweep"), list(product(seed=[0, 1])), lambda values: 0.9)
    code, out, err = mnist_ff("compare", "sweep", "sweep/1")
    assert "sweep/1 is given twice; it is shown once" in err
    assert "2 finished" in out


def test_a_picture_of_a_run_that_ended_before_its_first_epoch(mnist_ff: Command) -> None:
    """It has batches and no epochs."""
    write_runs(a=[], b=["optimizer.lr=0.1"])
    write_run(
        Path("c"), make_config("data=mnist_5k", "seed=0", "optimizer.lr=9"), 0.5, "diverged", "the loss became nan"
    )
    Path("c/epochs.csv").write_text(Path("c/epochs.csv").read_text().splitlines()[0] + "\n")
    Path("c/batches.csv").write_text(",".join(BATCH_COLUMNS) + "\n0,0,0,2.3,9,50\n")
    code, _, err = mnist_ff("compare", "a", "b", "c", "--plot", "curves.png")
    assert (code, "plot  curves.png" in err) == (0, True), err


def test_a_sweeps_file_has_the_calibration_of_its_runs(mnist_ff: Command) -> None:
    """As keys of sweep.json, without new columns in its tables."""
    make_sweep(Path("sweep"), [{"optimizer.lr": lr} for lr in (0.01, 0.1)], lambda values: 0.9)
    probabilities = np.full((50, 10), 0.02, np.float32)
    probabilities[:, 3] = 0.82
    labels = np.full(50, 3)
    save_file({"probabilities": probabilities, "labels": labels, "answers": labels}, "sweep/0/predictions.safetensors")
    (Path("sweep/0/environment.json")).write_text("{}")
    assert mnist_ff("compare", "sweep")[0] == 0
    values = json.loads(Path("sweep/sweep.json").read_text())
    calibration = {run["run"]: (run["ece"], run["brier"]) for run in values["runs"]}
    assert calibration == {"0": (pytest.approx(0.18), pytest.approx(0.18**2 + 9 * 0.02**2)), "1": (None, None)}
    assert "ECE" not in Path("sweep/sweep.md").read_text()


def test_calibration_is_shown_where_there_are_predictions(mnist_ff: Command) -> None:
    write_runs(a=[], b=["optimizer.lr=0.01"])
    labels = np.arange(1000) % 10
    sure = np.full((1000, 10), 0.02, dtype=np.float32)
    sure[np.arange(1000), labels] = 0.82
    names = {"probabilities": sure, "labels": labels.astype(np.uint8), "answers": labels.astype(np.uint8)}
    save_file(names, "a/predictions.safetensors")
    values = json.loads(mnist_ff("compare", "a", "b", "--json")[1])
    first, second = values["runs"]
    assert (first["ece"], first["brier"]) == (pytest.approx(0.18), pytest.approx(0.18**2 + 9 * 0.02**2))
    assert (second["ece"], second["brier"]) == (None, None)
    assert values["groups"][0]["ece"]["mean"] == pytest.approx(0.18)
    out = mnist_ff("compare", "a", "b")[1]
    assert "18.00  0.0360" in out


def curves(path: str, shift: float = 0.0) -> None:
    rows = "".join(f"{step},0,{step},{1 / (step + 1) + shift:.9g},0.001,50\n" for step in range(450))
    (Path(path) / "batches.csv").write_text(",".join(BATCH_COLUMNS) + "\n" + rows)


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Path:
    grid = list(product(optimizer__lr=[0.001, 0.01, 0.1], model__hidden=[[32], [64]], seed=[0, 1]))

    def accuracy(values: Mapping[str, Any]) -> float:
        return 0.9 + values["optimizer.lr"] / 10 + len(values["model.hidden"]) / 100 + values["seed"] / 500

    make_sweep(Path("sweep"), grid, accuracy, "data.validation_split=0.1")
    for number in range(len(grid)):
        curves(f"sweep/{number}", number / 100)
    monkeypatch.setattr("mnist_ff.sweeps.summary._draw", lambda *given: False)  # sweep.png takes a second
    return Path("sweep")


def test_a_pivot_has_the_mean_of_each_cell(sweep: Path, mnist_ff: Command) -> None:
    found = pivot_of(rank_rows(collect([sweep])), "model.hidden", "optimizer.lr")
    assert found is not None
    assert (found.row_values, found.column_values) == ([[32], [64]], [0.001, 0.01, 0.1])
    cell = found.cells[0][2]
    assert cell is not None
    assert (cell.n, cell.mean) == (2, pytest.approx(0.926))
    code, out, _ = mnist_ff("compare", "sweep", "--pivot", "model.hidden", "optimizer.lr")
    assert code == 0
    assert re.search(r"^\[32\] +91\.61 ± 1\.27 +91\.70 ± 1\.27 +92\.60 ± 1\.27 \*$", out, re.MULTILINE), out
    values = json.loads(mnist_ff("compare", "sweep", "--pivot", "model.hidden", "optimizer.lr", "--json")[1])
    pivot = values["tables"][0]["pivot"]
    assert (pivot["rows"], pivot["column_values"], pivot["best"]) == ("model.hidden", [0.001, 0.01, 0.1], [0, 2])
    assert pivot["cells"][0][2]["n"] == 2
    over = json.loads(mnist_ff("compare", "sweep", "--pivot", "seed", "optimizer.lr", "--json")[1])
    assert over["tables"][0]["pivot"]["differ_within_cells"] == ["model.hidden"]
    lines = mnist_ff("compare", "sweep", "--pivot", "model.hidden", "optimizer.lr", "--csv")[1].splitlines()
    assert lines[0] == "model.hidden,optimizer.lr,n,mean,std,score"
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("model.hiden", "optimizer.lr"), "--pivot model.hiden: is not a varied key; choose from model.hidden"),
        (("model.dropout", "seed"), "--pivot model.dropout: is 0.4 in all runs"),
        (("seed", "seed"), "needs two different keys"),
    ],
)
def test_a_pivot_over_wrong_keys_is_refused(sweep: Path, keys: Sequence[str], said: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("compare", "sweep", "--pivot", *keys)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_curves_are_means_with_a_band(sweep: Path) -> None:
    found = curves_of(rank_rows(collect([sweep])), 60)
    assert len(found) == 6
    best = found[0]
    assert (best.runs, best.legend) == (2, f"{best.name} (mean of 2)")
    mean, low, high = (best.epochs["accuracy"][place][0] for place in range(3))
    assert (low, mean, high) == (pytest.approx(0.925), pytest.approx(0.926), pytest.approx(0.927))
    assert best.batches is not None
    assert (best.batches["per_point"], best.batches["batch"][-1]) == (3, 450)
    mean, low, high = (best.batches["loss"][place][0] for place in range(3))
    assert high - low == pytest.approx(0.01)
    assert mean == pytest.approx((low + high) / 2)


@pytest.mark.slow
def test_a_picture_of_several_runs(sweep: Path, mnist_ff: Command) -> None:
    from mnist_ff.analysis.canvas import own_style

    code, _, err = mnist_ff("compare", "sweep", "--plot", "curves.PNG", "--html", "page.html")
    assert code == 0
    assert "plot  curves.PNG" in err
    assert "page  page.html" in err
    assert Path("curves.PNG").read_bytes().startswith(b"\x89PNG")
    assert mnist_ff("compare", "sweep/0", "sweep/2", "--plot", "curves.svg")[0] == 0
    assert "<svg" in Path("curves.svg").read_text()
    with own_style():
        figure = comparison_figure(curves_of(rank_rows(collect([sweep])), 60))
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
        assert all(not box.overlaps(axes.get_tightbbox()) for axes in figure.axes), "it hides no curve"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == len(set(texts)) == 6


@pytest.mark.parametrize(
    ("place", "said"), [("x.jpg", "must end in .png, .svg or .pdf"), ("no/x.png", "folder no does not exist")]
)
def test_an_invalid_plot_path_is_refused_first(place: str, said: str, sweep: Path, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("compare", "sweep", "--plot", place)
    assert (code, out) == (2, "")
    assert said in err


def test_csv_keeps_its_columns_without_test_images() -> None:
    ranking = ranked(a=["name=x"], b=["name=y", "optimizer.lr=0.01"])
    head = to_csv(ranking).splitlines()[0].split(",")
    assert head[:5] == ["rank", "run", "status", "name", "optimizer.lr"]
    assert head[-3:] == ["epochs", "seconds", "reason"]


def test_beside_a_path_on_its_own_line_the_columns_have_the_whole_width() -> None:
    name = "an experiment with a long name and its number 1"
    path = Path("outputs/a long folder with spaces, as long as it can be without the score")
    write_run(path, make_config("data=mnist_5k", f"name='{name}'"), 0.9)
    said = io.StringIO()
    show_tables(Console(file=said, force_terminal=True, width=80, no_color=True), rank_rows(collect([path])))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).splitlines()
    row = next(line for line in lines if "90.00" in line)
    assert name in row, "not cut: there is room"
    assert f"  {path}" in lines


@pytest.mark.slow
@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_rank_name_score_and_path_fit_a_terminal(columns: int) -> None:
    words = ["name=small", "seed=1", "optimizer=sgd", "model.dropout=0.1", "model.hidden=[64]", "schedule=cosine"]
    other = Path("outputs/2026-11-28_14-05-52_cd34")
    write_run(LONG, make_config("data=mnist_5k", "name='an experiment of mine, the first of many'"), 0.9)
    write_run(other, make_config("data=mnist_5k", *words), 0.8)
    code, seen = in_a_terminal("compare", str(LONG), str(other), columns=columns)
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    lines = [line.rpartition("\r")[2] for line in plain.split("\r\n")]
    table = lines[: next(place for place, line in enumerate(lines) if line.startswith("Columns left out"))]
    assert max(map(len, table)) <= columns, table
    text = "\n".join(table)
    for part in ("90.00", "80.00", str(LONG), str(other), "small"):
        assert part in text
    assert sum(line.endswith(str(LONG)) for line in table) == 1
    if columns == 120:
        assert "an experiment of mine, the first of many" in text
