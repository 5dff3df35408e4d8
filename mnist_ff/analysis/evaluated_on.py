"""Which test images a run was evaluated on: accuracies on different images cannot be ranked together."""

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
"""Keys of the data that say nothing of its test images, or are told otherwise."""
SHOWN_DIGITS = 12
"""Of a SHA-256."""


@dataclass(frozen=True)
class EvaluatedOn:
    """The test images of a run, as far as its directory tells."""

    data: str
    images: int
    keys: tuple[tuple[str, Any], ...] = ()
    """What else chooses them, such as EMNIST's split, as text."""
    sha256: str | None = None
    """Of the test images of the user's own files."""

    @property
    def title(self) -> str:
        """mnist, 10,000 test images."""
        words = "".join(f" {key.removeprefix('data.')}={value}" for key, value in self.keys)
        return printable(f"{self.data}{words}, {self.images:,} test images")


def evaluated_on(run: Run, config: Config, values: Mapping[str, Any], images: int) -> EvaluatedOn:
    """The test images that a score of `images` images belongs to; `values` is the config by dotted key."""
    name = str(values["data.name"])
    sha256 = None if is_public(config) else sum_of_test_images(run)
    kept = {} if sha256 is not None else {key: value for key, value in values.items() if key.startswith("data.")}
    keys = tuple((key, str(value)) for key, value in kept.items() if key not in TRAINING_KEYS and value is not None)
    return EvaluatedOn(name, images, keys, sha256)


def is_public(config: Config) -> bool:
    """Whether the data set is one whose files are known, so that its name tells its content."""
    return config.data.name in names("data") and data_set(config.data.name).describe is None


def sum_of_test_images(run: Run) -> str | None:
    """The SHA-256 of the test images of the user's own files, where the run recorded it."""
    try:
        data = run.environment().get("data")
    except BadRunError:
        return None
    sums = data.get("sha256") if isinstance(data, dict) else None
    found = sums.get("test_images") if isinstance(sums, dict) else None
    return found if isinstance(found, str) else None


def titles(sets: Sequence[EvaluatedOn]) -> list[str]:
    """Headings that tell sets apart: with the beginning of a SHA-256 where the rest is the same."""
    plain = [one.title for one in sets]
    return [_with_sum(one, plain.count(one.title) > 1) for one in sets]


def _with_sum(one: EvaluatedOn, unclear: bool) -> str:
    return f"{one.title} (SHA-256 {printable((one.sha256 or 'unknown')[:SHOWN_DIGITS])})" if unclear else one.title


def distinct(sets: Iterable[EvaluatedOn | None]) -> list[EvaluatedOn]:
    """The sets that occur, in the order in which they do."""
    return list(dict.fromkeys(one for one in sets if one is not None))
