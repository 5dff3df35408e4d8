"""Precision, recall and F1 of each class, from labels and predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class; 0 where it was never predicted or has no images."""

    label: int
    images: int
    """With this label."""
    predictions: int
    """Of this class, right or wrong."""
    precision: float
    recall: float
    f1: float


def confusion_matrix(labels: NDArray[np.integer], predictions: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Counts of images (classes, classes), a row for each label and a column for each prediction."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def class_metrics(counts: NDArray[np.int64]) -> list[ClassMetrics]:
    """The metrics of each class, from the confusion matrix."""
    rows = []
    totals = zip(counts.diagonal().tolist(), counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist(), strict=True)
    for label, (right, images, predictions) in enumerate(totals):
        precision, recall = right / max(predictions, 1), right / max(images, 1)
        f1 = 2 * right / max(images + predictions, 1)
        rows.append(ClassMetrics(label, images, predictions, precision, recall, f1))
    return rows
