"""A run that was stopped and resumed equals the one that was not: to the byte of its losses and of its weights."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.search_result import SearchResult, write_search_result
from mnist_ff.session.resume import find_sweep
from mnist_ff.training.checkpoint import CHECKPOINT, PREVIOUS
from tests.support.commands import Command, only_run
from tests.support.processes import Held, Started, wait_for_file
from tests.support.runs import BATCHES, WORDS, assert_equal_runs, assert_seconds_add_up, stopped_run, whole_run
from tests.support.sweep_maker import make_sweep, product

STOPS = {"after step 1": 1, "mid-epoch": 23, "last step of an epoch": 2 * BATCHES, "first of the next": BATCHES + 1}


@pytest.mark.parametrize("steps", STOPS.values(), ids=STOPS.keys())
def test_resume_is_bitwise_identical_at_every_stop(steps: int, mnist_ff: Command) -> None:
    whole_run("whole")
    stopped_run("parted", steps)
    summary = json.loads(Path("parted/summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("interrupted", steps)
    code, _, err = mnist_ff("train", "resume=parted")
    assert code == 0, err
    assert_equal_runs(Path("whole"), Path("parted"))


OPTIMIZERS = ["rmsprop", "rmsprop_torch", "sgd", "adam", "adamw", "nadam"]
KINDS = [*itertools.product(["fused", "eager"], ["fp32", "bf16"])]


@pytest.mark.parametrize(
    ("optimizer", "engine", "precision"),
    [  # by default each optimizer once, and each engine with each precision
        pytest.param(optimizer, *kind, marks=[pytest.mark.slow] * (kind != KINDS[number % 4]))
        for number, optimizer in enumerate(OPTIMIZERS)
        for kind in KINDS
    ],
)
def test_for_every_optimizer_engine_and_precision(
    optimizer: str, engine: str, precision: str, mnist_ff: Command
) -> None:
    words = [f"optimizer={optimizer}", f"trainer.engine={engine}", f"trainer.precision={precision}"]
    words += ["optimizer.momentum=0.9"] if optimizer == "sgd" else []
    whole_run("whole", *words, "trainer.epochs=2")
    stopped_run("parted", 7, *words, "trainer.epochs=2")
    assert mnist_ff("train", "resume=parted")[0] == 0
    assert_equal_runs(Path("whole"), Path("parted"))


def test_in_a_new_process_after_a_real_signal(mnist_ff: Command) -> None:
    words = [*WORDS, "trainer.epochs=30", "trainer.sync_every=2"]
    assert mnist_ff("train", *words, "hydra.run.dir=whole")[0] == 0
    parted = Path("outputs/parted")
    started = Held(str(parted), 20, "train", *words, f"hydra.run.dir={parted}")
    started.hear(signal.SIGTERM)
    started.let_go()
    assert started.end()[0] == 143
    assert json.loads((parted / "summary.json").read_text())["status"] == "interrupted"
    code, _, err = Started("train", "resume=last").end()
    assert code == 0, err
    assert_equal_runs(Path("whole"), parted)


def test_resuming_twice_and_extending_a_finished_run(mnist_ff: Command) -> None:
    whole_run("whole")
    whole_run("parted", "trainer.epochs=1")
    config = Path("parted/config.yaml").read_bytes()
    code, out, _ = mnist_ff("train", "resume=parted")
    assert code == 0
    assert "nothing to do" in out
    for epochs in (2, 3):
        assert mnist_ff("train", "resume=parted", f"trainer.epochs={epochs}")[0] == 0
    assert_equal_runs(Path("whole"), Path("parted"))
    assert_seconds_add_up(json.loads(Path("parted/summary.json").read_text())["seconds"])
    assert Path("parted/config.yaml").read_bytes() == config
    history = json.loads(Path("parted/environment.json").read_text())["history"]
    assert [(entry["epoch"], entry["changes"]) for entry in history] == [
        (1, {"trainer.epochs": 2}),
        (2, {"trainer.epochs": 3}),
    ]
    assert mnist_ff("train", "resume=parted")[1].count("nothing to do") == 1
    code, _, err = mnist_ff("train", "resume=parted", "trainer.epochs=2")
    assert code == 2
    assert "parted has finished 3 epochs; give 3 or more" in err
    code, _, err = mnist_ff("train", "resume=parted", "optimizer.lr=0.5")
    assert code == 2
    assert "optimizer.lr: has no effect: parted has finished its 3 epochs; trainer.epochs=4 or more" in err


def test_weights_of_an_earlier_stop_are_not_scored(mnist_ff: Command) -> None:
    """A run that was stopped, resumed and killed has the first stop's weights beside a newer checkpoint."""
    run = stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]")
    assert mnist_ff("evaluate", "run")[0] == 0
    run.file("summary.json").unlink()
    after = run.file("model.safetensors").stat().st_mtime_ns + 1_000_000_000
    os.utime(run.file("checkpoint.pt"), ns=(after, after))
    for words in (["evaluate", "run"], ["predict", "run", "--index", "0"], ["export", "run", "--format", "torch"]):
        code, _, err = mnist_ff(*words)
        assert code == 2
        assert "has no final weights" in err
        assert "mnist-ff train resume=run resumes it" in err


