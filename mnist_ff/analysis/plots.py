"""Plots of a run, from the files of its directory. Nothing is recomputed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mnist_ff.analysis.canvas import new_figure, save_picture
from mnist_ff.analysis.class_metrics import confusion_matrix
from mnist_ff.files import remove_leftovers
from mnist_ff.runs.directory import AUGMENTED, PREDICTIONS, Run
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.tensors import opened_tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawing = Callable[[Run, str], "Figure"]

RAW_COLOR, SMOOTH_COLOR, TRAIN_COLOR, HELD_OUT_COLOR = "#b8c4d6", "#1f4e8c", "#1f4e8c", "#c8501e"
WEIGHT_TILES = 100
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
    saved = _predictions(run, "answers", "labels")
    counts = confusion_matrix(saved["labels"], saved["answers"])
    figure, axes = new_figure(7, 6.5)
    _title(axes, "Confusion matrix, test images", title)
    wrong = counts * (1 - np.eye(10, dtype=int))
    axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1, wrong.max()))
    for label in range(10):
        for answer in range(10):
            if counts[label, answer]:
                axes.text(
                    answer,
                    label,
                    str(counts[label, answer]),
                    ha="center",
                    va="center",
                    fontweight="bold" if label == answer else "normal",
                    color="white" if wrong[label, answer] > 0.6 * wrong.max() else "black",
                )
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    return figure


def _mistakes(run: Run, title: str) -> Figure:
    saved = _predictions(run, "answers", "labels", "worst_rows", "worst_images", "probabilities")
    figure, _ = new_figure(8, 9.2, axes=False)
    figure.suptitle(_joined("The 25 worst mistakes, test images", title), parse_math=False)
    for place, (row, image) in enumerate(zip(saved["worst_rows"], saved["worst_images"], strict=True)):
        label, predicted = int(saved["labels"][row]), int(saved["answers"][row])
        axes = figure.add_subplot(5, 5, place + 1)
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"{label}, predicted {predicted} ({saved['probabilities'][row, predicted]:.0%})", fontsize=8)
        axes.set_axis_off()
    return figure


def _weights(run: Run, title: str) -> Figure:
    with opened_tensors(run.file("model.safetensors")) as saved:
        weights = saved.get_tensor("layers.0.weight")
    shown = weights[:WEIGHT_TILES]
    figure, _ = new_figure(8, 8.4, axes=False)
    figure.suptitle(_joined(f"First-layer weights, {len(shown)} of {len(weights)} units", title), parse_math=False)
    limit = float(np.abs(shown).max()) or 1.0
    for place, row in enumerate(shown):
        axes = figure.add_subplot(10, 10, place + 1)
        axes.imshow(row.reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_axis_off()
    return figure


def _augmented(run: Run, title: str) -> Figure:
    with opened_tensors(run.file(AUGMENTED)) as saved:
        rows = saved.get_tensor("images")
    figure, axes = new_figure(9, 0.6 + 0.9 * len(rows))
    _title(axes, "Training images and their augmented versions", title)
    count, across, height, width = rows.shape
    whole = rows.transpose(0, 2, 1, 3).reshape(count * height, across * width)
    axes.imshow(whole, cmap="gray_r", vmin=0, vmax=255)  # one image: 100 axes take seconds
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
    """The pictures that a run has: only one whose images were augmented has them drawn."""
    return {name: draw for name, draw in DRAWINGS.items() if name != "augmented" or is_taken(run.file(AUGMENTED))}


def _title(axes: Axes, what: str, title: str) -> None:
    axes.set_title(_joined(what, title), parse_math=False)


def _joined(what: str, title: str) -> str:
    return f"{what}\n{title}" if title else what
