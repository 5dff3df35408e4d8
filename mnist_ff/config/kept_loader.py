"""Hydra's loader for a process that composes many configs, as the jobs of a sweep: what files say is kept meanwhile."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Hashable, Iterable
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

MOST_CHOICES = 64
"""Choices of options whose configs are kept."""


class KeptLoader(ConfigLoaderImpl):
    """Composes as Hydra does, in a third of its time from the second config on.

    Kept are the files as read and, for each choice of options, the config before its overrides. Both are only copied.
    `state` stands for all that they are made of: with another one, everything is read again; see state_of().
    """

    def __init__(self, search_path: ConfigSearchPath, state: Hashable) -> None:
        super().__init__(search_path)
        self.repository = _KeptRepository(search_path, _kept(state))

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        kept = repo.delegate.kept if isinstance(repo, CachingConfigRepository) else _Kept()
        chosen = tuple(map(dataclasses.astuple, defaults))
        if chosen not in kept.composed:
            if len(kept.composed) >= MOST_CHOICES:
                kept.composed.clear()
            kept.composed[chosen] = super()._compose_config_from_defaults_list(defaults, _Copies(repo))
        return copy.deepcopy(kept.composed[chosen])


def state_of(files: Iterable[Path], parts: Hashable) -> Hashable:
    """The files with their sizes and times, and the user's own parts. A file that is gone has none."""
    return tuple(_stamp(path) for path in files), parts


def _stamp(path: Path) -> tuple[str, int, int, int]:
    try:
        status = path.stat()
    except OSError:  # whoever opens it says why
        return str(path), 0, 0, 0
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns


@dataclasses.dataclass
class _Kept:
    read: dict[str, ConfigResult | None] = dataclasses.field(default_factory=dict)
    composed: dict[Hashable, DictConfig] = dataclasses.field(default_factory=dict)


@functools.lru_cache(maxsize=1)
def _kept(state: Hashable) -> _Kept:
    return _Kept()


class _KeptRepository(ConfigRepository):
    """The files of a search path; those of another one, as `hydra.searchpath` makes it, are not kept."""

    def __init__(self, search_path: ConfigSearchPath, kept: _Kept) -> None:
        super().__init__(search_path)
        self.kept = kept

    def __deepcopy__(self, memo: object) -> _KeptRepository:
        return copy.copy(self)  # its sources are replaced, and never changed

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.kept = _Kept()

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self.kept.read:
            self.kept.read[config_path] = super().load_config(config_path)
        return self.kept.read[config_path]


class _Copies(CachingConfigRepository):
    """Configs to be merged, which changes them."""

    def __init__(self, delegate: IConfigRepository) -> None:
        self.delegate = delegate

    def load_config(self, config_path: str) -> ConfigResult | None:
        found = self.delegate.load_config(config_path)
        return None if found is None else dataclasses.replace(found, config=copy.deepcopy(found.config))
