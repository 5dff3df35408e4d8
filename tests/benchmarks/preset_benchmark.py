"""Run presets of conf/sweep/ and print the comment that stands on top of each: its measured result.

    python -m tests.benchmarks.preset_benchmark NAME... [-- WORDS...] # such as lr seeds dropout architecture optimizers

Each is `mnist-ff train -m sweep=NAME` in a process of its own, with WORDS behind it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mnist_ff.analysis.ranking import WITHIN_NOISE, text


def measured(name: str, words: list[str]) -> list[str]:
    """The comment's lines: conditions, then a line for each row of the ranked table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "sweep")
        began = time.perf_counter()
        command = [sys.executable, "-m", "mnist_ff", "train", "-m", f"sweep={name}", *words, f"hydra.sweep.dir={place}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        minutes = (time.perf_counter() - began) / 60
        found = json.loads((place / "sweep.json").read_text())
    cpus = f"{len(os.sched_getaffinity(0))} CPU cores"
    behind = f" with {' '.join(words)}" if words else ""
    head = f"# Measured{behind} on {cpus}, torch {version('torch')}, {minutes:.1f} min, by {found['ranked_by']}:"
    return [head, *(f"#   {_line(group, found['ranked_by'])}" for group in found["groups"])]


def _line(group: dict[str, Any], ranked_by: str) -> str:
    figure = group[ranked_by.replace(" ", "_")]
    values = "  ".join(f"{key}={text(value)}" for key, value in group["values"].items()) or "all seeds"
    mean = f"{100 * figure['mean']:.2f} %"
    if figure["std"] is not None:
        mean += f" +- {100 * figure['std']:.2f} (std, n = {figure['n']})"
    return f"{mean}  {values}{f' {WITHIN_NOISE}' if group['within_noise_of_the_one_before'] else ''}"


def main(words: list[str]) -> None:
    """Run one preset after another."""
    names, behind = (words, []) if "--" not in words else (words[: words.index("--")], words[words.index("--") + 1 :])
    for name in names:
        print(f"conf/sweep/{name}.yaml", *measured(name, behind), sep="\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
