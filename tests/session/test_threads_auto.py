"""trainer.threads=auto: what is chosen, where it is written, and that the measurement touches nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mnist_ff as package
from mnist_ff.data.load import Data
from mnist_ff.engine import cores
from mnist_ff.engine import device as devices
from mnist_ff.engine.cores import cores_here
from mnist_ff.runs.directory import Run
from mnist_ff.session import threads
from mnist_ff.session.threads import BUDGET_S, candidates, fastest, remembered, with_threads
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.training import bytes_of

SMALL = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "trainer.threads=auto")


def machine(*ms: float, overhead: float = 0.0, slow: Callable[[int], float] = lambda call: 1.0) -> Any:
    """Seconds of a batch by the power of two of its threads, and a list of all that was spent."""
    spent: list[float] = []

    def seconds(count: int, batches: int) -> float:
        first = overhead if not spent else 0.0
        spent.append(first + batches * ms[count.bit_length() - 1] / 1e3 * slow(len(spent)))
        return spent[-1]

    return seconds, spent


@pytest.mark.parametrize(
    ("ms", "chosen"),
    [
        ((0.4, 2.0), 1),  # a tiny network
        ((5.6, 3.6), 2),
        ((5.6, 5.3), 1),  # hardly faster
        ((8.0, 5.0, 4.0, 3.9), 4),
        ((5.6, 28.0), 1),  # a busy machine
        ((60.0, 200.0), 1),  # so busy that each is timed once
        ((2000.0, 1000.0, 500.0), 4),  # a large step is not timed with one thread and then again
    ],
)
def test_the_fastest_number_of_threads(ms: tuple[float, ...], chosen: int) -> None:
    seconds, spent = machine(*ms, overhead=0.04)
    assert fastest(candidates(1 << len(ms) - 1), seconds) == chosen
    assert sum(spent) <= BUDGET_S + max(ms) / 1e3 + 0.04


def test_a_pause_of_the_machine_decides_nothing() -> None:
    seconds, _ = machine(5.6, 3.6, slow=lambda call: 8.0 if call % 7 == 0 else 1.0)
    assert fastest((1, 2), seconds) == 2


def test_candidates_end_with_all_cores() -> None:
    assert [candidates(most) for most in (1, 2, 3, 6, 8)] == [(1,), (1, 2), (1, 2, 3), (1, 2, 4, 6), (1, 2, 4, 8)]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "odd"}, 8),
        ({}, 8),
    ],
)
def test_a_containers_quota_bounds_the_cores(
    files: dict[str, str], found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores_here() == found


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two cores whose measurement is made and then says 2; the numbers of threads that were timed."""
    timed: list[int] = []

    def say(counts: tuple[int, ...], seconds: Callable[[int, int], float]) -> int:
        for count in counts:
            seconds(count, 2)
            timed.append(count)
        return 2

    monkeypatch.setattr(threads, "cores_here", lambda: 2)
    monkeypatch.setattr(threads, "fastest", say)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield timed  # type: ignore[misc]
    torch.set_num_threads(before)


def test_the_number_is_recorded_and_repeats_to_the_byte(mnist_ff: Command, two: list[int]) -> None:
    words = [*SMALL, "model.dropout=0.3", "augment=shift", "seed=3"]
    assert mnist_ff("train", *words, "hydra.run.dir=a")[0] == 0
    assert two == [1, 2]
    assert Run.open("a").config().trainer.threads == 2
    assert json.loads(Path("a/environment.json").read_text())["threads"] == 2
    assert mnist_ff("train", "--config-of", "a", "hydra.run.dir=b")[0] == 0
    assert mnist_ff("train", *words[:4], *words[5:], "trainer.threads=2", "hydra.run.dir=c")[0] == 0
    assert two == [1, 2]
    assert bytes_of(Path("a")) == bytes_of(Path("b")) == bytes_of(Path("c"))
    code, out, _ = mnist_ff("train", "resume=a", "trainer.epochs=2", "trainer.threads=auto")
    assert code == 0
    assert "trainer.threads changes" not in out
    assert bytes_of(Path("a")) != bytes_of(Path("b"))