@pytest.mark.parametrize(
    "change",
    [
        "model.hidden=[8]",
        "model.dropout=0.1",
        "trainer.batch_size=128",
        "seed=1",
        "data.validation_split=0.1",
        "optimizer.rho=0.5",
    ],
)
def test_another_recipe_is_refused(change: str, mnist_ff: Command) -> None:
    stopped_run("parted", 3)
    before = Path("parted/batches.csv").read_bytes()
    code, _, err = mnist_ff("train", "resume=parted", change)
    assert code == 2
    assert "which a resume cannot change" in err
    assert Path("parted/batches.csv").read_bytes() == before


@pytest.mark.parametrize("change", ["optimizer=adam", "+new=1", "~seed", "optimizer.lr=0.1,0.2", "optimizer.l=3"])
def test_only_plain_keys_change_a_saved_config(change: str, mnist_ff: Command) -> None:
    stopped_run("parted", 3)
    code, _, err = mnist_ff("train", "resume=parted", change)
    assert code == 2
    assert "Traceback" not in err


def test_another_learning_rate_warns_is_recorded_and_used(mnist_ff: Command) -> None:
    stopped_run("parted", 20)
    code, out, _ = mnist_ff("train", "resume=parted", "optimizer.lr=0.0005")
    assert code == 0
    assert "warning: optimizer.lr changes from 0.001 to 0.0005" in out
    rates = [line.split(",")[4] for line in Path("parted/batches.csv").read_text().splitlines()[1:]]
    assert rates == ["0.001"] * 20 + ["0.0005"] * 28
    history = json.loads(Path("parted/environment.json").read_text())["history"]
    assert history[0]["changes"] == {"optimizer.lr": 0.0005}


def test_rows_past_the_checkpoint_are_cut(mnist_ff: Command) -> None:
    whole_run("whole")
    run = stopped_run("parted", 20)
    with run.file("batches.csv").open("a") as file:
        file.write("20,1,4,9.9,0.001,256\n21,1,5,9.9,0.001,256\n22,1,6,0.12")
    with run.file("epochs.csv").open("a") as file:
        file.write("1,0.1")
    run.file("summary.json").unlink()
    (run.path / ".checkpoint.pt.xyz.tmp").write_text("half")
    assert mnist_ff("train", "resume=parted")[0] == 0
    assert_equal_runs(Path("whole"), Path("parted"))
    assert not list(run.path.glob("*.tmp"))
    steps = [int(line.split(",")[0]) for line in run.file("batches.csv").read_text().splitlines()[1:]]
    assert steps == list(range(48))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "bit-flipped": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "seal flipped": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "seal's word flipped": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "end lost": lambda content: content[:-40],
    "HTML": lambda content: b"<html><body>503</body></html>",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_checkpoint_falls_back_to_the_previous(damage: Callable[[bytes], bytes], mnist_ff: Command) -> None:
    whole_run("whole")
    run = stopped_run("parted", 40)
    path, previous = run.file(CHECKPOINT), run.file(PREVIOUS)
    path.write_bytes(damage(path.read_bytes()))
    code, out, err = mnist_ff("train", "resume=parted")
    assert code == 0, err
    assert f"{path}: is damaged; using the previous one" in out
    assert_equal_runs(Path("whole"), Path("parted"))
    for file in (path, previous):
        file.write_bytes(damage(file.read_bytes()))
    code, _, err = mnist_ff("train", "resume=parted", "trainer.epochs=5")
    assert code == 1
    assert "no checkpoint is intact" in err
    assert len(err.strip().splitlines()) == 1


