"""What the dataclasses say of each dotted key: meaning, type and choices."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union

from mnist_ff.config.schema import VARIANTS, Config, SweepConfig


def known_keys() -> dict[str, str]:
    """Every dotted key of every variant, with its meaning."""
    return {key: meaning_of(hint) for key, hint in leaves(Config)}


@functools.cache
def text_keys() -> frozenset[str]:
    """The dotted keys whose value is a text, or a list of texts: what is typed there is never a number."""
    return frozenset(key for key, hint in leaves(Config) if _holds_text(hint))


def whole_keys() -> set[str]:
    """The dotted keys that hold whole numbers."""
    return {key for key, hint in leaves(Config) if _holds_whole(hint)}


def leaves(
    section: type, prefix: str = "", chosen: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, Any]]:
    """Every dotted key below a section, with its type's hint.

    Of a section whose keys depend on its name, those of the variant that is `chosen` for it, else those of all.
    """
    for key, hint in hints_of(section).items():
        inner = section_type(hint)
        if inner is None:
            yield f"{prefix}{key}", hint
            continue
        variants = VARIANTS.get(inner, {"": inner})
        name = chosen.get(f"{prefix}{key}")
        for variant in [variants[name]] if name in variants else variants.values():
            yield from leaves(variant, f"{prefix}{key}.")


def choices(hint: Any) -> tuple[str, ...]:
    """The words that a key of this type may be, as they are typed; none where they cannot be listed."""
    bare = bare_type(hint)
    if typing.get_origin(bare) in (Union, types.UnionType):
        options = [choices(option) for option in typing.get_args(bare) if option is not type(None)]
        return (*(word for words in options for word in words), "null")
    if typing.get_origin(bare) is Literal:
        return tuple(str(word) for word in typing.get_args(bare))
    return ("true", "false") if bare is bool else ()


def section_type(hint: Any) -> type | None:
    """The dataclass that a hint means, may it be absent or not."""
    bare = bare_type(hint)
    options = typing.get_args(bare) if typing.get_origin(bare) in (Union, types.UnionType) else (bare,)
    return next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)


def _holds_whole(hint: Any) -> bool:
    bare = bare_type(hint)
    if typing.get_origin(bare) in (Union, types.UnionType):
        return any(_holds_whole(option) for option in typing.get_args(bare))
    return bare is int


def _holds_text(hint: Any) -> bool:
    bare = bare_type(hint)
    if typing.get_origin(bare) in (Union, types.UnionType, tuple):
        return any(_holds_text(option) for option in typing.get_args(bare))
    return bare is str


def sweep_keys() -> dict[str, str]:
    """Every dotted key that only a sweep has, with its meaning."""
    return {f"sweep.{key}": meaning_of(hint) for key, hint in hints_of(SweepConfig).items()}


@functools.cache  # a summary checks thousands of configs
def hints_of(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


def bare_type(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def meaning_of(hint: Any) -> str:
    notes = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
    return next((note for note in notes if isinstance(note, str)), "")
