"""Hydra's grid sweeper, which here checks all jobs and decides on the data set before the first one starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from mnist_ff.config import Config, DataConfig, MNIST5kConfig
from mnist_ff.errors import ConfigError, RunError


class CheckedSweeper(BasicSweeper):
    """A grid of jobs, all of them valid, none of them on other data than the rest asked for."""

    __module__ = "hydra_plugins.mnist_ff"  # the only namespace that Hydra takes plugins from; see plugins.py

    def sweep(self, arguments: list[str]) -> Any:
        """Check every job, see that each data set can be had, then launch. Errors: ConfigError, DataError."""
        from mnist_ff.hydra_app.compose import check_overrides, config_errors

        assert self.config is not None
        assert self.hydra_context is not None
        check_overrides(self.hydra_context.config_loader, arguments)
        with config_errors():
            configs = self._configs(arguments)
            if self._needs_fallback(configs):
                arguments = _on_subset(arguments)
                self._configs(arguments)
            directory = Path(str(self.config.hydra.sweep.dir))
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            raise RunError(f"{directory}: exists already; two sweeps never share a directory") from None
        except OSError as error:
            raise RunError(f"{directory}: {error.strerror}; choose another with hydra.sweep.dir=FOLDER") from None
        return super().sweep(arguments)

    def _configs(self, arguments: list[str]) -> list[Config]:
        return [self._job_config(job) for job in self._jobs(arguments)]

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        return [job for batch in self.split_arguments(overrides, None) for job in batch]

    def _job_config(self, job: list[str]) -> Config:
        from mnist_ff.hydra_app.compose import checked, composed_or_explained

        assert self.hydra_context is not None
        assert self.config is not None
        loader, master = self.hydra_context.config_loader, self.config
        try:
            return checked(composed_or_explained(lambda words: loader.load_sweep_config(master, words), job))
        except ConfigError as error:
            raise ConfigError(f"{error}\nin the job {' '.join(job)}; no job was started") from None

    def _needs_fallback(self, configs: list[Config]) -> bool:
        """Fetch every data set of the sweep; whether MNIST could not be had and its subset must stand in."""
        from mnist_ff.data.load import ensure

        wanted: dict[DataConfig, None] = dict.fromkeys(config.data for config in configs)
        if not any(isinstance(ensure(data), MNIST5kConfig) and data.name == "mnist" for data in wanted):
            return False
        if {data.name for data in wanted} != {"mnist"}:
            raise ConfigError("MNIST could not be had, and this sweep compares data sets: see mnist-ff data mnist")
        return True


def _on_subset(arguments: list[str]) -> list[str]:
    """The same sweep on mnist_5k; keys that it does not have are left out."""
    gone = ("data=", "data.mirrors=", "data.fallback=")
    return [*(word for word in arguments if not word.startswith(gone)), "data=mnist_5k", "data.instead_of=mnist"]
