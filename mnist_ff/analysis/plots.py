"""Plots of a run, from the files of its directory. Nothing is recomputed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mnist_ff.analysis.canvas import new_figure, save_picture
from mnist_ff.analysis.class_metrics import confusion_matrix
from mnist_ff.analysis.pixels import is_ink, picture_of
from mnist_ff.files import remove_leftovers
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.runs.directory import AUGMENTED, PREDICTIONS, Run
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import opened_tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawing = Callable[[Run, str], "Figure"]

RAW_COLOR, SMOOTH_COLOR, TRAIN_COLOR, HELD_OUT_COLOR = "#b8c4d6", "#1f4e8c", "#1f4e8c", "#c8501e"
WEIGHT_TILES = 100
MOST_IN_SMALL, MOST_COUNTED, MOST_NAMED = 12, 30, 60
"""Most classes of a confusion matrix in a small figure, with the number of images in each cell, with class names."""
SHORT_NAME, LONGEST_NAME, LONGEST_TITLE = 3, 20, 26
"""Letters of a class name that stand side by side, that are drawn at all, and of a picture's title in one line."""
SMALLEST, FLOAT32_MAX = (float(getattr(np.finfo(np.float32), name)) for name in ("tiny", "max"))
"""Of what a training's loss can be; matplotlib's scales fail on what is much beyond."""


def draw_run(
    run: Run, title: str, names: Collection[str] | None = None, stopped: Callable[[], object] = lambda: None
) -> dict[str, Exception]:
    """Draw every picture of a run, or those of `names`, into its plots/ folder; `title` ends each picture's own title.

    None is begun once `stopped` answers. Returns the pictures that could not be drawn, with the reason; the others
    are there. Errors: OSError.
    """
    folder = run.file("plots")
    folder.mkdir(exist_ok=True)
    remove_leftovers(folder)
    failures: dict[str, Exception] = {}
    for name, draw in drawings_of(run).items():
        if names is not None and name not in names:
            continue
        if stopped() is not None:
            break
        try:
            save_picture(folder / f"{name}.png", partial(draw, run, title))
        except Exception as error:
            failures[name] = error
    return failures


