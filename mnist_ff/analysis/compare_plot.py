"""Draw the curves of several runs in one figure: compare --plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ff.analysis.canvas import log_y, new_figure, own_style, save_picture
from mnist_ff.analysis.group_curves import GroupCurves, curves_of, parts_of
from mnist_ff.analysis.ranking import Ranking
from mnist_ff.errors import ConfigError
from mnist_ff.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
COLORS = ("#1f5fa8", "#c04a12", "#00795a", "#9a4a86", "#2b8fbd", "#8a6a00", "#6b5fb5", "#5b626a")
DATE_KEYS = {"svg": "Date", "pdf": "CreationDate"}
"""Metadata that is left out, so that equal runs give equal files."""
OTHERS = "#b9bdc2"
"""Colour of the lines without an entry in the legend."""
MAX_DRAWN = 60
"""Settings and unfinished runs whose curves are drawn."""
LETTERS_ACROSS = 110
"""Letters that fit in a line of the legend."""


def check_picture(path: Path) -> None:
    """Check the path of a figure. Errors: ConfigError for an unknown format, or a folder that does not exist."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot {path}: must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if path.is_dir():
        raise ConfigError(f"--plot {path}: is a folder; give a file")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: folder {path.parent} does not exist")


def draw_comparison(ranking: Ranking, path: Path) -> int:
    """Draw the runs' curves into a file and return their number. Without any, nothing is written. Errors: OSError."""
    found = curves_of(ranking, MAX_DRAWN)
    if not found:
        return 0
    if path.suffix.lower() == ".png":
        save_picture(path, lambda: comparison_figure(found))
        return len(found)
    form = path.suffix.lower()[1:]
    with own_style(), replacing(path) as temporary:
        comparison_figure(found).savefig(temporary, format=form, metadata={DATE_KEYS[form]: None})
    return len(found)


def comparison_figure(found: Sequence[GroupCurves]) -> Figure:
    """A row with accuracy and loss per epoch for each set of evaluated images, then the training loss, and the legend
    below."""
    parts = parts_of(found)
    named = found[: len(COLORS)]
    lines = sum(1 + len(curve.name) // LETTERS_ACROSS for curve in named)
    high = 3.4 * (len(parts) + 1) + 0.2 * lines + 0.5
    figure, _ = new_figure(11, high, axes=False)
    grid = figure.add_gridspec(len(parts) + 1, 2)
    for line, part in enumerate(parts):
        for column, what in enumerate(("accuracy", "loss")):
            _epochs(figure.add_subplot(grid[line, column]), found, part, what)
    _batches(figure.add_subplot(grid[len(parts), :]), found)
    _legend(figure, named, len(found) - len(named))
    return figure


def _epochs(axes: Axes, found: Sequence[GroupCurves], part: str, what: str) -> None:
    from matplotlib.ticker import MaxNLocator

    scale = 100 if what == "accuracy" else 1
    own = [(index, curve) for index, curve in enumerate(found) if curve.title == part and curve.epochs]
    for index, curve in reversed(own):  # the best on top
        _line(axes, index, curve.epochs["epoch"], [[_scaled(y, scale) for y in ys] for ys in curve.epochs[what]])
    axes.set_title(f"{'Accuracy' if what == 'accuracy' else 'Loss'}, {part}", fontsize=10, parse_math=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy (%)" if what == "accuracy" else "cross-entropy (nats)")
    longest = max((len(curve.epochs["epoch"]) for _, curve in own), default=0)
    if longest == 1:
        axes.set_xlim(0.5, 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if what == "loss":
        _log_where_positive(axes)
    axes.grid(alpha=0.25)


def _batches(axes: Axes, found: Sequence[GroupCurves]) -> None:
    sizes = set()
    for index, curve in reversed(list(enumerate(found))):
        if curve.batches is not None:
            _line(axes, index, curve.batches["batch"], curve.batches["loss"])
            sizes.add(curve.batches["per_point"])
    several = f" to {max(sizes)}" if len(sizes) > 1 else ""
    means = f", means of {min(sizes)}{several} batches" if max(sizes, default=1) > 1 else ""
    axes.set_title(f"Loss while training{means}", fontsize=10)
    axes.set_xlabel("batch")
    axes.set_ylabel("cross-entropy (nats)")
    _log_where_positive(axes)
    axes.grid(alpha=0.25)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _line(axes: Axes, index: int, xs: Sequence[float], points: Sequence[Sequence[float | None]]) -> None:
    """A line, with a band if it is a mean of several runs, a bar at a single point. `points` are means, minima and
    maxima."""
    import numpy as np

    mean, low, high = (np.array(ys, dtype=float) for ys in points)
    is_named = index < len(COLORS)
    color: Any = COLORS[index] if is_named else OTHERS
    if is_named and not np.array_equal(low, high, equal_nan=True):
        axes.fill_between(xs, low, high, color=color, alpha=0.17, linewidth=0, zorder=2)
        if len(xs) == 1:
            axes.vlines(xs, low, high, color=color, alpha=0.6, linewidth=1.5, zorder=2)
    marker = "o" if len(xs) == 1 else None
    axes.plot(xs, mean, color=color, linewidth=1.7 if is_named else 0.8, marker=marker, zorder=3 if is_named else 1)


def _log_where_positive(axes: Axes) -> None:
    lowest = axes.dataLim.ymin
    if lowest > 0 and axes.dataLim.ymax > 5 * lowest:
        log_y(axes)


def _legend(figure: Figure, named: Sequence[GroupCurves], others: int) -> None:
    """The legend below the plots, with full names in as many columns as fit."""
    import textwrap

    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=COLORS[index], linewidth=2) for index in range(len(named))]
    labels = ["\n".join(textwrap.wrap(curve.legend, LETTERS_ACROSS)) for curve in named]
    if others:
        handles.append(Line2D([], [], color=OTHERS, linewidth=1))
        labels.append(f"{others} more")
    longest = max(map(len, labels))
    across = max(1, min(4, LETTERS_ACROSS // (longest + 6)))
    legend = figure.legend(handles, labels, loc="outside lower left", ncols=across, frameon=False, fontsize=9)
    for shown in legend.get_texts():
        shown.set_parse_math(False)
