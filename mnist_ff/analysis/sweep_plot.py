"""sweep.png: a plot that suits the keys that were varied."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_ff.analysis.canvas import drawn, new_figure, plain_numbers, save_pixels
from mnist_ff.analysis.formats import counted
from mnist_ff.analysis.plot_values import (
    axis_label,
    best_of,
    colors_of,
    half_intervals,
    interval_text,
    means_of,
    scale_of,
    scores_of,
)
from mnist_ff.analysis.plots import HELD_OUT_COLOR, RAW_COLOR, TRAIN_COLOR
from mnist_ff.analysis.ranking import Group, Ranking, brief, order, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LEVELS = 30
"""Of a heat map's side; more are drawn as parallel coordinates."""
MAX_LINES_DRAWN = 2000
MOST_DOTS = 40
LETTERS_OF_A_NAME = 60
"""Longer names are wrapped."""
LABEL: dict[str, Any] = {
    "ha": "right",
    "va": "center",
    "fontsize": 8,
    "parse_math": False,
    "bbox": {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
}


def draw_sweep(ranking: Ranking, path: Path, title: str, search_importance: Mapping[str, float] | None = None) -> None:
    """Draw a ranking into a PNG file, with a figure for each set of test images, one below the other. If given, the
    search's importance of each key is drawn. Errors: OSError, and whatever a figure raises."""
    titles = [f"{title}: {table.title}" if ranking.parts else title for table in ranking.tables]
    drawings = [
        partial(sweep_figure, table, name, search_importance)
        for table, name in zip(ranking.tables, titles, strict=True)
    ]
    pictures = [drawn(drawing) for drawing in drawings]
    width = max(picture.shape[1] for picture in pictures)
    wide = [np.pad(one, ((0, 0), (0, width - one.shape[1]), (0, 0)), constant_values=255) for one in pictures]
    save_pixels(path, np.concatenate(wide))


def sweep_figure(ranking: Ranking, title: str, search_importance: Mapping[str, float] | None = None) -> Figure:
    """One numeric key: a curve. Two keys whose grid is filled: a heat map. More: parallel coordinates. Else dots.

    Without any score: how the runs ended, in words.
    """
    if not ranking.ranked:
        return _words(counted(ranking), title)
    ranking = replace(ranking, groups=tuple(group for group in ranking.groups if not group.again))
    keys = ranking.varied
    levels = {key: sorted({text(_value(group, key)) for group in ranking.ranked}) for key in keys}
    if len(keys) == 1 and _numeric(ranking, keys[0]) and len(ranking.groups) > 1:
        return _curve(ranking, keys[0], title)
    if len(keys) == 2 and is_grid(ranking, levels):
        return _heat_map(ranking, keys[0], keys[1], title)
    if len(keys) >= 2 and len(ranking.groups) > 3:
        return _parallel(ranking, title, search_importance)
    return _dots(ranking, title)


def _words(said: str, title: str) -> Figure:
    figure, axes = new_figure(6, 1.5)
    axes.set_title(title, parse_math=False)
    axes.text(0.5, 0.5, f"no run has a score: {said}", ha="center", va="center", parse_math=False)
    axes.set_axis_off()
    return figure


def _value(group: Group, key: str) -> Any:
    """A group's value of a varied key, or a dash where its optimizer, say, has none."""
    return group.values.get(key, "-")


def is_grid(ranking: Ranking, levels: Mapping[str, Sequence[Any]]) -> bool:
    """Whether two keys were crossed: at least two values each, and at least half of the cells filled."""
    sizes = [len(found) for found in levels.values()]
    return min(sizes) >= 2 and max(sizes) <= MOST_LEVELS and len(ranking.ranked) >= 0.5 * math.prod(sizes)


def _numeric(ranking: Ranking, key: str) -> bool:
    return all(order(_value(group, key))[0] == 0 for group in ranking.groups)


def spaced_by_factors(numbers: Sequence[float]) -> bool:
    """Whether positive numbers lie more evenly on a log axis: those over a decade or more whose ratios vary less than
    their differences do."""
    ordered = np.array(sorted(set(numbers)), dtype=float)
    if len(ordered) < 3:
        return bool(len(ordered) == 2 and ordered[0] > 0 and ordered[1] >= 10 * ordered[0])
    if ordered[0] <= 0:
        return False
    ratios, steps = np.diff(np.log(ordered)), np.diff(ordered)
    return bool(ordered[-1] >= 8 * ordered[0] and np.std(ratios) / np.mean(ratios) < np.std(steps) / np.mean(steps))


def _curve(ranking: Ranking, key: str, title: str) -> Figure:
    """Mean over one numeric key, a band for its error, a dot for each run."""
    figure, axes = new_figure(9, 5)
    groups = sorted(ranking.ranked, key=lambda group: group.values[key])
    xs = [float(group.values[key]) for group in groups]
    means, halves = means_of(groups, ranking), half_intervals(groups, ranking)
    for x, group in zip(xs, groups, strict=True):
        if group.sample.n > 1:
            axes.plot(
                [x] * group.sample.n, scores_of(group.rows, ranking), "o", color=RAW_COLOR, markersize=4, zorder=2
            )
    several = any(group.sample.n > 1 for group in groups)
    if several or not ranking.by_loss:
        low, high, what = means - halves, means + halves, interval_text(groups, ranking)
        axes.fill_between(xs, low, high, color=TRAIN_COLOR, alpha=0.15, linewidth=0, label=what)
    axes.plot(xs, means, "o-", color=TRAIN_COLOR, zorder=3, label="mean" if several else "one run each")
    if ranking.pruned:
        early = [float(group.values[key]) for group in ranking.pruned]
        axes.plot(early, means_of(ranking.pruned, ranking), "x", color=RAW_COLOR, zorder=2, label="pruned")
    best = best_of(means, ranking)
    label = f"best: {brief(groups[best].values[key])}"
    axes.plot(xs[best], means[best], "o", color=HELD_OUT_COLOR, markersize=9, zorder=4, label=label)
    if spaced_by_factors([float(group.values[key]) for group in ranking.groups]):
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
    axes.set_xlabel(key)
    _value_axis(axes, means, halves, ranking)
    axes.set_ylabel(axis_label(ranking))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    _titled(axes, title, ranking)
    return figure


def _value_axis(axes: Axes, means: np.ndarray, halves: np.ndarray, ranking: Ranking) -> None:
    """Limits that show the means; an interval wider than all of them is cut at the picture's edge."""
    low, high = float(means.min()), float(means.max())
    room = max(high - low, 0.05 * scale_of(ranking) / 100) * 0.35 + float(np.median(halves))
    bottom, top = max(-0.01 * scale_of(ranking), low - room), high + room
    axes.set_ylim(bottom, top if ranking.by_loss else min(101.0, top))


def _dots(ranking: Ranking, title: str) -> Figure:
    """A line for each setting, the best on top: mean with its interval, a dot for each run."""
    groups = ranking.groups[:MOST_DOTS]
    names = [_name(group) if group.rank is not None else f"{_name(group)} (pruned)" for group in groups]
    lines = sum(0.36 + 0.16 * name.count("\n") for name in names)
    figure, axes = new_figure(9, max(2.6, lines + 1.6))
    places = np.arange(len(groups))[::-1]
    for place, group in zip(places, groups, strict=True):
        if group.sample.n > 1:
            axes.plot(scores_of(group.rows, ranking), [place] * group.sample.n, "o", color=RAW_COLOR, markersize=4)
    axes.errorbar(
        means_of(groups, ranking), places, xerr=half_intervals(groups, ranking), fmt="o", color=TRAIN_COLOR, capsize=3
    )
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(-0.7, len(groups) - 0.3)
    if len(groups[0].values) == 1:
        axes.set_ylabel(next(iter(groups[0].values)), parse_math=False)
    axes.set_xlabel(f"{axis_label(ranking)}, {interval_text(groups, ranking)}")
    axes.grid(alpha=0.25, axis="x")
    _titled(axes, title, ranking)
    return figure


def _name(group: Group) -> str:
    words = [brief(value) if len(group.values) == 1 else f"{key}={brief(value)}" for key, value in group.values.items()]
    return "\n".join(textwrap.wrap("  ".join(words) or "all seeds", LETTERS_OF_A_NAME))


def _heat_map(ranking: Ranking, first: str, second: str, title: str) -> Figure:
    """The mean for each pair of values; the key with more values goes to the right."""
    values = {
        key: sorted({text(_value(g, key)): _value(g, key) for g in ranking.ranked}.values(), key=order)
        for key in (first, second)
    }
    across, down = sorted((first, second), key=lambda key: -len(values[key]))
    columns = {text(value): place for place, value in enumerate(values[across])}
    lines = {text(value): place for place, value in enumerate(values[down])}
    cells = np.full((len(lines), len(columns)), np.nan)
    for group, mean in zip(ranking.ranked, means_of(ranking.ranked, ranking), strict=True):
        cells[lines[text(_value(group, down))], columns[text(_value(group, across))]] = mean
    figure, axes = new_figure(max(6.0, 0.85 * len(columns) + 3), max(3.2, 0.6 * len(lines) + 2))
    colors = colors_of(cells, ranking)
    image = axes.imshow(cells, cmap=colors.map, norm=colors.norm, aspect="auto", origin="lower")
    axes.set_facecolor("#eeeeee")
    small = len(columns) * len(lines) <= 150
    digits = ".3f" if ranking.by_loss else ".2f"
    best = np.unravel_index(best_of(cells, ranking), cells.shape)
    for line, column in np.ndindex(*cells.shape) if small else []:
        if np.isfinite(cells[line, column]):
            dark = colors.goodness(float(cells[line, column])) < 0.6
            weight = "bold" if (line, column) == best else "normal"
            style: dict[str, Any] = {"color": "white" if dark else "black", "fontweight": weight, "fontsize": 9}
            axes.text(column, line, f"{cells[line, column]:{digits}}", ha="center", va="center", **style)
    slope = 45 if len(columns) > 12 else 20 if max(map(len, columns)) > 9 else 0  # long names do not meet
    axes.set_xticks(range(len(columns)), list(columns), parse_math=False, rotation=slope)
    axes.set_yticks(range(len(lines)), list(lines), parse_math=False)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    figure.colorbar(image, ax=axes, label=axis_label(ranking), extend=colors.extend)
    _titled(axes, title, ranking)
    return figure


def importance(ranking: Ranking) -> dict[str, float]:
    """How much each varied key explains of the figures' spread between settings, from 0 to 1, the largest first.

    The share of variance between the key's levels (eta squared, Fisher 1925): sum of n (mean of level - mean)^2 over
    the total sum of squares. A numeric key with more than eight values is cut into five levels of about equal size
    first. Interactions count for no key, and keys that were varied together share what they explain.
    """
    means = np.array([group.sample.mean for group in ranking.ranked])
    total = float(((means - means.mean()) ** 2).sum())
    shares = {}
    for key in ranking.varied:
        levels = _levels([_value(group, key) for group in ranking.ranked])
        between = sum(
            (levels == level).sum() * (means[levels == level].mean() - means.mean()) ** 2 for level in np.unique(levels)
        )
        shares[key] = float(between) / total if total else 0.0
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _levels(values: Sequence[Any]) -> np.ndarray:
    names = sorted({text(value) for value in values})
    numeric = all(order(value)[0] == 0 for value in values)
    if numeric and len(names) > 8:
        numbers = np.array(values, dtype=float)
        smaller = np.searchsorted(np.sort(numbers), numbers, side="left")  # equal values have equally many
        levels: np.ndarray = smaller * 5 // len(values)
        return levels
    return np.array([names.index(text(value)) for value in values])


def _parallel(ranking: Ranking, title: str, search_importance: Mapping[str, float] | None = None) -> Figure:
    """A line for each setting through its values, coloured by its figure, thin and grey if pruned; beside it each key's
    importance: the search's, as its own words give it, else the share of variance."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    by_search = search_importance is not None and set(search_importance) == set(ranking.varied)
    shares = dict(search_importance or {}) if by_search else importance(ranking)
    keys = list(shares)[:9]
    figure, _ = new_figure(max(10.0, 1.7 * len(keys) + 6), 5.5, axes=False)
    axes, bars = figure.subplots(1, 2, width_ratios=[max(2.0, 0.55 * len(keys) + 1.2), 1])
    groups = list(ranking.groups[:MAX_LINES_DRAWN])[::-1]
    means = means_of(groups, ranking)
    colors = colors_of(means_of(ranking.ranked, ranking), ranking)
    places = {key: _places([_value(group, key) for group in groups]) for key in keys}
    heights = np.array([places[key][0] for key in keys]).T
    spread = (
        np.linspace(-0.012, 0.012, len(groups)) if len(groups) > 1 else np.zeros(1)
    )  # lines on one value stay apart
    for number, (group, row, mean) in enumerate(zip(groups, heights, means, strict=True)):
        best, pruned = number == len(groups) - 1, group.rank is None
        color = RAW_COLOR if pruned else colormaps[colors.map](colors.norm(mean))
        axes.plot(
            range(len(keys) + 1),
            [*(row + spread[number]), colors.goodness(mean)],
            color=HELD_OUT_COLOR if best else color,
            alpha=1 if best else 0.65,
            linewidth=2.2 if best else 0.6 if pruned else 1.1,
        )
    for place, key in enumerate(keys):
        axes.axvline(place, color="#555555", linewidth=0.8)
        for height, label in places[key][1]:
            axes.annotate(label, (place, height), xytext=(-5, 0), textcoords="offset points", **LABEL)
    axes.set_xticks(range(len(keys) + 1), [*(_broken(key) for key in keys), ranking.ranked_by.replace(" ", "\n")])
    axes.set_yticks([])
    axes.set_xlim(-0.45, len(keys) + 0.05)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    scale = ScalarMappable(colors.norm, colors.map)
    figure.colorbar(scale, ax=axes, label=axis_label(ranking), extend=colors.extend)
    _titled(axes, title, ranking, best=_name(groups[-1]))
    bars.barh([_broken(key) for key in keys][::-1], [100 * shares[key] for key in keys][::-1], color=TRAIN_COLOR)
    bars.set_title("importance")
    bars.set_xlabel("PED-ANOVA (%)" if by_search else "share of variance between\nthe key's values (%)")
    bars.set_xlim(0, 100)
    bars.grid(alpha=0.25, axis="x")
    return figure


def _broken(key: str) -> str:
    return key.replace(".", ".\n")


def _places(values: Sequence[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Each value's height from 0 to 1, and the heights to label."""
    levels = sorted({text(value): value for value in values}.values(), key=order)
    if len(levels) > 8 and all(order(value)[0] == 0 for value in levels):
        numbers = np.array(values, dtype=float)
        log = spaced_by_factors(list(numbers)) or (numbers.min() > 0 and numbers.max() / numbers.min() > 30)
        scaled = np.log(numbers) if log else numbers
        low, high = scaled.min(), scaled.max()
        marks = np.linspace(low, high, 5)
        texts = [f"{math.exp(mark) if log else mark:.3g}" for mark in marks]
        return (scaled - low) / (high - low), list(zip((marks - low) / (high - low), texts, strict=True))
    names = [text(value) for value in levels]
    heights = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([0.5])
    height_of = dict(zip(names, heights, strict=True))
    found = np.array([height_of[text(value)] for value in values])
    labels = [(float(height), brief(value)) for value, height in zip(levels, heights, strict=True)]
    return found, labels[:: max(1, len(labels) // 12)]


def _titled(axes: Axes, title: str, ranking: Ranking, best: str | None = None) -> None:
    runs = sum(group.sample.n for group in ranking.groups)
    pruned = sum(group.sample.n for group in ranking.pruned)
    first = f"{title}: {runs} runs"
    first += f", {pruned} pruned" if pruned else ""
    first += f", {len(ranking.bad)} not finished" if ranking.bad else ""
    axes.set_title(first if best is None else f"{first}\nbest (orange): {best}", parse_math=False, fontsize=11)
