"""Run a recipe with fresh seeds and write its row of the results table."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_json, tell_lines
from mnist_ff.analysis.rows import collect
from mnist_ff.analysis.statistics import sample
from mnist_ff.config.compose import compose
from mnist_ff.config.convert import config_from, experiment, flat
from mnist_ff.config.legacy import identity_fields, with_legacy_keys
from mnist_ff.config.messages import nearest
from mnist_ff.config.options import FLAG, options
from mnist_ff.config.own_parts import flags
from mnist_ff.config.paths import argument, display_path
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import read_yaml, to_yaml
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.files import write_text
from mnist_ff.runs.directory import Run
from mnist_ff.runs.jobs import read_plan
from mnist_ff.runs.numbers import MISSING, percent, percent_cell
from mnist_ff.runs.reading import Fields
from mnist_ff.runs.records import Score, Status, Summary
from mnist_ff.session.resume import RESUMABLE_KEYS
from mnist_ff.sweeps.multirun import sweep

FIRST_SEED = 1000
"""Fresh seeds count from here: those that choices are made with are small."""

SEEDS = 10


IGNORED_KEYS = (RESUMABLE_KEYS - {"trainer.epochs", "trainer.max_seconds", "trainer.target_accuracy"}) | {
    "seed",
    "name",
    "data.fallback",
    "trainer.device",
    "trainer.threads",
    "trainer.teacher",  # a place: who taught stands among the conditions
}
"""Keys that a row may differ in from its experiment: where and how it ran, and what was written."""
MAX_LINE_CHARS = 150
"""Characters of a file's name; what is longer ends in a digest of all."""


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
    seconds_of_training: float | None
    """Mean over the runs that nothing parted, with the evaluation of each epoch; None where there is no such run."""
    seconds_of_a_run: float | None
    """Mean over the same runs, with data, start and pictures."""
    parted: int
    """Number of resumed runs, whose seconds are unknown."""
    seeds: tuple[int, ...]
    changes: dict[str, Any]
    """The dotted keys that make it another recipe than the experiment's, with their values."""
    conditions: dict[str, str]
    config: dict[str, Any]
    """The resolved config without the seed; keys that are off are left out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(experiments())}")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="other overrides; the row lists them"
    )
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help=f"number of runs, at least 2 (default: {SEEDS})")
    parser.add_argument("--json", action="store_true", help="print the row as JSON")
    parser.add_argument("--resume", type=argument, metavar="SWEEP_DIR", help="continue an interrupted reproduction")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Sweep, then print the row and write it to outputs/reproduce/. Returns the exit code.

    Errors: ConfigError before anything runs; RunError when a run did not finish: no row is made of the others.
    """
    name = arguments.name
    if name not in experiments() and (arguments.resume is None or not _recipe_file(Path(arguments.resume)).is_file()):
        raise ConfigError(
            f"{name}: no such recipe (there are: {', '.join(experiments())}){nearest(name, experiments())}"
        )
    if arguments.resume is None:
        seeds = SEEDS if arguments.seeds is None else arguments.seeds
        directory, words = _new_sweep(name, arguments.overrides, seeds)
    else:
        given = [*arguments.overrides, *([] if arguments.seeds is None else ["--seeds"])]
        directory, words = _old_sweep(name, Path(arguments.resume), given)
    if arguments.json:
        console = Console(stderr=True)
    code = sweep(words, console)
    if code:
        again = f"mnist-ff reproduce {name} --resume {shlex.quote(str(display_path(directory)))}{flags()}"
        tell(console, f"no row: not every run finished; continue with  {again}")
        return code
    row = row_of(name, directory)
    path = Path("outputs/reproduce") / f"{_file_name(row)}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(row)
    write_text(path, text)
    values = dataclasses.asdict(row)
    write_text(path.with_name(f"{_file_name(row)}.json"), json.dumps(values, indent=2, allow_nan=False) + "\n")
    tell_lines(console, text)
    tell(console, f"written to {path} and .json")
    if arguments.json:
        tell_json(values)
    return 0


