"""The differences between a run's config and the defaults in conf/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.analysis.ranking import text
from mnist_ff.config.convert import config_to_dict, flat
from mnist_ff.config.no_effect import DATA_SOURCE_KEYS
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.registry import GROUPS as PARTS
from mnist_ff.config.registry import names, own_parts
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import read_yaml

GROUPS = ("data", "model", "optimizer", "schedule", "augment", "trainer")


@dataclass(frozen=True)
class Difference:
    """A key that differs from its default, with both values as in overrides."""

    key: str
    value: str
    default: str


def differences(config: Config) -> list[Difference]:
    """The keys that differ from conf/: another option of a group, or another value than the option's default.

    Keys of the data's source are left out, and trainer.threads, whose default depends on the machine.
    Errors: ConfigError if conf/ cannot be read.
    """
    values = flat(config_to_dict(config))
    top = read_yaml(conf_dir() / "config.yaml")
    chosen = {group: option for entry in top["defaults"] if isinstance(entry, dict) for group, option in entry.items()}
    defaults: dict[str, Any] = {key: value for key, value in top.items() if key in values}
    found = []
    for group in GROUPS:
        option = values.get(f"{group}.name", chosen[group])
        if option != chosen[group]:
            found.append(Difference(group, str(option), str(chosen[group])))
        defaults |= {f"{group}.{key}": value for key, value in _defaults(group, option).items()}
    for key, value in values.items():
        known = key in defaults and key not in DATA_SOURCE_KEYS and key != "trainer.threads"
        if known and text(value) != text(defaults[key]):
            found.append(Difference(key, text(value), text(defaults[key])))
    return found


def _defaults(group: str, option: str) -> dict[str, Any]:
    """The default values of an option. Empty for a user's own part whose file was not given."""
    if group in PARTS and option not in names(group):
        return {}
    own = own_parts(group).get(option) if group in PARTS else None
    return _option(conf_dir() / group, option) if own is None else dict(own.defaults or {})


def _option(folder: Path, name: str) -> dict[str, Any]:
    """The keys of an option, with those of the files in its defaults list."""
    values = read_yaml(folder / f"{name}.yaml")
    merged: dict[str, Any] = {}
    for base in _bases(values):
        merged |= _option(folder, base)
    return merged | {key: value for key, value in values.items() if key != "defaults"}


def _bases(values: dict[str, Any]) -> Iterator[str]:
    return (entry for entry in values.get("defaults", []) if isinstance(entry, str) and entry != "_self_")
