"""A small training in another process, with one function replaced."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.support.processes import Forked

WORDS = ["data=mnist_5k", "model.hidden=[16]", "trainer.epochs=2", "trainer.plots=false"]


def patched(name: str, body: str, *words: str) -> subprocess.CompletedProcess[str]:
    """mnist-ff train in a process where `name` does `body` instead: `real` is the original, `given` its arguments."""
    script = f"""
import os, signal, sys
from mnist_ff import cli
from mnist_ff.session import artifacts
from mnist_ff.training import learner
real, calls = {name}, []
def instead(*given):
{textwrap.indent(body, "    ")}
{name} = instead
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""
    process = Forked(script, *WORDS, *words)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode or 0, out, err)


def train_without_pictures(run: Path, *words: str) -> Path:
    """mnist-ff train in this process into a directory; plots, which take seconds, are left out."""
    from mnist_ff import cli
    from mnist_ff.analysis import plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "DRAWINGS", {})
        assert cli.main(["train", *words, f"hydra.run.dir={run}"]) == 0
    return run


def bytes_of(run: Path) -> tuple[bytes, bytes]:
    return (run / "batches.csv").read_bytes(), (run / "model.safetensors").read_bytes()
