"""Which test images a run was evaluated on. Runs on different images are ranked separately."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_ff.config.no_effect import NO_EFFECT
from mnist_ff.config.registry import names
from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import data_set
from mnist_ff.errors import BadRunError, printable
from mnist_ff.runs.directory import Run

TRAINING_KEYS = frozenset({"data.name", "data.validation_split", "data.instead_of", *NO_EFFECT})
"""Keys of the data that do not change the test images, and data.name, which has a field of its own."""
SHOWN_DIGITS = 12
"""Hex digits shown of a SHA-256."""


@dataclass(frozen=True)
class EvaluatedOn:
    """The identity of a run's test images, from its run directory."""

    data: str
    images: int
    keys: tuple[tuple[str, Any], ...] = ()
    """Other keys that select the images, such as EMNIST's split, with their values as text."""
    sha256: str | None = None
    """SHA-256 of the images in the user's own files, if recorded."""

    @property
    def title(self) -> str:
        """A heading such as "mnist, 10,000 test images"."""
        words = "".join(f" {key.removeprefix('data.')}={value}" for key, value in self.keys)
        return printable(f"{self.data}{words}, {self.images:,} test images")


def evaluated_on(run: Run, config: Config, values: Mapping[str, Any], images: int) -> EvaluatedOn:
    """The test images of a run's score on `images` images. `values` is the config by dotted key."""
    name = str(values["data.name"])
    sha256 = None if is_public(config) else sum_of_test_images(run)
    kept = {} if sha256 is not None else {key: value for key, value in values.items() if key.startswith("data.")}
    keys = tuple((key, str(value)) for key, value in kept.items() if key not in TRAINING_KEYS and value is not None)
    return EvaluatedOn(name, images, keys, sha256)


def is_public(config: Config) -> bool:
    """Whether the data set is a published one, so that its name determines its images."""
    return config.data.name in names("data") and data_set(config.data.name).describe is None


def sum_of_test_images(run: Run) -> str | None:
    """The SHA-256 of the test images in the user's own files; None if the run did not record it."""
    try:
        data = run.environment().get("data")
    except BadRunError:
        return None
    sums = data.get("sha256") if isinstance(data, dict) else None
    found = sums.get("test_images") if isinstance(sums, dict) else None
    return found if isinstance(found, str) else None


def titles(sets: Sequence[EvaluatedOn]) -> list[str]:
    """A heading for each set, with the beginning of its SHA-256 if headings would be equal otherwise."""
    plain = [one.title for one in sets]
    return [_with_sum(one, plain.count(one.title) > 1) for one in sets]


def _with_sum(one: EvaluatedOn, unclear: bool) -> str:
    return f"{one.title} (SHA-256 {printable((one.sha256 or 'unknown')[:SHOWN_DIGITS])})" if unclear else one.title


def distinct(sets: Iterable[EvaluatedOn | None]) -> list[EvaluatedOn]:
    """The distinct sets, in order of first occurrence."""
    return list(dict.fromkeys(one for one in sets if one is not None))
