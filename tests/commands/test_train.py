"""`mnist-ff train` from words to a run directory, and every command that reads one."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import threading
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from mnist_ff import cli
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import loss_text, percent
from tests.support.commands import Command, only_run
from tests.support.processes import Held, Started, in_a_terminal
from tests.support.runs import assert_seconds_add_up

QUICK = ("data=mnist_5k", "trainer.epochs=2", "model.hidden=[32]")
PNG = b"\x89PNG\r\n\x1a\n"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


NAME = r"$\frac$ 漢字"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> tuple[Path, str]:
    """A run with all its files, which nobody changes, and what its training printed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(out):
        patch.chdir(folder)
        patch.setenv("MNIST_FF_DATA", str(data_root))
        assert cli.main(["train", *QUICK, f"name='{NAME}'"]) == 0
        return only_run().absolute(), out.getvalue()


def test_the_run_directory_holds_everything(finished: tuple[Path, str]) -> None:
    run, out = finished
    names = {path.name for path in run.iterdir()}
    assert names == {
        ".hydra",
        ".lock",
        "batches.csv",
        "checkpoint.previous.pt",
        "checkpoint.pt",
        "config.yaml",
        "environment.json",
        "epochs.csv",
        "hidden.safetensors",
        "model.safetensors",
        "plots",
        "predictions.safetensors",
        "report.html",
        "summary.json",
        "train.log",
    }
    assert run.name[:10].count("-") == 2
    assert len(run.name.rsplit("_", 1)[1]) == 4
    assert {path.name for path in (run / "plots").iterdir()} == {
        "confusion.png",
        "epochs.png",
        "loss.png",
        "mistakes.png",
        "weights.png",
    }
    assert all(path.read_bytes().startswith(PNG) for path in (run / "plots").iterdir())
    for path in run.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".json", ".log", ".yaml"):
            assert b"\x1b" not in path.read_bytes(), f"ANSI codes in {path}"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert (summary["name"], summary["epochs"], summary["steps"], summary["seed"]) == (NAME, 2, 32, 0)
    assert_seconds_add_up(summary["seconds"])
    assert {"import", "data", "build", "train", "train.steps", "keep", "plots", "report"} <= summary["seconds"].keys()
    score = summary["score"]
    assert f"score          loss {loss_text(score['loss'])}, accuracy {percent(score['accuracy'])}" in out
    assert f"outputs/{run.name}" in out
    assert out.count("\nepoch ") == 2
    environment = json.loads((run / "environment.json").read_text())
    assert environment["threads"] == torch.get_num_threads()
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert environment["argv"]


def test_batches_csv_has_a_row_per_batch(mnist_ff: Command) -> None:
    mnist_ff("train", *QUICK, "optimizer.lr=0.002", "trainer.plots=false")
    run = only_run()
    batches = rows(run / "batches.csv")
    assert list(batches[0]) == ["step", "epoch", "batch", "loss", "lr", "samples"]
    assert [int(row["step"]) for row in batches] == list(range(32))
    assert [int(row["batch"]) for row in batches] == list(range(16)) * 2
    assert [int(row["samples"]) for row in batches] == ([256] * 15 + [160]) * 2
    assert {row["lr"] for row in batches} == {"0.002"}
    for epoch, row in enumerate(rows(run / "epochs.csv")):
        own = [batch for batch in batches if int(batch["epoch"]) == epoch]
        mean = sum(float(batch["loss"]) * int(batch["samples"]) for batch in own) / 4000
        assert float(row["train_loss"]) == pytest.approx(mean, rel=1e-6)
    assert float(batches[0]["loss"]) == pytest.approx(math.log(10), rel=0.3)


def test_same_seed_same_bytes_other_seed_other_bytes(mnist_ff: Command) -> None:
    for place, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert mnist_ff("train", *QUICK, f"seed={seed}", f"hydra.run.dir={place}", "trainer.plots=false")[0] == 0
    a, b, c = (Path(place, "batches.csv").read_bytes() for place in "abc")
    assert a == b != c
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_seed_null_draws_one_and_records_it(mnist_ff: Command) -> None:
    seeds = set()
    for place in "ab":
        mnist_ff("train", *QUICK, "seed=null", f"hydra.run.dir={place}", "trainer.plots=false")
        seed = json.loads(Path(place, "summary.json").read_text())["seed"]
        assert f"seed: {seed}\n" in Path(place, "config.yaml").read_text()
        seeds.add(seed)
    assert len(seeds) == 2
    mnist_ff("train", *QUICK, f"seed={seed}", "hydra.run.dir=c", "trainer.plots=false")
    assert Path("c/batches.csv").read_bytes() == Path("b/batches.csv").read_bytes()


