"""Plots of a run, from the files of its directory. Nothing is recomputed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_ff.analysis.canvas import DPI, Margins, drawn, log_y, new_figure, put_pixels, save_pixels
from mnist_ff.analysis.class_metrics import confusion_matrix
from mnist_ff.analysis.pixels import is_ink, picture_of
from mnist_ff.analysis.tiles import Cells, as_colours, cells_for, tiled
from mnist_ff.files import remove_leftovers
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.runs.directory import AUGMENTED, PREDICTIONS, Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.tensors import opened_tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawing = Callable[[Run, str], "Figure"]


class Sheet(NamedTuple):
    """Tiles and what is around them, in pixels."""

    across: int
    cell_width: int
    room: tuple[int, int]
    """The most that a tile takes, height and width."""
    above: int
    """Between a row's tiles and those before."""
    foot: int


RAW_COLOR, SMOOTH_COLOR, TRAIN_COLOR, HELD_OUT_COLOR = "#b8c4d6", "#1f4e8c", "#1f4e8c", "#c8501e"
BEST_COLOR = "#1d6b45"
WEIGHT_TILES = 100
MOST_IN_SMALL, MOST_COUNTED, MOST_NAMED = 12, 30, 60
"""Most classes of a confusion matrix in a small figure, with the number of images in each cell, with class names."""
SHORT_NAME, LONGEST_NAME, LONGEST_TITLE = 3, 20, 26
"""Letters of a class name that stand side by side, that are drawn at all, and of a picture's title in one line."""
CURVE, MATRIX, NONE = Margins(0.85, 0.15, 0.55, 0.65), Margins(0.75, 0.2, 0.6, 0.7), Margins(0, 0, 0, 0)
BETWEEN_CURVES = 0.22
"""Two axes side by side, of the width of one."""
NUMBER_WIDTH, NUMBER_HEIGHT = 0.1, 0.15
"""Inches of a number for which MATRIX has room."""
HEAD = 68
"""Pixels of a title of two lines above tiles."""
MISTAKES, WEIGHTS = Sheet(5, 192, (160, 168), 44, 10), Sheet(10, 96, (86, 86), 8, 6)
AUGMENTED_WIDTH = 1080
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
    failures: dict[str, BaseException | None] = {}
    with ThreadPoolExecutor(1) as writer:  # one picture is compressed and written while the next one is drawn
        written: dict[str, Future[None]] = {}
        for name, draw in drawings_of(run).items():
            if names is not None and name not in names:
                continue
            if stopped() is not None:
                break
            path = folder / f"{name}.png"
            try:
                pixels = drawn(partial(draw, run, title))
                try:
                    written[name] = writer.submit(save_pixels, path, pixels)
                except RuntimeError:  # the system has no room for another thread
                    save_pixels(path, pixels)
            except Exception as error:
                failures[name] = error
        # here, and not in Thread.join(): a signal that interrupts that one leaves the writer alone
        wait(written.values())
    failures |= {name: future.exception() for name, future in written.items()}
    return {name: error for name, error in failures.items() if isinstance(error, Exception)}


