"""data=idx: a folder with four IDX files named like MNIST's, with images of any height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ff.config.registry import register
from mnist_ff.config.schema import FileDataConfig
from mnist_ff.data.formats.own_files import OwnFiles, build, describe, path_of

if TYPE_CHECKING:
    from mnist_ff.data.formats.contents import Contents


@dataclass(frozen=True)
class IDXConfig(FileDataConfig):
    """Four IDX files."""


def files(config: IDXConfig) -> Sequence[Path]:
    """The four files. Errors: ConfigError, OwnDataError."""
    from mnist_ff.data.formats.idx_files import idx_paths

    return list(idx_paths(path_of(config)).values())


def read(config: IDXConfig) -> Contents:
    """The files' contents, checked. Errors: OwnDataError."""
    from mnist_ff.data.formats.checks import checked
    from mnist_ff.data.formats.idx_files import read_idx_folder

    return checked(read_idx_folder(path_of(config)))


register(OwnFiles("data", "idx", IDXConfig, build, title="IDX files", describe=describe, read=read, sources=files))
