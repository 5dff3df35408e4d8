"""The head of a run's page: data, seed, device and labels, and tiles with the main results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnist_ff.analysis.rows import Row
from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import title_of
from mnist_ff.errors import BadRunError
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.report.network import layer_sizes, parameters_of
from mnist_ff.runs.directory import Run
from mnist_ff.runs.labels import labels_of
from mnist_ff.runs.numbers import counted, loss_text, percent, percent_cell
from mnist_ff.runs.records import DataSpec, Score, Summary

MAX_TEXT_LENGTH = 200
"""Letters shown of a text from a run directory."""


@dataclass(frozen=True)
class Tile:
    """A value with a caption and a note, at the top of a page."""

    caption: str
    value: str
    note: str = ""


def head_facts(config: Config, environment: Mapping[str, Any], data: Mapping[str, Any], row: Row) -> list[Tile]:
    """Data, seed, device, tags and note of a run, for the line above the tiles."""
    found = [Tile("data", _data(config, data, row))]
    if config.seed is not None:
        found.append(Tile("seed", str(config.seed)))
    found.append(Tile("device", str(environment.get("device", config.trainer.device))[:MAX_TEXT_LENGTH]))
    labels = labels_of(row.path)
    noted = {"tags": ", ".join(labels.tags), "note": labels.note or ""}
    return found + [Tile(what, text) for what, text in noted.items() if text]


def _data(config: Config, data: Mapping[str, Any], row: Row) -> str:
    """The data set, with the numbers of training, validation and test images."""
    name = title_of(config.data.name, None) or config.data.name
    scores = {"validation": row.validation, "test": row.test}
    trained = data["batches"]["images"] if data["batches"] else None
    counts = [] if trained is None else [(trained, "training")]
    counts += [(score.samples, part) for part, score in scores.items() if score is not None]
    return f"{name}: {', '.join(f'{count:,} {part}' for count, part in counts)} images" if counts else name


def tiles(row: Row, config: Config, spec: DataSpec, data: Mapping[str, Any], run: Run) -> list[Tile]:
    """Tiles with scores, epochs, network, time and speed."""
    found = _score_tiles("Test", row.test) + _score_tiles("Validation", row.validation)
    found += [_epoch_tile(row, config, data, run), _network_tile(config, spec, run)]
    if row.seconds is not None:
        whose = "since the run was resumed" if _was_resumed(run) else "for the whole command"
        found.append(Tile("Time", f"{row.seconds:.1f} s", whose))
    return found + _speed_tiles(data)


def _was_resumed(run: Run) -> bool:
    """Whether the run was resumed; the seconds in summary.json are then those of the last resume."""
    try:
        return bool(run.environment().get("history"))
    except BadRunError:
        return False


def _epoch_tile(row: Row, config: Config, data: Mapping[str, Any], run: Run) -> Tile:
    """The number of epochs and batches, the best epoch, and what stopped training early."""
    batches = 0 if data["batches"] is None else data["batches"]["count"]
    note = f"of {config.trainer.epochs:,}; {counted(batches, 'batch')}"
    best = {} if data["epochs"] is None else data["epochs"]["best"]
    if "accuracy" in best and row.epochs > 1:
        note += f"; best accuracy in epoch {best['accuracy']:,}"
    summary = _summary(run)
    if summary is not None and summary.cause is not None and (summary.stopped_early or summary.stopped_on_request):
        note += f"; {summary.cause[:MAX_TEXT_LENGTH]}"
    return Tile("Epochs", f"{row.epochs:,}", note)


def _summary(run: Run) -> Summary | None:
    """The run's summary; None if the run has not ended or the file cannot be read."""
    try:
        return run.summary()
    except BadRunError:
        return None


def _speed_tiles(data: Mapping[str, Any]) -> list[Tile]:
    """Images per second and seconds of the median epoch, evaluation included."""
    seconds = [one for one in (data["epochs"] or {"columns": {}})["columns"].get("seconds", []) if one]
    if not seconds or data["batches"] is None or data["batches"]["images"] is None:
        return []
    middle = statistics.median(seconds)
    note = f"images a second; {middle:.3g} s an epoch with its evaluation{', median' if len(seconds) > 1 else ''}"
    return [Tile("Speed", f"{data['batches']['images'] / middle:,.0f}", note)]


def _network_tile(config: Config, spec: DataSpec, run: Run) -> Tile:
    """The layer sizes of the built-in network, or the name of another model."""
    if isinstance(model := config.model, MLPConfig):
        sizes = layer_sizes(model, spec)
        return Tile("Network", "-".join(map(str, sizes)), f"{parameters_of(sizes):,} parameters, {model.activation}")
    summary = _summary(run)
    return Tile("Model", config.model.name, f"{summary.parameters:,} parameters" if summary else "")


def _score_tiles(part: str, score: Score | None) -> list[Tile]:
    if score is None:
        return []
    low, high = score.interval()
    interval = f"{score.correct:,} of {score.samples:,} correct; 95 % interval {percent_cell(low)} to {percent(high)}"
    return [
        Tile(f"{part} accuracy", percent(score.accuracy), interval.replace(" %", "\N{NO-BREAK SPACE}%")),
        Tile(f"{part} loss", loss_text(score.loss), "cross-entropy in nats"),
    ]