def test_a_resume_may_measure_again(mnist_ff: Command, two: list[int]) -> None:
    mnist_ff("train", *SMALL[:4], "trainer.threads=1", "hydra.run.dir=run")
    _, out, _ = mnist_ff("train", "resume=run", "trainer.epochs=2", "trainer.threads=auto")
    assert "trainer.threads changes from 1 to 2" in out
    (resume,) = json.loads(Path("run/environment.json").read_text())["history"]
    assert resume["changes"]["trainer.threads"] == 2


def test_a_sweep_measures_equal_steps_once(mnist_ff: Command, two: list[int]) -> None:
    words = (*SMALL, "seed=0,1", "model.hidden=[8],[9]", "hydra.sweep.dir=sweep")
    assert mnist_ff("train", "-m", *words)[0] == 0
    assert two == [1, 2, 1, 2]
    assert {Run(Path("sweep", job)).config().trainer.threads for job in "0123"} == {2}
    table = json.loads(Path("sweep/sweep.json").read_text())
    assert table["keys"] == ["model.hidden", "seed"]
    assert table["common"]["trainer.threads"] == "auto"
    Path("sweep/0/summary.json").unlink()
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        Path("sweep/0", name).unlink(missing_ok=True)
    saved = bytes_of(Path("sweep/0"))
    assert mnist_ff("train", "-m", "resume=sweep")[0] == 0
    assert two == [1, 2, 1, 2]  # a job that starts over keeps its number
    assert bytes_of(Path("sweep/0")) == saved


def test_jobs_at_once_never_get_more_than_their_share(mnist_ff: Command) -> None:
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", "hydra.sweep.dir=sweep")
    _, out, _ = mnist_ff("train", "-m", *SMALL, *words)
    assert "trainer.threads=auto, at most " in out
    assert all(Run(Path("sweep", job)).config().trainer.threads <= max(1, cores_here() // 2) for job in "01")


class Noisy(nn.Module):
    """Draws from every generator that there is, and counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return self.layer(images.flatten(1) * (1 + 1e-3 * (random.random() + float(np.random.rand())) * torch.rand(1)))


def test_the_measurement_touches_nothing(two: list[int], small_data: Data) -> None:
    def state() -> Any:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]

    model = Noisy()
    weights, before = {name: value.clone() for name, value in model.state_dict().items()}, state()
    config = make_config("schedule=cosine", trainer__threads="auto", trainer__batch_size=16)
    assert with_threads(config, model, small_data.spec).trainer.threads == 2
    assert two == [1, 2]
    assert state() == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.get_num_threads() == 2


def test_python_chooses_too(two: list[int], small_data: Data, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"data": small_data, "model": Noisy(), "verbose": False}
    words = ["trainer.threads=auto"]
    _, losses = package.run_network(**arguments, epochs=1, batch=100, overrides=words, device="cpu")
    assert len(losses) == 6
    assert two == [1, 2]
    words += ["trainer.epochs=1", "trainer.batch_size=100", "trainer.plots=false"]
    run = package.train(*words, **arguments, directory=tmp_path / "run")
    assert run.config().trainer.threads == 2
    assert two == [1, 2, 1, 2]
    resumed = package.train("trainer.epochs=2", "trainer.threads=auto", **arguments, resume=run)
    assert resumed.summary() is not None
    assert two == [1, 2, 1, 2, 1, 2]


def test_a_step_that_cannot_be_made_is_the_runs_to_explain(two: list[int]) -> None:
    class Broken(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise SystemExit(3)

    config = make_config(trainer__threads="auto")
    assert with_threads(config, Broken(784, 10)).trainer.threads == 2
    assert two == []


def test_nothing_is_measured_for_a_gpu(two: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "prepared", lambda *_: nullcontext(torch.device("cuda")))
    assert with_threads(make_config(trainer__threads="auto")).trainer.threads == torch.get_num_threads() == 2
    assert two == []


def test_what_takes_the_same_time_is_remembered(two: list[int]) -> None:
    config = make_config(trainer__threads="auto")
    with remembered():
        for words in ({"seed": 4}, {"optimizer__lr": 0.1}, {"trainer__epochs": 7}, {"model__dropout": 0.2}):
            with_threads(make_config(trainer__threads="auto", **words))
        assert two == [1, 2]
        with_threads(make_config(trainer__threads="auto", model__dropout=0.0))
        assert two == [1, 2, 1, 2]
    with_threads(config)
    assert two == [1, 2, 1, 2, 1, 2]
