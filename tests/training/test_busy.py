"""The warning of a busy machine, with a clock that stands still between steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from mnist_ff.engine.cores import waited_for_cores
from mnist_ff.engine.step import StepInfo, never
from mnist_ff.training import busy
from mnist_ff.training.busy import WatchedStep
from tests.support.commands import Command

BATCHES = 25


class Machine:
    """A step of 25 batches that takes as long as it is told, and the clock that it moves."""

    info = StepInfo("fused")

    def __init__(self, waits: bool | None = True) -> None:
        self.now = self.waited = self.seconds = 0.0
        self.told: list[float] = []
        self.watched = WatchedStep(
            self, self.told.append, lambda: self.now, lambda: None if waits is None else self.waited * waits
        )

    def prepare(self, images: int) -> None:
        """Nothing to do."""

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        self.now += self.seconds
        self.waited += self.seconds / 2
        return torch.zeros(len(rows), 2)

    def run(self, chunks: int, seconds: float, batches: int = BATCHES) -> list[float]:
        """What has been told after so many chunks of so many seconds each."""
        self.seconds = seconds
        for _ in range(chunks):
            self.watched(torch.zeros(batches))
            self.now += 100  # an evaluation, a checkpoint, a callback
        return self.told


def test_steps_three_times_slower_are_told_once() -> None:
    machine = Machine()
    machine.run(1, 50.0)  # what is set up at first
    assert machine.run(100, 0.1) == []
    assert machine.run(20, 0.25) == []
    (times,) = machine.run(20, 0.35)
    assert times == pytest.approx(3.5)
    machine.run(20, 0.1)
    assert len(machine.run(100, 9.0)) == 1


def test_a_few_slow_chunks_are_not_told() -> None:
    machine = Machine()
    machine.run(11, 0.1)
    for _ in range(20):
        machine.run(2, 30.0)
        assert machine.run(8, 0.1) == []
    assert machine.run(2, 0.004, 1) == []  # a small chunk


@pytest.mark.parametrize(("waits", "told"), [(False, 0), (None, 1)])
def test_a_step_that_is_slower_by_itself_is_not_told(waits: bool | None, told: int) -> None:
    """Its threads wait for no core; where the system does not tell, time alone decides."""
    machine = Machine(waits)
    machine.run(11, 0.1)
    assert len(machine.run(20, 1.0)) == told


def test_waiting_is_known_on_linux() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("the system does not tell how long a thread waited for a core")
    first = waited_for_cores()
    assert first is not None
    assert first <= (waited_for_cores() or 0)


def test_the_warning_stands_in_the_log_only(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=2", "trainer.plots=false", "trainer.sync_every=1")
    assert mnist_ff("train", *words, "hydra.run.dir=quiet")[0] == 0
    monkeypatch.setattr(busy, "TIMES_SLOWER", 0.0)
    monkeypatch.setattr(busy, "WINDOW_S", 0.0)
    monkeypatch.setattr(busy, "waited_for_cores", lambda: None)
    code, out, _ = mnist_ff("train", *words, "hydra.run.dir=busy")
    assert code == 0
    assert out.count("times slower than at the start") == 1
    assert Path("busy/train.log").read_text().count("times slower than at the start") == 1
    for name in ("batches.csv", "model.safetensors", "config.yaml"):
        assert Path("busy", name).read_bytes() == Path("quiet", name).read_bytes()
