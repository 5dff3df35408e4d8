"""Pivot tables: the mean of the ranking score for each combination of two keys."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnist_ff.analysis.formats import defused, metric_title, score_cell
from mnist_ff.analysis.ranking import SEED, Ranking, brief, order, text
from mnist_ff.analysis.ranking_json import sample_json
from mnist_ff.analysis.rows import Row
from mnist_ff.analysis.statistics import Sample, sample
from mnist_ff.config.messages import nearest
from mnist_ff.errors import ConfigError, printable
from mnist_ff.runs.numbers import MISSING

BEST = "*"


@dataclass(frozen=True)
class Pivot:
    """The ranking score over two keys."""

    rows: str
    """The key with a row for each value."""
    columns: str
    """The key with a column for each value."""
    row_values: list[Any]
    column_values: list[Any]
    cells: list[list[Sample | None]]
    """The scores of all ranked runs with the values of the row and column; None without any."""
    score: str
    """One of "test accuracy", "validation accuracy" and "validation loss"."""
    over: list[str]
    """Other keys that differ between the runs of a cell, except the seed."""

    @property
    def best(self) -> tuple[int, int]:
        """The indices of the row and column with the best mean."""
        sign = 1 if self.score.endswith("loss") else -1
        found = [
            (sign * cell.mean, row, column)
            for row, line in enumerate(self.cells)
            for column, cell in enumerate(line)
            if cell is not None
        ]
        return min(found)[1:]

    @property
    def texts(self) -> list[list[str]]:
        """The cells as text: the mean ± half its interval, with a mark on the best one."""
        name = self.score.replace(" ", "_")
        texts = [[score_cell(name, cell) for cell in line] for line in self.cells]
        row, column = self.best
        texts[row][column] += f" {BEST}"
        return texts

    @property
    def title(self) -> str:
        """The score with its unit: "validation accuracy (%)"."""
        return metric_title(self.score.replace(" ", "_")).replace("_", " ")

    @property
    def notes(self) -> list[str]:
        """Sentences that explain the table."""
        said = [f"{self.title} over {self.rows} (rows) and {self.columns} (columns). {BEST}: the best mean."]
        if any(cell is not None and cell.n > 1 for line in self.cells for cell in line):
            said.append("A cell is the mean of its runs ± half its 95 % interval (t).")
        if self.over:
            said.append(f"The runs of a cell differ in {', '.join(self.over)} too.")
        return said


def pivot_of(ranking: Ranking, rows: str, columns: str) -> Pivot | None:
    """The pivot table of runs on the same test images; None if no run has a rank."""
    members = [row for group in ranking.ranked for row in group.rows]
    if not members:
        return None
    down, across = (_levels(members, key) for key in (rows, columns))
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in members:
        cells.setdefault((text(row.values.get(rows)), text(row.values.get(columns))), []).append(row)
    made = [[_sample(cells.get((text(value), text(other))), ranking) for other in across] for value in down]
    over = [key for key in ranking.varied if key not in (rows, columns) and _differs_within(key, cells.values())]
    return Pivot(rows, columns, down, across, made, ranking.ranked_by, over)


def check_pivot(ranking: Ranking, rows: str, columns: str) -> None:
    """Check the keys of a pivot table. Errors: ConfigError for a key that does not differ, or the same key twice."""
    known = ranking.keys
    for key in (rows, columns):
        if key not in known:
            same = f"is {text(ranking.common[key])} in all runs" if key in ranking.common else "is not a varied key"
            choose = f"choose from {', '.join(known)}" if known else "the runs do not differ in any key"
            raise ConfigError(f"--pivot {key}: {same}; {choose}{nearest(key, known)}")
    if rows == columns:
        raise ConfigError(f"--pivot {rows} {columns}: needs two different keys")


def _levels(rows: Sequence[Row], key: str) -> list[Any]:
    return sorted({text(row.values.get(key)): row.values.get(key) for row in rows}.values(), key=order)


def _sample(rows: Sequence[Row] | None, ranking: Ranking) -> Sample | None:
    if not rows:
        return None
    scores = [row.validation if ranking.ranked_by.startswith("validation") else row.test for row in rows]
    return sample([score.loss if ranking.by_loss else score.accuracy for score in scores if score is not None])


def _differs_within(key: str, cells: Any) -> bool:
    return key != SEED and any(len({text(row.values.get(key)) for row in rows}) > 1 for rows in cells)


def pivot_json(found: Pivot | None) -> dict[str, Any] | None:
    """The pivot table as JSON values; missing cells are null."""
    if found is None:
        return None
    cells = [[None if cell is None else sample_json(cell) for cell in line] for line in found.cells]
    return {
        "rows": found.rows,
        "columns": found.columns,
        "score": found.score,
        "row_values": found.row_values,
        "column_values": found.column_values,
        "cells": cells,
        "best": list(found.best),
        "differ_within_cells": found.over,
    }


def pivot_csv(pivots: Sequence[tuple[str | None, Pivot]]) -> str:
    """The pivot tables as CSV, a line for each cell that has runs. `pivots` are pairs of a title of test images and a
    table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    several = len(pivots) > 1
    first = pivots[0][1]
    writer.writerow([first.rows, first.columns, "n", "mean", "std", "score", *(["test_images"] if several else [])])
    for title, found in pivots:
        for down, line in zip(found.row_values, found.cells, strict=True):
            for across, cell in zip(found.column_values, line, strict=True):
                if cell is not None:
                    std = "" if cell.std is None else repr(cell.std)
                    cells = [text(down), text(across), cell.n, repr(cell.mean), std, found.score]
                    writer.writerow([defused(value) for value in [*cells, *([title or ""] if several else [])]])
    return out.getvalue()


def value_text(value: Any) -> str:
    """A key's value as text for the head of a row or column."""
    return MISSING if value is None else printable(brief(value))