def _file_name(row: Row) -> str:
    """The experiment, and what was changed in it: a trial never takes the place of the recipe's own row."""
    words = [row.experiment, *(f"{key}={value}" for key, value in row.changes.items())]
    if "teacher" in row.conditions:
        words.append(f"teacher={row.conditions['teacher']}")
    name = re.sub(r"[^a-zA-Z0-9_.,=+-]", "-", ",".join(words))
    digest = hashlib.sha256(",".join(words).encode()).hexdigest()[:12]
    return name if len(name) <= MAX_LINE_CHARS else f"{name[:MAX_LINE_CHARS]}-{digest}"


def experiments() -> list[str]:
    """The recipes, a user's own among them."""
    return options().names("experiment")


def _new_sweep(name: str, overrides: Sequence[str], seeds: int) -> tuple[Path, list[str]]:
    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: must be at least 2, to estimate the standard deviation")
    for word in overrides:
        key = word.split("=")[0].lstrip("+~")
        if key in ("seed", "experiment", "resume", "dry_run") or re.match(r"sweep\b|hydra(?![./]launcher\b)", key):
            raise ConfigError(f"{word}: is set by this command; use --seeds for the number of runs")
        if "=" not in word:
            raise ConfigError(f"{word}: an override is KEY=VALUE, such as trainer.epochs=5")
    _check([f"experiment={name}", *(word for word in overrides if not word.startswith("hydra"))])
    directory = Path("outputs/sweeps") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
    if options().own_file("experiment", name) is not None:
        path = _recipe_file(directory)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, to_yaml(compose([f"experiment={name}"])))
    fresh = f"seed=range({FIRST_SEED},{FIRST_SEED + seeds})"
    return directory, [f"experiment={name}", *overrides, fresh, f"hydra.sweep.dir={directory}"]


def _check(words: Sequence[str]) -> None:
    """Errors: ConfigError for words that are no config, or several."""
    try:
        compose(words)
    except ConfigError as error:
        several = re.match(r"(.*?): has several values", str(error))
        if several is None:
            raise
        raise ConfigError(
            f"{several[1]}: has several values; the runs of a row may only differ in their seed"
        ) from None


def _old_sweep(name: str, directory: Path, overrides: Sequence[str]) -> tuple[Path, list[str]]:
    if overrides:
        raise ConfigError(f"--resume: continues the saved jobs; leave out {' '.join(overrides)}")
    if f"experiment={name}" not in read_plan(directory).overrides:
        raise ConfigError(f"--resume {directory}: is not a reproduction of {name}")
    return directory, [f"resume={directory}"]


def row_of(name: str, directory: Path) -> Row:
    """The row of a sweep whose runs differ in their seed only.

    Errors: RunError when they differ in more, or one did not finish; BadRunError.
    """
    rows = collect([directory])
    runs = [Run(row.path) for row in rows]
    configs = [run.config() for run in runs]
    first = dataclasses.replace(configs[0], seed=None)
    if any(dataclasses.replace(config, seed=None) != first for config in configs) or len(configs) < 2:
        raise RunError(f"{directory}: its runs differ in more than their seed; this is not a reproduction")
    summaries = [_finished(run) for run in runs]
    scores = [summary.score for summary in summaries if summary.score is not None]
    accuracy = sample([score.accuracy for score in scores])
    assert accuracy.std is not None
    images = scores[0].samples
    whole = [summary for run, summary in zip(runs, summaries, strict=True) if not run.environment().get("history")]
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
        seconds_of_training=sample([summary.seconds["train"] for summary in whole]).mean if whole else None,
        seconds_of_a_run=sample([summary.seconds["total"] for summary in whole]).mean if whole else None,
        parted=len(runs) - len(whole),
        seeds=tuple(summary.seed for summary in summaries),
        changes=_changes(first, _recipe(name, directory)),
        conditions=_conditions([_condition(run, summary) for run, summary in zip(runs, summaries, strict=True)]),
        config=identity_fields(first),
    )


def _recipe_file(directory: Path) -> Path:
    """Where the recipe of a user's own file is kept, whole: a resume needs no --config-dir."""
    return Path("outputs/reproduce") / f"{directory.name}.yaml"


def _recipe(name: str, directory: Path) -> Config:
    """The recipe's own config. Errors: ConfigError."""
    path = _recipe_file(directory)
    if name in experiments() or not path.is_file():
        return compose([f"experiment={name}"])
    return config_from(with_legacy_keys(read_yaml(path)), where=str(path), unregistered=True)


