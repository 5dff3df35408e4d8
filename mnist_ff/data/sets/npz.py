"""data=npz: a NumPy archive with the keys of Keras's mnist.npz or of MedMNIST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ff.config.registry import register
from mnist_ff.config.schema import FileDataConfig
from mnist_ff.data.formats.own_files import OwnFiles, build, describe, path_of
from mnist_ff.errors import OwnDataError

if TYPE_CHECKING:
    from mnist_ff.data.formats.contents import Contents


@dataclass(frozen=True)
class NPZConfig(FileDataConfig):
    """A NumPy archive."""


def files(config: NPZConfig) -> Sequence[Path]:
    """The archive. Errors: ConfigError, OwnDataError."""
    path = path_of(config)
    if not path.is_file():
        raise OwnDataError(f"{path}: is not a file; give a NumPy archive (.npz)")
    return [path]


def read(config: NPZConfig) -> Contents:
    """The archive's contents, checked. Errors: OwnDataError."""
    from mnist_ff.data.formats.checks import checked
    from mnist_ff.data.formats.npz import read_npz

    return checked(read_npz(*files(config)))


register(OwnFiles("data", "npz", NPZConfig, build, title="NumPy archive", describe=describe, read=read, sources=files))
