"""Where a command's seconds go: every moment is in one part, and the parts add up to the total."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Plan, Status
from mnist_ff.session import timing
from mnist_ff.session.timing import PARTS, TRAINING, Timing, process_start
from mnist_ff.training.evaluation import EpochScores
from mnist_ff.training.loop import Listeners, fit
from tests.support.runs import WORDS, assert_seconds_add_up, stopped_run


class Clock:
    """time.perf_counter() that goes on by one second at each reading, or by as much as a test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", made)
    return made


def test_every_moment_is_in_one_part(clock: Clock) -> None:
    kept = Timing(began=100.0, started=97.5)
    clock.now = 110.0
    kept.claim("import")  # 11 s
    with kept.part("data"):  # 1 s before it, outside all parts
        clock.now += 5.0  # 6 s
    with kept.part("train"), kept.part("train.steps"):
        clock.now += 20.0
        with kept.part("train.checkpoints"):
            clock.now += 2.0
    seconds = kept.seconds()
    assert list(seconds.items()) == [
        ("start", 2.5),
        ("import", 11.0),
        ("data", 6.0),
        ("train", 27.0),
        ("train.steps", 22.0),
        ("train.checkpoints", 3.0),
        ("train.other", 2.0),
        ("other", 3.0),
        ("total", 49.5),
    ]
    assert kept.seconds()["other"] == 4.0, "a summary is written again later"
    assert_seconds_add_up(kept.seconds())


def test_what_is_claimed_is_no_parts_own(clock: Clock) -> None:
    kept = Timing(100.0)
    with kept.part("data"):  # after 1 s
        pass
    kept.claim("config")  # 1 s before and 1 s after it
    assert kept.seconds() == {"config": 2.0, "data": 1.0, "other": 1.0, "total": 4.0}


def test_an_error_closes_its_parts(clock: Clock) -> None:
    kept = Timing(100.0)
    with pytest.raises(ZeroDivisionError), kept.part("train"), kept.part("train.scores"):
        raise ZeroDivisionError
    assert kept.seconds() == {
        "train": 3.0,
        "train.scores": 1.0,
        "train.other": 2.0,
        "other": 2.0,
        "total": 5.0,
    }
    with pytest.raises(AssertionError), kept.part("pictures"):
        pass


def test_rounding_leaves_a_sum(clock: Clock) -> None:
    kept = Timing(100.0)
    for number, name in enumerate((*PARTS, *TRAINING) * 3):
        with kept.part(name):
            clock.now += number / 7
    assert_seconds_add_up(kept.seconds())


def test_when_the_process_started() -> None:
    code = "import time; began = time.perf_counter(); from mnist_ff.session.timing import process_start"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; print(began - (process_start(began) or began))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 0 <= float(shown) < timing.LONGEST_START_S
    assert (float(shown) > 0) == Path("/proc/self/stat").exists()
    assert process_start(time.perf_counter() + 2 * timing.LONGEST_START_S) is None, "this was another program first"


def test_where_no_system_tells_there_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.perf_counter()
    for wrong in (OSError("no such file"), ValueError("no number"), AttributeError("CLOCK_BOOTTIME")):

        def refused(*_: object, wrong: Exception = wrong) -> None:
            raise wrong

        monkeypatch.setattr(timing, "open", refused, raising=False)
        assert process_start(now) is None


def test_the_loop_opens_parts_for_chunks_and_epochs_not_for_batches() -> None:
    opened: list[str] = []

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        opened.append(name)
        yield

    plan = Plan(1, 200, 10, 5, 0.1)  # 20 batches in chunks of five
    step: Any = lambda rows, *_: torch.zeros(5, 2)  # noqa: E731
    fit(step, EpochScores, lambda epoch: torch.arange(200), plan, Listeners(timed=timed))
    before, after = ["train.callbacks"] * 2, ["train.scores", "train.callbacks", "train.callbacks"]
    assert opened == [*before, *["train.steps", "train.records"] * 4, *after]


def test_parts_of_a_run_that_was_stopped_and_resumed() -> None:
    run = stopped_run("run", 20, "trainer.plots=true")
    summary = run.summary()
    assert summary is not None
    assert summary.status is Status.INTERRUPTED
    assert_seconds_add_up(summary.seconds)
    assert {"train.steps", "train.scores", "train.checkpoints"} <= summary.seconds.keys()
    assert "plots" not in summary.seconds


def test_old_summaries_have_fewer_parts_and_later_ones_may_have_more() -> None:
    run = stopped_run("run", 20)
    values = json.loads(run.file("summary.json").read_text())
    for seconds in ({}, {"train": 1.5, "total": 2.0}, {"train": 1.5, "of the future": 2, "train.later": 3}):
        run.file("summary.json").write_text(json.dumps({**values, "seconds": seconds}))
        summary = run.summary()
        assert summary is not None
        assert summary.seconds == seconds


@pytest.mark.slow
def test_a_command_counts_its_interpreter_too() -> None:
    words = [*WORDS, "trainer.epochs=1", "trainer.plots=true", "hydra.run.dir=run"]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mnist_ff", "train", *words], check=True, capture_output=True)
    whole = time.perf_counter() - began
    summary = Run(Path("run")).summary()
    assert summary is not None
    assert_seconds_add_up(summary.seconds)
    assert summary.seconds.keys() == {*PARTS, *TRAINING, "total"}
    assert summary.seconds["total"] <= whole + 0.02, "the system counts hundredths of a second"
    assert summary.seconds["plots"] > 0
    assert summary.seconds["report"] > 0
