"""The confusion matrix for a page: every cell of a small one, the most frequent mistakes of a large one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.analysis.class_metrics import class_metrics, confusion_matrix
from mnist_ff.report.predictions import Predictions, images_note
from mnist_ff.runs.records import DataSpec

MATRIX_CLASSES = 50
"""The whole matrix is shown up to this number of classes; with more, the most frequent mistakes are listed."""
MAX_PAIRS = 60
"""Mistakes in that list."""
SHADES = 5
"""Steps of the colour scale."""
SHORT_NAME = 3
"""Class names up to this length are written horizontally above the columns."""
SMALL_MATRIX, SHORT_TABLE = 12, 26
"""Up to 12 classes, the matrix has images beside it. Up to 26, the table of classes does not scroll."""


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix. `shade` is 0 for correct and empty cells, SHADES for the most mistakes."""

    label: int
    predicted: int
    count: int
    shade: int


@dataclass(frozen=True)
class Shade:
    """A step of the colour scale, with the smallest and largest number of images in its cells."""

    number: int
    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least:,}" if self.least == self.most else f"{self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class Pair:
    """One kind of mistake: its cell, and its share of the images with that label."""

    cell: Cell
    share: float


def matrix_cells(counts: NDArray[np.int64]) -> list[list[Cell]]:
    """The cells of a matrix (C, C), a row for each label. Empty for more than MATRIX_CLASSES classes."""
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
    order = np.argsort(-mistakes[labels, predicted], kind="stable")[:MAX_PAIRS]
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
    """The step of the colour scale, by the square root, so that one frequent mistake does not make all others pale."""
    return 0 if right or not count else math.ceil(SHADES * math.sqrt(count / most) - 1e-9)


def shades(counts: NDArray[np.int64]) -> list[Shade]:
    """The steps of the colour scale that are in use, fewest images first."""
    most = int(_mistakes(counts).max(initial=0))
    found = []
    for number in range(1, SHADES + 1):
        least, up_to = most * (number - 1) ** 2 // SHADES**2 + 1, most * number**2 // SHADES**2
        if least <= up_to:
            found.append(Shade(number, least, up_to))
    return found


def mistake_facts(found: Predictions | None, spec: DataSpec) -> dict[str, Any]:
    """Values for the template: the confusion matrix or its largest cells, and the metrics of each class."""
    if found is None:
        return {"metrics": [], "worst": False}
    counts = confusion_matrix(found.labels, found.predicted, len(spec.classes))
    return {
        "cells": matrix_cells(counts),
        "shades": shades(counts),
        "frequent": frequent_mistakes(counts),
        "metrics": class_metrics(counts),
        "images_note": images_note(found),
        "worst": bool((found.labels[found.rows] != found.predicted[found.rows]).any()),
        "names": spec.classes,
        "wide": len(spec.classes) > SMALL_MATRIX,
        "long_names": max(map(len, spec.classes)) > SHORT_NAME,
        "long_table": len(spec.classes) > SHORT_TABLE,
    }
