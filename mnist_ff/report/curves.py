"""Chart data from batches.csv and epochs.csv, thinned for very long runs, and a sentence that explains the curves."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.report.packing import packed
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.tables import BATCH_COLUMNS, EPOCH_COLUMNS, metric_columns, read_batches, read_epochs

MAX_BATCHES = 30_000
"""Points of the loss curve; with more batches, each point is the mean of several."""
MAX_EPOCHS = 2_000
"""Points of the curves per epoch."""
MAX_IMAGES = 1e9
"""Images per batch; larger numbers in a file are taken as this one."""
MAX_EPOCH_CELLS = 50_000
"""Values of these curves in all columns together: with hundreds of metrics, fewer epochs are shown."""


def batches_array(run: Run) -> NDArray[np.float64]:
    """batches.csv as (batches, 6), with the columns BATCH_COLUMNS. Errors: BadRunError."""
    return _as_array(read_batches(run.path), len(BATCH_COLUMNS))


def _as_array(rows: Iterable[Sequence[float | None]], columns: int) -> NDArray[np.float64]:
    """Rows as an array (rows, columns), NaN for empty cells."""
    numbers = array("d")  # 8 bytes each: a list of lists takes ten times as much
    for row in rows:
        numbers.extend(math.nan if cell is None else cell for cell in row)
    return np.frombuffer(numbers, dtype=np.float64).reshape(-1, columns)


def batch_curve(run: Run) -> dict[str, Any] | None:
    """Loss and learning rate of every batch, or the constant rate; None without batches. Batches and images of an epoch
    are None while the first one has not ended. Errors: BadRunError."""
    rows = batches_array(run)
    if not len(rows):
        return None
    loss, lr = (rows[:, BATCH_COLUMNS.index(name)] for name in ("loss", "lr"))
    first = rows[:, BATCH_COLUMNS.index("epoch")] == rows[0, BATCH_COLUMNS.index("epoch")]
    size = math.ceil(len(rows) / MAX_BATCHES)
    whole = not bool(first.all()) or _has_epoch(run)
    images = int(np.clip(np.nan_to_num(rows[first, BATCH_COLUMNS.index("samples")]), 0, MAX_IMAGES).sum())
    constant = np.isfinite(lr[0]) and bool((lr == lr[0]).all())
    return {
        "count": len(rows),
        "per_point": size,
        "per_epoch": int(np.count_nonzero(first)) if whole else None,
        "images": images if whole else None,
        "loss": packed(means(loss, size), "<f4"),
        "lr": None if constant else packed(means(lr, size), "<f8"),
        "constant_lr": float(f"{lr[0]:.9g}") if constant else None,
    }


def _has_epoch(run: Run) -> bool:
    """Whether an epoch has ended, as far as epochs.csv can be read."""
    try:
        return next(iter(read_epochs(run.path)), None) is not None
    except BadRunError:
        return False


def means(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The mean of every `size` consecutive values; the last group may be smaller."""
    starts = np.arange(0, len(values), size)
    sums: NDArray[np.float64] = np.add.reduceat(values, starts)
    return sums / np.diff([*starts, len(values)])


def epoch_curves(run: Run) -> dict[str, Any] | None:
    """The columns of epochs.csv that have values; None before the end of the first epoch. Errors: BadRunError.

    `part` names the images evaluated after every epoch: "validation" if there is a split, else "test". `metrics` maps
    each metric to its columns, which are measured on these images.
    """
    names = (*EPOCH_COLUMNS, *metric_columns(run.path))
    rows = _as_array((tuple(row.values()) for row in read_epochs(run.path)), len(names))
    if not len(rows):
        return None
    step = math.ceil(len(rows) / min(MAX_EPOCHS, MAX_EPOCH_CELLS // len(names)))
    kept = rows[::-step][::-1]  # always includes the last epoch
    columns = {name: _cells(kept[:, column]) for column, name in enumerate(names)}
    found = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    part = next((part for part in ("validation", "test") if f"{part}_loss" in found), None)
    metrics: dict[str, list[str]] = {}
    for column in names[len(EPOCH_COLUMNS) :]:
        metrics.setdefault(column.partition("/")[0], []).append(column)
    return {"part": part, "every": step, "columns": found, "metrics": metrics, "best": _best_epochs(found, part)}


def _best_epochs(columns: dict[str, list[float | None]], part: str | None) -> dict[str, int]:
    """The epochs with the lowest loss and the highest accuracy on the images of `part`. Epochs count from 1."""
    found = {}
    for what, sign in (("loss", 1), ("accuracy", -1)):
        scores = [(sign * cell, row) for row, cell in enumerate(columns.get(f"{part}_{what}", ())) if cell is not None]
        if scores and (epoch := columns["epoch"][min(scores)[1]]) is not None:
            found[what] = int(epoch) + 1
    return found


def _cells(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{value:.9g}") if math.isfinite(value) else None for value in values]


def why_curves_differ(config: Config, epochs: dict[str, Any] | None, batches: dict[str, Any] | None) -> str:
    """Sentences on why the training and evaluation curves differ."""
    columns = {} if epochs is None else epochs["columns"]
    part = (None if epochs is None else epochs["part"]) or "test"
    changes = "".join(f"{change} and " for change in _changes_while_learning(config))
    sentence = f"During an epoch, batches are evaluated with {changes}changing weights, so their loss is higher"
    whole = "the average of its weights" if config.trainer.ema else "the whole network"
    if "train_eval_loss" not in columns:
        return f"{sentence}. The {part} images are evaluated by {whole} after the epoch, so the two are not comparable."
    images = min(config.trainer.score_train, (batches or {}).get("images") or config.trainer.score_train)
    return (
        f"{sentence}. “evaluated” is the loss on {images:,} training images, measured like the {part} loss "
        f"by {whole} after the epoch; the gap between these two curves is overfitting."
    )


def _changes_while_learning(config: Config) -> list[str]:
    """What differs between training and evaluation, besides the changing weights: dropout, noise, augmentation."""
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
