"""report.html of a run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mnist_ff.analysis.class_metrics import class_metrics, confusion_matrix
from mnist_ff.analysis.pixels import planes
from mnist_ff.analysis.ranking import text
from mnist_ff.analysis.rows import Row, read_row
from mnist_ff.config.convert import flat
from mnist_ff.config.paths import display_path
from mnist_ff.config.registry import names
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.data.catalog import data_set, title_of
from mnist_ff.errors import BadRunError
from mnist_ff.files import write_text
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.report.augmented import augmented_part
from mnist_ff.report.config_diff import differences
from mnist_ff.report.confusion import frequent_mistakes, matrix_cells
from mnist_ff.report.curves import batch_curve, epoch_curves
from mnist_ff.report.images import look_of
from mnist_ff.report.mislabelled import MISLABELLED
from mnist_ff.report.network import (
    LeftOutError,
    first_layer,
    layer_sizes,
    network_part,
    parameters_of,
    takes_drawings,
)
from mnist_ff.report.page import LARGEST_PAGE, render
from mnist_ff.report.predictions import (
    IMAGE_BYTES,
    IMAGE_BYTES_ALONE,
    Predictions,
    image_part,
    images_note,
    read_predictions,
)
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.given import given_arguments, python_call
from mnist_ff.runs.numbers import loss_text, percent, percent_cell
from mnist_ff.runs.parts import parts_words
from mnist_ff.runs.records import MNIST_SPEC, DataSpec, Score, Status

RUN_SCRIPTS = ("pieces.js", "chart.js", "images.js", "digits.js", "network.js", "draw.js", "run.js")
MAX_REASON_CHARS = 2_000
"""Letters of a text that is shown."""
MAX_CONFIG_LINES = 100
PAD_SIDE = 280
"""Pixels of the longer side of the field to draw on."""
SHORT_NAME = 3
"""Letters of a class name that fit above a column of the matrix."""
SMALL_MATRIX, SHORT_TABLE = 12, 26
"""Most classes of a matrix that has the images beside it, and of a table that does not scroll."""
LEFT_OUT = {
    "network": "The page would be larger than 4 MB with the network, so it is not included.",
    "images": "The page would be larger than 4 MB with the images, so they are not included.",
}
"""What a page that would be too large does without, the first one first."""

T = TypeVar("T")


@dataclass(frozen=True)
class Tile:
    """One figure at the top of a page."""

    caption: str
    value: str
    note: str = ""


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write a run's page into its directory, or to `path`; whole or not at all.

    Errors: BadRunError when the directory's config cannot be read; OSError.
    """
    place = run.file(REPORT) if path is None else path
    write_text(place, run_page(run))
    return place


def run_page(run: Run) -> str:
    """A run's page, below LARGEST_PAGE bytes. What its directory does not have is said on it.

    Errors: BadRunError when the directory's config cannot be read.
    """
    config, spec, parts = run.config(), _spec(run), _Parts()
    network = parts.of("network", lambda: network_part(run, config, spec))
    room = IMAGE_BYTES_ALONE if network is None else IMAGE_BYTES
    predictions = parts.of("predictions", lambda: read_predictions(run, spec, room))
    data = {
        "classes": spec.classes,
        "look": look_of(spec, None if predictions is None else predictions.images),
        "batches": parts.of("batches", lambda: batch_curve(run)),
        "epochs": parts.of("epochs", lambda: epoch_curves(run)),
        "images": None if predictions is None else image_part(predictions, config.data.name),
        "augmented": parts.of("augmented", lambda: augmented_part(run, spec)),
        "weights": parts.of("weights", lambda: first_layer(run, config, spec)),
        "network": network,
    }
    facts = _facts(run, config, spec, data, predictions)
    page = render("run.html", RUN_SCRIPTS, data, {**facts, "missing": parts.missing})
    for name, reason in LEFT_OUT.items():
        if len(page.encode()) > LARGEST_PAGE and data[name] is not None:
            parts.missing[name], data[name] = reason, None
            page = render("run.html", RUN_SCRIPTS, data, {**facts, "missing": parts.missing})
    return page


def _spec(run: Run) -> DataSpec:
    """What the run's network sees. Where environment.json cannot be read, MNIST's: what does not fit it is named."""
    try:
        return run.data_spec()
    except BadRunError:
        return MNIST_SPEC


