"""report.html of a run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from mnist_ff.analysis.pixels import planes
from mnist_ff.analysis.ranking import text
from mnist_ff.analysis.rows import read_row
from mnist_ff.config.convert import flat
from mnist_ff.config.paths import display_path
from mnist_ff.config.registry import names
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.data.catalog import data_set, title_of
from mnist_ff.errors import BadRunError, MissingFileError
from mnist_ff.files import write_text
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.report.augmented import augmented_part
from mnist_ff.report.calibration import calibration_part
from mnist_ff.report.config_diff import differences
from mnist_ff.report.confusion import mistake_facts
from mnist_ff.report.curves import batch_curve, epoch_curves, why_curves_differ
from mnist_ff.report.head import head_facts, tiles
from mnist_ff.report.hidden import hidden_layers, map_axes, map_part
from mnist_ff.report.images import look_of
from mnist_ff.report.mislabelled import MISLABELLED
from mnist_ff.report.network import (
    LeftOutError,
    first_layer,
    network_part,
    takes_drawings,
)
from mnist_ff.report.next_steps import next_steps
from mnist_ff.report.page import MAX_PAGE_BYTES, render
from mnist_ff.report.predictions import (
    IMAGE_BYTES,
    IMAGE_BYTES_ALONE,
    Predictions,
    image_part,
    read_predictions,
)
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import MNIST_SPEC, DataSpec

RUN_SCRIPTS = (
    "pieces.js", "scale.js", "chart.js", "images.js", "digits.js", "network.js", "draw.js", "inside.js", "map.js",
    "run.js",
)  # fmt: skip
MAX_REASON_CHARS = 2_000
"""Letters shown of a reason or of a value of the environment."""
MAX_CONFIG_LINES = 100
PAD_SIDE = 280
"""Pixels of the longer side of the drawing canvas."""
LEFT_OUT = {
    "map": "The page would be larger than 4 MB with the map of the test images, so it is not included.",
    "network": "The page would be larger than 4 MB with the network, so it is not included.",
    "images": "The page would be larger than 4 MB with the images, so they are not included.",
}
"""Parts that are left out of a page that would be too large, in this order, and the text in their place."""

T = TypeVar("T")


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write a run's report into its directory, or to `path`, and return its path.

    Errors: BadRunError if the directory's config cannot be read; OSError.
    """
    target = run.file(REPORT) if path is None else path
    write_text(target, run_page(run))
    return target


def run_page(run: Run) -> str:
    """A run's report as HTML. It names what the run directory lacks, and leaves parts out above MAX_PAGE_BYTES.

    Errors: BadRunError if the directory's config cannot be read.
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
        "calibration": None if predictions is None else parts.of("calibration", lambda: calibration_part(run, spec)),
        "layers": [asdict(layer) for layer in parts.of("hidden", lambda: hidden_layers(run)) or ()],
        "map": parts.of("map", lambda: map_part(run, spec, predictions)),
        "augmented": parts.of("augmented", lambda: augmented_part(run, spec)),
        "weights": parts.of("weights", lambda: first_layer(run, config, spec)),
        "network": network,
    }
    facts = _facts(run, config, spec, data, predictions)
    page = render("run.html", RUN_SCRIPTS, data, {**facts, "missing": parts.missing})
    for name, reason in LEFT_OUT.items():
        if len(page.encode()) > MAX_PAGE_BYTES and data[name] is not None:
            parts.missing[name], data[name] = reason, None
            page = render("run.html", RUN_SCRIPTS, data, {**facts, "missing": parts.missing})
    return page


def _spec(run: Run) -> DataSpec:
    """The run's data spec; MNIST's if environment.json cannot be read. Files that do not match it are then named."""
    try:
        return run.data_spec()
    except BadRunError:
        return MNIST_SPEC


class _Parts:
    """Makes the parts of a page and collects the reasons for missing ones, by name."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}

    def of(self, name: str, make: Callable[[], T]) -> T | None:
        """The result of `make`; None after an error, whose reason goes to `missing`."""
        try:
            return make()
        except LeftOutError as error:
            self.missing[name] = str(error)
        except MissingFileError as error:
            self.missing[name] = f"Not in the run directory: {_file_of(error)}."
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
        "head": head_facts(config, _read_environment(run), data, row),
        "tiles": tiles(row, config, spec, data, run),
        "difference": why_curves_differ(config, data["epochs"], data["batches"]),
        "constant_lr": data["batches"]["constant_lr"] if data["batches"] else None,
        "metrics_of": data["epochs"]["part"] if data["epochs"] and data["epochs"]["metrics"] else "",
        **_drawing_facts(config, spec),
        **mistake_facts(predictions, spec),
        "calibration": data["calibration"],
        "layers": data["layers"],
        "on_map": data["map"] is not None,
        "map_axes": map_axes(data["map"]),
        "has_epochs": data["epochs"] is not None,
        "speed": bool(data["batches"] and data["epochs"] and len(data["epochs"]["columns"].get("seconds", [])) > 1),
        "percent": percent,
        "known_errors": len(MISLABELLED) if config.data.name == "mnist" else 0,
        "augmented": config.augment.name,
        "differences": differences(config),
        "config": to_yaml(config),
        "environment": _environment(run),
        "commands": next_steps(run, config, row),
    }


def _drawing_facts(config: Config, spec: DataSpec) -> dict[str, Any]:
    """Values for the template: the drawing canvas, and how a drawing is prepared."""
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
    """Whether the classes 0 to 9 of a data set are digits, rather than numbers of other classes."""
    return data in names("data") and data_set(data).digits


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


def _file_of(error: MissingFileError) -> str:
    """The name of the file that a run does not have."""
    return _cut(Path(str(error).removesuffix(": does not exist")).name)


def _cut(long: str) -> str:
    return long if len(long) <= MAX_REASON_CHARS else f"{long[:MAX_REASON_CHARS]}..."
