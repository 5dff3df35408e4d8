"""McNemar's test of two runs on the same images, from their saved predictions. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_ff.analysis.evaluated_on import sum_of_test_images
from mnist_ff.analysis.rows import Row
from mnist_ff.analysis.statistics import EXACT_BELOW, mcnemar
from mnist_ff.errors import BadRunError, MissingFileError
from mnist_ff.runs.directory import PREDICTIONS, Run
from mnist_ff.runs.predictions import read_predicted

LEVEL = 0.05
"""Chance below which a difference is called one."""


@dataclass(frozen=True)
class Paired:
    """Two runs' predictions for the same images, compared."""

    images: int
    only_first: int
    """Images that only the first run got right: b of the test's table."""
    only_second: int
    """c of the test's table."""
    p: float

    @property
    def exact(self) -> bool:
        """Whether p is the binomial's, not chi-squared's."""
        return self.only_first + self.only_second < EXACT_BELOW

    @property
    def differ(self) -> bool:
        """Whether the difference is more than chance, at the 5 % level."""
        return self.p < LEVEL


class NoTestError(Exception):
    """Why two runs cannot be tested, in words that end a sentence."""


def paired(rows: Sequence[Row]) -> Paired:
    """McNemar's test of exactly two runs. Errors: NoTestError."""
    first, second = rows
    for row in rows:
        if row.test is None:
            raise NoTestError(f"{row.label} is {row.status} and has no score")
    names = [row.values["data.name"] for row in rows]
    if names[0] != names[1]:
        raise NoTestError(f"they were evaluated on different images, {names[0]} and {names[1]}")
    predictions, labels = _predictions(first.path)
    others, other_labels = _predictions(second.path)
    if not _same_images(first.path, second.path) or not np.array_equal(labels, other_labels):
        raise NoTestError("they were evaluated on different test images")
    right, other_right = predictions == labels, others == labels
    only_first, only_second = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    return Paired(len(labels), only_first, only_second, mcnemar(only_first, only_second))


def sentences(found: Paired, first: str, second: str) -> list[str]:
    """The test for people: its counts and p-value, and what they mean."""
    how = "exact binomial" if found.exact else "chi-squared, continuity-corrected"
    test_line = f"McNemar's test on {found.images:,} images: b = {found.only_first} correct for {first} only, "
    test_line += f"c = {found.only_second} for {second} only, p = {found.p:.2g} ({how})."
    if not found.differ:
        return [test_line, "The difference is not significant."]
    better = first if found.only_first > found.only_second else second
    return [test_line, f"The difference is significant: {better} is better (as trained; other seeds may differ)."]


def _same_images(first: Path, second: Path) -> bool:
    """Whether two runs have the same image shape, classes and own test images, as far as their directories say."""
    try:
        specs, sums = zip(
            *((run.data_spec(), sum_of_test_images(run)) for run in (Run(first), Run(second))), strict=True
        )
    except BadRunError:
        return True
    return specs[0] == specs[1] and (None in sums or sums[0] == sums[1])


def _predictions(path: Path) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """A run's predictions and the labels, each (N,). Errors: NoTestError."""
    file = path / PREDICTIONS
    try:
        return read_predicted(Run(path))
    except MissingFileError:
        raise NoTestError(f"{path} has no {PREDICTIONS}") from None
    except BadRunError as error:
        said = str(error).removeprefix(f"{file}: ").removeprefix("not readable ").strip("()")
        raise NoTestError(f"{file} is not readable ({said})") from None
