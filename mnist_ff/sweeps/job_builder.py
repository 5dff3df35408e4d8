"""Override words to a sweep's jobs, each of them checked: thousands in seconds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from mnist_ff.config.compose import composed_or_explained, config_errors, hydra_values, typed
from mnist_ff.config.keys import known_keys
from mnist_ff.config.schema import Config, with_absolute_paths
from mnist_ff.errors import ConfigError
from mnist_ff.runs.jobs import Job, check_subdir
from mnist_ff.session.resume import changed
from mnist_ff.session.validate import check_new

OF_ANOTHER_KEY = re.compile(r"\$\{(?!(?:oc|mnist_ff)\.env:\w+(?:,(?:\w+|'[^']*'))?\})")
"""A value that depends on others; what the environment says is the same for all jobs."""


class JobMaker:
    """Makes the jobs of one sweep.

    Hydra takes 50 ms to compose a config. It is asked once for each choice of options; plain values are put into what
    it made, as it would do itself, where nothing in that config is looked up elsewhere. Whatever is wrong is left to
    Hydra, and so said in the same words.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._known = known_keys()
        self._plain: dict[str, tuple[str, Any] | None] = {}
        self._bases: dict[tuple[str, ...], Config | None] = {}
        self._numbered = str(master.hydra.sweep._get_node("subdir")) == "${hydra.job.num}"

    def job(self, number: int, words: Sequence[str]) -> Job:
        """The job of these words. Errors: ConfigError naming the job."""
        try:
            config = self._quickly(words) if self._numbered else None
            if config is not None:
                return Job(number, tuple(words), str(number), config)
            return self._by_hydra(number, words)
        except ConfigError as error:
            raise ConfigError(f"{error}\nin the job {' '.join(words)}; no job was started") from None

    def _by_hydra(self, number: int, words: Sequence[str]) -> Job:
        composed = self._composed(list(words))
        with open_dict(composed):
            composed.hydra.job.num = composed.hydra.job.id = number
        config = typed(composed)
        check_new(config)
        config = with_absolute_paths(config)
        return Job(number, tuple(words), _subdir(composed), config)

    def _composed(self, words: list[str]) -> DictConfig:
        return composed_or_explained(lambda given: self._loader.load_sweep_config(self._master, given), words)

    def _quickly(self, words: Sequence[str]) -> Config | None:
        """The checked config, or None where Hydra must be asked."""
        pairs = [(word, self._plain_value(word)) for word in words]
        base = self._base(tuple(word for word, pair in pairs if pair is None))
        if base is None:
            return None
        with suppress(ConfigError):
            config = changed(base, dict(pair for _, pair in pairs if pair is not None))
            check_new(config)
            return with_absolute_paths(config)
        return None

    def _plain_value(self, word: str) -> tuple[str, Any] | None:
        """The key and value of a plain KEY=VALUE; None for all other words."""
        if word not in self._plain:
            override = self._parser.parse_override(word)
            plain = override.type == OverrideType.CHANGE and override.package is None and "${" not in word
            known = override.key_or_group in self._known and not override.is_sweep_override()
            self._plain[word] = (override.key_or_group, override.value()) if plain and known else None
        return self._plain[word]

    def _base(self, words: tuple[str, ...]) -> Config | None:
        """What Hydra composes of these words, or None where it looks something up or is not whole yet."""
        if words not in self._bases:
            self._bases[words] = None
            with suppress(ConfigError):
                composed = self._composed(list(words))
                parts = {str(key): composed._get_node(key) for key in composed if key not in ("hydra", "sweep")}
                if not any(OF_ANOTHER_KEY.search(str(part)) for part in parts.values()):
                    self._bases[words] = typed(composed)
        return self._bases[words]


def _subdir(composed: DictConfig) -> str:
    """hydra.sweep.subdir of a job. Errors: ConfigError."""
    try:
        with config_errors(), hydra_values(composed):
            subdir = os.path.normpath(str(OmegaConf.select(composed, "hydra.sweep.subdir")))
        check_subdir(subdir)
        if subdir.startswith("~"):
            raise ValueError(f"{subdir!r} is outside the sweep's directory (~)")
    except ValueError as error:
        raise ConfigError(f"hydra.sweep.subdir: {error}") from None
    return subdir
