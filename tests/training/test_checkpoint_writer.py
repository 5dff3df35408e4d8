"""Checkpoints that a thread writes while training goes on: what is written, who waits, and how errors end a run."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from mnist_ff.errors import RunError, Stopped
from mnist_ff.runs.directory import CHECKPOINT, Run
from mnist_ff.runs.records import BatchRecord, Position
from mnist_ff.runs.signals import Interruption
from mnist_ff.session.request import RunRequest
from mnist_ff.session.resolve import resolve
from mnist_ff.session.session import _is_finite, train
from mnist_ff.session.timing import Timing
from mnist_ff.training import checkpoint_writer
from mnist_ff.training.callbacks import Callback
from mnist_ff.training.checkpoint import TrainingState, saving_checkpoint
from mnist_ff.training.checkpoint_writer import CheckpointWriter
from mnist_ff.training.snapshot import Snapshots
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.processes import PROMPT_S, SAY_WHAT_IS_HEARD, Forked, send_and_wait
from tests.support.runs import BATCHES, WORDS, assert_equal_runs, whole_run

CPU = torch.device("cpu")
WAYS = ["from a copy", "from the disk on"]
"""What the thread does: everything, as where a GPU trains, or from the moment on when only the disk is waited for."""
SLOW_AND_FAST = [pytest.param(WAYS[0], marks=pytest.mark.slow), WAYS[1]]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in turn."""
    choose(request.param, monkeypatch)
    found: str = request.param
    return found


def choose(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "COPIED", {"cpu"} if way == WAYS[0] else frozenset())


def saved(values: Any) -> bytes:
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


class Odd:
    """Something of a user's model."""

    def __init__(self) -> None:
        self.numbers = [1, 2]


def odd_values() -> dict[str, Any]:
    flat = torch.arange(24.0)
    tied = torch.ones(3, requires_grad=True)
    state = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    own: list[Any] = [1, torch.zeros(2)]
    own.append(own)
    return {
        "parts of one": [flat[:6].view(2, 3), flat[6:].view(3, 6).t(), flat],
        "tied": OrderedDict(a=tied, b=tied, c=tied.detach()),
        "state": state,
        "none": None,
        "empty": torch.empty(0),
        "one": torch.tensor(3),
        "kinds": (torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.uint8)),
        "sparse": torch.eye(2).to_sparse(),
        "parameter": nn.Parameter(torch.ones(1)),
        "own": own,
    }


def test_a_snapshot_is_saved_as_the_original() -> None:
    values = odd_values()
    before = saved(values)
    snapshots = Snapshots()
    taken = snapshots.take(values)
    assert saved(taken) == before
    values["parts of one"][2].add_(1)
    values["own"][1].add_(1)
    values["sparse"].mul_(2)
    values["state"]["1.running_mean"].add_(1)
    assert saved(values) != before
    assert saved(taken) == before
    place = taken["parts of one"][0].data_ptr()
    again = snapshots.take(values)
    assert saved(again) == saved(values)
    assert again["parts of one"][0].data_ptr() == place, "the memory is used again"
    odd, turned = Odd(), torch.tensor([1j]).conj()
    copied, same = snapshots.take([odd, turned])
    odd.numbers.append(3)
    assert copied.numbers == [1, 2]
    assert torch.equal(same, turned)


def test_large_finite_weights_are_finite() -> None:
    for numbers in (
        torch.full((4,), 3e38),
        torch.full((4,), 6e4, dtype=torch.float16),
        torch.ones(2, dtype=torch.int8),
    ):
        assert _is_finite(numbers)
    for number in (float("nan"), float("inf"), -float("inf")):
        for kind in (torch.float32, torch.float64, torch.bfloat16):
            assert not _is_finite(torch.tensor([1.0, number], dtype=kind))
    assert not _is_finite(torch.tensor([float("inf"), -float("inf")]))


