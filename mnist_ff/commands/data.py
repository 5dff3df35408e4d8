"""List cached data sets, download one, or show what own files hold."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_json, tell_table
from mnist_ff.config.compose import compose
from mnist_ff.config.keys import choices, hints_of
from mnist_ff.config.messages import nearest
from mnist_ff.config.paths import path_argument
from mnist_ff.config.registry import names as part_names
from mnist_ff.config.registry import own_parts, part
from mnist_ff.config.schema import DataConfig, DownloadConfig, FileDataConfig
from mnist_ff.data import catalog
from mnist_ff.data.cache import read_counts, read_header, source_sums
from mnist_ff.errors import ConfigError
from mnist_ff.runs.reading import local_time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="[NAME] [data.KEY=VALUE ...]",
        help="data set to download or read, and verify",
    )
    parser.add_argument(
        "--sheet",
        type=path_argument,
        metavar="FILE.png",
        help="show classes and write a contact sheet (own data: contact_sheet.png)",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """List all data sets; or download and verify one; or show the content of the user's own files.

    Errors: ConfigError, DataError.
    """
    names = [word for word in arguments.words if "=" not in word]
    overrides = [word for word in arguments.words if "=" in word]
    known = part_names("data")
    for name in names:
        if name not in known:
            raise ConfigError(f"{name}: no such data set (there are: {', '.join(known)}){nearest(name, known)}")
    if arguments.sheet is not None and len(names) != 1:
        raise ConfigError("--sheet: give one data set, such as mnist-ff data mnist --sheet mnist.png")
    wanted = names or [name for name in known if not _is_own(name)]
    configs = [_composed(name, overrides if names else _common(overrides)) for name in wanted]
    for config in configs if names else []:
        _fetch(config)
    own = [config for config in configs if _is_own(config.name)]
    listed = [config for config in configs if config not in own]
    if not names:
        listed = [found for config in listed for found in _cached(config)]
    shown = [_described(config, arguments.sheet) for config in (own if arguments.sheet is None else configs)]
    if arguments.json:
        cached = [_document(config) for config in listed]
        tell_json({"cache": str(catalog.cache_root(configs[0])), "cached": cached, "shown": shown})
        return 0
    if listed:
        _list(listed, console)
    for found in shown:
        _show(found, console)
    return 0


def _is_own(name: str) -> bool:
    """Whether a data set is the user's own: read from their files, or from a parts file."""
    return issubclass(part("data", name).config, FileDataConfig) or name in own_parts("data")


def _cached(config: DataConfig) -> list[DataConfig]:
    """The cached data sets of an archive, or the default one if none is cached."""
    if catalog.data_set(config.name).archive is None:
        return [config]
    given: Any = config
    kind: Any = type(config)
    every = [dataclasses.replace(given, split=split) for split in choices(hints_of(kind)["split"])]
    return [found for found in every if catalog.cache_file(found).exists()] or [config]


def _list(configs: Sequence[DataConfig], console: Console) -> None:
    """Print which data sets are cached, and the checksums of their files."""
    tell(console, f"cache: {catalog.cache_root(configs[0])}")
    tell_table(console, ("data", "train", "test", "state"), [_row(config) for config in configs])
    for config in configs:
        sums = source_sums(catalog.cache_file(config))
        if sums:
            tell(console, "")
            tell(console, f"{config.cached_as}: SHA-256 of the files that it was decoded from")
        for name, digest in sums.items():
            tell(console, f"{digest}  {name}")


def _document(config: DataConfig) -> dict[str, Any]:
    """A data set's line and checksums as JSON values."""
    name, _, _, state = _row(config)
    path = catalog.cache_file(config)
    known = isinstance(config, DownloadConfig)
    data_set = catalog.data_set(config.name)
    counts = (read_counts(path) if path.exists() else None) if known else (data_set.train_images, data_set.test_images)
    train, test = counts or (None, None)
    size = path.stat().st_size if known and path.exists() else None
    sums = source_sums(path)
    return {"name": name, "train": train, "test": test, "state": state, "bytes": size, "sha256": dict(sums)}


def _described(config: DataConfig, sheet: Path | None) -> dict[str, Any]:
    """Load a data set and write a contact sheet. Returns counts, shape, classes, warnings and the sheet's path."""
    from mnist_ff.data.load import load_data
    from mnist_ff.images.contact_sheet import contact_sheet, save_sheet

    data = load_data(dataclasses.replace(config, validation_split=0.0), seed=0)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    parts = {name: split for name, split in splits.items() if split is not None}
    counts = {name: split.labels.bincount(minlength=len(data.spec.classes)).tolist() for name, split in parts.items()}
    picture = contact_sheet(data.train.images.numpy(), data.train.labels.numpy(), data.spec.classes)
    return {
        "name": config.name,
        "title": data.title,
        "images": data.spec.text,
        "dtype": str(data.train.images.dtype).removeprefix("torch."),
        "totals": {name: len(split) for name, split in parts.items()},
        "classes": [
            {"class": name, **{part: of[number] for part, of in counts.items()}}
            for number, name in enumerate(data.spec.classes)
        ],
        "warnings": list(data.facts.warnings),
        "sheet": str(save_sheet(picture, sheet)),
    }


def _show(found: dict[str, Any], console: Console) -> None:
    """Print the result of _described()."""
    tell(console, found["title"])
    tell(console, f"images   {found['images']}, {found['dtype']}")
    rows = [("all", *(f"{count:,}" for count in found["totals"].values()))]
    rows += [(row["class"], *(f"{row[part]:,}" for part in found["totals"])) for row in found["classes"]]
    tell_table(console, ("class", *found["totals"]), rows)
    for warning in found["warnings"]:
        tell(console, f"warning: {warning}", style="yellow")
    tell(console, f"contact sheet of training images: {found['sheet']}")


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
        return config.cached_as, "", "", "not cached"
    counts = read_counts(path)
    if counts is None or not read_header(path):
        return config.cached_as, "", "", "damaged; will be downloaded again"
    status = path.stat()
    moment = local_time(status.st_mtime)
    day = "?" if moment is None else moment.strftime("%Y-%m-%d")
    return config.cached_as, f"{counts[0]:,}", f"{counts[1]:,}", f"{status.st_size / 1e6:.0f} MB, since {day}"
