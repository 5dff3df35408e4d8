"""Dotted keys of the config: meaning, type and choices."""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union

from mnist_ff.config.constraints import Among, OneOf, PartOf
from mnist_ff.config.registry import group_of, names, part, parts, until_registered
from mnist_ff.config.schema import SELECTIONS, Config, SweepConfig


@until_registered
def known_keys() -> dict[str, str]:
    """Every dotted key of every part, with its meanings: parts may share a key and mean different things."""
    found: dict[str, dict[str, None]] = {}
    for key, hint in leaves(Config):
        found.setdefault(key, {})[meaning_of(hint)] = None
    return {key: "; ".join(filter(None, meanings)) for key, meanings in found.items()}


@until_registered
def hints_at(key: str) -> tuple[Any, ...]:
    """The hints of a dotted key in all parts that have it. Only parts of its own section are imported for it."""
    return tuple(hint for name, hint in leaves(Config, begins=key) if name == key)


@until_registered
def whole_keys() -> frozenset[str]:
    """The dotted keys that hold whole numbers."""
    return frozenset(key for key, hint in leaves(Config) if int in scalar_types(hint) and not is_list(hint))


def sweep_keys() -> dict[str, str]:
    """Every dotted key that only a sweep has, with its meaning."""
    return {f"sweep.{key}": meaning_of(hint) for key, hint in hints_of(SweepConfig).items()}


def leaves(
    section: type, prefix: str = "", chosen: Mapping[str, str] = MappingProxyType({}), begins: str = ""
) -> Iterator[tuple[str, Any]]:
    """Every dotted key below a section, with its type's hint.

    Of a section whose keys depend on its name, those of the part that is `chosen` for it, else those of all; of
    the sections only those with keys that begin with `begins`.
    """
    for key, hint in hints_of(section).items():
        path = f"{prefix}{key}."
        if not (path.startswith(begins) or begins.startswith(path)):
            continue
        if section is Config and key in SELECTIONS:
            group = SELECTIONS[key].group
            wanted = re.findall(r"\w+", chosen[key]) if key in chosen else names(group)
            for name in (name for name in names(group) if name in wanted):
                yield from leaves(part(group, name).config, f"{path}{name}.")
        elif dataclasses.is_dataclass(hint):
            for found in _sections(typing.cast(type, hint), chosen.get(f"{prefix}{key}")):
                yield from leaves(found, path)
        else:
            yield f"{prefix}{key}", hint


def _sections(section: type, name: str | None) -> list[type]:
    group = group_of(section)
    if group is None:
        return [section]
    if name is not None and name in names(group):
        return [part(group, name).config]
    return [found.config for found in parts(group).values()]


def choices(hint: Any) -> tuple[str, ...]:
    """The values that a key of this type may have, as they are typed; none where they cannot be listed."""
    options = [option for option in options_of(hint) if option is not type(None)]
    words = [
        str(word) for option in options if typing.get_origin(option) is Literal for word in typing.get_args(option)
    ]
    words += ["true", "false"] if bool in options else []
    words += [name for note in notes_of(hint) if isinstance(note, OneOf | Among) for name in note.names]
    if is_list(hint):
        words += [name for note in notes_of(item_of(hint)) if isinstance(note, PartOf) for name in names(note.group)]
    return (*words, "null") if is_optional(hint) else tuple(words)


@functools.cache
def hints_of(section: type) -> dict[str, Any]:
    """The hint of each of a dataclass's keys."""
    return typing.get_type_hints(section, include_extras=True)


def bare_type(hint: Any) -> Any:
    """A hint without its notes."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def notes_of(hint: Any) -> tuple[Any, ...]:
    """The notes of a hint."""
    return hint.__metadata__ if typing.get_origin(hint) is Annotated else ()


def meaning_of(hint: Any) -> str:
    """What a key means, for people."""
    return next((note for note in notes_of(hint) if isinstance(note, str)), "")


def union_members(hint: Any) -> tuple[Any, ...]:
    """The members of a union with their notes; the hint itself where it is none."""
    bare = bare_type(hint)
    return typing.get_args(bare) if typing.get_origin(bare) in (Union, types.UnionType) else (hint,)


def options_of(hint: Any) -> tuple[Any, ...]:
    """The same without notes."""
    return tuple(bare_type(member) for member in union_members(hint))


def is_optional(hint: Any) -> bool:
    """Whether null is a value."""
    return type(None) in options_of(hint)


def is_list(hint: Any) -> bool:
    """Whether the key holds a list."""
    return any(typing.get_origin(option) is tuple for option in options_of(hint))


def item_of(hint: Any) -> Any:
    """The hint of a list's items."""
    return next(typing.get_args(option)[0] for option in options_of(hint) if typing.get_origin(option) is tuple)


def value_hint(hint: Any) -> Any:
    """The hint of a key's value where it is not null."""
    return next(member for member in union_members(hint) if member is not type(None))


def scalar_types(hint: Any) -> set[Any]:
    """The types of a key's values, be they in a list or not."""
    return {bare_type(item_of(hint))} if is_list(hint) else set(options_of(hint))
