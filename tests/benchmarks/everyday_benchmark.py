"""What people wait for beside the step: busy machines, short runs, sweeps, the end of a run; and Keras on JAX.

    python -m tests.benchmarks.everyday_benchmark [FOLDER] [NAME...]  # rows of Markdown, from a command each

Each command is a `mnist-ff bench`, for `tutorial` a `mnist-ff train`; all are run, or those named: quiet, busy, small,
busy-training, training, sweep, tutorial. What they print is shown, and bench.json is kept as NAME.json in the folder,
by default `bench`. A command whose file is there already is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnist_ff.session.timed_commands import beyond_steps_percent

COMMANDS = {
    "quiet": ("bench",),
    "busy": ("bench", "--busy", "1", "--no-start-up"),
    "small": ("bench", "model.hidden=[16]", "--steps", "250", "--no-start-up"),
    "busy-training": ("bench", "--busy", "1", "--no-start-up", "--peer", "jax", "--peer-epochs", "5", "--repeat", "3"),
    "training": ("bench", "--no-start-up", "--peer", "jax", "--repeat", "3"),
    "sweep": ("bench", "--no-start-up", "--sweep", "--repeat", "3"),
    "tutorial": ("train",),
}
AUTO = "mnist-ff, fp32, trainer.threads=auto"


def step(result: dict[str, Any]) -> str:
    """The fp32 step beside its products."""
    times = result["milliseconds"]
    own, products = times["fused step, fp32"], times["products alone, fp32"]
    return f"{own['median']:.2f} ms ({products['median']:.3f} ms its products)"


def ratio(precision: str) -> Callable[[dict[str, Any]], str]:
    """A step by the fp32 products."""
    return lambda result: f"{result['milliseconds'][f'fused step, {precision}']['ratio']:.2f}"


def logging(result: dict[str, Any]) -> str:
    """What recording every batch costs."""
    low, high = result["logging_percent_quartiles"]
    return f"{result['logging_percent']:+.1f} % ({low:+.1f} to {high:+.1f})"


def seconds(kind: str, name: str) -> Callable[[dict[str, Any]], str]:
    """Of a command, sweep or training; the lowest and highest where there are several."""

    def shown(result: dict[str, Any]) -> str:
        value = result[f"{kind}_seconds"].get(name, "not measured")
        if isinstance(value, str):
            return value
        turns = result.get(f"{kind}_turns", {}).get(name, [])
        return f"{value:.2f} s" + (f" ({min(turns):.2f} to {max(turns):.2f})" if len(turns) > 1 else "")

    return shown


def times_as_fast(ours: str) -> Callable[[dict[str, Any]], str]:
    """Training beside Keras on JAX, the median of the turns."""

    def shown(result: dict[str, Any]) -> str:
        found = result["training_ratios"].get(ours, {}).get("Keras on JAX")
        return "not measured" if found is None else f"{found:.2f} x as fast"

    return shown


ROWS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("step, fp32", "quiet", step),
    ("step, fp32, by the eight fp32 products", "quiet", ratio("fp32")),
    ("step, bf16, by the same", "quiet", ratio("bf16")),
    ("recording every batch, of a step", "quiet", logging),
    ("one epoch of the tutorial, whole command", "quiet", seconds("start_up", "one epoch, whole command")),
    ("pictures of one run", "quiet", seconds("whole_command", "plots")),
    ("report of one run", "quiet", seconds("whole_command", "report")),
    ("of its training, beyond the steps", "quiet", lambda result: f"{result['beyond_steps_percent']:.1f} %"),
    (
        "training beyond its steps, 20 epochs",
        "tutorial",
        lambda result: f"{beyond_steps_percent(result['seconds']):.1f} %",
    ),
    ("step, fp32, beside one busy process", "busy", step),
    ("step of `hidden=[16]`, fp32", "small", step),
    ("recording every batch, of a step of `hidden=[16]`", "small", logging),
    ("5 epochs beside one busy process", "busy-training", seconds("training", "mnist-ff, fp32")),
    ("the same, `trainer.threads=auto`", "busy-training", seconds("training", AUTO)),
    ("the same, Keras on JAX", "busy-training", seconds("training", "Keras on JAX")),
    ("20 epochs, fp32", "training", seconds("training", "mnist-ff, fp32")),
    ("20 epochs, bf16", "training", seconds("training", "mnist-ff, bf16")),
    ("20 epochs, Keras on JAX", "training", seconds("training", "Keras on JAX")),
    ("fp32 beside Keras on JAX", "training", times_as_fast("mnist-ff, fp32")),
    ("bf16 beside Keras on JAX", "training", times_as_fast("mnist-ff, bf16")),
    ("one run of mnist_5k, `hidden=[16]`, 1 epoch, whole command", "sweep", seconds("sweep", "one run")),
    ("that without pictures", "sweep", seconds("sweep", "one run, no pictures")),
    ("12 of them, one after another", "sweep", seconds("sweep", "12 jobs, one after another")),
    ("these without pictures", "sweep", seconds("sweep", "12 jobs, one after another, no pictures")),
    ("12 of them with joblib", "sweep", seconds("sweep", "12 jobs, joblib")),
    ("the same with joblib, without pictures", "sweep", seconds("sweep", "12 jobs, joblib, no pictures")),
]


def main(words: list[str]) -> None:
    """Run what is asked for, and print the rows of all that the folder then has."""
    names = [word for word in words if word in COMMANDS] or list(COMMANDS)
    folder = Path(next((word for word in words if word not in COMMANDS), "bench"))
    folder.mkdir(exist_ok=True)
    for name in names:
        if not file_of(folder, name).exists():
            place = f"hydra.run.dir={folder / name}" if name == "tutorial" else f"--out={folder / name}.json"
            subprocess.run([sys.executable, "-m", "mnist_ff", *COMMANDS[name], place], check=True)
    print("\n| what | | command |\n|---|---:|---|")
    for what, name, shown in ROWS:
        if file_of(folder, name).exists():
            result = json.loads(file_of(folder, name).read_text(encoding="utf-8"))
            print(f"| {what} | {shown(result)} | `mnist-ff {' '.join(COMMANDS[name])}` |")


def file_of(folder: Path, name: str) -> Path:
    """What a command leaves."""
    return folder / name / "summary.json" if name == "tutorial" else folder / f"{name}.json"


if __name__ == "__main__":
    main(sys.argv[1:])
