"""A config gives the same bytes, whatever is around the training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.commands import Command
from tests.support.processes import Started, in_a_terminal
from tests.support.training import WORDS, bytes_of, patched


def run_bytes(place: str, *words: str, **environment: str) -> tuple[bytes, bytes]:
    """Of a run in another process, in a fresh Python if that has an environment of its own."""
    code, _, err = Started("train", *WORDS, *words, f"hydra.run.dir='{place}'", **environment).end()
    assert code == 0, err
    return bytes_of(Path(place))


def test_the_same_bytes_whatever_is_around(mnist_ff: Command) -> None:
    expected = run_bytes("base")
    assert run_bytes("hash", PYTHONHASHSEED="77", LC_ALL="C", TZ="Asia/Tokyo", COLUMNS="40") == expected
    for place, words in (
        ("sync", ["trainer.sync_every=1"]),
        ("checkpoints", ["trainer.checkpoint_every=3"]),
        ("strict", ["trainer.deterministic=true"]),
        ("plots", ["trainer.plots=true", "name=x", "hydra.verbose=true"]),
    ):
        assert mnist_ff("train", *WORDS, *words, f"hydra.run.dir={place}")[0] == 0
        assert bytes_of(Path(place)) == expected, place
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    assert mnist_ff("train", *WORDS, "hydra.run.dir=there")[0] == 0
    assert bytes_of(Path("there")) == expected
    os.chdir("..")
    assert mnist_ff("train", "-m", *WORDS, "seed=0")[0] == 0
    (job,) = Path("outputs/sweeps").glob("*/0")
    assert bytes_of(job) == expected


def test_same_bytes_with_progress_bar_and_extra_evaluations(mnist_ff: Command) -> None:
    assert mnist_ff("train", *WORDS, "hydra.run.dir=base")[0] == 0
    code, seen = in_a_terminal("train", *WORDS, "hydra.run.dir=bar")
    assert code == 0
    assert "\x1b[" in seen
    assert bytes_of(Path("bar")) == bytes_of(Path("base"))
    more = patched("learner.score", "return [real(*given) for _ in range(3)][0]", "hydra.run.dir=more")
    assert more.returncode == 0, more.stderr
    assert bytes_of(Path("more")) == bytes_of(Path("base"))


@pytest.mark.slow
def test_mkl_runs_in_reproducible_mode() -> None:
    """MKL says of each call whether its conditional numerical reproducibility is on."""
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL")
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    command = [sys.executable, "-m", "mnist_ff", "train", *WORDS, "hydra.run.dir=run"]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, "MKL_VERBOSE": "1"})
    calls = [line for line in done.stdout.splitlines() if line.startswith("MKL_VERBOSE SGEMM")]
    assert len(calls) > 10
    assert all("CNR:AUTO" in line for line in calls)
    assert json.loads(Path("run/environment.json").read_text())["mkl_cbwr"] == "AUTO"


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["eager", "fused", "graph"])
def test_the_same_bytes_on_cuda_when_deterministic(engine: str) -> None:
    words = ("trainer.device=cuda", f"trainer.engine={engine}", "trainer.deterministic=true")
    assert run_bytes("first", *words) == run_bytes("second", *words)


def test_one_thread_and_two_are_close(mnist_ff: Command) -> None:
    from mnist_ff.runs.directory import Run

    for threads in ("1", "2"):
        assert mnist_ff("train", *WORDS, f"trainer.threads={threads}", f"hydra.run.dir=t{threads}")[0] == 0
    one, two = Run.open("t1").losses(), Run.open("t2").losses()
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-4
