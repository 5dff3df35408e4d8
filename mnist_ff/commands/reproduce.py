"""Run an experiment over fresh seeds, and write its row of the table of recipes, which is never typed by hand."""

from __future__ import annotations

import argparse
import dataclasses
import json
import secrets
import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.config import conf_dir, lasting, nearest
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.files import write_text
from mnist_ff.records import Score, Summary
from mnist_ff.runs import Run, shown
from mnist_ff.sweeps.collect import collect
from mnist_ff.sweeps.plan import read_plan
from mnist_ff.sweeps.statistics import sample

FIRST_SEED = 1000
"""Fresh seeds count from here: those that choices are made with are small."""

Sweep = Callable[[list[str]], int]
"""`mnist-ff train` with these words; the exit code."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is said of an experiment. Accuracies are shares of the test images, after the last step of each run."""

    experiment: str
    command: str
    accuracy: float
    """Mean over the seeds."""
    std: float
    """Standard deviation over the seeds."""
    n: int
    interval_of_one_run: tuple[float, float]
    """95 %, from the number of test images alone (Wilson), around the mean."""
    test_images: int
    validation_accuracy: float | None
    """Mean over the seeds, after the last epoch, where training images were held out."""
    seconds_of_training: float
    """Mean over the seeds, with the evaluation of each epoch."""
    seconds_of_a_run: float
    """Mean over the seeds, with data, start and pictures."""
    seeds: tuple[int, ...]
    conditions: dict[str, Any]
    config: dict[str, Any]
    """The resolved config without the seed; keys that are off are left out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's words."""
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(experiments())}")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="other keys, which the row then names")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many runs, at least 2 (default: 10)")
    parser.add_argument("--resume", metavar="SWEEP_DIR", help="go on with a reproduction that did not come to its end")


def main(arguments: argparse.Namespace, console: Console, sweep: Sweep) -> int:
    """Sweep, then print the row and write it to outputs/reproduce/. Returns the exit code.

    Errors: ConfigError before anything runs; RunError when a run did not finish: no row is made of the others.
    """
    name = arguments.name
    if name not in experiments():
        raise ConfigError(f"{name}: there is {', '.join(experiments())}{nearest(name, experiments())}")
    if arguments.resume is None:
        directory, words = _new_sweep(name, arguments.overrides, arguments.seeds)
    else:
        directory, words = _old_sweep(name, Path(arguments.resume), arguments.overrides)
    code = sweep(words)
    if code:
        again = f"mnist-ff reproduce {name} --resume {shlex.quote(str(shown(directory)))}"
        console.print(f"no row: not every run finished; go on with  {again}", markup=False, soft_wrap=True)
        return code
    row = row_of(name, directory)
    folder = Path("outputs/reproduce")
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(row)
    write_text(folder / f"{name}.md", text)
    write_text(folder / f"{name}.json", json.dumps(dataclasses.asdict(row), indent=2, allow_nan=False) + "\n")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"written to {folder}/{name}.md and .json", markup=False, highlight=False)
    return 0


def experiments() -> list[str]:
    """Names of the files of conf/experiment/."""
    return sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


def _new_sweep(name: str, overrides: Sequence[str], seeds: int) -> tuple[Path, list[str]]:
    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: must be at least 2, since the row shows how far chance moves the result")
    for word in overrides:
        if word.split("=")[0].lstrip("+~") in ("seed", "experiment", "resume", "hydra.sweep.dir", "hydra.sweep.subdir"):
            raise ConfigError(f"{word}: is decided by this command; --seeds says how many")
        if "=" not in word:
            raise ConfigError(f"{word}: an override is KEY=VALUE, such as trainer.epochs=5")
    directory = Path("outputs/sweeps") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
    fresh = f"seed=range({FIRST_SEED},{FIRST_SEED + seeds})"
    return directory, ["-m", f"experiment={name}", *overrides, fresh, f"hydra.sweep.dir={directory}"]


def _old_sweep(name: str, directory: Path, overrides: Sequence[str]) -> tuple[Path, list[str]]:
    if overrides:
        raise ConfigError(f"--resume: goes on with the saved jobs; leave out {' '.join(overrides)}")
    if f"experiment={name}" not in read_plan(directory).words:
        raise ConfigError(f"--resume {directory}: is no reproduction of {name}")
    return directory, ["-m", f"resume={directory}"]


