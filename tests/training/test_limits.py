"""Runs that trainer.max_seconds or trainer.target_accuracy ends, and their resumes."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import mnist_ff as package
from mnist_ff.data.load import Data
from mnist_ff.report.run_page import run_page
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import StopKind
from mnist_ff.training import limits
from mnist_ff.training.checkpoint import CHECKPOINT, SEAL
from mnist_ff.training.limits import Clock, TargetAccuracy
from tests.support.commands import Command
from tests.support.runs import WORDS, assert_equal_runs, stopped_run, whole_run

TARGET = "trainer.target_accuracy=0.3"


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that makes the clock advance by so many seconds each time it is read."""

    def tick(seconds: float) -> None:
        moments = itertools.count(step=seconds)
        monkeypatch.setattr(limits, "time", SimpleNamespace(perf_counter=lambda: next(moments)))

    return tick


def test_a_clock_continues_after_a_resume(ticking: Callable[[float], None]) -> None:
    ticking(1.0)
    clock = Clock(10.0)
    clock.resume(8.5)
    assert clock() is None, "8.5 s before training begins"
    clock.on_train_begin(None)  # type: ignore[arg-type]
    assert clock() is None
    reason = clock()
    assert reason is not None
    assert (reason.kind, reason.text) == (
        StopKind.TIME_LIMIT,
        "time limit: 10 s of training (trainer.max_seconds)",
    )
    clock.on_train_end(None)  # type: ignore[arg-type]
    assert clock.seconds == clock.seconds == 11.5


def test_a_target_is_compared_as_epochs_csv_holds_it() -> None:
    target = TargetAccuracy(0.98)
    target.resume("test", [0.5, None, 0.98])
    reason = target()
    assert reason is not None
    assert reason.text == "target reached: test accuracy 98.00 % after epoch 3 (trainer.target_accuracy=0.98)"
    target.resume("test", [0.98, 0.979999999])
    assert target() is None
    assert target.reached, "by an earlier epoch"


@pytest.mark.parametrize("engine", ["fused", "eager"])
def test_a_run_stopped_by_the_clock_and_resumed_equals_an_unbroken_one(
    mnist_ff: Command, ticking: Callable[[float], None], engine: str
) -> None:
    words = [*WORDS, f"trainer.engine={engine}", "trainer.sync_every=1", "data.validation_split=0.2"]
    whole_run("whole", *words[len(WORDS) :])
    ticking(1.0)
    assert mnist_ff("train", *words, "trainer.max_seconds=40", "hydra.run.dir=parted")[0] == 0
    run = Run.open("parted")
    summary = run.summary()
    assert summary is not None
    assert summary.stop is not None
    assert (summary.status, summary.stop.kind, summary.stopped_early) == ("finished", StopKind.TIME_LIMIT, True)
    assert summary.steps % 13, "within an epoch"
    assert summary.validation is not None, "of the weights that are kept, which no epoch was scored with"
    seconds = summary.trained_seconds
    assert seconds is not None
    assert 40 <= seconds < 60
    page = run_page(run)
    assert "of 3; " in page
    assert "time limit: 40 s of training (trainer.max_seconds)" in page
    assert "mnist-ff train resume=parted trainer.max_seconds=80" in page
    code, out, _ = mnist_ff("train", "resume=parted")
    assert (code, "has trained for" in out, "trainer.max_seconds" in out) == (0, True, True)
    assert mnist_ff("train", "resume=parted", "trainer.epochs=9")[0] == 2, "the clock would end it at once"
    code, out, _ = mnist_ff("train", "resume=parted", f"trainer.max_seconds={seconds + 6}")
    assert code == 0
    assert f"resumed from epoch {summary.epochs + 1} of 3, batch {summary.steps % 13 + 1} of 13" in out
    again = run.summary()
    assert again is not None
    assert again.trained_seconds is not None
    assert again.steps > summary.steps
    assert again.trained_seconds > seconds
    assert mnist_ff("train", "resume=parted", "trainer.max_seconds=null")[0] == 0
    assert_equal_runs(Path("whole"), Path("parted"))
    end = run.summary()
    assert end is not None
    assert (end.cause, end.validation) == (None, None)


