"""What own files hold: as read, and as checked. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from mnist_ff.runs.records import DataSpec

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""`train_images`, `train_labels`, `test_images`, `test_labels`; with validation images also the two of `validation`."""
PARTS = ("train", "test", "validation")
"""The last one is optional."""


@dataclass(frozen=True)
class Found:
    """What a reader found, not checked yet."""

    title: str
    """For people: the file and what kind it is."""
    arrays: Arrays
    names: Mapping[str, str]
    """What the file calls each of the arrays, for messages."""
    classes: Sequence[str] | None = None
    """Names in the order of their numbers, where the files say them."""


@dataclass(frozen=True)
class Contents:
    """Images and labels that passed every check.

    Images are (N, H, W) or (N, C, H, W), uint8 or float32 in [0, 1]; labels are (N,) int64.
    """

    title: str
    arrays: Arrays
    classes: tuple[str, ...]
    duplicates: Mapping[str, int]
    """For each other split, how many of its images are training images, too."""
    sums: Mapping[str, str]
    """SHA-256 of each array, with its type and shape; of the class names too."""

    @property
    def spec(self) -> DataSpec:
        """What a network sees."""
        return DataSpec(tuple(self.arrays["train_images"].shape[1:]), self.classes)

    def count(self, part: str) -> int:
        """Images of a part; 0 for validation images that there are not."""
        return len(self.arrays.get(f"{part}_labels", ()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is no fault and yet may spoil a score."""
        return tuple(
            f"{self.title}: {count:,} of {self.count(part):,} {part} images are training images too; "
            f"the {part} score is too good by them"
            for part, count in self.duplicates.items()
            if count
        )
