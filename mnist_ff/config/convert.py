"""Plain values to the frozen dataclasses and back, for fresh and for saved configs."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union

from mnist_ff.config.checks import check_between_keys
from mnist_ff.config.constraints import LARGEST_WHOLE, Pattern, Range, Store
from mnist_ff.config.keys import bare_type, hints_of, meaning_of
from mnist_ff.config.messages import brief_text, nearest
from mnist_ff.config.paths import check_text
from mnist_ff.config.schema import VARIANTS, Config, SweepConfig
from mnist_ff.errors import ConfigError

T = TypeVar("T")


def config_from(values: Mapping[str, Any], where: str = "") -> Config:
    """Check plain values and make the configuration of them.

    `where` names the file that the values come from, for the error's text.
    Errors: ConfigError naming the key, the value, what is allowed and the nearest right name.
    """
    try:
        config = _section(Config, values, "")
        check_between_keys(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None
    except RecursionError:  # a value of a thousand brackets, which no message can show
        raise ConfigError(f"{where or 'config'}: a value is nested too deeply") from None
    return config


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain values, ready for YAML or JSON: the inverse of config_from. Trackers that are off do not appear."""
    plain = {key: _plain(value) for key, value in vars(config).items()}
    trackers = {name: keys for name, keys in plain.pop("logger").items() if keys is not None}
    return plain | ({"logger": trackers} if trackers else {})


def experiment(config: Config) -> dict[str, Any]:
    """Plain values of what is trained and how: all but the trackers, which change nothing of it."""
    return {key: value for key, value in config_to_dict(config).items() if key != "logger"}


def sweep_from(values: Mapping[str, Any]) -> SweepConfig:
    """Check the plain values of the section `sweep`. Errors: ConfigError naming the key."""
    return _section(SweepConfig, values, "sweep")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {key: _plain(inner) for key, inner in vars(value).items()}  # asdict() takes three times as long
    return list(value) if isinstance(value, tuple) else value


def _section(section: type[T], values: Any, path: str) -> T:
    """One dataclass from a mapping; `path` is its dotted key, empty for the whole."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'config'}={brief_text(repr(values))}: must be a group of keys")
    variant = _variant(section, values, path)
    hints = hints_of(typing.cast(Any, variant))
    prefix = f"{path}." if path else ""
    for key in values:
        if key not in hints:
            raise ConfigError(_unknown_key(section, variant, f"{prefix}{key}", str(key), values))
    optional = {field.name for field in dataclasses.fields(variant) if field.default is not dataclasses.MISSING}  # type: ignore[arg-type]
    missing = [key for key in hints if key not in values and key not in optional]
    if missing:
        group, _, option = path.partition(".")
        remedy = f"; it comes with {group}={option}" if option else ""
        raise ConfigError(f"{prefix}{missing[0]}: is missing{remedy}")
    given = {key: hint for key, hint in hints.items() if key in values}
    return variant(**{key: _value(hint, values[key], f"{prefix}{key}") for key, hint in given.items()})


_MADE: dict[tuple[type, str, str], Any] = {}


MOST_MADE = 1_000


def _section_once(section: type[T], values: Any, path: str) -> T:
    """_section(), made once of equal values: the thousands of runs of a sweep share most of their sections."""
    key = (section, path, repr(values))
    if key not in _MADE:
        if len(_MADE) >= MOST_MADE:
            _MADE.clear()
        _MADE[key] = _section(section, values, path)
    made: T = _MADE[key]
    return made


def _variant(section: type[T], values: Mapping[str, Any], path: str) -> type[T]:
    if section not in VARIANTS:
        return section
    variants = VARIANTS[section]
    name = values.get("name")
    if not isinstance(name, str) or name not in variants:
        allowed, given = ", ".join(variants), brief_text(name)
        raise ConfigError(f"{path}.name={given}: must be one of {allowed}{nearest(given, variants)}")
    return variants[name]


def _unknown_key(section: type, variant: type, path: str, key: str, values: Mapping[str, Any]) -> str:
    owners = [name for name, other in VARIANTS.get(section, {}).items() if key in hints_of(other)]
    known = ", ".join(hints_of(variant))
    if owners:
        group = path.split(".")[0]
        return (
            f"{path}: is not a key of {group}={values['name']} (keys: {known})\n"
            f"it belongs to: {', '.join(f'{group}={owner}' for owner in owners)}"
        )
    return f"{path}: no such key (keys: {known}){nearest(key, hints_of(variant))}"


def _value(hint: Any, value: Any, path: str) -> Any:
    if isinstance(hint, type) and hint in (bool, int, float, str):  # most keys: the rest takes longer to ask
        return _scalar(hint, value, path)
    if typing.get_origin(hint) is Annotated:
        checked = _value(bare_type(hint), value, path)
        for note in hint.__metadata__:
            if isinstance(note, Range) and not note.allows(checked):
                raise ConfigError(f"{path}={brief_text(value)}: must be {note}")
            if isinstance(note, Store):
                note.check(path, checked)
            if isinstance(note, Pattern) and not note.allows(checked):
                raise ConfigError(f"{path}={brief_text(value)}: must be {meaning_of(hint)}")
        return checked
    if dataclasses.is_dataclass(hint):
        return _section_once(typing.cast(type, hint), value, path)
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _optional(hint, value, path)
    if origin is Literal:
        return _choice(typing.get_args(hint), value, path)
    if origin is Mapping:
        return _row(value, path)
    if origin is tuple:
        return _items(typing.get_args(hint)[0], value, path)
    return _scalar(hint, value, path)


def _optional(hint: Any, value: Any, path: str) -> Any:
    if value is None:
        return None
    inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if dataclasses.is_dataclass(inner):
        return _value(inner, value, path)
    try:
        return _value(inner, value, path)
    except ConfigError as error:
        raise ConfigError(f"{error}, or null") from None


def _choice(allowed: tuple[Any, ...], value: Any, path: str) -> Any:
    if value in allowed:
        return value
    names, given = [str(name) for name in allowed], brief_text(value)
    raise ConfigError(f"{path}={given}: must be one of {', '.join(names)}{nearest(given, names)}")


def _items(hint: Any, value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{path}={brief_text(value)}: must be a list, such as {path}=[...]")
    return tuple(_value(hint, item, f"{path}[{index}]") for index, item in enumerate(value))


def _row(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        given = brief_text(repr(value))
        raise ConfigError(f"{path}={given}: must be a group of keys and values, such as {{optimizer.lr: 0.1}}")
    return {str(key): inner for key, inner in flat(value).items()}


def _scalar(hint: Any, value: Any, path: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # before it is shown: it may be endless
    if isinstance(value, int) and hint is not float and not -LARGEST_WHOLE <= value < LARGEST_WHOLE:
        raise ConfigError(f"{path}: must be below 2**63")
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and number and isinstance(value, int):
        return value
    if hint is float and number:
        if abs(value) > sys.float_info.max or math.isnan(value):
            raise ConfigError(f"{path}={brief_text(value)}: must be a finite number")
        return float(value)
    if hint is str and (number or isinstance(value, str)):
        check_text(path, str(value))
        return str(value)
    words = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    raise ConfigError(f"{path}={'null' if value is None else brief_text(value)}: must be {words[hint]}")
