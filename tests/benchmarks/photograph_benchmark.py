"""How many of 40 digits a run reads in each kind of surroundings, beside the same digits as they are.

    python -m tests.benchmarks.photograph_benchmark RUN [SEED] [KIND...]  # all kinds of framed_photographs.py, or some

It needs the real MNIST, as the tests do.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_ff import cli
from tests.support.framed_photographs import KINDS, framed_photographs
from tests.support.mnist import mnist_test_images, mnist_test_labels

EACH = 40


def rows_of(seed: int) -> NDArray[np.int64]:
    """The digits that every kind shows."""
    return np.random.default_rng(seed).choice(10_000, EACH, replace=False)


def right_by_number(run: Path, rows: NDArray[np.int64]) -> int:
    """How many of the digits as they are the run reads."""
    return _right(["predict", str(run), "--json", "--index", *map(str, rows)], rows)


def right_in(run: Path, kind: str, rows: NDArray[np.int64], seed: int) -> int:
    """How many of them it reads in photographs of one kind."""
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(framed_photographs(mnist_test_images(), rows, kind, seed)):
            Path(folder, f"{number:02}.{'png' if KINDS[kind].drawn else 'jpg'}").write_bytes(file)
        return _right(["predict", str(run), folder, "--json"], rows)


def _right(words: list[str], rows: NDArray[np.int64]) -> int:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):  # which names the pictures without a digit
        cli.main(words)
    entries = json.loads(out.getvalue() or "[]")
    numbers = range(len(rows)) if "--index" in words else [int(Path(entry["image"]).stem) for entry in entries]
    labels = mnist_test_labels()[rows]
    return sum(entry["answer"] == labels[number] for number, entry in zip(numbers, entries, strict=True))


def main(run: Path, seed: int, kinds: list[str]) -> None:
    """Print a line for each kind."""
    rows = rows_of(seed)
    print(f"{right_by_number(run, rows)}/{EACH}  as they are")
    for kind in kinds:
        print(f"{right_in(run, kind, rows, seed)}/{EACH}  {kind}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3:] or list(KINDS))
