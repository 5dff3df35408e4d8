"""List cached data sets, or download one."""

from __future__ import annotations

import argparse

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_table
from mnist_ff.config.compose import compose
from mnist_ff.config.messages import nearest
from mnist_ff.config.registry import names as part_names
from mnist_ff.config.schema import DataConfig, DownloadConfig
from mnist_ff.data import catalog
from mnist_ff.data.cache import read_counts, read_header, source_sums
from mnist_ff.errors import ConfigError
from mnist_ff.runs.reading import local_time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument(
        "words", nargs="*", metavar="[NAME] [data.KEY=VALUE ...]", help="data set to download and verify"
    )


def main(arguments: argparse.Namespace, console: Console) -> int:
    """List every data set of the cache, or fetch and verify one and list it."""
    names = [word for word in arguments.words if "=" not in word]
    overrides = [word for word in arguments.words if "=" in word]
    known = part_names("data")
    for name in names:
        if name not in known:
            raise ConfigError(f"{name}: no such data set (there are: {', '.join(known)}){nearest(name, known)}")
    configs = [_composed(name, overrides if names else _common(overrides)) for name in names or known]
    for config in configs if names else []:
        _fetch(config)
    tell(console, f"cache: {catalog.cache_root(configs[0])}")
    tell_table(console, ("data", "train", "test", "state"), [_row(config) for config in configs])
    for config in configs:
        sums = source_sums(catalog.cache_file(config))
        if sums:
            tell(console, "")
            tell(console, f"{config.name}: SHA-256 of the files that it was decoded from")
        for name, digest in sums.items():
            tell(console, f"{digest}  {name}")
    return 0


def _composed(name: str, overrides: list[str]) -> DataConfig:
    for override in overrides:
        if not override.startswith("data."):
            raise ConfigError(f"{override}: only data.KEY=VALUE is allowed here")
    return compose([f"data={name}", *overrides]).data


def _common(overrides: list[str]) -> list[str]:
    for word in overrides:
        if not word.startswith("data.root="):
            raise ConfigError(f"{word}: give the data set first, such as mnist-ff data mnist {word}")
    return overrides


def _fetch(config: DataConfig) -> None:
    from mnist_ff.data.load import load_data

    load_data(config, seed=0)


def _row(config: DataConfig) -> tuple[str, str, str, str]:
    if not isinstance(config, DownloadConfig):
        data_set = catalog.data_set(config.name)
        return config.name, f"{data_set.train_images:,}", f"{data_set.test_images:,}", data_set.source
    path = catalog.cache_file(config)
    if not path.exists():
        return config.name, "", "", "not cached"
    counts = read_counts(path)
    if counts is None or not read_header(path):
        return config.name, "", "", "damaged; will be downloaded again"
    status = path.stat()
    moment = local_time(status.st_mtime)
    day = "?" if moment is None else moment.strftime("%Y-%m-%d")
    return config.name, f"{counts[0]:,}", f"{counts[1]:,}", f"{status.st_size / 1e6:.0f} MB, since {day}"
