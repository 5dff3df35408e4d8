"""The end of a sweep: its best row, the command that trains it again, jobs that learned nothing, missed targets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from mnist_ff.runs.jobs import JOBS
from tests.support.commands import Command

FIXED = ("data=mnist_5k", "model.hidden=[8]", "trainer.plots=false", "trainer.threads=1", "optimizer=sgd")
SWEEP = "my sweep"


def said(out: str, label: str) -> str:
    """The text after a label."""
    (line,) = (line for line in out.splitlines() if line.startswith(f"{label} "))
    return line.removeprefix(label).strip()


def again(out: str) -> list[str]:
    command, *words = shlex.split(said(out, "train again"))
    assert command == "mnist-ff"
    return words


def bytes_of(run: str) -> bytes:
    return Path(run, "batches.csv").read_bytes()


def test_a_grid_ends_with_its_best_row_and_its_command(mnist_ff: Command) -> None:
    words = ["optimizer.lr=0.2,1e-9", "seed=null", "name='a, b'", "trainer.epochs=4", "trainer.target_accuracy=0.3"]
    place = f"hydra.sweep.dir='{SWEEP}'"
    code, out, _ = mnist_ff("train", "-m", *FIXED, *words, place, "--require-target")
    assert code == 3, "a finished job missed the target"
    assert said(out, "report") == f"'{SWEEP}/report.html'"
    assert said(out, "best").startswith("optimizer.lr=0.2  test accuracy ")
    assert re.search(r"optimizer.lr=1e-09 .* %  not learning", out)
    assert "warning: 1 of 2 jobs ended with a loss at chance level or above its start: 1 " in out
    assert "1 finished job missed trainer.target_accuracy: 1" in out
    assert mnist_ff(*again(out), "hydra.run.dir=again")[0] == 0
    assert bytes_of("again") == bytes_of(f"{SWEEP}/0")
    code, out, err = mnist_ff("train", "-m", f"resume={SWEEP}", "--json")
    document = json.loads(out)
    assert (code, document["sweep"], [group["rank"] for group in document["groups"]]) == (0, SWEEP, [1, 2])
    assert "train again" in err


def test_a_presets_values_and_seeds_are_in_the_command(mnist_ff: Command) -> None:
    Path("own/sweep").mkdir(parents=True)
    Path("own/sweep/two.yaml").write_text(
        "# @package _global_\ntrainer:\n  epochs: 1\nhydra:\n  sweeper:\n    params:\n      optimizer.lr: 0.1,0.2\n"
    )
    code, out, _ = mnist_ff("train", "-m", "--config-dir", "own", *FIXED, "sweep=two", "seed=0,1")
    assert code == 0
    words = again(out)
    assert words[:2] == ["train", "-m"]
    assert {"trainer.epochs=1", "seed=0,1", "--config-dir"} <= set(words)
    assert "(n = 2)" in said(out, "best")
    code, out, _ = mnist_ff(*words, "hydra.sweep.dir=again")
    assert code == 0
    (first,) = (path for path in Path("outputs/sweeps").iterdir() if path.is_dir())
    best = "0" if "optimizer.lr=0.1" in words else "2"
    assert bytes_of("again/0") == bytes_of(f"{first}/{best}")


def test_overrides_of_another_users_sweep_are_not_repeated(
    mnist_ff: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert mnist_ff("train", "-m", *FIXED, "trainer.epochs=1", "seed=0,1", "hydra.sweep.dir=sweep")[0] == 0
    plan = Path("sweep", JOBS)
    plan.write_text(plan.read_text().replace('"seed": "', '"seed": "0'))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    out = mnist_ff("train", "-m", "resume=sweep")[1]
    assert again(out)[:2] == ["train", "--config-of"]