def losses_figure(losses: Sequence[float], title: str = "") -> Figure:
    """Every batch's loss with its moving average on a log axis."""
    figure, axes = new_figure(9, 5, margins=CURVE)
    _title(axes, "Loss per batch", title)
    values = np.asarray(losses, dtype=float)
    values = np.where(
        np.abs(values) <= FLOAT32_MAX, values, np.nan
    )  # a gap where there is no number, or one beyond float32
    seen = values[np.isfinite(values)]
    steps = np.arange(1, len(values) + 1)
    width = max(1, len(values) // 50)
    color, linewidth = (RAW_COLOR, 0.7) if width > 1 else (SMOOTH_COLOR, 1.2)  # pale only beneath another line
    axes.plot(steps, values, color=color, linewidth=linewidth, label="each batch")
    if width > 1:
        axes.plot(steps, smooth(values, width), color=SMOOTH_COLOR, linewidth=1.8, label=f"mean of {width} batches")
    if len(seen) and seen.min() > SMALLEST:
        log_y(axes)
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
    figure, _ = new_figure(11, 4.5, axes=False, margins=CURVE)
    figure.subplots_adjust(wspace=BETWEEN_CURVES)
    part = "validation" if any("validation_loss" in row for row in rows) else "test"
    numbers = [int(row["epoch"]) + 1 for row in rows]
    for index, (what, label) in enumerate((("loss", "cross-entropy (nats)"), ("accuracy", "accuracy (%)"))):
        scale = 100 if what == "accuracy" else 1
        axes = figure.add_subplot(1, 2, index + 1)
        _title(axes, f"{what.capitalize()} per epoch", title if index == 0 else "")
        running = [scale * row[f"train_{what}"] for row in rows]
        axes.plot(numbers, running, "o-", color=TRAIN_COLOR, label="train, running")
        scored = [(number, row) for number, row in zip(numbers, rows, strict=True) if f"{part}_{what}" in row]
        at = [number for number, _ in scored]
        if scored and f"train_eval_{what}" in scored[0][1]:
            same = [scale * row[f"train_eval_{what}"] for _, row in scored]
            axes.plot(at, same, "o--", color=TRAIN_COLOR, fillstyle="none", label="train, evaluated")
        held_out = [scale * row[f"{part}_{what}"] for _, row in scored]
        axes.plot(at, held_out, "o-", color=HELD_OUT_COLOR, label=part)
        if len(at) > 1:
            best = at[int(np.argmin(held_out) if what == "loss" else np.argmax(held_out))]
            word = "lowest" if what == "loss" else "highest"
            axes.axvline(best, color=BEST_COLOR, linestyle=":", label=f"{word}: epoch {best:,}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        if len(numbers) == 1:
            axes.set_xticks(numbers)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    return figure


def _confusion(run: Run, title: str) -> Figure:
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import MaxNLocator

    saved, names = _predictions(run, "answers", "labels"), run.data_spec().classes
    counts = confusion_matrix(saved["labels"], saved["answers"], len(names))
    side = 7.0 if len(names) <= MOST_IN_SMALL else 9.0
    counted = len(names) <= MOST_COUNTED
    margins = MATRIX if counted else MATRIX._replace(right=1.1)
    figure, axes = new_figure(side, side - 0.5, margins=margins)
    _title(axes, "Confusion matrix, test images", title)
    wrong = counts * (1 - np.eye(len(names), dtype=int))
    matrix = axes.imshow(wrong, cmap="Oranges", norm=PowerNorm(0.5, vmin=0, vmax=max(1, wrong.max())))
    if counted:
        _write_counts(axes, counts, wrong)
    if len(names) <= MOST_NAMED:
        _name_classes(axes, names)
        _make_room(figure, axes, margins)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    if counted:
        where = (1 - 0.1 / side, 0.06 / (side - 0.5))
        figure.text(*where, "colour: square root of the number of mistakes", fontsize=7, color="#5b626a", ha="right")
    else:
        place = axes.get_position()
        bar = figure.add_axes((1 - 0.85 / side, place.y0 + 0.1 * place.height, 0.2 / side, 0.8 * place.height))
        figure.colorbar(matrix, cax=bar, label="mistakes (images)", ticks=MaxNLocator(integer=True))
    return figure


def _make_room(figure: Figure, axes: Axes, margins: Margins) -> None:
    """Widen the margins by what the classes' names take beyond a number's size."""
    wide = max(label.get_window_extent().width for label in axes.get_yticklabels()) / DPI
    high = max(label.get_window_extent().height for label in axes.get_xticklabels()) / DPI
    width, height = figure.get_size_inches()
    left, bottom = margins.left + max(0.0, wide - NUMBER_WIDTH), margins.bottom + max(0.0, high - NUMBER_HEIGHT)
    figure.subplots_adjust(left=left / width, bottom=bottom / height)


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
            color="white" if wrong[label, answer] > 0.36 * wrong.max() else "black",
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
    spec, images = run.data_spec(), saved["worst_images"]
    pictures = np.stack([picture_of(image, spec) for image in images]) if len(images) else np.zeros((0, 1, 1), np.uint8)
    figure, field = _field(as_colours(pictures, is_ink(images, spec)), spec, MISTAKES)
    shown = len(saved["worst_rows"])
    _head(figure, f"The {shown} worst mistakes, test images" if shown else "No mistakes on the test images", title)
    for place, row in enumerate(saved["worst_rows"]):
        label, predicted = int(saved["labels"][row]), int(saved["answers"][row])
        names = [_short(spec.classes[number]) for number in (label, predicted)]
        sure = f"({percent(float(saved['probabilities'][row, predicted]), 0)})"
        text = f"{names[0]}, predicted {names[1]} {sure}"
        if len(text) > LONGEST_TITLE:
            text = f"{names[0]}, predicted\n{names[1]} {sure}"
        _above_tile(figure, field, place, text)
    return figure


def _weights(run: Run, title: str) -> Figure:
    spec = run.data_spec()
    with opened_tensors(run.file("model.safetensors")) as saved:
        part = saved.get_slice("layers.0.weight")
        units = part.get_shape()[0]
        shown = part[: min(units, WEIGHT_TILES)]
    limit = float(np.abs(shown).max()) or 1.0
    scaled = np.stack([picture_of(row, spec) for row in shown]) / (2 * limit) + 0.5
    figure, _ = _field(_signed(scaled), spec, WEIGHTS)
    _head(figure, f"First-layer weights, {len(shown)} of {units} units", title)
    return figure


def _signed(scaled: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 as blue below the middle and red above it, (N, h, w, 3) uint8; each of several channels in
    its own colour, grey in the middle."""
    from matplotlib import colormaps

    several = scaled.ndim == 4
    colours: np.ndarray = np.rint(255 * scaled).astype(np.uint8) if several else colormaps["RdBu_r"](scaled, bytes=True)
    return colours[..., :3]


def _augmented(run: Run, title: str) -> Figure:
    from matplotlib.lines import Line2D

    spec = run.data_spec()
    with opened_tensors(run.file(AUGMENTED)) as saved:
        rows = saved.get_tensor("images")
    pictures = np.stack([picture_of(image, spec) for image in rows.reshape(-1, *spec.shape)])
    across = rows.shape[1]
    width = max(1, AUGMENTED_WIDTH // across)
    sheet = Sheet(across, width, (4 * width, width), above=0, foot=10)
    figure, cells = _field(as_colours(pictures, is_ink(rows[:, 0], spec)), spec, sheet)
    _head(figure, "Training images and their augmented versions", title)
    where = [cells.width / figure.bbox.width] * 2
    figure.add_artist(Line2D(where, [10 / figure.bbox.height, 1 - HEAD / figure.bbox.height], color=SMOOTH_COLOR, lw=1))
    return figure


def _field(pictures: np.ndarray, spec: DataSpec, sheet: Sheet) -> tuple[Figure, Cells]:
    """A figure with pictures (N, h, w, 3) as tiles, without an axes; pixels are square but for a vector, a line that
    fills the space."""
    cells = cells_for(pictures.shape[1:3], spec.is_image, sheet.across, sheet.cell_width, sheet.room, sheet.above)
    field = tiled(pictures, cells)
    width, height = field.shape[1], HEAD + len(field) + sheet.foot
    figure, _ = new_figure((width + 0.5) / DPI, (height + 0.5) / DPI, axes=False, margins=NONE)  # it is rounded down
    put_pixels(figure, field, sheet.foot)
    return figure, cells


def _head(figure: Figure, what: str, title: str) -> None:
    figure.suptitle(_joined(what, title), y=1 - 0.5 * HEAD / figure.bbox.height, va="center", parse_math=False)


def _above_tile(figure: Figure, cells: Cells, number: int, text: str) -> None:
    """Write above a tile, in letters that fit into the width of its cell."""
    top, left = cells.place(number)
    across, up = left + cells.tile_width / 2, figure.bbox.height - HEAD - top + 4
    place = (across / figure.bbox.width, up / figure.bbox.height)
    size, room = 8.0, cells.width - 6
    written = figure.text(*place, text, fontsize=size, ha="center", va="bottom", linespacing=1.1, parse_math=False)
    while len(text) > LONGEST_TITLE and (wide := written.get_window_extent().width) > room:
        size *= 0.98 * room / wide  # letters do not get as much smaller as they are asked to
        written.set_fontsize(size)


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
    axes.set_title(_joined(what, title), y=1.0, parse_math=False)  # else it is looked for, which sets all ticks twice


def _joined(what: str, title: str) -> str:
    return f"{what}\n{title}" if title else what
