"""Trials done and the best validation accuracy in the same wall time, with and without pruning.

    python -m tests.benchmarks.search_benchmark SECONDS SEED...  # a line of Markdown for each search

Each search is `mnist-ff train -m sweep=search` in a process of its own, stopped by Ctrl-C after SECONDS.
Further words after -- go to every search, such as data=mnist_5k.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRUNERS = ("none", "asha")


def search(seconds: float, pruner: str, seed: int, words: list[str], folder: Path) -> dict[str, object]:
    """The search_result of a search that was stopped after so many seconds of wall time, start-up included."""
    command = [sys.executable, "-m", "mnist_ff", "train", "-m", "sweep=search", f"hydra.sweep.dir={folder}"]
    command += [f"hydra.sweeper.pruner={pruner}", f"hydra.sweeper.seed={seed}", "hydra.sweeper.n_trials=10000"]
    process = subprocess.Popen([*command, "trainer.plots=false", *words], stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    search_result: dict[str, object] = json.loads((folder / "search.json").read_text())
    return search_result


def main(words: list[str]) -> None:
    """Run every pruner with every seed, in turns, and print a row each."""
    own, _, others = " ".join(words).partition(" -- ")
    seconds, *seeds = own.split()
    print("| pruner | search seed | trials done | pruned | best validation accuracy |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for pruner in PRUNERS:
                place = Path(folder, f"{pruner}{seed}")
                found = search(float(seconds), pruner, int(seed), others.split(), place)
                counts, best = found["counts"], found["best_value"]
                assert isinstance(counts, dict)
                done = counts["complete"] + counts["pruned"] + counts["failed"]
                shown = "-" if best is None else f"{100 * float(str(best)):.2f} %"
                print(f"| {pruner} | {seed} | {done} | {counts['pruned']} | {shown} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
