"""Hydra's config loader with a cache, for processes that compose many configs, such as the jobs of a sweep."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
from collections.abc import Hashable, Iterable
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

MAX_CHOICES = 64
"""Maximum number of choices of options whose configs are cached."""
UNCACHED = ("hydra.job.", "hydra.runtime.", "hydra.searchpath")
"""Prefixes of keys that change how Hydra makes other values: configs with such an override are not cached."""


class KeptLoader(ConfigLoaderImpl):
    """Composes the same configs as Hydra, in a fraction of the time from the second one on.

    It caches the content of the files and, for each choice of options, the config before values are overridden. Callers
    get copies. The cache is emptied if `state` differs from the last one; see state_of().
    """

    def __init__(self, search_path: ConfigSearchPath, state: Hashable) -> None:
        super().__init__(search_path)
        self._kept = _kept(state)
        self.repository = _KeptRepository(search_path, self._kept)

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        load = functools.partial(super()._load_configuration_impl, config_name, run_mode=run_mode)
        parsed = OverridesParser.create().parse_overrides(overrides)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        choices = [override for override in parsed if self._is_choice(override)]
        values = [override for override in parsed if override not in choices and not override.is_sweep_override()]
        if any(str(override.key_or_group).startswith(UNCACHED) for override in values):
            return load(overrides, from_shell=from_shell, validate_sweep_overrides=validate_sweep_overrides)
        key = config_name, run_mode, tuple(str(override.input_line) for override in choices)
        if key not in self._kept.chosen:
            if len(self._kept.chosen) >= MAX_CHOICES:
                self._kept.chosen.clear()
            self._kept.chosen[key] = load([*key[-1]], validate_sweep_overrides=False)
        config = copy.deepcopy(self._kept.chosen[key])
        OmegaConf.clear_cache(config)  # values of resolvers such as ${now:}, which are those of the first config
        self._apply_overrides_to_config(values, config)
        _record(parsed, config)
        return config

    def _is_choice(self, override: Override) -> bool:
        """Whether it chooses options of a group; all else is a value of the config."""
        if override.is_sweep_override() or not self.repository.group_exists(override.key_or_group):
            return False
        return not isinstance(override.value(), dict)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        return super()._compose_config_from_defaults_list(defaults, _Copies(repo))


def _record(overrides: list[Override], config: DictConfig) -> None:
    """Write into a config what Hydra says in it of its overrides and the process."""
    hydra, of_job = config.hydra, [override for override in overrides if not override.is_hydra_override()]
    hydra.overrides.hydra = [override.input_line for override in overrides if override.is_hydra_override()]
    hydra.overrides.task = [override.input_line for override in of_job]
    hydra.runtime.cwd = os.getcwd()
    style = hydra.job.config.override_dirname
    hydra.job.override_dirname = get_overrides_dirname(of_job, style.exclude_keys, style.item_sep, style.kv_sep)


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
    chosen: dict[Hashable, DictConfig] = dataclasses.field(default_factory=dict)


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
