"""What each trick of an experiment gives alone, and what is lost without it: the rows in the head of its file.

    python -m tests.ablation_benchmark NAME [SEEDS] [-- WORDS...]     # such as clean 3 -- hydra/launcher=joblib

A trick is a group that conf/experiment/NAME.yaml chooses, with its keys, or one other key. Alone: beside the tutorial's
recipe, with the experiment's epochs and batches. All is judged on 10,000 held-out training images; the test images
decide nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mnist_ff.config import conf_dir, flat, read_yaml

SHARED = ("data", "trainer.epochs", "trainer.batch_size")
"""What both the recipe and the tutorial's are given."""
TOGETHER = {"trainer.temperature": "trainer.teacher", "trainer.teacher_weight": "trainer.teacher"}
"""Keys that mean nothing without another one."""
NO_TRICK = ("trainer.evaluate_every", "trainer.score_train", "trainer.plots", "trainer.precision")
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


def measured(words: Iterable[str], seeds: int, behind: Iterable[str]) -> Mapping[str, Any]:
    """Mean and std of the validation accuracy over the first seeds."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "sweep")
        command = [sys.executable, "-m", "mnist_ff", "train", "-m", *words, *QUIET, *behind]
        subprocess.run(
            [*command, f"seed=range({seeds})", f"hydra.sweep.dir={place}"], check=True, stdout=subprocess.DEVNULL
        )
        (group,) = json.loads((place / "sweep.json").read_text())["groups"]
    figure: Mapping[str, Any] = group["validation_accuracy"]
    return figure


def main(name: str, seeds: int, behind: list[str]) -> None:
    """Measure and print all rows."""
    shared, tricks = parts(name)

    def row(words: Iterable[str]) -> str:
        figure = measured([*shared, *words], seeds, behind)
        return f"{100 * figure['mean']:.2f} % +- {100 * figure['std']:.2f}"

    def without(trick: str) -> list[str]:
        return [word for other, words in tricks.items() if other != trick for word in words]

    print(f"conf/experiment/{name}.yaml")
    print(
        "# Each trick beside the tutorial's recipe of as many epochs, and this recipe without it: accuracy on held-out"
    )
    print(f"# images, n = {seeds}, `python -m tests.ablation_benchmark {name}`:")
    print(f"#   none  {row([])}   all  {row(without(''))}", flush=True)
    for trick, words in tricks.items():
        print(f"#   {' '.join(words)}  alone {row(words)}  without {row(without(trick))}", flush=True)


if __name__ == "__main__":
    own, _, others = " ".join(["", *sys.argv[1:]]).partition(" -- ")
    chosen, *count = own.split()
    main(chosen, int(count[0]) if count else 3, others.split())
