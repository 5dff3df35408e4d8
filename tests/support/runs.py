"""Runs that stop where a test says, and when two runs are the same."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import StopReason
from mnist_ff.runs.signals import Interruption
from mnist_ff.session.request import RunRequest
from mnist_ff.session.resolve import resolve
from mnist_ff.session.session import train
from mnist_ff.session.timing import PARTS, TRAINING, Timing
from mnist_ff.training.checkpoint import CHECKPOINT
from tests.support.configs import make_config

WORDS = ["data=mnist_5k", "model.hidden=[32,16]", "trainer.epochs=3", "trainer.plots=false", "trainer.device=cpu"]
BATCHES = 16  # of 256 in 4,000 images
SAME = ("batches.csv", "model.safetensors", "predictions.safetensors")


class StopAfter(Interruption):
    """Asks to stop once so many steps are written."""

    def __init__(self, run: Run, steps: int) -> None:
        super().__init__()
        self.run, self.steps = run, steps

    def __call__(self) -> StopReason | None:
        written = self.run.file("batches.csv").read_text().count("\n") - 1
        return StopReason.from_signal("a test") if written >= self.steps else None


def stopped_run(path: str, steps: int, *words: str) -> Run:
    """A run that is asked to stop after so many steps: a copy of the one that was made for these arguments."""
    return _copy(path, steps, *WORDS, *words, "trainer.sync_every=1")


def trained_copy(path: str, *words: str) -> Run:
    """A copy of the run that was made for these overrides."""
    return _copy(path, None, *words)


def whole_run(path: str, *words: str) -> Run:
    """A finished run, likewise a copy."""
    return _copy(path, None, *WORDS, *words)


def _copy(path: str, steps: int | None, *words: str) -> Run:
    if any(word.startswith(("logger=", "trainer.teacher=")) for word in words):  # what depends on other places
        return _train(Path(path), steps, words)
    shutil.copytree(_kept(steps, words, os.environ["MNIST_FF_DATA"]), path)
    return Run(Path(path).absolute())


@functools.cache
def _kept(steps: int | None, words: tuple[str, ...], data_root: str) -> Path:
    """Made once in a process, beside the session's cache of data."""
    name = hashlib.sha256(repr((steps, words)).encode()).hexdigest()[:16]
    return _train(Path(data_root).with_name(f"runs-{os.getpid()}") / name, steps, words).path


def _train(path: Path, steps: int | None, words: tuple[str, ...]) -> Run:
    run = Run.create(path.absolute())
    stop = Interruption() if steps is None else StopAfter(run, steps)
    config = resolve(make_config(*words))
    train(RunRequest(config, run, [], Timing(time.perf_counter()), Console(quiet=True), stop))
    return run


def assert_seconds_add_up(seconds: Mapping[str, float]) -> None:
    """Of a summary: known parts only, none below zero, and their sums, up to the rounding of binary fractions."""
    assert set(seconds) <= {*PARTS, *TRAINING, "total"}
    assert min(seconds.values()) >= 0
    assert sum(seconds.get(name, 0.0) for name in PARTS) == pytest.approx(seconds["total"], abs=1e-9)
    parts = [seconds[name] for name in TRAINING if name in seconds]
    assert not parts or sum(parts) == pytest.approx(seconds["train"], abs=1e-9)


def assert_equal_runs(whole: Path, resumed: Path) -> None:
    for name in SAME:
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    states = [torch.load(path / CHECKPOINT, weights_only=True) for path in (whole, resumed)]
    assert states[0]["epoch"] == states[1]["epoch"]
    assert states[0]["batches"] == states[1]["batches"]
    for key in ("dropout", "generators"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
    torch.testing.assert_close(states[0]["optimizer"], states[1]["optimizer"], rtol=0, atol=0)
    torch.testing.assert_close(states[0]["model"], states[1]["model"], rtol=0, atol=0)
    first, second = (json.loads((path / "summary.json").read_text()) for path in (whole, resumed))
    for key in ("status", "score", "epochs", "steps"):
        assert first[key] == second[key], key
    rows = [
        [line.rsplit(",", 1)[0] for line in (path / "epochs.csv").read_text().splitlines()] for path in (whole, resumed)
    ]
    assert rows[0] == rows[1], "all of an epoch's figures but its seconds"
