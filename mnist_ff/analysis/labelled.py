"""Predictions for labelled pictures: accuracy, a confusion matrix that fits the terminal, the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console

from mnist_ff.analysis.class_metrics import confusion_matrix
from mnist_ff.analysis.console import tell, tell_table, tell_wrapped
from mnist_ff.analysis.readings import Reading
from mnist_ff.runs.numbers import percent, percent_cell
from mnist_ff.runs.records import DataSpec, Score

WORST = 10
"""Mistakes listed, and kinds of mistakes when the matrix does not fit."""
PLAIN_COLUMNS = 80
"""Width of the output if it is not a terminal."""


@dataclass(frozen=True)
class Labelled:
    """The predictions for pictures whose labels are known."""

    spec: DataSpec
    readings: Sequence[Reading]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels, (N,)."""
        return np.array([reading.label for reading in self.readings], dtype=np.int64)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted classes, (N,)."""
        return np.array([reading.answers[0].top[0] for reading in self.readings], dtype=np.int64)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix, counts (C, C) with a row for each label."""
        return confusion_matrix(self.labels, self.predicted, len(self.spec.classes))

    def score(self) -> Score:
        """The loss, from the predicted probabilities, and the accuracy with its counts."""
        given = np.array([reading.answers[0].probabilities[reading.label] for reading in self.readings])
        loss = float(-np.log(np.maximum(given.astype(np.float64), np.finfo(np.float32).tiny)).mean())
        right = int((self.labels == self.predicted).sum())
        return Score(loss, right / len(self.labels), right, len(self.labels))

    def sure(self) -> tuple[int, int]:
        """The number of sure predictions, and how many of these are correct."""
        sure = np.array([not reading.is_unsure for reading in self.readings])
        return int(sure.sum()), int((sure & (self.labels == self.predicted)).sum())

    def worst(self) -> list[Reading]:
        """The mistakes, most confident first."""
        wrong = [reading for reading in self.readings if reading.answers[0].top[0] != reading.label]
        return sorted(wrong, key=lambda reading: -float(reading.answers[0].probabilities.max()))

    def as_json(self, failures: Sequence[str]) -> dict[str, Any]:
        """The results as JSON values. `failures` are the pictures that could not be read."""
        score, (sure, sure_right) = self.score(), self.sure()
        return {
            "images": score.samples,
            "correct": score.correct,
            "accuracy": score.accuracy,
            "accuracy_interval_95": list(score.interval()),
            "sure": sure,
            "sure_accuracy": sure_right / sure if sure else None,
            "classes": list(self.spec.classes),
            "confusion": self.confusion.tolist(),
            "not_read": list(failures),
        }


def tell_labelled(console: Console, found: Labelled, threshold: float | None) -> None:
    """Print the accuracy, the confusion matrix and the worst mistakes."""
    score, (sure, sure_right) = found.score(), found.sure()
    low, high = score.interval()
    tell_wrapped(
        console,
        f"accuracy {percent(score.accuracy)} ({score.correct:,} of {score.samples:,}; "
        f"95 % interval {percent_cell(low)} to {percent(high)})",
    )
    if threshold is not None:
        among = f", {percent(sure_right / sure)} of these right" if sure else ""
        tell_wrapped(console, f"sure {percent(sure / score.samples)} ({sure:,} of {score.samples:,}){among}")
    _tell_confusion(console, found)
    _tell_worst(console, found)


def _tell_confusion(console: Console, found: Labelled) -> None:
    """Print the confusion matrix if it fits the terminal, else the most frequent mistakes."""
    counts, spec = found.confusion, found.spec
    room = console.width if console.is_terminal else PLAIN_COLUMNS
    used = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1)).tolist()
    rows = [(spec.name_of(label), *map(_count, counts[label, used].tolist())) for label in used]
    heads = ["label", *map(str, used)]
    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= room:
        tell(console, "")
        tell_table(console, heads, rows, title="label (rows) and prediction (columns)")
    else:
        _tell_pairs(console, counts, spec, room)


def _count(number: int) -> str:
    return f"{number:,}" if number else "."


def _tell_pairs(console: Console, counts: NDArray[np.int64], spec: DataSpec, room: int) -> None:
    """Print the most frequent mistakes."""
    pairs = [(int(counts[label, other]), int(label), int(other)) for label, other in np.argwhere(counts)]
    pairs = sorted((pair for pair in pairs if pair[1] != pair[2]), key=lambda pair: (-pair[0], pair[1:]))
    if not pairs:
        return
    names = [_cut(spec.name_of(label), room) for label in range(len(counts))]
    tell(console, "")
    cells = [(names[label], names[other], f"{count:,}") for count, label, other in pairs[:WORST]]
    tell_table(console, ("label", "read as", "images"), cells, left=("read as",))
    rest = sum(count for count, _, _ in pairs[WORST:])
    if rest:
        tell_wrapped(console, f"and {rest:,} images in {len(pairs) - WORST:,} smaller cells")


def _cut(name: str, room: int) -> str:
    """A class name cut to a third of the width."""
    most = max(8, room // 3)
    return name if cell_len(name) <= most else f"{name[: most - 3]}..."


def _tell_worst(console: Console, found: Labelled) -> None:
    worst = found.worst()
    if not worst:
        return
    tell(console, "")
    tell_wrapped(console, f"mistakes, the most confident first ({min(WORST, len(worst))} of {len(worst):,})")
    for reading in worst[:WORST]:
        answer = reading.answers[0]
        top = answer.top[0]
        unsure = "  unsure" if answer.is_unsure else ""
        tell(console, reading.name)
        tell_wrapped(
            console,
            f"   read as {found.spec.name_of(top)}  {percent(float(answer.probabilities[top]))}{unsure}",
        )
