"""Data sets in the user's own files: read and checked once for as long as the files stay as they are. No torch at
import."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mnist_ff.config.paths import expanded
from mnist_ff.config.schema import FileDataConfig
from mnist_ff.data.catalog import DataDescription, DataSet
from mnist_ff.errors import ConfigError, OwnDataError

if TYPE_CHECKING:
    import torch

    from mnist_ff.data.formats.contents import Contents

State: TypeAlias = tuple[tuple[str, int, int], ...]
"""Files with the time of their last change and their size."""

_described: dict[FileDataConfig, tuple[State, DataDescription]] = {}
"""The description that was read last for each config, with the state of the files at that time."""


@dataclasses.dataclass(frozen=True)
class OwnFiles(DataSet):
    """The part of a format: its builder is `build` and its description `describe` below."""

    read: Callable[[Any], Contents] | None = None
    """The checked contents, from the config. Errors: OwnDataError."""
    sources: Callable[[Any], Sequence[Path]] | None = None
    """Every file that it reads."""
    watched: Callable[[Any], Sequence[Path]] | None = None
    """Fewer files and folders, one of which changes when a file comes or goes; None: all files."""


def path_of(config: FileDataConfig) -> Path:
    """The file or folder of a data set. Errors: ConfigError where none is given, or there is nothing."""
    if config.path is None:
        raise ConfigError(
            f"data.path=null: data={config.name} needs the file or folder to read; give data.path=PATH, or for a run "
            "--data-path PATH"
        )
    path = Path(expanded("data.path", config.path))
    if not path.exists():
        raise ConfigError(f"data.path={config.path}: does not exist; give the data's file or folder")
    return path


def part_of(config: FileDataConfig) -> OwnFiles:
    """The part of a format. Errors: ConfigError."""
    from mnist_ff.config.registry import part

    found = part("data", config.name)
    assert isinstance(found, OwnFiles)
    return found


def contents(config: FileDataConfig) -> Contents:
    """What the files hold, checked whole. Errors: ConfigError, OwnDataError naming the file."""
    part, key = part_of(config), _key(config)
    assert part.sources is not None
    return _contents(key, _state(part.sources(config)))


def _key(config: FileDataConfig) -> FileDataConfig:
    """The config without what does not change the contents."""
    return dataclasses.replace(config, path=str(path_of(config).absolute()), validation_split=0.0)


@functools.lru_cache(maxsize=2)
def _contents(config: FileDataConfig, state: State) -> Contents:
    # `state` is part of the key: jobs and commands in this process read unchanged files once
    part = part_of(config)
    assert part.read is not None
    found = part.read(config)
    _described[config] = (_watched(config), _description(found))
    return found


def describe(config: FileDataConfig) -> DataDescription:
    """What the files hold, without reading them again where none came or went. Errors: as contents()."""
    key = _key(config)
    state, description = _described.get(key, ((), None))
    if description is None or state != _watched(key):
        description = _description(contents(config))
    return description


def _watched(config: FileDataConfig) -> State:
    part = part_of(config)
    watched = part.watched or part.sources
    assert watched is not None
    return _state(watched(config))


def _state(paths: Sequence[Path]) -> State:
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise OwnDataError(f"{path}: cannot be read ({error.strerror})") from None
        found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)


def _description(found: Contents) -> DataDescription:
    return DataDescription(
        found.title,
        found.count("train"),
        found.count("test"),
        found.spec,
        validation_images=found.count("validation"),
        warnings=found.warnings,
        sums=found.sums,
    )


def build(config: FileDataConfig) -> dict[str, torch.Tensor]:
    """The builder of all formats: the contents as tensors. Errors: as contents()."""
    import torch

    return {name: torch.from_numpy(values) for name, values in contents(config).arrays.items()}
