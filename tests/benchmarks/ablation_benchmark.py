"""What each trick of an experiment gives alone, and what is lost without it: the rows in the head of its file.

    python -m tests.benchmarks.ablation_benchmark NAME [SEEDS] [-- WORDS...]  # such as clean 3 -- hydra/launcher=joblib

A trick is a group that conf/experiment/NAME.yaml chooses, with its keys, or one other key. Alone: beside the tutorial's
recipe, with the experiment's epochs and batches. All is judged on 10,000 held-out training images; the test images
decide nothing. The runs are one sweep, kept in outputs/ablation/NAME.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from mnist_ff.config.convert import flat
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.yaml_io import read_yaml

SHARED = ("data", "trainer.epochs", "trainer.batch_size")
"""What both the recipe and the tutorial's are given."""
TOGETHER = {"trainer.temperature": "trainer.teacher", "trainer.teacher_weight": "trainer.teacher"}
"""Keys that mean nothing without another one."""
NO_TRICK = (
    *("trainer.evaluate_every", "trainer.score_train", "trainer.plots"),
    *("trainer.precision", "trainer.sync_every", "trainer.checkpoint_epochs"),
)
QUIET = ("trainer.plots=false", "trainer.score_train=0", "trainer.evaluate_every=1000", "data.validation_split=0.16667")


def parts(name: str) -> tuple[list[str], dict[str, list[str]]]:
    """An experiment as words: what it shares with the tutorial's recipe here, and those of each trick by its name."""
    values = read_yaml(conf_dir() / "experiment" / f"{name}.yaml")
    groups = {key.removeprefix("override /"): option for line in values.pop("defaults") for key, option in line.items()}
    words = {group: [f"{group}={option}"] for group, option in groups.items()}
    for key, value in flat(values).items():
        if key not in NO_TRICK:
            group = key.split(".")[0]
            trick = group if group in groups else TOGETHER.get(key, key)
            words.setdefault(trick, []).append(f"{key}={_written(value)}")
    shared = [word for trick in SHARED for word in words.pop(trick, [])]
    return shared, words


def _written(value: Any) -> str:
    return "null" if value is None else str(value).replace(" ", "")


def rows_of(tricks: dict[str, list[str]]) -> dict[str, list[str]]:
    """The words of each row: nothing, everything, and each trick alone and left out."""
    rows: dict[str, list[str]] = {"none": [], "all": [word for words in tricks.values() for word in words]}
    for trick, words in tricks.items():
        rows[f"alone {trick}"] = words
        rows[f"without {trick}"] = [word for other in tricks if other != trick for word in tricks[other]]
    return rows


def measured(directory: Path, rows: list[list[str]], seeds: int, others: list[str]) -> list[str]:
    """Train each row with each seed in one sweep; validation accuracy by row, as mean and std."""
    different = list(dict.fromkeys(map(tuple, rows)))
    listed = ",".join("{" + ",".join(word.replace("=", ": ", 1) for word in words) + "}" for words in different)
    words = [*QUIET, *others, f"sweep.rows=[{listed}]", f"seed=range({seeds})", f"hydra.sweep.dir={directory}"]
    code = subprocess.run([sys.executable, "-m", "mnist_ff", "train", "-m", *words], stdout=sys.stderr).returncode
    if code:
        sys.exit(code)
    runs = json.loads((directory / "sweep.json").read_text())["runs"]
    found: dict[tuple[str, ...], list[float]] = {row: [] for row in different}
    for run in runs:
        found[different[int(run["run"]) // seeds]].append(100 * run["validation"]["accuracy"])
    return [f"{statistics.mean(found[row]):.2f} % +- {statistics.stdev(found[row]):.2f}" for row in map(tuple, rows)]


def main(name: str, seeds: int, behind: list[str]) -> None:
    """Measure and print all rows."""
    if seeds < 2:
        sys.exit("at least 2 seeds: the rows show how far chance moves a result")
    shared, tricks = parts(name)
    rows = rows_of(tricks)
    figures = measured(Path("outputs/ablation", name), list(rows.values()), seeds, [*shared, *behind])
    figure = dict(zip(rows, figures, strict=True))
    print("# Each trick beside the tutorial's recipe, and this recipe without it: accuracy on held-out images,")
    print(f"# n = {seeds} (python -m {' '.join(['tests.benchmarks.ablation_benchmark', *sys.argv[1:]])}):")
    print(f"#   alone {figure['none']}, without {figure['all']}  nothing")
    for trick, words in tricks.items():
        print(f"#   alone {figure[f'alone {trick}']}, without {figure[f'without {trick}']}  {' '.join(words)}")


if __name__ == "__main__":
    own, _, after = " ".join(["", *sys.argv[1:]]).partition(" -- ")
    chosen, *count = own.split()
    main(chosen, int(count[0]) if count else 3, after.split())