def test_threads_are_set_recorded_and_given_back(mnist_ff: Command) -> None:
    own = torch.get_num_threads()
    mnist_ff("train", *QUICK, "trainer.threads=1", "hydra.run.dir=one", "trainer.plots=false")
    mnist_ff("train", *QUICK, "hydra.run.dir=own", "trainer.plots=false")
    assert json.loads(Path("one/environment.json").read_text())["threads"] == 1
    assert json.loads(Path("own/environment.json").read_text())["threads"] == own


@pytest.mark.parametrize("hidden", ["[500,300]", "[7]", "[]", "[33,5,9]"])
def test_evaluate_repeats_the_runs_score(hidden: str, mnist_ff: Command) -> None:
    words = ("data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "data.validation_split=0.1")
    assert mnist_ff("train", *words, f"model.hidden={hidden}")[0] == 0
    run = only_run()
    code, out, err = mnist_ff("evaluate", str(run))
    assert code == 0, err
    score = json.loads((run / "summary.json").read_text())["score"]
    evaluation = json.loads((run / "evaluation.json").read_text())["mnist_5k test"]
    assert {key: evaluation[key] for key in score} == score
    assert "95 % interval" in out
    low, high = evaluation["accuracy_interval_95"]
    assert low < score["accuracy"] < high
    predictions = load_file(run / "predictions.safetensors")
    for row in evaluation["classes"]:
        label = row["class"]
        has, said = predictions["labels"] == label, predictions["answers"] == label
        assert row["images"] == has.sum() == 100
        assert row["recall"] == pytest.approx((has & said).sum() / has.sum())
        assert row["precision"] == pytest.approx((has & said).sum() / max(said.sum(), 1))
    code, out, _ = mnist_ff("evaluate", str(run), "--split", "train")
    assert code == 0
    assert "of 4,000" in out
    assert set(json.loads((run / "evaluation.json").read_text())) == {"mnist_5k test", "mnist_5k train"}


def test_evaluate_on_another_data_set(real_mnist: Path, mnist_ff: Command) -> None:
    mnist_ff("train", *QUICK, "trainer.plots=false")
    code, out, _ = mnist_ff("evaluate", str(only_run()), "--data", "mnist")
    assert code == 0
    assert "of 10,000" in out
    assert json.loads((only_run() / "evaluation.json").read_text())["mnist test"]["accuracy"] > 0.7


def test_the_interval_is_wilsons() -> None:
    from mnist_ff.runs.records import Score

    for right, n in ((9847, 10_000), (10, 10), (0, 10), (3, 7)):
        low, high = Score(0.0, right / n, right, n).interval()
        # by its definition: the two shares whose own normal deviation puts the observed share 1.96 sigmas away
        for end in (low, high):
            assert abs(right / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), rel=1e-5, abs=1e-7)
        assert low - 1e-12 <= right / n <= high + 1e-12


def test_predictions_hold_the_worst_mistakes_with_their_images(mnist_ff: Command) -> None:
    from mnist_ff.config.compose import compose
    from mnist_ff.data.load import load_data

    mnist_ff("train", *QUICK, "trainer.plots=false")
    kept = load_file(only_run() / "predictions.safetensors")
    data = load_data(compose(["data=mnist_5k"]).data, 0)
    assert kept["probabilities"].sum(1) == pytest.approx(np.ones(1000), abs=1e-5)
    worst = kept["worst_rows"]
    assert len(worst) == 25
    assert (kept["answers"][worst] != kept["labels"][worst]).all()
    assert (kept["worst_images"] == data.test.images.numpy()[worst]).all()
    given = kept["probabilities"][worst, kept["labels"][worst]]
    assert (np.diff(given) >= 0).all()
    wrong = kept["answers"] != kept["labels"]
    assert given.max() <= np.sort(kept["probabilities"][wrong, kept["labels"][wrong]])[24]