class Held:
    """A save that stops in the thread until it is let go: before anything is written, or before the disk has it."""

    def __init__(self, way: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.is_held = threading.Event(), threading.Event()
        self._number, self._saves = number, 0
        if way == WAYS[0]:
            monkeypatch.setattr(checkpoint_writer, "saving_checkpoint", self._saving)
        else:
            real = CheckpointWriter._sync_all

            def sync_all(writer: CheckpointWriter) -> None:
                self._hold()
                real(writer)

            monkeypatch.setattr(CheckpointWriter, "_sync_all", sync_all)

    @contextmanager
    def _saving(self, *given: Any) -> Iterator[None]:
        self._hold()
        with saving_checkpoint(*given):
            yield

    def _hold(self) -> None:
        self._saves += 1
        if self._saves == self._number:
            self.is_held.set()
            assert self.go.wait(60)


class At(Callback):
    """Does something after a step."""

    def __init__(self, step: int, do: Callable[[], None]) -> None:
        self._step, self._do = step, do

    def on_batch_end(self, batch: BatchRecord) -> None:
        if batch.step == self._step:
            self._do()


def run_with(*observers: Callback) -> Run:
    """Train WORDS in `run`."""
    run = Run.create(Path("run").absolute())
    config = resolve(make_config(*WORDS))
    request = RunRequest(
        config, run, [], Timing(time.perf_counter()), Console(quiet=True), Interruption(), observers=observers
    )
    train(request)
    return run


def test_training_goes_on_while_a_checkpoint_is_written(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_run("whole")
    whole_run("one", "trainer.epochs=1")
    held, found = Held(way, 2, monkeypatch), {}  # the first is at the start

    def look() -> None:
        assert held.is_held.wait(60)
        found["while held"] = torch.load("run/checkpoint.pt", weights_only=True)
        found["rows"] = Path("run/batches.csv").read_text().count("\n") - 1
        held.go.set()
        deadline = time.monotonic() + 60
        while not Path("run/checkpoint.previous.pt").exists() or not Path("run/checkpoint.pt").exists():
            assert time.monotonic() < deadline
        found["after"] = torch.load("run/checkpoint.pt", weights_only=True)

    run_with(At(2 * BATCHES - 1, look))  # the last step of the second epoch
    assert found["while held"]["epoch"] == 0
    assert found["rows"] >= BATCHES
    after, expected = found["after"], torch.load("one/checkpoint.pt", weights_only=True)
    assert after["epoch"] == 1
    for key in ("model", "optimizer", "dropout", "generators"):
        torch.testing.assert_close(after[key], expected[key], rtol=0, atol=0)
    assert_equal_runs(Path("whole"), Path("run"))


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "run/x")


def no_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize("number", [1, 2, 4], ids=["first", "second", "last"])
@pytest.mark.parametrize(("fail", "said"), [(full, "No space left on device"), (no_memory, "not enough memory")])
def test_an_error_of_the_thread_ends_the_run(
    fail: Callable[[], None], said: str, number: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    @contextmanager
    def saving(*given: Any) -> Iterator[None]:
        calls.append(1)
        with saving_checkpoint(*given):
            yield
            if len(calls) == number:
                fail()

    monkeypatch.setattr(checkpoint_writer, "saving_checkpoint", saving)
    with pytest.raises(RunError, match=said):
        run_with()
    assert len(calls) == number
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"
    assert not list(Path("run").glob(".*.tmp"))
    assert Path("run/checkpoint.pt").exists() == (number > 1)


def test_an_error_of_training_waits_for_the_thread(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(way, 2, monkeypatch)

    def fail() -> None:
        assert held.is_held.wait(60)
        threading.Timer(0.2, held.go.set).start()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_with(At(BATCHES + 1, fail))
    assert torch.load("run/checkpoint.previous.pt", weights_only=True)["epoch"] == 1
    assert torch.load("run/checkpoint.pt", weights_only=True)["epoch"] == 2  # what was trained when the callback failed
    assert not list(Path("run").glob(".*.tmp"))


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


def test_a_second_signal_gives_the_save_up(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_ff: Command
) -> None:
    run = whole_run("run", "trainer.epochs=1")
    before, files = run.file(CHECKPOINT).read_bytes(), open_files()
    learner = torch.load(run.file(CHECKPOINT), weights_only=True)
    monkeypatch.setattr(checkpoint_writer, "PATIENCE_S", 0.01)
    held = Held(way, 1, monkeypatch)
    writer = CheckpointWriter(run, CPU)
    with suppress(Stopped), writer:
        with open(run.file("batches.csv"), "rb") as rows:
            writer.sync(rows.fileno())
        writer.write(writer.held(TrainingState(Position(), "x", learner)))
        assert held.is_held.wait(60)
        raise Stopped(130)
    thread = writer._thread
    assert thread is not None
    assert thread.is_alive()
    held.go.set()
    thread.join()
    assert run.file(CHECKPOINT).read_bytes() == before
    assert not list(run.path.glob(".*.tmp"))
    assert open_files() == files


def test_a_second_signal_while_training_waits_ends_the_save(
    way: str, monkeypatch: pytest.MonkeyPatch, mnist_ff: Command
) -> None:
    run = whole_run("run", "trainer.epochs=1")
    before = run.file(CHECKPOINT).read_bytes()
    learner = torch.load(run.file(CHECKPOINT), weights_only=True)
    monkeypatch.setattr(checkpoint_writer, "PATIENCE_S", 60)
    held, writer = Held(way, 1, monkeypatch), CheckpointWriter(run, CPU)

    def end(*given: object) -> None:
        threading.Timer(0.3, held.go.set).start()
        raise Stopped(143)

    handler = signal.signal(signal.SIGTERM, end)
    try:
        with suppress(Stopped), writer:
            writer.write(writer.held(TrainingState(Position(), "x", learner)))
            assert held.is_held.wait(60)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            writer.wait()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert held.go.is_set(), "the thread has ended"
    assert run.file(CHECKPOINT).read_bytes() == before
    assert not list(run.path.glob(".*.tmp"))


def test_without_room_for_a_thread_training_waits(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "checkpoint":
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    run_with()
    whole_run("whole")
    assert_equal_runs(Path("whole"), Path("run"))


SLOW_SAVE = """
import sys, time
from mnist_ff import cli
from mnist_ff.training import checkpoint_writer
from mnist_ff.training.checkpoint_writer import CheckpointWriter
way, calls = sys.argv.pop(1), []
def slow(real):
    def call(*given):
        calls.append(1)
        while len(calls) == 2 and not Path("let_go").exists():
            time.sleep(0.01)
        return real(*given)
    return call
if way == "from a copy":
    checkpoint_writer.COPIED = {"cpu"}
    checkpoint_writer.saving_checkpoint = slow(checkpoint_writer.saving_checkpoint)
else:
    CheckpointWriter._sync_all = slow(CheckpointWriter._sync_all)
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""
"""The save after the first epoch waits to be let go."""


def slow_run(way: str) -> Forked:
    """Train WORDS in `run`, until it is some steps past the first epoch, whose checkpoint is being written."""
    started = Forked(SAY_WHAT_IS_HEARD + SLOW_SAVE, way, *WORDS, "trainer.sync_every=1", "hydra.run.dir=run")
    deadline = time.monotonic() + 60
    rows = Path("run/batches.csv")
    while not rows.exists() or rows.read_text().count("\n") < BATCHES + 4:
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return started


@pytest.mark.parametrize("way", SLOW_AND_FAST)
def test_a_kill_during_a_save_loses_that_one_only(way: str, mnist_ff: Command) -> None:
    started = slow_run(way)
    started.kill()
    started.communicate()
    assert torch.load("run/checkpoint.pt", weights_only=True)["epoch"] == 0
    assert_goes_on(mnist_ff)


@pytest.mark.parametrize("way", SLOW_AND_FAST)
def test_a_signal_during_a_save_waits_for_it(way: str, mnist_ff: Command) -> None:
    started = slow_run(way)
    send_and_wait(signal.SIGTERM, started)
    time.sleep(0.2)
    assert started.poll() is None
    Path("let_go").touch()
    _, err = started.communicate(PROMPT_S)
    assert started.returncode == 143, err
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["status"] == "interrupted"
    state = torch.load("run/checkpoint.pt", weights_only=True)
    assert BATCHES * state["epoch"] + len(state["batches"]) == summary["steps"]
    assert_goes_on(mnist_ff)


@pytest.mark.parametrize("way", SLOW_AND_FAST)
def test_a_second_signal_waits_for_no_save(way: str, mnist_ff: Command) -> None:
    started = slow_run(way)
    send_and_wait(signal.SIGTERM, started)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(PROMPT_S)
    assert started.returncode == 130, err
    assert "Traceback" not in err
    assert not Path("run/summary.json").exists()
    assert_goes_on(mnist_ff)


def assert_goes_on(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "resume=run")
    assert code == 0, err
    whole_run("whole")
    assert_equal_runs(Path("whole"), Path("run"))
    assert not list(Path("run").glob(".*.tmp"))
