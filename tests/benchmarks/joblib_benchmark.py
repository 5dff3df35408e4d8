"""How much faster a sweep is with two jobs at a time than one after another, each job with one thread.

    python -m tests.benchmarks.joblib_benchmark [N] [-- WORDS...]  # a line of Markdown for each way, N times in turns

Each sweep is `mnist-ff train -m seed=0,1,2,3,4,5 trainer.threads=1` in a process of its own, start-up included, with
WORDS behind it. At the end: the ratio of the medians, which is to be at least 1.2 on two cores.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {"one after another": (), "joblib, 2 at a time": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")}
SWEEP = ("seed=0,1,2,3,4,5", "trainer.threads=1", "trainer.plots=false")


def seconds(words: tuple[str, ...], folder: Path) -> float:
    """Wall time of one sweep."""
    command = [sys.executable, "-m", "mnist_ff", "train", "-m", *SWEEP, *words, f"hydra.sweep.dir={folder}"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(words: list[str]) -> None:
    """Run all ways N times in turns, and print a row each."""
    own, _, others = " ".join(["", *words]).partition(" -- ")
    repeats = int(own or 1)
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for number, (way, launcher) in enumerate(WAYS.items()):
                place = Path(folder, f"{repeat}_{number}")
                taken[way].append(seconds((*launcher, *others.split()), place))
    print("| 6 jobs | n | median seconds | lowest | highest |\n|---|---:|---:|---:|---:|")
    for way, found in taken.items():
        print(f"| {way} | {repeats} | {statistics.median(found):.1f} | {min(found):.1f} | {max(found):.1f} |")
    serial, parallel = (statistics.median(found) for found in taken.values())
    print(f"{serial / parallel:.2f} x as fast")


if __name__ == "__main__":
    main(sys.argv[1:])
