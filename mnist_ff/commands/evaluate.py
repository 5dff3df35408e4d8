"""Evaluate a run from its directory."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mnist_ff.analysis.calibration import reliability
from mnist_ff.analysis.class_metrics import class_metrics, confusion_matrix
from mnist_ff.analysis.console import accuracy_text, note, tell, tell_json, tell_table, tell_wrapped, warning
from mnist_ff.analysis.reading_text import tell_reliability
from mnist_ff.config.paths import argument
from mnist_ff.config.registry import names
from mnist_ff.config.schema import Config, DataConfig, FileDataConfig
from mnist_ff.data.catalog import in_own_place, own_data
from mnist_ff.errors import BadRunError, ConfigError, MissingFileError
from mnist_ff.runs.data_record import changed_parts
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import loss_text, percent_cell
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.reading import read_object
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.torch_import import importing_torch
from mnist_ff.session.resume import is_own_run

if TYPE_CHECKING:
    from mnist_ff.data.load import Data
    from mnist_ff.training.evaluation import Evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", type=argument, metavar="RUN", help="run directory or name, or last, best")
    parser.add_argument("--data", choices=names("data"), help="data set (default: the run's)")
    add_data_path(parser)
    parser.add_argument("--split", choices=("test", "train"), default="test", help="images to evaluate (default: test)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def add_data_path(parser: argparse.ArgumentParser) -> None:
    """The option of all commands that read a run's own data."""
    parser.add_argument(
        "--data-path",
        type=argument,
        metavar="PATH",
        help="file or folder of own data, where it is elsewhere or the run is somebody else's",
    )


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print loss, accuracy, metrics per class and calibration; add an entry to evaluation.json in the run directory."""
    run = Run.open(resolve_run(arguments.run, note))
    config = run.config()
    check_parts(run, config, warning)
    config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, device=arguments.device))
    config = with_data_path(run, config, arguments.data_path)
    data_config = data_of(config.data, arguments.data, arguments.data_path)
    with importing_torch("evaluate"):
        from mnist_ff.training.trained_model import check_ended_well
    check_ended_well(run)
    earlier = _earlier(run)
    data, evaluation = _evaluate(run, config, data_config, arguments.split)
    found = reliability(evaluation.probabilities.numpy(), evaluation.labels.numpy())
    values = {**_values(evaluation, data.spec), "reliability": dataclasses.asdict(found)}
    run.write_json("evaluation.json", {**earlier, f"{data.name} {arguments.split}": values})
    if arguments.json:
        tell_json({"run": str(run.path), "data": data.name, "split": arguments.split, **values})
        return 0
    tell(console, f"{run.path} on {data.title}, {arguments.split} images")
    tell_wrapped(console, f"loss      {loss_text(evaluation.score.loss)}")
    tell_wrapped(console, f"accuracy  {accuracy_text(evaluation.score)}")
    tell(console, "")
    _tell_classes(console, values, data.spec)
    tell(console, "")
    tell_reliability(console, found)
    return 0


def _tell_classes(console: Console, values: dict[str, Any], spec: DataSpec) -> None:
    rows = [
        (
            spec.name_of(row["class"]),
            f"{row['images']:,}",
            *(percent_cell(row[metric]) for metric in ("precision", "recall", "f1")),
        )
        for row in values["classes"]
    ]
    tell_table(console, ("class", "images", "precision\n(%)", "recall\n(%)", "F1\n(%)"), rows)


def _evaluate(run: Run, config: Config, data_config: DataConfig, split: str) -> tuple[Data, Evaluation]:
    from mnist_ff.data.load import load_data
    from mnist_ff.engine.device import prepared
    from mnist_ff.training.evaluation import evaluate
    from mnist_ff.training.trained_model import load_model

    seed = config.seed or 0
    with prepared(config.trainer, seed) as device:
        model = load_model(run, config, device)
        whole = dataclasses.replace(data_config, validation_split=0.0)  # 'train' is every training image
        data = load_data(whole, seed).to(device)
        check_fits(run, data)
        warn_of_changes(run, data)
        evaluation = evaluate(model, getattr(data, split))
    if not math.isfinite(evaluation.score.loss):
        raise BadRunError(
            f"{run.file('model.safetensors')}: gives NaN or infinity for some images; train the run again"
        )
    return data, evaluation


def check_fits(run: Run, data: Data) -> None:
    """Errors: ConfigError for data with other images or classes than the run's network is for."""
    other = run.data_spec().why_other(data.spec)
    if other is not None:
        raise ConfigError(f"{run.path}: {other}, those of data={data.name}")


def with_data_path(run: Run, config: Config, path: str | None) -> Config:
    """A run's config whose own data is at `path`, where that is given; else where the run says, if this user began it.

    A path that somebody else may have chosen is left out, and is asked for where data is read. Errors: BadRunError.
    """
    if not isinstance(config.data, FileDataConfig):
        return config
    trusted = path is None and is_own_run(run)
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, path=config.data.path if trusted else path)
    )


def data_of(own: DataConfig, name: str | None = None, path: str | None = None) -> DataConfig:
    """The data to read: the run's own or another set, from this user's cache and mirrors.

    The run's places are not asked: whoever made the directory chose them, and what comes from there stays in the cache.
    Of own files the path is that of with_data_path(), or for another set `path`. Errors: ConfigError.
    """
    if name in (None, own.name):
        chosen = in_own_place(own)
        path = own.path if isinstance(own, FileDataConfig) else path
    else:
        chosen = own_data(str(name))
    if isinstance(chosen, FileDataConfig):
        return dataclasses.replace(chosen, path=path)
    if path is not None:
        raise ConfigError(f"--data-path: data={chosen.name} has no files of your own")
    return chosen


def warn_of_changes(run: Run, data: Data) -> None:
    """Say which parts of the run's own data are not those that it was trained with. Errors: BadRunError."""
    changed = changed_parts(run, data.facts.sums) if data.name == run.config().data.name else []
    if changed:
        warning(f"{data.title}: its {', '.join(changed)} differ from those that {run.path} was trained with")


def _earlier(run: Run) -> dict[str, Any]:
    """Results of earlier evaluations. Errors: BadRunError for an invalid file, which is left alone."""
    try:
        return read_object(run.file("evaluation.json"))
    except MissingFileError:
        return {}


def _values(evaluation: Evaluation, spec: DataSpec) -> dict[str, Any]:
    labels, predictions = evaluation.labels.numpy(), evaluation.predictions.numpy()
    score, counts = evaluation.score, confusion_matrix(labels, predictions, evaluation.probabilities.shape[1])
    return {
        **dataclasses.asdict(score),
        "accuracy_interval_95": score.interval(),
        "classes": [
            {"class": row.label, **_name(row.label, spec), "images": row.images, "precision": row.precision}
            | {"recall": row.recall, "f1": row.f1}
            for row in class_metrics(counts)
        ],
    }


def _name(label: int, spec: DataSpec) -> dict[str, str]:
    """A class's name, where it is more than its number."""
    name = spec.classes[label]
    return {} if name == str(label) else {"name": name}
