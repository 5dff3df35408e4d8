"""Overrides to a sweep's jobs, each of them checked: thousands in seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mnist_ff.config.compose import ComposedSweep, Composer
from mnist_ff.config.keys import known_keys
from mnist_ff.config.schema import Config, with_absolute_paths
from mnist_ff.errors import ConfigError
from mnist_ff.runs.jobs import Job, check_subdir
from mnist_ff.session.resume import changed
from mnist_ff.session.validate import check_new


class JobBuilder:
    """Makes the jobs of one sweep.

    Hydra takes 50 ms to compose a config. It is asked once for each choice of options; plain values are put into what
    it made, as it would do itself, where nothing in that config is looked up elsewhere. Whatever is wrong is left to
    Hydra, and so said in the same words.
    """

    def __init__(self, composer: Composer, composed: ComposedSweep) -> None:
        self._composer, self._composed = composer, composed
        self._plain: dict[str, tuple[str, Any] | None] = {}
        self._bases: dict[tuple[str, ...], Config | None] = {}

    def job(self, number: int, overrides: Sequence[str]) -> Job:
        """The job of these overrides. Errors: ConfigError naming the job."""
        try:
            config = self._quickly(overrides) if self._composed.is_numbered else None
            if config is not None:
                return Job(number, tuple(overrides), str(number), config)
            return self.by_hydra(number, overrides)
        except ConfigError as error:
            raise ConfigError(f"{error}\nin the job {' '.join(overrides)}; no job was started") from None

    def by_hydra(self, number: int, overrides: Sequence[str]) -> Job:
        """The same, all of it composed by Hydra. Errors: ConfigError."""
        config, subdir = self._composed.job(number, overrides)
        check_new(config)
        return Job(number, tuple(overrides), _checked_subdir(subdir), with_absolute_paths(config))

    def _quickly(self, overrides: Sequence[str]) -> Config | None:
        """The checked config, or None where Hydra must be asked."""
        pairs = [(text, self._plain_value(text)) for text in overrides]
        options = tuple(text for text, pair in pairs if pair is None)
        if options not in self._bases:
            self._bases[options] = self._composed.base(options)
        base = self._bases[options]
        if base is None:
            return None
        with suppress(ConfigError):
            config = changed(base, dict(pair for _, pair in pairs if pair is not None))
            check_new(config)
            return with_absolute_paths(config)
        return None

    def _plain_value(self, text: str) -> tuple[str, Any] | None:
        """The key and value of a plain KEY=VALUE; None for all other overrides."""
        if text not in self._plain:
            override = self._composer.parse(text)
            plain = override.kind == "CHANGE" and override.package is None and "${" not in text
            known = override.key in known_keys() and override.values is None
            self._plain[text] = (override.key, override.value) if plain and known else None
        return self._plain[text]


def _checked_subdir(subdir: str) -> str:
    """hydra.sweep.subdir of a job. Errors: ConfigError."""
    try:
        subdir = os.path.normpath(subdir)
        check_subdir(subdir)
        if subdir.startswith("~"):
            raise ValueError(f"{subdir!r} is outside the sweep's directory (~)")
    except ValueError as error:
        raise ConfigError(f"hydra.sweep.subdir: {error}") from None
    return subdir
