"""The confusion matrix for a page: every cell of a small one, the most frequent mistakes of a large one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MATRIX_CLASSES = 50
"""Most classes of a matrix that is shown whole; of more, the most frequent mistakes are listed."""
MOST_PAIRS = 60
SHADES = 5
"""Steps of a cell's colour."""


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix; `shade` is 0 for correct and empty cells, up to SHADES for most mistakes."""

    label: int
    predicted: int
    count: int
    shade: int


@dataclass(frozen=True)
class Pair:
    """One kind of mistake: how many images, and their share of those with the label."""

    cell: Cell
    share: float


def matrix_cells(counts: NDArray[np.int64]) -> list[list[Cell]]:
    """Every cell of a matrix (C, C), a row for each label; none of more than MATRIX_CLASSES classes."""
    if len(counts) > MATRIX_CLASSES:
        return []
    most = _most(_mistakes(counts))
    return [
        [Cell(label, predicted, count, _shade(count, most, label == predicted)) for predicted, count in enumerate(row)]
        for label, row in enumerate(counts.tolist())
    ]


def frequent_mistakes(counts: NDArray[np.int64]) -> list[Pair]:
    """The most frequent mistakes of a matrix with more than MATRIX_CLASSES classes, most images first."""
    if len(counts) <= MATRIX_CLASSES:
        return []
    mistakes = _mistakes(counts)
    labels, predicted = np.nonzero(mistakes)
    order = np.argsort(-mistakes[labels, predicted], kind="stable")[:MOST_PAIRS]
    images, most = counts.sum(axis=1), _most(mistakes)
    return [
        Pair(Cell(label, other, count := int(counts[label, other]), _shade(count, most, False)), count / images[label])
        for label, other in zip(labels[order].tolist(), predicted[order].tolist(), strict=True)
    ]


def _mistakes(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The matrix without its diagonal."""
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    return mistakes


def _most(mistakes: NDArray[np.int64]) -> int:
    return max(1, int(mistakes.max()))


def _shade(count: int, most: int, right: bool) -> int:
    return 0 if right or not count else -(-SHADES * count // most)
