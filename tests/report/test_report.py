"""Reports without a browser: when they are written, what stands in them, and what broken directories make of them."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mnist_ff.analysis import plots
from mnist_ff.analysis.class_metrics import class_metrics, confusion_matrix
from mnist_ff.analysis.ranking import rank_rows
from mnist_ff.analysis.rows import collect
from mnist_ff.analysis.sweep_plot import draw_sweep
from mnist_ff.cli import COMMANDS
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.data.load import load_data
from mnist_ff.report import sweep_page
from mnist_ff.report.config_diff import differences
from mnist_ff.report.curves import batch_curve, epoch_curves, why_curves_differ
from mnist_ff.report.mislabelled import MISLABELLED
from mnist_ff.report.page import MAX_PAGE_BYTES
from mnist_ff.report.predictions import read_predictions
from mnist_ff.report.run_page import run_page
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import CLASSES, MNIST_SPEC, Score
from mnist_ff.runs.tables import BATCH_COLUMNS, EPOCH_COLUMNS
from mnist_ff.training.evaluation import Evaluation
from tests.support.commands import Command, only_run
from tests.support.configs import make_config
from tests.support.sweep_maker import make_sweep, product, write_run

QUICK = ("data=mnist_5k", "model.hidden=[16]", "trainer.epochs=2", "trainer.device=cpu")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with its report; tests copy it before they change it."""
    from mnist_ff import cli

    run = tmp_path_factory.mktemp("quick") / "run"
    assert cli.main(["train", *QUICK, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture
def copied(quick: Path) -> Run:
    shutil.copytree(quick, "run")
    return Run(Path("run"))


def facts(page: str) -> dict[str, Any]:
    """The data of a page's scripts."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    values: dict[str, Any] = json.loads(found[1])
    return values


def test_every_training_ends_with_a_report(quick: Path) -> None:
    page = (quick / "report.html").read_text()
    assert len(page.encode()) < MAX_PAGE_BYTES
    assert "<h1>run" in page
    assert all(facts(page)[part] for part in ("batches", "epochs", "images", "weights", "network"))
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


@pytest.fixture
def _one_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take seconds."""
    monkeypatch.setattr(plots, "DRAWINGS", {"loss": plots.DRAWINGS["loss"]})


@pytest.mark.usefixtures("_one_plot")
def test_report_path_is_printed_and_optional(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", *QUICK, "hydra.run.dir=on")
    assert code == 0
    assert re.search(r"report +on/report\.html", out)
    code, out, _ = mnist_ff("train", *QUICK, "trainer.plots=false", "hydra.run.dir=off")
    assert code == 0
    assert not Path("off/report.html").exists()
    assert "report.html" not in out


@pytest.mark.usefixtures("_one_plot")
def test_a_report_that_fails_is_a_warning(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.report import run_page

    def broken(run: Run) -> Path:
        raise RuntimeError("no ink")

    monkeypatch.setattr(run_page, "write_report", broken)
    code, out, _ = mnist_ff("train", *QUICK, "hydra.run.dir=run")
    assert code == 0
    assert "warning: could not write report.html (no ink)" in out
    assert json.loads(Path("run/summary.json").read_text())["status"] == "finished"
    assert "RuntimeError: no ink" in Path("run/train.log").read_text()


@pytest.mark.usefixtures("_one_plot")
def test_report_of_a_diverged_run_says_why(mnist_ff: Command) -> None:
    code, _, _ = mnist_ff("train", *QUICK, "optimizer=sgd", "optimizer.lr=1e30", "hydra.run.dir=run")
    assert code == 1
    page = Path("run/report.html").read_text()
    assert "diverged" in page
    assert "the loss became nan" in page
    found = facts(page)
    assert found["batches"]["count"] >= 1
    assert found["network"] is None
    assert "Not in the run directory: model.safetensors." in page
    assert "No epoch has ended." in page
    assert 'id="difference"' not in page
    assert (found["batches"]["per_epoch"], found["batches"]["images"]) == (None, None)
    assert "training images" not in page[: page.index("<main>")], "how many there are is not known from some batches"


def test_the_command_writes_it_again_or_elsewhere(quick: Path, copied: Run, mnist_ff: Command) -> None:
    before = copied.file("report.html").read_text()
    copied.file("report.html").unlink()
    code, out, _ = mnist_ff("report", "run")
    assert (code, out.strip()) == (0, "run/report.html")
    assert facts(copied.file("report.html").read_text()) == facts(before)
    assert mnist_ff("report", "run", "--out", "page.html")[0] == 0
    assert Path("page.html").read_bytes() == copied.file("report.html").read_bytes()
    for words, said in (
        (["report", "nowhere"], "does not exist"),
        (["report", "."], "is not a run directory"),
        (["report", "run", "--out", "no/page.html"], "--out"),
    ):
        code, _, err = mnist_ff(*words) if words[1] != "." else in_an_empty_folder(mnist_ff)
        assert code in (1, 2)
        assert said in err
        assert "Traceback" not in err


def test_a_plot_that_cannot_be_drawn_is_one_line(copied: Run, mnist_ff: Command) -> None:
    copied.file("predictions.safetensors").write_bytes(b"x" * 100)
    shutil.rmtree(copied.file("plots"), ignore_errors=True)
    code, out, err = mnist_ff("report", "run")
    assert (code, out.splitlines()[-1]) == (0, "run/report.html")
    assert [line[: line.index("(")] for line in err.splitlines()] == [
        "could not draw confusion ", "could not draw mistakes "
    ]  # fmt: skip


def in_an_empty_folder(mnist_ff: Command) -> tuple[int, str, str]:
    Path("empty").mkdir()
    return mnist_ff("report", "empty")


FILES = {
    "batches.csv": "batches",
    "epochs.csv": "epochs",
    "predictions.safetensors": "images",
    "model.safetensors": "network",
    "environment.json": None,
    "summary.json": None,
}
SPOILT: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(3000)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 1]),
    "markup": lambda path: path.write_text('<script>alert("x")</script>\n' * 20),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_report_names_missing_files_and_shows_the_rest(name: str, spoil: Callable[[Path], object], copied: Run) -> None:
    spoil(copied.file(name))
    page = run_page(copied)
    parts = facts(page)
    for file, part in FILES.items():
        if part is not None and file != name:
            assert parts[part], part
    assert "alert" not in page
    torn = name.endswith(".csv") and spoil is SPOILT["cut"]  # as a killed run leaves it: its whole rows are used
    part = FILES[name]
    if part is not None and not torn:
        assert parts[part] is None
        assert "Not in the run directory" in page


def test_hostile_numbers_make_no_page_fail(copied: Run) -> None:
    """Shapes and classes that cannot be, in files that can be read."""
    good = load_file(copied.file("predictions.safetensors"))
    for change in (
        {"labels": good["labels"] + 200},
        {"kept_rows": good["kept_rows"] + 100_000},
        {"kept_images": good["kept_images"][:, :5]},
        {"answers": good["answers"][:-1]},
        {"probabilities": good["probabilities"][:, :3]},
    ):
        save_file({**good, **change}, copied.file("predictions.safetensors"))
        assert "predictions.safetensors: not readable" in run_page(copied)
    save_file({**good, "probabilities": good["probabilities"] * np.nan}, copied.file("predictions.safetensors"))
    assert facts(run_page(copied))["images"]["sure"][0] is None
    weights = load_file(copied.file("model.safetensors"))
    weights["layers.1.weight"][0, 0] = np.inf
    save_file(weights, copied.file("model.safetensors"))
    assert "too large for float16" in run_page(copied)
    copied.file("batches.csv").write_text(",".join(BATCH_COLUMNS) + "\n0,0,0,nan,inf,256\n")
    assert facts(run_page(copied))["batches"]["count"] == 1


def test_run_with_only_worst_images_is_read(copied: Run) -> None:
    """As runs did before they kept more."""
    kept = load_file(copied.file("predictions.safetensors"))
    save_file(
        {key: value for key, value in kept.items() if not key.startswith("kept")},
        copied.file("predictions.safetensors"),
    )
    page = run_page(copied)
    found = facts(page)["images"]
    assert found["rows"] == kept["worst_rows"].tolist()
    assert found["worst"] == list(range(25))
    wrong = int((kept["answers"] != kept["labels"]).sum())
    assert f"25 of {wrong:,} mistakes are included" in page


def test_counts_and_classes_are_those_of_the_answers(copied: Run) -> None:
    found = read_predictions(copied, MNIST_SPEC)
    counts = confusion_matrix(found.labels, found.predicted, CLASSES)
    assert counts.sum() == 1000
    assert counts.trace() == (found.predicted == found.labels).sum()
    for row in class_metrics(counts):
        has, said = found.labels == row.label, found.predicted == row.label
        assert row.recall == pytest.approx((has & said).sum() / has.sum())
        assert row.precision == pytest.approx((has & said).sum() / said.sum())


def test_kept_images_alternate_mistakes_and_doubtful_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 mistakes of one kind and 5 of another, room for 20 keeps all 5."""
    from mnist_ff.data.load import Split
    from mnist_ff.session import artifacts as keep

    labels = torch.tensor([4] * 400 + [7] * 5 + [1] * 100)
    answers = torch.tensor([9] * 400 + [2] * 5 + [1] * 100)
    probabilities = torch.full((505, CLASSES), 0.01)
    given = torch.linspace(0.001, 0.4, 505)
    probabilities[torch.arange(505), labels] = given
    images = torch.randint(0, 256, (505, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(keep, "MOST_MISTAKES", 20)
    path = tmp_path / "predictions.safetensors"
    keep.save_predictions(
        path, Evaluation(Score(1, 0.2, 100, 505), probabilities, answers, labels), Split(images, labels)
    )
    kept = load_file(path)
    rows = kept["kept_rows"]
    assert sorted(rows[:20].tolist()) == [*range(15), *range(400, 405)]
    assert rows[20:].tolist() == list(range(405, 405 + keep.DOUBTFUL_PER_CLASS))
    assert (kept["kept_images"] == images.numpy()[rows]).all()


def test_the_config_is_shown_as_what_was_chosen() -> None:
    assert differences(make_config()) == []
    found = {
        one.key: (one.value, one.default)
        for one in differences(
            make_config(
                "optimizer=adam",
                "optimizer.beta1=0.8",
                "data=mnist_5k",
                "model.hidden=[64,10]",
                "seed=3",
                "trainer.threads=1",
            )
        )
    }
    assert found == {
        "optimizer": ("adam", "rmsprop"),
        "optimizer.beta1": ("0.8", "0.9"),
        "data": ("mnist_5k", "mnist"),
        "model.hidden": ("[64,10]", "[500,300]"),
        "seed": ("3", "0"),
    }


@pytest.mark.slow
def test_report_of_long_run_stays_below_4_mb(copied: Run) -> None:
    """Two hundred thousand batches and ten thousand epochs, and the largest network that a page takes."""
    rows = "".join(f"{step},{step // 100},{step % 100},0.{step % 9 + 1},0.001,256\n" for step in range(200_000))
    copied.file("batches.csv").write_text(",".join(BATCH_COLUMNS) + "\n" + rows)
    row = ",0.123456,0.234567,0.345678,0.456789,0.567891,0.678912,,,1.0\n"
    copied.file("epochs.csv").write_text(
        ",".join(EPOCH_COLUMNS) + "\n" + "".join(f"{epoch}{row}" for epoch in range(10_000))
    )
    curve = batch_curve(copied)
    assert curve is not None
    assert curve["per_point"] == 7
    epochs = epoch_curves(copied)
    assert epochs is not None
    assert epochs["columns"]["epoch"][-1] == 9_999
    config = make_config("data=mnist_5k", "model.hidden=[1190]")
    copied.file("config.yaml").write_text(to_yaml(config))
    rng = np.random.default_rng(0)
    shapes = {
        "layers.0.weight": (1190, 784),
        "layers.0.bias": (1190,),
        "layers.1.weight": (10, 1190),
        "layers.1.bias": (10,),
    }
    save_file(
        {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()},
        copied.file("model.safetensors"),
    )
    page = run_page(copied)
    assert facts(page)["network"]["parameters"] > 940_000
    assert 3_000_000 < len(page.encode()) < MAX_PAGE_BYTES


def test_each_command_on_a_page_is_one(quick: Path, mnist_ff: Command) -> None:
    words = re.findall(r"<code>mnist-ff ([a-z-]+)", (quick / "report.html").read_text())
    assert set(words) >= {"evaluate", "predict", "export", "train", "compare", "report"}
    assert set(words) <= set(COMMANDS)


def test_reports_snippet_for_reading_images_works(quick: Path, mnist_ff: Command) -> None:
    found = re.search(r"<code>mnist-ff (predict [^<]+)</code>", (quick / "report.html").read_text())
    assert found is not None
    code, out, err = mnist_ff(*shlex.split(html.unescape(found[1])))
    assert code == 0, err
    assert out


@pytest.mark.usefixtures("_one_plot")
def test_score_train_is_capped_at_the_data(quick: Path, mnist_ff: Command) -> None:
    assert "“evaluated” is the loss on 4,000 training images" in (quick / "report.html").read_text()
    words = (*QUICK, "trainer.epochs=1", "data.validation_split=0.1", "hydra.run.dir=split")
    assert mnist_ff("train", *words)[0] == 0
    assert "“evaluated” is the loss on 3,600 training images" in Path("split/report.html").read_text()
    assert mnist_ff("train", *words[:-1], "trainer.score_train=500", "hydra.run.dir=few")[0] == 0
    assert "“evaluated” is the loss on 500 training images" in Path("few/report.html").read_text()


def test_report_names_what_only_training_batches_have() -> None:
    said = why_curves_differ(make_config("experiment=augmented"), None, None)
    assert "with images augmented by augment=both and changing weights, so their loss is higher" in said
    said = why_curves_differ(make_config("experiment=clean"), None, None)
    assert "15 % of the hidden units dropped and 5 % of the pixels dropped and changing weights" in said
    assert "evaluated by the average of its weights after" in why_curves_differ(
        make_config("trainer.ema=0.9"), None, None
    )


def accuracy(values: Any) -> float:
    return 0.9 + values["optimizer.lr"] / 10 + values["seed"] / 1000


def test_a_sweeps_page_links_to_the_runs(mnist_ff: Command) -> None:
    grid = [{"optimizer.lr": lr, "seed": seed} for lr in (0.01, 0.02) for seed in (0, 1)]
    make_sweep(Path("my sweep #1"), grid, accuracy, "data.validation_split=0.1", "trainer.plots=false")
    Path("my sweep #1/2/report.html").touch()
    code, out, _ = mnist_ff("report", "my sweep #1")
    assert (code, out.strip()) == (0, "my sweep #1/report.html")
    page = Path("my sweep #1/report.html").read_text()
    assert '<a href="2/report.html">2</a> 3' in page
    assert "mnist-ff train -m resume=" not in page, "nothing failed"
    curves = facts(page)["curves"]
    assert [curve["legend"] for curve in curves] == ["optimizer.lr=0.02 (mean of 2)", "optimizer.lr=0.01 (mean of 2)"]
    assert curves[0]["epochs"]["accuracy"] == [[0.9075], [0.907], [0.908]], "mean, lowest and highest"


@pytest.mark.parametrize(("keys", "inverted"), [(1, True), (3, False)])
def test_a_picture_whose_colours_mean_something_keeps_them_in_the_dark(keys: int, inverted: bool) -> None:
    values = {"optimizer__lr": [0.001, 0.002], "model__dropout": [0.0, 0.1], "trainer__batch_size": [50, 100]}
    grid = list(product(**dict(list(values.items())[:keys])))
    make_sweep(Path("sweep"), grid, lambda job: 0.9 + job["optimizer.lr"])
    ranking = rank_rows(collect([Path("sweep")]))
    draw_sweep(ranking, Path("sweep/sweep.png"), "a sweep")
    page = sweep_page.sweep_page(ranking, Path("sweep"), lambda path: None)
    assert ('class="picture inverted"' in page, 'class="picture"' in page) == (inverted, not inverted)


def test_every_table_has_a_name(quick: Path, mnist_ff: Command) -> None:
    """A screen reader says it before the cells."""
    assert mnist_ff("compare", str(quick), "--html", "page.html")[0] == 0
    grid = list(product(optimizer__lr=[0.01, 0.02], model__dropout=[0.1, 0.2], seed=[0]))
    make_sweep(Path("sweep"), grid, accuracy)
    write_run(Path("bad"), make_config("data=mnist_5k"), 0.5, "failed", "no disk")
    assert mnist_ff("compare", "sweep", "bad", "--html", "sweep.html")[0] == 0
    for page in (quick / "report.html", Path("page.html"), Path("sweep.html")):
        tables = re.findall(r"<table[^>]*>", page.read_text())
        assert tables
        assert [table for table in tables if 'aria-label="' not in table and "aria-labelledby=" not in table] == []


def test_compare_writes_a_page(mnist_ff: Command) -> None:
    grid = [{"optimizer.lr": lr, "seed": 0} for lr in (0.01, 0.02)]
    make_sweep(Path("sweep"), grid, accuracy, "data.validation_split=0.1")
    Path("sweep/1/report.html").touch()
    Path("pages").mkdir()
    plain = mnist_ff("compare", "sweep/0", "sweep/1")
    code, out, _ = mnist_ff("compare", "sweep/0", "sweep/1", "--html", "pages/two.html")
    assert (code, out) == (0, plain[1])
    page = Path("pages/two.html").read_text()
    assert '<a href="../sweep/1/report.html">sweep/<wbr>1</a>' in page
    assert [curve["epochs"]["accuracy"][0] for curve in facts(page)["curves"]] == [[0.907], [0.906]]
    code, _, err = mnist_ff("compare", "sweep", "--html", "no/two.html")
    assert code == 1
    assert "no/two.html" in err


def test_page_of_many_runs_is_capped(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_page, "MAX_CURVES", 5)
    monkeypatch.setattr(sweep_page, "MAX_ROWS", 7)
    make_sweep(
        Path("sweep"),
        [{"optimizer.lr": 0.001 * lr, "seed": 0} for lr in range(1, 10)],
        accuracy,
        "data.validation_split=0.1",
    )
    assert mnist_ff("report", "sweep")[0] == 0
    page = Path("sweep/report.html").read_text()
    assert len(facts(page)["curves"]) == 5
    assert "The best 5 of the settings." in page
    assert "And 2 more: sweep.csv." in page


def test_a_page_needs_no_torch(quick: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from mnist_ff.cli import main; code = main(['report', sys.argv[1], '--out', 'page.html']);"
        "sys.exit(3 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", script, os.fspath(quick)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_name_of_bytes_that_are_no_text(copied: Run) -> None:
    strange = os.fsdecode(b"run-\xff")
    copied.path.rename(strange)
    page = run_page(Run(Path(strange)))
    assert "run-\\udcff" in page
    page.encode("utf-8")


@pytest.mark.usefixtures("_one_plot")
def test_the_runs_own_directory_is_shown(quick: Path, mnist_ff: Command) -> None:
    assert mnist_ff("train", *QUICK, "trainer.epochs=1")[0] == 0
    page = (only_run() / "report.html").read_text()
    assert f"mnist-ff evaluate {only_run()}" in page


def test_known_wrong_labels_match_the_published_list(real_mnist: Path) -> None:
    """The labels that were given, as published with the raters' votes: the rows are counted as theirs are."""
    given = {947: 8, 1621: 0, 1901: 9, 2130: 4, 2462: 2, 2597: 5, 2654: 6, 3520: 6, 3558: 5}
    given |= {5937: 5, 6651: 0, 6783: 1, 8527: 4, 9679: 6, 9729: 5}
    labels = load_data(make_config().data, 0).test.labels
    assert {row: int(labels[row]) for row in MISLABELLED} == given
    assert not any(digit == given[row] for row, digit in MISLABELLED.items())
