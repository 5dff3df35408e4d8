"""The curves of a ranking's settings: the mean over a setting's seeds, and a band from the lowest to the highest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.analysis.labels import group_labels, run_labels
from mnist_ff.analysis.ranking import Ranking
from mnist_ff.analysis.rows import Row
from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.tables import BATCH_COLUMNS, read_batches, read_epochs

POINTS = 200
"""Points of a loss curve; with more batches, each point is the mean of several."""
MAX_EPOCHS = 200
"""Points of a curve per epoch; longer ones are thinned."""
MAX_RUNS = 20
"""Runs of a setting that are read; further ones are not in the mean."""
Band = tuple[list[float | None], list[float | None], list[float | None]]
"""Means, minima and maxima."""


@dataclass(frozen=True)
class GroupCurves:
    """The curves of one setting, or of a run that did not finish."""

    name: str
    """Unique within the ranking."""
    title: str
    """The images of `epochs`: "validation images", or the title of the test images."""
    runs: int
    """Number of runs in the mean."""
    epochs: dict[str, Any] = field(default_factory=dict)
    """`epoch`, counted from 1, and a Band for `accuracy` and `loss`."""
    batches: dict[str, Any] | None = None
    """`batch`, counted from 1, `per_point`, `count`, and a Band for `loss`."""
    rank: int | None = None
    status: str = "finished"

    @property
    def legend(self) -> str:
        """The name, with the status if it is not finished and the number of runs if several."""
        said = self.name if self.status == "finished" else f"{self.name} ({self.status})"
        return f"{said} (mean of {self.runs})" if self.runs > 1 else said


def curves_of(ranking: Ranking, most: int) -> list[GroupCurves]:
    """At most `most` curves: of the best settings of each table, best first, then of runs that did not finish."""
    labels = group_labels(ranking)
    groups = [(index, table, group) for table in ranking.tables for index, group in enumerate(table.groups)]
    in_turn = sorted(zip(groups, labels, strict=True), key=lambda entry: entry[0][0])  # the best of each table first
    wanted = [(list(group.rows), label, table, group.rank) for (_, table, group), label in in_turn if not group.again]
    taken, runs = set(labels), run_labels(ranking)
    for table in ranking.tables:
        for row in table.bad:
            label = runs[row.path] if runs[row.path] not in taken else row.label
            taken.add(label)
            wanted.append(([row], label, table, None))
    made = [_curves(rows, label, table, rank) for rows, label, table, rank in wanted[:most]]
    return [curve for curve in made if curve.epochs or curve.batches]


def parts_of(found: Sequence[GroupCurves]) -> list[str]:
    """The distinct titles of the curves per epoch, in order of first occurrence."""
    return list(dict.fromkeys(curve.title for curve in found if curve.epochs))


def _curves(rows: Sequence[Row], name: str, table: Ranking, rank: int | None) -> GroupCurves:
    read = [_read(Run(row.path)) for row in rows[:MAX_RUNS]]
    part = next((part for part, _, _ in read if part is not None), None)
    title = "validation images" if part == "validation" else (table.title or "test images")
    if part == "validation" and table.title is not None:
        title = f"validation images of {table.evaluated_on.data if table.evaluated_on else 'the data'}"
    epochs = _epochs([found for own, found, _ in read if own == part and found])
    batches = _batches([losses for _, _, losses in read if len(losses)])
    return GroupCurves(name, title, len(read), epochs, batches, rank, rows[0].status)


Epochs = dict[int, dict[str, float | None]]
"""`accuracy` and `loss` by epoch, counted from 1."""


def _read(run: Run) -> tuple[str | None, Epochs, NDArray[np.float64]]:
    """Which images were evaluated, "validation" or "test", the scores after each epoch, and the loss of each batch."""
    part: str | None = None
    epochs: Epochs = {}
    try:
        for row in read_epochs(run.path):
            part = part or next((part for part in ("validation", "test") if row[f"{part}_loss"] is not None), None)
            if part is not None and row[f"{part}_loss"] is not None:
                number = round(row["epoch"] or 0) + 1
                epochs[number] = {what: row[f"{part}_{what}"] for what in ("accuracy", "loss")}
        losses = [row[BATCH_COLUMNS.index("loss")] for row in read_batches(run.path)]
    except BadRunError:
        return part, epochs, np.zeros(0)
    return part, epochs, np.array([math.nan if loss is None else loss for loss in losses])


def _epochs(runs: Sequence[Epochs]) -> dict[str, Any]:
    """Bands of the runs' scores over all epochs that any of them has."""
    numbers = sorted({number for run in runs for number in run})
    if not numbers:
        return {}
    kept = numbers[:: -math.ceil(len(numbers) / MAX_EPOCHS)][::-1]  # always includes the last epoch
    found: dict[str, Any] = {"epoch": kept}
    for what in ("accuracy", "loss"):
        found[what] = _band([[run.get(number, {}).get(what) for number in kept] for run in runs])
    return found


def _batches(runs: Sequence[NDArray[np.float64]]) -> dict[str, Any] | None:
    """The band of the runs' training loss, in at most POINTS points."""
    if not runs:
        return None
    count = max(map(len, runs))
    size = math.ceil(count / POINTS)
    ends = [min(start + size, count) for start in range(0, count, size)]
    digits = 9 if size == 1 else 6
    lines = [_means(losses, size) for losses in runs]
    points = [[float(line[at]) if at < len(line) else None for line in lines] for at in range(len(ends))]
    band = _band([[row[run] for row in points] for run in range(len(lines))], digits)
    return {"batch": ends, "per_point": size, "count": count, "loss": band}


def _means(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The mean of every `size` consecutive values; the last group may be smaller."""
    starts = np.arange(0, len(values), size)
    sums: NDArray[np.float64] = np.add.reduceat(values, starts)
    return sums / np.diff([*starts, len(values)])


def _band(lines: Sequence[Sequence[float | None]], digits: int = 9) -> Band:
    """Mean, minimum and maximum over the lines at each point; None where no line has a finite value."""
    columns = [
        [cell for cell in cells if cell is not None and math.isfinite(cell)] for cells in zip(*lines, strict=True)
    ]
    return (
        [_rounded(sum(cells) / len(cells), digits) if cells else None for cells in columns],
        [_rounded(min(cells), digits) if cells else None for cells in columns],
        [_rounded(max(cells), digits) if cells else None for cells in columns],
    )


def _rounded(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