def test_directory_named_checkpoint_is_set_aside(mnist_ff: Command) -> None:
    run = stopped_run("run", 40)
    run.file(CHECKPOINT).unlink()
    run.file(CHECKPOINT).mkdir()
    code, out, err = mnist_ff("train", "resume=run")
    assert code == 0, err
    assert f"{run.file(CHECKPOINT)}: is not a file; using the previous one" in out


def test_failed_resume_leaves_the_run_unchanged(mnist_ff: Command) -> None:
    whole_run("run")
    run = Run.open("run")
    kept = {name: run.file(name).read_bytes() for name in ("summary.json", "batches.csv", "epochs.csv")}
    environment, config = run.file("environment.json").read_text(), run.file("config.yaml").read_text()
    for name, text in (
        ("environment.json", None),
        ("environment.json", '{"history": null}'),
        ("config.yaml", config.replace("batch_size: 256", "batch_size: 512")),
        ("config.yaml", config.replace("seed: 0", "seed: 1")),
        ("batches.csv", "step,epoch\n"),
        ("checkpoint.pt", "<html>"),
    ):
        path = run.file(name)
        before = path.read_bytes()
        path.unlink() if text is None else path.write_text(text)
        if name == "checkpoint.pt":
            run.file(PREVIOUS).write_text("<html>")
        code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=5")
        assert code in (1, 2), name
        assert "Traceback" not in err
        path.write_bytes(before)
        assert {file: run.file(file).read_bytes() for file in kept} == kept, name
        assert run.file("environment.json").read_text() == environment


def test_run_killed_in_its_first_epoch_resumes(mnist_ff: Command) -> None:
    whole_run("whole")
    parted = "outputs/parted"
    started = Held(parted, 1, "train", *WORDS, f"hydra.run.dir={parted}", "trainer.sync_every=1")
    started.process.kill()
    started.process.communicate()
    Path("outputs/empty").mkdir()
    Path("outputs/empty/config.yaml").touch()
    code, _, err = mnist_ff("train", "resume=last")
    assert code == 0, err
    assert_equal_runs(Path("whole"), Path("outputs/parted"))


@pytest.mark.slow
def test_resume_uses_the_saved_thread_count(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "trainer.epochs=2", "trainer.plots=false", "trainer.device=cpu"]
    code, _, err = Started("train", *words, "hydra.run.dir=whole", OMP_NUM_THREADS="1").end()
    assert code == 0, err
    words += ["hydra.run.dir=outputs/parted", "trainer.sync_every=1"]
    started = Held("outputs/parted", 3, "train", *words, OMP_NUM_THREADS="1")
    started.hear(signal.SIGINT)
    started.let_go()
    assert started.end()[0] == 130
    assert mnist_ff("train", "resume=last")[0] == 0
    assert_equal_runs(Path("whole"), Path("outputs/parted"))


