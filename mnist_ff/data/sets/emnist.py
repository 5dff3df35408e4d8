"""data=emnist: handwritten letters and digits in MNIST's format, in six splits (Cohen et al. 2017)."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from mnist_ff.config.registry import register
from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data.catalog import Archive, DataDescription, DataSet, SourceFile
from mnist_ff.data.idx import build
from mnist_ff.runs.records import SIDE, DataSpec


class Split(NamedTuple):
    """The number of images of a split, and its classes by number."""

    train: int
    test: int
    classes: str
    first_label: int = 0


MERGED = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abdefghnqrt"
"""Letters of which 15 have one class for both cases, as EMNIST's mapping has them: C is c too."""
SPLITS = {
    "letters": Split(124_800, 20_800, string.ascii_lowercase, first_label=1),
    "balanced": Split(112_800, 18_800, string.digits + MERGED),
    "digits": Split(240_000, 40_000, string.digits),
    "mnist": Split(60_000, 10_000, string.digits),
    "byclass": Split(697_932, 116_323, string.digits + string.ascii_uppercase + string.ascii_lowercase),
    "bymerge": Split(697_932, 116_323, string.digits + MERGED),
}


@dataclass(frozen=True)
class EMNISTConfig(DownloadConfig):
    """EMNIST."""

    split: Annotated[
        Literal["letters", "balanced", "digits", "mnist", "byclass", "bymerge"], "which of EMNIST's six data sets"
    ]

    @property
    def cached_as(self) -> str:
        return f"emnist_{self.split}"


def archive(config: EMNISTConfig) -> Archive:
    """The four files of a split."""
    split = SPLITS[config.split]
    files = tuple(
        SourceFile(f"emnist-{config.split}-{part}-{what}-idx{len(shape)}-ubyte.gz", 0x0800 + len(shape), shape)
        for part, count in (("train", split.train), ("test", split.test))
        for what, shape in (("images", (count, SIDE, SIDE)), ("labels", (count,)))
    )
    return Archive("gzip.zip", "emnist.zip", "gzip/", files, config.split, split.first_label)


def describe(config: EMNISTConfig) -> DataDescription:
    """What is known of a split before it is there."""
    split = SPLITS[config.split]
    return DataDescription(
        f"EMNIST {config.split}", split.train, split.test, DataSpec((SIDE, SIDE), tuple(split.classes))
    )


register(
    DataSet(
        "data",
        "emnist",
        EMNISTConfig,
        build,
        title="EMNIST",
        torchvision_class="EMNIST",
        archive=archive,
        describe=describe,
    )
)