def test_a_target_ends_a_run_and_a_higher_one_trains_on(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", *WORDS, TARGET, "hydra.run.dir=run", "--require-target")
    assert code == 0
    summary = Run.open("run").summary()
    assert summary is not None
    assert summary.stop is not None
    assert (summary.stop.kind, summary.target_reached, summary.epochs < 3) == (StopKind.TARGET, True, True)
    assert "finished: target reached: test accuracy" in out
    assert "train further  mnist-ff train resume=run trainer.target_accuracy=null" in out
    assert "has reached its target; nothing to do" in mnist_ff("train", "resume=run", "--require-target")[1]
    code, out, _ = mnist_ff("train", "resume=run", "trainer.target_accuracy=1", "--require-target", "--json")
    assert code == 3, "no epoch reached all of them"
    document = json.loads(out)
    assert (document["status"], document["epochs"], document["target_reached"]) == ("finished", 3, False)
    whole_run("whole")
    assert_equal_runs(Path("whole"), Path("run"))
    assert mnist_ff("train", "resume=run", "--require-target")[0] == 3, "said again without training"


@pytest.mark.parametrize("split", ["0", "0.2"])
def test_a_run_stopped_within_an_epoch_reaches_its_target_by_its_score(
    mnist_ff: Command, ticking: Callable[[float], None], split: str
) -> None:
    ticking(1.0)
    words = [*WORDS, "trainer.sync_every=1", "trainer.max_seconds=9", f"data.validation_split={split}"]
    code, out, _ = mnist_ff("train", *words, "trainer.target_accuracy=0.01", "hydra.run.dir=low", "--require-target")
    summary = Run.open("low").summary()
    assert summary is not None
    assert (code, summary.epochs, summary.target_reached) == (0, 0, True), "the score that is shown reaches it"
    assert "not reached" not in out
    code, out, _ = mnist_ff("train", *words, "trainer.target_accuracy=1", "hydra.run.dir=high", "--require-target")
    assert code == 3
    assert re.search(r"finished: time limit.*after \d+ batch(es)?; trainer.target_accuracy=1 was not reached", out)


def test_a_target_works_with_keep_best_and_patience(mnist_ff: Command) -> None:
    watched = ["data.validation_split=0.2", "trainer.keep_best=true", "trainer.patience=2"]
    assert mnist_ff("train", *WORDS, *watched, TARGET, "hydra.run.dir=run")[0] == 0
    summary = Run.open("run").summary()
    assert summary is not None
    assert summary.cause is not None
    assert summary.cause.startswith("target reached: validation accuracy")


def test_a_killed_run_that_had_reached_its_target_only_ends(mnist_ff: Command) -> None:
    stopped_run("run", 16 * 2, TARGET, "trainer.target_accuracy=0.99999")
    code, out, _ = mnist_ff("train", "resume=run", TARGET)
    assert code == 0
    assert "resumed from epoch 3 of 3, batch 1 of 16" in out
    assert "finished: target reached" in out
    assert Run.open("run").summary().steps == 32  # type: ignore[union-attr]


def test_require_target_needs_a_target(mnist_ff: Command, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["train"], ["train", "-m", "seed=0,1"], ["train", "-m", "dry_run=true", "seed=0,1"]):
        assert mnist_ff(*words, *WORDS, "--require-target")[0] == 2
    assert not Path("outputs").exists()


def test_run_network_honours_both_limits(small_data: Data) -> None:
    def batches(*overrides: str) -> int:
        return len(package.run_network(small_data, epochs=4, batch=100, verbose=False, overrides=overrides)[1])

    assert batches() == 24
    assert batches("trainer.target_accuracy=0.05") == 6
    assert batches("trainer.max_seconds=1e-9") < 24


def test_old_runs_continue_with_the_seconds_of_their_epochs(mnist_ff: Command) -> None:
    run = stopped_run("run", 20)
    path = run.file(CHECKPOINT)
    values = torch.load(path, weights_only=True)
    del values["seconds"]
    torch.save(values, path)
    content = path.read_bytes()
    path.write_bytes(content + SEAL + hashlib.sha256(content).digest())
    before = sum(row["seconds"] for row in run.epochs())
    assert mnist_ff("train", "resume=run", f"trainer.max_seconds={before}")[0] == 0
    summary = run.summary()
    assert summary is not None
    assert summary.steps == 20, "its time was over"
    assert summary.trained_seconds == pytest.approx(before, abs=1e-3)