def checkpoint_of_a_killed_run(rows: int, *words: str) -> dict[str, Any]:
    """What a run leaves that is killed after so many batches."""
    started = Started("train", *words)
    started.wait_for_rows(rows)
    wait_for_file(str(only_run() / CHECKPOINT), started.process)
    started.process.kill()
    started.process.communicate()
    state: dict[str, Any] = torch.load(only_run() / CHECKPOINT, weights_only=True)
    return state


def test_mid_epoch_checkpoints(mnist_ff: Command) -> None:
    words = [*WORDS, "trainer.epochs=100000", "trainer.checkpoint_every=5"]
    state = checkpoint_of_a_killed_run(40, *words)
    assert len(state["batches"]) % 5 == 0
    whole_run("many", "trainer.checkpoint_every=5")
    whole_run("few")
    assert_equal_runs(Path("few"), Path("many"))


def test_checkpoints_may_be_epochs_apart(mnist_ff: Command) -> None:
    words = [*WORDS, "trainer.epochs=100000", "trainer.checkpoint_epochs=7"]
    state = checkpoint_of_a_killed_run(200, *words)
    assert state["epoch"] > 0
    assert state["epoch"] % 7 == 0
    assert not state["batches"]
    run = only_run()
    assert mnist_ff("train", f"resume={run}", "trainer.epochs=" + str(state["epoch"] + 4))[0] == 0
    assert torch.load(run / CHECKPOINT, weights_only=True)["epoch"] == state["epoch"] + 4
    whole_run("whole", f"trainer.epochs={state['epoch'] + 4}")
    assert Run(run).losses() == Run(Path("whole")).losses()


def test_a_stop_between_two_checkpoints_writes_one(mnist_ff: Command) -> None:
    started = Started(
        "train", *WORDS, "trainer.epochs=100000", "trainer.checkpoint_epochs=1000", "trainer.sync_every=2"
    )
    started.wait_for_rows(100)
    started.process.send_signal(signal.SIGINT)
    assert started.end()[0] == 130
    state = torch.load(only_run() / CHECKPOINT, weights_only=True)
    epochs = [int(line.split(",")[1]) for line in (only_run() / "batches.csv").read_text().splitlines()[1:]]
    assert state["epoch"] * epochs.count(0) + len(state["batches"]) == len(epochs)


def test_two_processes_never_train_in_one_directory(mnist_ff: Command) -> None:
    started = Started("train", *WORDS, "trainer.epochs=100000", "trainer.sync_every=2")
    started.wait_for_rows(20)
    code, _, err = mnist_ff("train", f"resume={only_run()}")
    started.process.send_signal(signal.SIGINT)
    started.end()
    assert code == 1
    assert "another process is training in this directory" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["resume=nowhere"], "does not exist"),
        (["resume=last"], "no run in outputs/ is unfinished"),
        (["-m", "resume=x", "seed=0,1"], "x: does not exist"),
        (["--config-of", ""], "empty run name"),
        (["resume=best"], "best: no runs in outputs/"),
        (["-m", "resume=last"], "no sweep in outputs/ has unfinished jobs"),
        (["-m", "resume=best"], "mnist-ff train resume=best trainer.epochs=N trains it further"),
        (["resume=a", "--config-of", "b"], "only one of them"),
        (["resume=a", "resume=b"], "give it only once"),
        (["--config-of"], "--config-of: needs RUN"),
        (["--config-of", "nowhere"], "does not exist"),
    ],
)
def test_nothing_to_resume(words: list[str], reason: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *words)
    assert code == 2
    assert reason in err


def test_the_best_run_gets_more_epochs(mnist_ff: Command) -> None:
    words = [*WORDS, "trainer.epochs=1", "trainer.plots=false"]
    assert mnist_ff("train", *words, "hydra.run.dir=outputs/good")[0] == 0
    assert mnist_ff("train", *words, "optimizer.lr=1e-9", "hydra.run.dir=outputs/bad")[0] == 0
    code, out, err = mnist_ff("train", "resume=best")
    assert code == 0
    assert out == (
        "outputs/good: has finished its 1 epoch; nothing to do (trainer.epochs=2 or more continues training)\n"
    )
    assert err.startswith("best is outputs/good: ")
    code, _, err = mnist_ff("train", "resume=best", "trainer.epochs=2")
    assert code == 0, err
    summary = Run.open("outputs/good").summary()
    assert summary is not None
    assert summary.epochs == 2


