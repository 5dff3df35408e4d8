"""Options of a user's own folders spelled out, as options of ours and keys: a resume needs no folder for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_ff.config.options import WHOLE_CONFIG_GROUPS, Options, file_values, included, options
from mnist_ff.config.overrides import in_grammar, key_of

GROUPED = ("hydra.sweeper.params", "hydra.launcher.additional_parameters")
"""Keys whose values are groups of keys and values themselves."""


def spelled(words: Sequence[str], groups: Collection[str]) -> tuple[str, ...]:
    """Overrides with each option of these groups that an own folder has in place of which it is made of.

    A file whose values are looked up, such as ${oc.env:HOME}, stays as it is named.
    """
    known, head, rest = options(), list[str](), list[str]()
    for word in words:
        group, option = key_of(word), word.partition("=")[2]
        path = known.own_file(group, option) if group in groups else None
        values = {} if path is None else _values(known, group, path)
        if path is None or "${" in str(values):
            rest.append(word)
            continue
        if group not in WHOLE_CONFIG_GROUPS:
            head.append(f"{group}={known.part(group, option)}")
        head += [f"{key}={in_grammar(value)}" for key, value in values.items()]
    return (*head, *rest)  # typed values last: they count


def _values(known: Options, group: str, path: Path) -> dict[str, Any]:
    """What an own file and the own ones that it includes set, by dotted key."""
    values, package = file_values(path, group)
    found: dict[str, Any] = {}
    for base in included(values, group):
        file = known.own_file(group, base)
        found |= {} if file is None else _values(known, group, file)
    own = {key: value for key, value in values.items() if key != "defaults"}
    return found | dict(_leaves(own, package))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in GROUPED:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value