def test_plots_are_optional_and_failures_harmless(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import plots

    assert mnist_ff("train", *QUICK, "trainer.plots=false", "hydra.run.dir=off")[0] == 0
    assert not Path("off/plots").exists()

    def broken(run: Run, title: str) -> None:
        raise RuntimeError("no paint")

    others = {name: plots.DRAWINGS[name] for name in ("epochs", "confusion")}
    monkeypatch.setattr(plots, "DRAWINGS", {"loss": broken, **others})
    code, out, _ = mnist_ff("train", *QUICK, "hydra.run.dir=broken")
    assert code == 0
    assert "warning: could not draw loss (no paint)" in out
    assert {path.name for path in Path("broken/plots").iterdir()} >= {"epochs.png", "confusion.png"}
    assert json.loads(Path("broken/summary.json").read_text())["status"] == "finished"
    assert "RuntimeError: no paint" in Path("broken/train.log").read_text()


def test_training_images_are_scored_with_dropout_off(mnist_ff: Command) -> None:
    """The last epoch's figure is that of the saved weights; scoring changes no loss, and 0 scores none."""
    from mnist_ff.data.load import Split, load_data
    from mnist_ff.models.build import build_model
    from mnist_ff.training.checkpoint import load_weights
    from mnist_ff.training.evaluation import score

    words = (*QUICK, "trainer.plots=false")
    for images in (0, 300):
        assert mnist_ff("train", *words, f"trainer.score_train={images}", f"hydra.run.dir=with{images}")[0] == 0
    assert Path("with0/batches.csv").read_bytes() == Path("with300/batches.csv").read_bytes()
    assert all("train_eval_loss" not in row for row in Run.open("with0").epochs())
    run = Run.open("with300")
    config = run.config()
    model = build_model(config.model, 0, torch.device("cpu"))
    load_weights(run.file("model.safetensors"), model)
    train = load_data(config.data, 0).train
    expected = score(model, Split(train.images[:300], train.labels[:300]))
    assert expected.samples == 300
    last = run.epochs()[-1]
    assert last["train_eval_loss"] == pytest.approx(expected.loss, rel=1e-6)
    assert last["train_eval_accuracy"] == pytest.approx(expected.accuracy)
    assert last["train_eval_loss"] < last["train_loss"]


def test_figures_can_be_redrawn_from_the_directory(finished: tuple[Path, str]) -> None:
    from mnist_ff.analysis.plots import draw_run

    drawn = {path.name: path.read_bytes() for path in (finished[0] / "plots").iterdir()}
    moved = Path(shutil.copytree(finished[0], "elsewhere"))
    shutil.rmtree(moved / "plots")
    assert draw_run(Run.open(moved), f"{NAME}: 5,000 images of MNIST") == {}
    assert {path.name: path.read_bytes() for path in (moved / "plots").iterdir()} == drawn


def test_figures_are_drawn_where_no_thread_can_be_started(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_ff.analysis.plots import draw_run

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    drawn = {path.name: path.read_bytes() for path in (finished[0] / "plots").iterdir()}
    moved = Path(shutil.copytree(finished[0], "threadless"))
    shutil.rmtree(moved / "plots")
    monkeypatch.setattr(threading.Thread, "start", refused)
    assert draw_run(Run.open(moved), f"{NAME}: 5,000 images of MNIST") == {}
    assert {path.name: path.read_bytes() for path in (moved / "plots").iterdir()} == drawn


def test_a_name_is_no_mathematics(finished: tuple[Path, str]) -> None:
    run, out = finished
    assert "warning" not in out.lower()
    assert len(list((run / "plots").iterdir())) == 5


def test_divergence_is_a_failed_run_with_advice(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *QUICK, "optimizer=sgd", "optimizer.lr=1e20", "trainer.plots=false")
    assert code == 1
    assert "try a smaller optimizer.lr" in err
    assert "Traceback" not in err
    summary = json.loads((only_run() / "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert all(math.isfinite(float(row["loss"])) for row in rows(only_run() / "batches.csv"))


@pytest.mark.parametrize("sync", ["1", "25", "null"])
def test_divergence_keeps_every_finite_loss(sync: str, mnist_ff: Command) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e36", f"trainer.sync_every={sync}", "data=mnist_5k", "model.hidden=[]")
    assert mnist_ff("train", *words, "trainer.plots=false")[0] == 1
    assert len(rows(only_run() / "batches.csv")) == json.loads((only_run() / "summary.json").read_text())["steps"] > 0


def test_explosion_in_last_update_is_not_finished(mnist_ff: Command) -> None:
    words = ("data=mnist_5k", "trainer.epochs=1", "trainer.batch_size=4000", "optimizer=sgd", "optimizer.lr=1e38")
    code, _, err = mnist_ff("train", *words, "trainer.plots=false")
    assert code == 1
    assert "test loss became" in err


def test_a_bug_keeps_its_traceback(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.training.learner import Learner

    def broken(*args: object) -> None:
        raise ZeroDivisionError("our own fault")

    monkeypatch.setattr(Learner, "_scores", broken)
    code, _, err = mnist_ff("train", *QUICK, "trainer.plots=false")
    assert code == 1
    assert "ZeroDivisionError: our own fault" in err
    summary = json.loads((only_run() / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "ZeroDivisionError: our own fault" in summary["cause"]
    assert "ZeroDivisionError" in (only_run() / "train.log").read_text()


def test_a_sweep_gives_each_job_its_own_directory(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *QUICK, "seed=0,1", "optimizer=adam,sgd", "trainer.plots=false")
    assert code == 0, err
    (sweep,) = Path("outputs/sweeps").iterdir()
    found = {}
    for job in range(4):
        config = Run.open(sweep / str(job)).config()
        assert (sweep / str(job) / "summary.json").exists()
        found[(config.seed, config.optimizer.name)] = (sweep / str(job) / "batches.csv").read_bytes()
    assert found.keys() == {(0, "adam"), (0, "sgd"), (1, "adam"), (1, "sgd")}
    mnist_ff("train", *QUICK, "seed=1", "optimizer=sgd", "trainer.plots=false", "hydra.run.dir=alone")
    assert Path("alone/batches.csv").read_bytes() == found[(1, "sgd")], "jobs of one process do not touch each other"


def test_a_saved_config_reads_back_as_it_was(mnist_ff: Command) -> None:
    from mnist_ff.config.compose import compose

    words = [*QUICK, "optimizer=adamw", "optimizer.eps=1e-7", "model.hidden=[3,4]", "name='a: b #c'"]
    words.append("trainer.plots=false")
    mnist_ff("train", *words)
    expected = compose([*words, f"trainer.threads={torch.get_num_threads()}"])
    assert Run.open(only_run()).config() == expected


def test_a_saved_config_is_data(mnist_ff: Command) -> None:
    """An interpolation in a saved config stays text."""
    mnist_ff("train", *QUICK, "trainer.plots=false")
    path = only_run() / "config.yaml"
    path.write_text(path.read_text().replace("name: null", "name: ${oc.env:HOME}"))
    assert Run.open(only_run()).config().name == "${oc.env:HOME}"


def test_ctrl_c_keeps_all_files() -> None:
    started = Started("train", "data=mnist_5k", "trainer.epochs=100000", "model.hidden=[32]", "trainer.sync_every=3")
    started.wait_for_rows(40)
    started.process.send_signal(signal.SIGINT)
    code, out, err = started.end()
    assert code == 130, err
    assert "interrupted: stopped by SIGINT" in out
    run = only_run()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["score"]["accuracy"] > 0.5
    assert summary["steps"] == len(rows(run / "batches.csv"))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["epoch"] * 16 + len(state["batches"]) == summary["steps"]
    weights = load_file(run / "model.safetensors")
    assert all((state["model"][name].numpy() == value).all() for name, value in weights.items())
    assert not (run / "plots").exists(), "pictures of a run that was stopped are left to report"


def test_second_ctrl_c_leaves_no_partial_files() -> None:
    words = ("model.hidden=[3000,3000]", "trainer.epochs=100000", "trainer.sync_every=1")
    started = Held("run", 3, "train", "data=mnist_5k", *words, "hydra.run.dir=run")
    started.hear(signal.SIGINT)
    started.process.send_signal(signal.SIGINT)
    code, _, err = started.end()
    assert code == 130
    assert "Traceback" not in err
    assert not Path("run/summary.json").exists(), "the second must not wait for the run's end"
    assert not list(Path("run").glob(".*.tmp"))


def test_ctrl_c_ends_a_sweep_keeping_jobs() -> None:
    started = Started("train", "-m", "data=mnist_5k", "trainer.epochs=100000", "model.hidden=[32]", "seed=0,1")
    started.wait_for_rows(40)
    started.process.send_signal(signal.SIGINT)
    code, _, _ = started.end()
    assert code == 130
    (summary,) = Path("outputs/sweeps").rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == "interrupted"


def test_progress_bar_only_in_the_terminal() -> None:
    code, text = in_a_terminal("train", "data=mnist_5k", "trainer.epochs=3", "trainer.plots=false")
    assert code == 0
    assert "\x1b[" in text
    for word in ("epoch 1/3", "batch ", "/16", "loss ", "samples/s", "0:00"):
        assert word in text
    assert "\x1b" not in (only_run() / "train.log").read_text()


def test_one_epoch_on_real_mnist(real_mnist: Path, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "optimizer=adam", "model.hidden=[64]", "trainer.epochs=1", "trainer.plots=false")
    assert code == 0, err
    assert len(rows(only_run() / "batches.csv")) == 235
    assert 0.88 < json.loads((only_run() / "summary.json").read_text())["score"]["accuracy"] < 0.96


@pytest.mark.slow
def test_the_tutorial_on_real_mnist(real_mnist: Path, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train")
    assert code == 0, err
    batches = rows(only_run() / "batches.csv")
    assert len(batches) == 4700
    assert [int(row["samples"]) for row in batches[:235]] == [256] * 234 + [96]
    summary = json.loads((only_run() / "summary.json").read_text())
    assert summary["parameters"] == 545_810
    # 98.43 +- 0.12 over five seeds: four standard deviations
    assert 0.979 < summary["score"]["accuracy"] < 0.990


@pytest.mark.gpu
def test_on_cuda_everything_stays_on_the_device(mnist_ff: Command) -> None:
    assert mnist_ff("train", *QUICK, "trainer.device=cuda")[0] == 0
    assert json.loads((only_run() / "environment.json").read_text())["device"] == "cuda"