def test_the_newest_sweep_with_something_left_goes_on(mnist_ff: Command) -> None:
    """Not the newest of all, which is whole, nor a search whose trials have all ended, nor one that is none of ours."""
    sweeps = OUTPUTS / "sweeps"
    for name in ("2026-01-01_00-00-00_old", "2026-01-02_00-00-00_left", "2026-01-03_00-00-00_whole", "2026-01-04_x"):
        make_sweep(sweeps / name, list(product(seed=[0, 1])), lambda _: 0.9, "trainer.epochs=1")
    left = sweeps / "2026-01-02_00-00-00_left"
    for sweep in (sweeps / "2026-01-01_00-00-00_old", left, sweeps / "2026-01-04_x"):
        (sweep / "1" / "summary.json").unlink()
    (sweeps / "2026-01-04_x" / "jobs.json").write_text("[")
    code, out, err = mnist_ff("train", "-m", "resume=last", "dry_run=true")
    assert code == 0, err
    assert err == f"last is {left}: the newest sweep with unfinished jobs\n"
    assert out.startswith("job 1 ")
    assert "\n1 job; " in out
    counts = {"complete": 1, "pruned": 0, "failed": 1, "running": 0, "waiting": 0}
    search_result = SearchResult("s", "search.journal", "validation_accuracy", 2, counts, 0, 0.9, {}, {})
    write_search_result(left, search_result)
    assert find_sweep("last", OUTPUTS) == sweeps / "2026-01-01_00-00-00_old"
    write_search_result(left, replace(search_result, n_trials=3))
    assert find_sweep("last", OUTPUTS) == left


def test_a_past_run_is_repeated_to_the_byte(mnist_ff: Command) -> None:
    whole_run("first", "optimizer=adam", "seed=null")
    code, _, err = mnist_ff("train", "--config-of", "first", "hydra.run.dir=second")
    assert code == 0, err
    assert_equal_runs(Path("first"), Path("second"))
    assert mnist_ff("train", "--config-of", "first", "trainer.epochs=1", "hydra.run.dir=third")[0] == 0
    assert len(Path("third/batches.csv").read_text().splitlines()) == 1 + BATCHES


def kill_and_resume(kills: int, epochs: int, mnist_ff: Command) -> None:
    """SIGKILL at random moments, half of them inside a save, each followed by a resume, until the run is done."""
    words = [*WORDS, f"trainer.epochs={epochs}", "trainer.checkpoint_every=2", "trainer.sync_every=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=whole")[0] == 0
    rng, run = random.Random(7), Path("outputs/killed")
    survived = 0
    for number in range(kills):
        shutil.rmtree("outputs", ignore_errors=True)
        started = Held(str(run), 3 + rng.randrange(5 * epochs), "train", *words, f"hydra.run.dir={run}")
        if number % 2:
            started.let_go()
            deadline = time.monotonic() + 5
            while not list(run.glob(".checkpoint.pt.*.tmp")) and time.monotonic() < deadline:
                pass  # a save is being written when its temporary file is there
        os.kill(started.process.pid, signal.SIGKILL)
        started.process.communicate()
        code, _, err = mnist_ff("train", f"resume={run}")
        assert code == 0, (number, err)
        assert_equal_runs(Path("whole"), run)
        survived += 1
    assert survived == kills


@pytest.mark.slow
def test_ten_kills_lose_nothing(mnist_ff: Command) -> None:
    kill_and_resume(10, 8, mnist_ff)


@pytest.mark.slow
def test_fifty_kills_lose_nothing(mnist_ff: Command) -> None:
    kill_and_resume(50, 40, mnist_ff)