def _finished(run: Run) -> Summary:
    summary = run.summary()
    if summary is None or summary.status is not Status.FINISHED or summary.score is None:
        raise RunError(f"{run.path}: did not finish; the row needs every run")
    return summary


def _command(name: str, directory: Path, seeds: int) -> str:
    """The command that makes the row again, from the words that the sweep was started with."""
    own = ("-m", f"experiment={name}", "seed=range(", "hydra.sweep.dir=")
    plan = read_plan(directory)
    others = [word for word in plan.overrides if not word.startswith(own)]
    folders = [word for folder in plan.config_dirs for word in (FLAG, folder)]
    parts = [word for file in plan.parts for word in ("--parts", file.word)]
    return shlex.join(["mnist-ff", "reproduce", name, *parts, *folders, *others, "--seeds", str(seeds)])


def _changes(config: Config, own: Config) -> dict[str, Any]:
    values, before = flat(experiment(config)), flat(experiment(own))
    return {key: value for key, value in values.items() if key not in IGNORED_KEYS and value != before.get(key)}


def _conditions(runs: Sequence[Mapping[str, str | None]]) -> dict[str, str]:
    """What the numbers depend on beyond the config; where the runs differ, all that there was."""
    found = {key: dict.fromkeys(run[key] for run in runs) for key in runs[0]}
    return {key: " and ".join(str(value) for value in values) for key, values in found.items() if None not in values}


def _condition(run: Run, summary: Summary) -> dict[str, str | None]:
    """Errors: BadRunError when environment.json is invalid."""
    environment = Fields(run.environment())
    instead = "" if summary.data_instead_of is None else f" instead of {summary.data_instead_of}"
    try:
        teacher = _optional(environment, "teacher")
        return {
            "device": environment.text("device_name"),
            "engine": environment.text("engine"),
            "threads": str(environment.whole("threads")),
            "python": environment.text("python"),
            "torch": environment.fields("versions").text("torch"),
            "commit": _commit(_optional(environment, "package")) or _commit(_optional(environment, "git")),
            "date": environment.text("started")[:10],
            "data": f"{summary.data}{instead}",
            "teacher": None if teacher is None else teacher.text("sha256")[:12],
        }
    except ValueError as error:
        raise BadRunError(f"{run.file('environment.json')}: {error}") from None


def _optional(environment: Fields, key: str) -> Fields | None:
    """An object that older runs do not have."""
    return environment.fields_or_null(key) if key in environment.values else None


def _commit(state: Fields | None) -> str | None:
    sha = None if state is None else state.text_or_null("sha")
    return None if sha is None or state is None else f"{sha}{' (changed)' if state.values.get('dirty') else ''}"


TABLE_HEAD = """| experiment | test accuracy, mean | std | n | 95 % of one run | training | whole run |
|---|---:|---:|---:|---:|---:|---:|
"""


def table_row(row: Row) -> str:
    """The row as a line below HEAD."""
    low, high = row.interval_of_one_run
    cells = (
        " ".join([f"`{row.experiment}`", *(f"`{key}={value}`" for key, value in row.changes.items())]),
        percent(row.accuracy),
        percent_cell(row.std),
        row.n,
        f"{percent_cell(low)} to {percent(high)}",
        _seconds(row.seconds_of_training),
        _seconds(row.seconds_of_a_run),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _seconds(seconds: float | None) -> str:
    return MISSING if seconds is None else f"{seconds:.{1 if seconds >= 1 else 2}f} s"


def markdown(row: Row) -> str:
    """The row as a table with its conditions below."""
    conditions = ", ".join(f"{key} {value}" for key, value in row.conditions.items())
    lines = [
        TABLE_HEAD + table_row(row),
        "",
        f"`{row.command}`, seeds {row.seeds[0]} to {row.seeds[-1]}.",
        f"Conditions: {conditions}. The 95 % interval is that of {row.test_images:,} test images.",
    ]
    if row.parted:
        lines.append(f"{row.parted} of the runs were resumed; the seconds are the mean of the others.")
    if row.validation_accuracy is not None:
        lines.append(f"Held-out training images, after the last epoch: {percent(row.validation_accuracy)}.")
    return "\n".join(lines) + "\n"
