"""What an error message says of a value that a key cannot have: what is allowed, and the nearest name."""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Meta

from mnist_ff.config.constraints import INT_LIMIT, allows, limits_text
from mnist_ff.config.keys import bare_type, is_optional, meaning_of, notes_of, options_of, value_hint
from mnist_ff.config.messages import brief_text, nearest

WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


def why_refused(hint: Any, value: Any, path: str) -> str:
    """Why a key cannot have this value, and what is allowed."""
    inner, null = value_hint(hint), _others(hint)
    kind, given = bare_type(inner), "null" if value is None else brief_text(value)
    if isinstance(value, int) and kind is not float and not -INT_LIMIT <= value < INT_LIMIT:
        return f"{path}: must be below 2**63{null}"
    if typing.get_origin(kind) is Literal:
        allowed = [str(name) for name in typing.get_args(kind)]
        return f"{path}={given}: must be one of {', '.join(allowed)}{null}{nearest(given, allowed)}"
    if typing.get_origin(kind) is tuple:
        inside = "..." if value is None or isinstance(value, Mapping) else given
        return f"{path}={given}: must be a list, such as {path}=[{inside}]{null}"
    if kind not in WORDS:
        return f"{path}={brief_text(repr(value))}: must be a group of keys and values, such as {{optimizer.lr: 0.1}}"
    limits = _broken_limits(kind, notes_of(inner), value)
    if limits is not None:
        return f"{path}={given}: must be {limits or meaning_of(inner)}{null}"
    return f"{path}={given}: must be {WORDS[kind]}{null}"


def _others(hint: Any) -> str:
    """What a key may be beside its first type, as the end of a message: ', auto or null'."""
    literals = [option for option in options_of(hint)[1:] if typing.get_origin(option) is Literal]
    words = ", ".join(str(word) for literal in literals for word in typing.get_args(literal))
    if not is_optional(hint):
        return f", or {words}" if words else ""
    return f", {words} or null" if words else ", or null"


def _broken_limits(kind: Any, notes: tuple[Any, ...], value: Any) -> str | None:
    """The limits that a value of the right type breaks, empty for a pattern; None where its type is wrong."""
    if kind is str:
        return "" if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if kind is bool or isinstance(value, bool) or not isinstance(value, kind | int):
        return None
    if not abs(value) <= sys.float_info.max:
        return "a finite number"
    return next((limits_text(note) for note in notes if isinstance(note, Meta) and not allows(note, value)), None)
