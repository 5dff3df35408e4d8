"""Processor time and memory of the commands that read many run directories, and of the Tab key.

    python -m tests.benchmarks.summary_benchmark [N]  # a line of Markdown each, the medians of N processes (default: 3)

The directories are made by a generator: a sweep of so many runs over 10 seeds, and as many single runs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from mnist_ff.runs.jobs import SweepPlan, write_plan
from tests.support.sweep_maker import jobs_of, write_run

MEASURE = """
import resource, sys
from mnist_ff.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("MEASURED", code, used.ru_utime + used.ru_stime, int(peak) / 1024)
"""


def make_runs(count: int, sweep: Path) -> None:
    """A sweep of `count` jobs, each finished."""
    (base,) = jobs_of([{}])
    jobs = []
    for number in range(count):
        lr = 10 ** (-4 + 3 * (number // 10) / count)
        config = replace(base.config, seed=number % 10, optimizer=replace(base.config.optimizer, lr=lr))
        jobs.append(replace(base, number=number, subdir=str(number), config=config))
    sweep.mkdir(parents=True)
    write_plan(sweep, SweepPlan(tuple(jobs)))
    for job in jobs:
        write_run(sweep / job.subdir, job.config, 0.9 + 0.00001 * (job.number % 1000))


def measured(words: list[str], repeats: int) -> tuple[float, float]:
    """Median processor seconds and MiB of `mnist-ff WORDS`, start-up included."""
    found = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=True)
        _, code, seconds, memory = done.stdout.splitlines()[-1].split()
        assert code == "0", done.stderr
        found.append((float(seconds), float(memory)))
    return statistics.median(seconds for seconds, _ in found), statistics.median(memory for _, memory in found)


def main(repeats: int) -> None:
    """Measure all, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for count in (1_000, 10_000):
            make_runs(count, Path(f"sweep of {count:,}"))
        make_runs(1_000, Path("outputs"))
        (Path("outputs") / "jobs.json").unlink()  # single runs
        print("| command | processor seconds | MiB |\n|---|---:|---:|")
        for words in (
            ["compare", "sweep of 1,000"],
            ["compare", "sweep of 10,000"],
            ["runs"],
            ["completion", "--words", "train", "optimizer."],
        ):
            seconds, memory = measured(words, repeats)
            print(f"| `{' '.join(words)}` | {seconds:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