class _Parts:
    """The parts of a page as they are made, and why some are not there."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}

    def of(self, name: str, make: Callable[[], T]) -> T | None:
        """What `make` returns, or None with the reason kept."""
        try:
            return make()
        except LeftOutError as error:
            self.missing[name] = str(error)
        except BadRunError as error:
            self.missing[name] = f"Not in the run directory: {_cut(str(error))}."
        return None


def _facts(
    run: Run, config: Config, spec: DataSpec, data: dict[str, Any], predictions: Predictions | None
) -> dict[str, Any]:
    row = read_row(run.path, config.name or run.path.resolve().name)
    return {
        "title": row.label,
        "path": str(display_path(run.path)),
        "kicker": title_of(config.data.name, None) or config.data.name,
        "status": row.status,
        "reason": row.reason,
        "tiles": _tiles(row, config, spec, data, run),
        "difference": _difference(config, data["epochs"], data["batches"]),
        "metrics_of": data["epochs"]["part"] if data["epochs"] and data["epochs"]["metrics"] else "",
        **_drawing_facts(config, spec),
        **_mistake_facts(spec, predictions),
        "known_errors": len(MISLABELLED) if config.data.name == "mnist" else 0,
        "augmented": config.augment.name,
        "differences": differences(config),
        "config": to_yaml(config),
        "environment": _environment(run),
        "commands": _commands(run, config, row),
    }


def _drawing_facts(config: Config, spec: DataSpec) -> dict[str, Any]:
    """The field to draw on, and what becomes of a drawing."""
    _, height, width = planes(spec)
    longer = max(height, width)
    return {
        "pad": takes_drawings(config, spec),
        "pad_size": (round(PAD_SIDE * width / longer), round(PAD_SIDE * height / longer)),
        "seen_size": (width, height),
        "digits": spec.classes == MNIST_SPEC.classes and _are_digits(config.data.name),
        "centred": (height, width) == MNIST_SPEC.shape,
        "is_mlp": isinstance(config.model, MLPConfig),
    }


def _are_digits(data: str) -> bool:
    """Whether a data set's classes 0 to 9 are digits and not what these numbers stand for."""
    return data in names("data") and data_set(data).digits


def _mistake_facts(spec: DataSpec, predictions: Predictions | None) -> dict[str, Any]:
    """The confusion matrix, whole or its largest cells, and the metrics of each class."""
    if predictions is None:
        return {"metrics": []}
    counts = confusion_matrix(predictions.labels, predictions.predicted, len(spec.classes))
    return {
        "cells": matrix_cells(counts),
        "frequent": frequent_mistakes(counts),
        "metrics": class_metrics(counts),
        "images_note": images_note(predictions),
        "names": spec.classes,
        "wide": len(spec.classes) > SMALL_MATRIX,
        "long_names": max(map(len, spec.classes)) > SHORT_NAME,
        "long_table": len(spec.classes) > SHORT_TABLE,
    }


def _tiles(row: Row, config: Config, spec: DataSpec, data: dict[str, Any], run: Run) -> list[Tile]:
    tiles = _score_tiles("Test", row.test) + _score_tiles("Validation", row.validation)
    batches = 0 if data["batches"] is None else data["batches"]["count"]
    tiles += [
        Tile("Epochs", f"{row.epochs:,}", f"of {config.trainer.epochs:,}; {batches:,} batches"),
        _network_tile(config, spec, run),
    ]
    if row.seconds is not None:
        device = str(_read_environment(run).get("device", config.trainer.device))
        tiles.append(Tile("Time", f"{row.seconds:.1f} s", f"total, on {_cut(device)}"))
    return tiles


def _network_tile(config: Config, spec: DataSpec, run: Run) -> Tile:
    """What the model is: the sizes of the built-in network's layers, the name of another one."""
    if isinstance(model := config.model, MLPConfig):
        sizes = layer_sizes(model, spec)
        return Tile("Network", "-".join(map(str, sizes)), f"{parameters_of(sizes):,} parameters, {model.activation}")
    try:
        summary = run.summary()
    except BadRunError:
        summary = None
    return Tile("Model", config.model.name, f"{summary.parameters:,} parameters" if summary else "")


