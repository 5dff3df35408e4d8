"""Waits of threads: long where cores are free, brief where other programs need them."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mnist_ff.data.load import Data
from mnist_ff.engine import waits
from mnist_ff.engine.spinning import SETTINGS
from mnist_ff.engine.step import StepInfo
from mnist_ff.engine.waits import AdaptedStep, SleepingTeam, sleeping_team
from mnist_ff.training.learner import Learner
from tests.support.configs import make_config


class FakeTeam:
    there = False

    def start(self) -> None:
        assert not self.there
        self.there = True

    def end(self) -> None:
        assert self.there
        self.there = False


class FakeStep:
    info = StepInfo("fused")

    def prepare(self, images: int) -> None:
        raise NotImplementedError

    def __call__(self, rows: torch.Tensor, *_: object) -> torch.Tensor:
        return rows


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Machine:
    """Clock and waiting times that a test moves on."""

    def __init__(self) -> None:
        self.now, self.waited = 0.0, 0.0
        self.team = FakeTeam()
        self.step = AdaptedStep(FakeStep(), self.team, lambda: self.now, lambda: self.waited)

    def train(self, seconds: float, share: float, chunk: float = 0.125) -> list[bool]:
        """Chunks of steps for so long, whose threads wait for that share; whether the team was there after each."""
        there = []
        for _ in range(round(seconds / chunk)):
            self.now += chunk
            self.waited += share * chunk
            self.step(torch.arange(4))
            there.append(self.team.there)
        return there


@pytest.mark.usefixtures("two_threads")
def test_waits_are_brief_while_other_programs_need_the_cores() -> None:
    machine = Machine()
    assert not any(machine.train(2, share=0.03))
    assert all(machine.train(2, share=0.5))
    assert all(machine.train(0.375, share=0)), "they are not long again at once"
    assert all(machine.train(0.25, share=0.5))
    assert all(machine.train(0.375, share=0)), "what was before does not count"
    assert machine.train(0.25, share=0.03)[-1] is False
    assert not any(machine.train(2, share=0.03))
    assert all(machine.train(1, share=0.5))


@pytest.mark.usefixtures("two_threads")
def test_short_chunks_are_looked_at_together() -> None:
    machine, looks = Machine(), []
    machine.step._waited = lambda: looks.append(1) or machine.waited
    machine.train(1, share=0.3, chunk=0.001)
    assert 8 <= len(looks) <= 10
    assert machine.team.there


@pytest.mark.usefixtures("two_threads")
def test_a_system_without_room_for_a_team_is_asked_once(team: SleepingTeam, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[threading.Thread] = []

    def refused(thread: threading.Thread) -> None:
        asked.append(thread)
        raise RuntimeError("can't start new thread")

    machine = Machine()
    machine.step = AdaptedStep(FakeStep(), team, lambda: machine.now, lambda: machine.waited)
    monkeypatch.setattr(threading.Thread, "start", refused)
    machine.train(2, share=0.3)
    assert len(asked) == 1
    assert not team.there


def test_one_thread_waits_for_no_other() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert not any(Machine().train(2, share=0.5))
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_system_that_does_not_tell_changes_nothing() -> None:
    machine = Machine()
    machine.step = AdaptedStep(FakeStep(), machine.team, lambda: machine.now, lambda: None)
    assert not any(machine.train(2, share=0.5))


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> SleepingTeam:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    found = sleeping_team()
    if found is None:
        pytest.skip("torch's OpenMP here is not libgomp")
    return found


def test_a_team_is_there_until_it_ends(team: SleepingTeam) -> None:
    before = _threads()
    for _ in range(2):
        team.start()
        assert _threads() > before
        team.end()
        _until_gone(before)
    forgotten = sleeping_team()
    assert forgotten is not None
    forgotten.start()
    del forgotten
    gc.collect()
    _until_gone(before)


def test_a_team_has_a_thread_more_than_this_process_may_use_cores(
    team: SleepingTeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not than the machine has: a container may have few cores of many, and a limit on its threads."""
    before = _threads()
    for cores in (1, 3):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        team.start()
        assert _threads() == before + 1 + cores
        team.end()
        _until_gone(before)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(65)))
    assert sleeping_team() is None


def _until_gone(before: int) -> None:
    for _ in range(200):
        if _threads() <= before:
            return
        subprocess.run(["sleep", "0.01"], check=True)
    raise AssertionError(f"{_threads()} threads, {before} before")


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_user_has_chosen_stays(chosen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    assert sleeping_team() is None


def test_a_process_of_ours_adapts_too(team: SleepingTeam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have our number in their environment."""
    monkeypatch.setenv("GOMP_SPINCOUNT", SETTINGS["GOMP_SPINCOUNT"])
    assert sleeping_team() is not None


def test_the_same_numbers_with_and_without(
    team: SleepingTeam, small_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    del team
    rows, metrics = torch.arange(512), []
    for there in (False, True):
        learner = Learner(make_config("model.hidden=[300,40]"), small_data)
        assert isinstance(learner.step, AdaptedStep)
        if there:
            learner.step._team.start()
        metrics.append(torch.cat([learner.step(rows) for _ in range(3)]))
    assert torch.equal(*metrics)
    monkeypatch.setattr(waits, "_libgomp", lambda: None)
    assert not isinstance(Learner(make_config(), small_data).step, AdaptedStep)


@pytest.mark.slow
def test_a_process_with_a_team_ends(team: SleepingTeam) -> None:
    """Neither its end nor Ctrl-C waits for the sleepers."""
    del team
    program = """
        import os, signal, torch
        from mnist_ff.engine.waits import sleeping_team
        team = sleeping_team()
        team.start()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            print("heard")
    """
    lines = "\n".join(line.removeprefix("        ") for line in program.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
