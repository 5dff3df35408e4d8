"""Data sets that are MNIST's four IDX files, and nothing to compute. No torch at import."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data.catalog import SourceFile
from mnist_ff.runs.records import SIDE

if TYPE_CHECKING:
    import torch

Sums: TypeAlias = "tuple[str | None, str | None, str | None, str | None]"
UNKNOWN: Sums = (None, None, None, None)


def idx_files(sums: Sums = UNKNOWN, contents: Sums = UNKNOWN) -> tuple[SourceFile, ...]:
    """MNIST's four files, with the SHA-256 of each, compressed or not."""
    return (
        SourceFile("train-images-idx3-ubyte.gz", 0x0803, (60_000, SIDE, SIDE), sums[0], contents[0]),
        SourceFile("train-labels-idx1-ubyte.gz", 0x0801, (60_000,), sums[1], contents[1]),
        SourceFile("t10k-images-idx3-ubyte.gz", 0x0803, (10_000, SIDE, SIDE), sums[2], contents[2]),
        SourceFile("t10k-labels-idx1-ubyte.gz", 0x0801, (10_000,), sums[3], contents[3]),
    )


def build(config: DownloadConfig) -> dict[str, torch.Tensor]:
    """The builder of these sets: their tensors from the cache, downloaded if need be."""
    from mnist_ff.data.download import downloaded

    return downloaded(config)