def _score_tiles(part: str, score: Score | None) -> list[Tile]:
    if score is None:
        return []
    low, high = score.interval()
    interval = f"{score.correct:,} of {score.samples:,} correct; 95 % interval {percent_cell(low)} to {percent(high)}"
    interval = interval.replace(" %", "\N{NO-BREAK SPACE}%")
    return [
        Tile(f"{part} accuracy", percent(score.accuracy), interval),
        Tile(f"{part} loss", loss_text(score.loss), "cross-entropy in nats"),
    ]


def _difference(config: Config, epochs: dict[str, Any] | None, batches: dict[str, Any] | None) -> str:
    """One sentence on why the curves of an epoch differ."""
    columns = {} if epochs is None else epochs["columns"]
    part = (None if epochs is None else epochs["part"]) or "test"
    changes = "".join(f"{change} and " for change in _changes_while_learning(config))
    sentence = f"During an epoch, batches are evaluated with {changes}changing weights, so their loss is higher"
    whole = "the average of its weights" if config.trainer.ema else "the whole network"
    if "train_eval_loss" not in columns:
        return f"{sentence}. The {part} images are evaluated by {whole} after the epoch, so the two are not comparable."
    images = config.trainer.score_train if batches is None else min(config.trainer.score_train, batches["images"])
    return (
        f"{sentence}. “evaluated” is the loss on {images:,} training images, measured like the {part} loss "
        f"by {whole} after the epoch; the gap between these two curves is overfitting."
    )


def _changes_while_learning(config: Config) -> list[str]:
    """What a batch has in training that a test image has not."""
    model, augment = config.model, config.augment.name
    found = {"the model in training mode": not isinstance(model, MLPConfig)}
    if isinstance(model, MLPConfig):
        found |= {
            f"{percent(model.dropout, None)} of the hidden units dropped": model.dropout > 0,
            f"{percent(model.input_dropout, None)} of the pixels dropped": model.input_dropout > 0,
            "noise on the pixels": model.input_noise > 0,
        }
    found |= {
        f"images augmented by augment={augment}": augment != "none",
    }
    return [change for change, there in found.items() if there]


def _read_environment(run: Run) -> dict[str, Any]:
    try:
        return run.environment()
    except BadRunError:
        return {}


def _environment(run: Run) -> list[tuple[str, str]]:
    values = _read_environment(run)
    history = values.pop("history", None)
    lines = [(_cut(str(key)), _cut(_said(key, value))) for key, value in flat(values).items()][:MAX_CONFIG_LINES]
    if isinstance(history, list) and history:
        lines.append(("resumed", f"{len(history)} times" if len(history) > 1 else "once"))
    return lines


def _said(key: str, value: Any) -> str:
    if key == "argv" and isinstance(value, list):
        return shlex.join(map(str, value))
    return text(value)


def _cut(long: str) -> str:
    return long if len(long) <= MAX_REASON_CHARS else f"{long[:MAX_REASON_CHARS]}..."


def _commands(run: Run, config: Config, row: Row) -> list[tuple[str, str]]:
    """What to do next, as words for a terminal, each with its meaning."""
    path = shlex.quote(str(display_path(run.path)))
    if given_arguments(config):
        commands = [(python_call(display_path(run.path), config), "train on, in Python, where its parts came from")]
    else:
        commands = _commands_with_the_model(run, config, row, path)
    return [
        *commands,
        (f"mnist-ff compare {path}", "compare with other runs"),
        (f"mnist-ff report {path}", "write this report again"),
    ]


def _commands_with_the_model(run: Run, config: Config, row: Row, path: str) -> list[tuple[str, str]]:
    parts, commands = parts_words(run), []
    if row.test is not None:
        commands += [
            (f"mnist-ff evaluate {path}{parts}", "evaluate it, with metrics per class"),
            (f"mnist-ff predict {path} --index 0 1 2{parts}", "classify test images, or image files"),
            (f"mnist-ff export {path} --format onnx{parts}", "export the model; also safetensors and torch"),
        ]
    if row.status == Status.FINISHED:
        commands.append((f"mnist-ff train resume={path} trainer.epochs={2 * config.trainer.epochs}{parts}", "train on"))
    elif row.status == Status.INTERRUPTED:
        commands.append((f"mnist-ff train resume={path}{parts}", "resume the run"))
    again = f"mnist-ff train --config-of {path} seed={(config.seed or 0) + 1}{parts}"
    return [*commands, (again, "train again with another seed")]