def row_of(name: str, directory: Path) -> Row:
    """The row of a sweep whose runs differ in their seed only.

    Errors: RunError when they differ in more, or one did not finish; BadRunError.
    """
    rows = collect([directory])
    runs = [Run(row.path) for row in rows]
    configs = [run.config() for run in runs]
    first = dataclasses.replace(configs[0], seed=None)
    if any(dataclasses.replace(config, seed=None) != first for config in configs) or len(configs) < 2:
        raise RunError(f"{directory}: its runs do not differ in their seed only; they are no reproduction")
    summaries = [_finished(run) for run in runs]
    scores = [summary.score for summary in summaries if summary.score is not None]
    accuracy = sample([score.accuracy for score in scores])
    assert accuracy.std is not None
    images = scores[0].samples
    held = [row.validation.accuracy for row in rows if row.validation is not None]
    return Row(
        experiment=name,
        command=_command(name, directory, len(runs)),
        accuracy=accuracy.mean,
        std=accuracy.std,
        n=accuracy.n,
        interval_of_one_run=Score(0.0, accuracy.mean, round(accuracy.mean * images), images).interval(),
        test_images=images,
        validation_accuracy=sample(held).mean if held else None,
        seconds_of_training=sample([summary.seconds["train"] for summary in summaries]).mean,
        seconds_of_a_run=sample([summary.seconds["total"] for summary in summaries]).mean,
        seeds=tuple(summary.seed for summary in summaries),
        conditions=_conditions(runs[0], summaries[0]),
        config=lasting(first),
    )


def _finished(run: Run) -> Summary:
    summary = run.summary()
    if summary is None or summary.status != "finished" or summary.score is None:
        raise RunError(f"{run.path}: did not finish; no row is made without it")
    return summary


def _command(name: str, directory: Path, seeds: int) -> str:
    """The command that makes the row again, from the words that the sweep was started with."""
    own = ("-m", f"experiment={name}", "seed=range(", "hydra.sweep.dir=")
    others = [word for word in read_plan(directory).words if not word.startswith(own)]
    return shlex.join(["mnist-ff", "reproduce", name, *others, "--seeds", str(seeds)])


def _conditions(run: Run, summary: Summary) -> dict[str, Any]:
    """What the numbers depend on beyond the config; the runs of a sweep share it."""
    environment = run.environment()
    git = environment.get("git")
    instead = "" if summary.data_instead_of is None else f" instead of {summary.data_instead_of}"
    return {
        "device": environment["device_name"],
        "engine": environment["engine"],
        "threads": environment["threads"],
        "python": environment["python"],
        "torch": environment["versions"]["torch"],
        "commit": None if git is None else git["sha"] + (" and changes" if git["dirty"] else ""),
        "date": environment["started"][:10],
        "data": f"{summary.data}{instead}",
    }


HEAD = """| experiment | test accuracy, mean | std | n | 95 % of one run | training | whole run |
|---|---:|---:|---:|---:|---:|---:|
"""


def table_row(row: Row) -> str:
    """The row as a line below HEAD."""
    low, high = row.interval_of_one_run
    cells = (
        f"`{row.experiment}`",
        f"{row.accuracy:.2%}",
        f"{100 * row.std:.2f}",
        row.n,
        f"{low:.2%} to {high:.2%}",
        f"{row.seconds_of_training:.1f} s",
        f"{row.seconds_of_a_run:.1f} s",
    )
    return f"| {' | '.join(map(str, cells))} |"


def markdown(row: Row) -> str:
    """The row as a table with its conditions below."""
    conditions = ", ".join(f"{key} {value}" for key, value in row.conditions.items() if value is not None)
    lines = [
        HEAD + table_row(row),
        "",
        f"`{row.command}`, seeds {row.seeds[0]} to {row.seeds[-1]}.",
    ]
    lines.append(f"Conditions: {conditions}. The 95 % are those of {row.test_images:,} test images.")
    if row.validation_accuracy is not None:
        lines.append(f"Held-out training images, after the last epoch: {row.validation_accuracy:.2%}.")
    return "\n".join(lines) + "\n"
