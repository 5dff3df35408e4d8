"""Values of YAML files with their lines and the comments above them, for people."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.config.defaults import default_options
from mnist_ff.config.options import Options, file_values, included, options
from mnist_ff.config.own_part import node_of
from mnist_ff.config.paths import conf_dir, display_path
from mnist_ff.config.registry import own_part
from mnist_ff.config.schema import SELECTIONS
from mnist_ff.config.yaml_io import read_yaml

MISSING = "???"
"""The value of a key without a default."""

COMMAND_INDENT = "   "
"""Indentation of a command in a comment, after the #."""


@dataclass(frozen=True)
class Setting:
    """A key's value and where it is set."""

    value: Any
    source: str
    """FILE:LINE. Built-in files begin with conf/."""
    about: str = ""
    """The comment above it."""


def settings_of(group: str, option: str) -> dict[str, Setting]:
    """What an option sets by dotted key, including the files in its defaults list.

    Errors: ConfigError for a file that cannot be read.
    """
    known = options()
    path = known.files[group].get(option)
    part = own_part(group, option)
    if path is None and part is not None:
        prefix = f"{group}.{option}." if group in SELECTIONS else f"{group}."
        return {f"{prefix}{key}": Setting(value, part.source) for key, value in node_of(part).items()}
    return {} if path is None else dict(_of_file(known, group, path))


def settings_of_config() -> dict[str, Setting]:
    """What conf/config.yaml sets, by dotted key."""
    path = conf_dir() / "config.yaml"
    return dict(_settings(path, read_yaml(path), ""))


def default_of(group: str) -> Setting:
    """The default option of a group by conf/config.yaml: null for none, [] for an empty selection."""
    chosen = default_options().get(group, "basic")
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8").splitlines()
    lines = [number for number, line in enumerate(text, 1) if re.match(rf"  - (?:override )?{group}: ", line)]
    return Setting(chosen, f"conf/config.yaml:{lines[0]}" if lines else "Hydra")


def chosen_in(group: str, option: str) -> list[str]:
    """The options of other groups that an option's file selects, as overrides."""
    path = options().files[group].get(option)
    entries = [] if path is None else (read_yaml(path) or {}).get("defaults") or []
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return [f"{name.removeprefix('override ').strip('/ ')}={value}" for name, value in pairs]


def heading(group: str, option: str) -> str:
    """The first sentence of the comment at the top of an option's file. Empty without one."""
    path = options().files[group].get(option)
    if path is None:
        return ""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    top = itertools.takewhile(lambda line: line.startswith("#") and not line.startswith(f"#{COMMAND_INDENT}"), lines)
    comment = " ".join(line.lstrip("# ") for line in top)
    ends = [found.start() for found in re.finditer(r"(?<!al)[.:](?=\s|\Z)", comment)]
    whole = [comment[:end] for end in ends if comment[:end].count("(") == comment[:end].count(")")]
    return whole[0] if whole else comment


def _of_file(known: Options, group: str, path: Path) -> Iterator[tuple[str, Setting]]:
    values, package = file_values(path, group)
    for base in included(values, group):
        file = known.files[group].get(base)
        if file is not None:
            yield from _of_file(known, group, file)
    yield from _settings(path, values, package)


def _settings(path: Path, values: dict[str, Any], package: str) -> Iterator[tuple[str, Setting]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    built_in = path.is_relative_to(conf_dir())
    shown = f"conf/{path.relative_to(conf_dir())}" if built_in else str(display_path(path))
    key_lines = _key_lines("\n".join(lines))
    for key, value in _leaves(values, ""):
        line = key_lines.get(key, 0)
        yield f"{package}{key}", Setting(value, f"{shown}:{line + 1}", _comment(lines, line))


def _leaves(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif prefix or key != "defaults":
            yield f"{prefix}{key}", value


@functools.lru_cache(maxsize=200)
def _key_lines(text: str) -> dict[str, int]:
    """The line number from 0 of each dotted key in a valid YAML text."""
    import yaml

    found: dict[str, int] = {}

    def visit(node: Any, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found[f"{prefix}{key.value}"] = key.start_mark.line
                visit(value, f"{prefix}{key.value}.")

    visit(yaml.compose(text, Loader=yaml.SafeLoader), "")
    return found


def _comment(lines: list[str], line: int) -> str:
    """The comment right above a line. In the comment at the top of a file, only what follows its last command."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    block = [text.lstrip()[1:] for text in lines[first:line]]
    while any(text.startswith(COMMAND_INDENT) for text in block):
        block = block[1:]
    return " ".join(text.strip() for text in block if "@package" not in text)