def losses_figure(losses: Sequence[float], title: str = "") -> Figure:
    """Every batch's loss with its moving average on a log axis."""
    figure, axes = new_figure(9, 5)
    _title(axes, "Loss per batch", title)
    drawn = np.asarray(losses, dtype=float)
    drawn = np.where(
        np.abs(drawn) <= FLOAT32_MAX, drawn, np.nan
    )  # a gap where there is no number, or one beyond float32
    seen = drawn[np.isfinite(drawn)]
    steps = np.arange(1, len(drawn) + 1)
    axes.plot(steps, drawn, color=RAW_COLOR, linewidth=0.7, label="each batch")
    width = max(1, len(drawn) // 50)
    if width > 1:
        axes.plot(steps, smooth(drawn, width), color=SMOOTH_COLOR, linewidth=1.8, label=f"mean of {width} batches")
    if len(seen) and seen.min() > SMALLEST:
        axes.set_yscale("log")
    axes.set_xlabel("batch")
    axes.set_ylabel("cross-entropy (nats)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def smooth(losses: Sequence[float] | np.ndarray, width: int) -> np.ndarray:
    """The mean of the `width` batches around each one; fewer at the ends."""
    kernel = np.ones(width)
    counts = np.convolve(np.ones(len(losses)), kernel, "same")
    result: np.ndarray = np.convolve(np.asarray(losses), kernel, "same") / counts
    return result[: len(losses)]


def _loss(run: Run, title: str) -> Figure:
    return losses_figure(run.losses(), title)


def _epochs(run: Run, title: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    rows = run.epochs()
    figure, _ = new_figure(11, 4.5, axes=False)
    part = "validation" if any("validation_loss" in row for row in rows) else "test"
    numbers = [int(row["epoch"]) + 1 for row in rows]
    for index, (what, label) in enumerate((("loss", "cross-entropy (nats)"), ("accuracy", "accuracy"))):
        axes = figure.add_subplot(1, 2, index + 1)
        _title(axes, f"{what.capitalize()} per epoch", title if index == 0 else "")
        axes.plot(numbers, [row[f"train_{what}"] for row in rows], "o-", color=TRAIN_COLOR, label="train (running)")
        scored = [(number, row) for number, row in zip(numbers, rows, strict=True) if f"{part}_{what}" in row]
        at = [number for number, _ in scored]
        if scored and f"train_eval_{what}" in scored[0][1]:
            same = [row[f"train_eval_{what}"] for _, row in scored]
            axes.plot(at, same, "o--", color=TRAIN_COLOR, fillstyle="none", label="train (evaluated)")
        axes.plot(at, [row[f"{part}_{what}"] for _, row in scored], "o-", color=HELD_OUT_COLOR, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    return figure


def _confusion(run: Run, title: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    saved, names = _predictions(run, "answers", "labels"), run.data_spec().classes
    counts = confusion_matrix(saved["labels"], saved["answers"], len(names))
    side = 7.0 if len(names) <= MOST_IN_SMALL else 9.0
    figure, axes = new_figure(side, side - 0.5)
    _title(axes, "Confusion matrix, test images", title)
    wrong = counts * (1 - np.eye(len(names), dtype=int))
    drawn = axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1, wrong.max()))
    if len(names) <= MOST_COUNTED:
        _write_counts(axes, counts, wrong)
    else:
        figure.colorbar(drawn, ax=axes, label="mistakes (images)", shrink=0.8, ticks=MaxNLocator(integer=True))
    if len(names) <= MOST_NAMED:
        _name_classes(axes, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    return figure


def _write_counts(axes: Axes, counts: np.ndarray, wrong: np.ndarray) -> None:
    """The number of images into each cell, in letters that fit."""
    size: dict[str, Any] = {} if len(counts) <= MOST_IN_SMALL else {"fontsize": 190 / len(counts)}
    for label, answer in np.argwhere(counts):
        axes.text(
            answer,
            label,
            str(counts[label, answer]),
            ha="center",
            va="center",
            fontweight="bold" if label == answer else "normal",
            color="white" if wrong[label, answer] > 0.6 * wrong.max() else "black",
            **size,
        )


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    """The classes at both axes, long names cut and on end."""
    short = [_short(name) for name in names]
    long = max(map(len, short)) > SHORT_NAME
    size: dict[str, Any] = {} if len(names) <= MOST_IN_SMALL else {"fontsize": min(8.0, 280 / len(names))}
    axes.set_xticks(range(len(names)), short, rotation=90 if long else 0, parse_math=False, **size)
    axes.set_yticks(range(len(names)), short, parse_math=False, **size)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _mistakes(run: Run, title: str) -> Figure:
    saved = _predictions(run, "answers", "labels", "worst_rows", "worst_images", "probabilities")
    spec = run.data_spec()
    figure, _ = new_figure(8, 9.2, axes=False)
    figure.suptitle(_joined("The 25 worst mistakes, test images", title), parse_math=False)
    look = _look(saved["worst_images"], spec)
    for place, (row, image) in enumerate(zip(saved["worst_rows"], saved["worst_images"], strict=True)):
        label, predicted = int(saved["labels"][row]), int(saved["answers"][row])
        axes = figure.add_subplot(5, 5, place + 1)
        axes.imshow(picture_of(image, spec), **look)
        names = [_short(spec.classes[number]) for number in (label, predicted)]
        sure = f"({saved['probabilities'][row, predicted]:.0%})"
        text = f"{names[0]}, predicted {names[1]} {sure}"
        if len(text) > LONGEST_TITLE:
            text = f"{names[0]}, predicted\n{names[1]} {sure}"
        axes.set_title(text, fontsize=8, parse_math=False)
        axes.set_axis_off()
    return figure


def _look(images: np.ndarray, spec: DataSpec) -> dict[str, Any]:
    """How matplotlib draws images (N, *shape): one channel on a dark ground as ink on paper, as reports do."""
    ink = is_ink(images, spec)
    return {"cmap": "gray_r" if ink else "gray", "vmin": 0, "vmax": 255, "aspect": _aspect(spec)}


def _aspect(spec: DataSpec) -> Literal["equal", "auto"]:
    """Whether pixels are square: a vector is a line that fills the space."""
    return "equal" if spec.is_image else "auto"


def _weights(run: Run, title: str) -> Figure:
    spec = run.data_spec()
    with opened_tensors(run.file("model.safetensors")) as saved:
        weights = saved.get_tensor("layers.0.weight")
    shown = weights[:WEIGHT_TILES]
    figure, _ = new_figure(8, 8.4, axes=False)
    figure.suptitle(_joined(f"First-layer weights, {len(shown)} of {len(weights)} units", title), parse_math=False)
    limit = float(np.abs(shown).max()) or 1.0
    for place, row in enumerate(shown):
        axes = figure.add_subplot(10, 10, place + 1)
        tile = picture_of(row, spec)
        if tile.ndim == 3:  # each channel in its own colour, grey where there is no weight
            tile = 0.5 + tile / (2 * limit)
        axes.imshow(tile, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect=_aspect(spec))
        axes.set_axis_off()
    return figure


def _augmented(run: Run, title: str) -> Figure:
    spec = run.data_spec()
    with opened_tensors(run.file(AUGMENTED)) as saved:
        rows = saved.get_tensor("images")
    count, across = rows.shape[:2]
    pictures = np.stack([picture_of(image, spec) for image in rows.reshape(-1, *spec.shape)])
    height, width, *colour = pictures.shape[1:]
    figure, axes = new_figure(9, 0.6 + 0.9 * count * min(4.0, height / width))
    _title(axes, "Training images and their augmented versions", title)
    grid = pictures.reshape(count, across, height, width, *colour).swapaxes(1, 2)
    whole = grid.reshape(count * height, across * width, *colour)
    axes.imshow(whole, **_look(rows[:, 0], spec))  # one image: 100 axes take seconds
    axes.axvline(width - 0.5, color=SMOOTH_COLOR, linewidth=1)
    axes.set_axis_off()
    return figure


def _predictions(run: Run, *names: str) -> dict[str, np.ndarray]:
    with opened_tensors(run.file(PREDICTIONS)) as saved:
        return {name: saved.get_tensor(name) for name in names}


DRAWINGS: dict[str, Drawing] = {
    "loss": _loss,
    "epochs": _epochs,
    "confusion": _confusion,
    "mistakes": _mistakes,
    "weights": _weights,
    "augmented": _augmented,
}


def drawings_of(run: Run) -> dict[str, Drawing]:
    """The pictures that a run has: augmented images where there are some, weights of the built-in network only."""
    absent = set() if is_taken(run.file(AUGMENTED)) else {"augmented"}
    if not isinstance(run.config().model, MLPConfig):
        absent.add("weights")
    return {name: draw for name, draw in DRAWINGS.items() if name not in absent}


def _title(axes: Axes, what: str, title: str) -> None:
    axes.set_title(_joined(what, title), parse_math=False)


def _joined(what: str, title: str) -> str:
    return f"{what}\n{title}" if title else what
