"""Plain values to frozen dataclasses and back, for new and saved configs.

msgspec converts and checks; what it refuses is explained here: key, value, what is allowed, the nearest name.
"""

from __future__ import annotations

import dataclasses
import functools
import keyword
import math
import re
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from mnist_ff.config.aliases import accepted, meant
from mnist_ff.config.constraints import INT_LIMIT, OneOf, PartOf
from mnist_ff.config.keys import (
    hints_of,
    is_list,
    item_of,
    notes_of,
    scalar_types,
)
from mnist_ff.config.messages import brief_text, nearest
from mnist_ff.config.paths import check_text
from mnist_ff.config.refused_value import why_refused
from mnist_ff.config.registry import GROUPS, group_of, is_part_name, names, part, until_registered, variants
from mnist_ff.config.schema import (
    SELECTIONS,
    VALIDATION_SCORES,
    Config,
    Section,
    Selection,
    SweepConfig,
    Unregistered,
)
from mnist_ff.errors import ConfigError

S = TypeVar("S", bound=Section)

CHOSEN = (*SELECTIONS, "metrics")
"""Keys of a config that choose any number of parts: where they are missing, none."""


def config_from(values: Mapping[str, Any], where: str = "", unregistered: bool = False) -> Config:
    """Check plain values and make the configuration of them.

    `where` names the file that the values come from, for the error's text. unregistered: a part that is not known
    becomes a section of plain values; a saved config may have a user's own part whose file was not given.
    Errors: ConfigError naming the key, the value, what is allowed and the nearest right name.
    """
    try:
        return _config(values, unregistered)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None
    except RecursionError:  # a value of a thousand brackets, which no message can show
        raise ConfigError(f"{where or 'config'}: a value is nested too deeply") from None


def sweep_from(values: Mapping[str, Any]) -> SweepConfig:
    """Check the plain values of the section `sweep`. Errors: ConfigError naming the key."""
    sweep = _section(SweepConfig, values, "sweep")
    if sweep.rows is None:
        return sweep
    rows = tuple({str(key): value for key, value in flat(row).items()} for row in sweep.rows)
    return dataclasses.replace(sweep, rows=rows)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain values, ready for YAML or JSON: the inverse of config_from. Trackers, callbacks and metrics appear where
    some are chosen."""
    plain = {key: _plain(value) for key, value in vars(config).items() if key not in CHOSEN}
    for key in SELECTIONS:
        if chosen := {name: _plain(part) for name, part in getattr(config, key)}:
            plain[key] = chosen
    return plain | ({"metrics": list(config.metrics)} if config.metrics else {})


def experiment(config: Config) -> dict[str, Any]:
    """Plain values of what is trained and how: all but the trackers and callbacks, which change nothing of it."""
    return {key: value for key, value in config_to_dict(config).items() if key not in SELECTIONS}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _plain(value: Any) -> Any:
    return plain_values(value) if isinstance(value, Section) else value


def plain_values(section: Section) -> dict[str, Any]:
    """A section's keys with plain values."""
    return {key: list(inner) if isinstance(inner, tuple) else inner for key, inner in vars(section).items()}


def _config(values: Any, unregistered: bool) -> Config:
    _check_names(Config, Config, values, "")
    return config_of({key: made_of(key, value, unregistered) for key, value in values.items()})


def config_of(made: Mapping[str, Any]) -> Config:
    """The config whose keys have become these. Errors: ConfigError."""
    _check_names(Config, Config, made, "")
    config = Config(**made)
    _check_monitor(config)
    return config


def _check_monitor(config: Config) -> None:
    """See that trainer.monitor names a score or a chosen metric, with a direction. Errors: ConfigError."""
    trainer = config.trainer
    name = trainer.monitor.partition("/")[0]
    if trainer.monitor in VALIDATION_SCORES:
        return
    if name not in config.metrics:
        close = nearest(name, (*VALIDATION_SCORES, *config.metrics))
        remedy = f"; metrics=[{name}] measures it" if name in names("metric") else close
        raise ConfigError(
            f"trainer.monitor={brief_text(trainer.monitor)}: must be {', '.join(VALIDATION_SCORES)}, or NAME or "
            f"NAME/KEY of a metric in metrics=[{','.join(config.metrics)}]{remedy}"
        )
    if trainer.monitor_mode is None:
        raise ConfigError(f"trainer.monitor={brief_text(trainer.monitor)}: needs trainer.monitor_mode=min or max")


class _Equal(str):
    """A plain value as functools.lru_cache can compare it; 1, 1.0 and True differ."""

    value: Any

    @classmethod
    def of(cls, value: Any) -> _Equal:
        try:
            made = cls(repr(value))
        except ValueError:  # an integer of too many digits: an error for any key, and errors are not kept
            made = cls()
        made.value = value
        return made


def made_of(key: str, value: Any, unregistered: bool) -> Any:
    """What one of the config's keys becomes. Errors: ConfigError; KeyError for another key."""
    return _made(key, _Equal.of(value), unregistered)


@until_registered
def _made(key: str, given: _Equal, unregistered: bool) -> Any:
    """The same, made once of equal values: the runs of a sweep share most of them."""
    hint = hints_of(Config)[key]
    if key in SELECTIONS:
        return _selection(SELECTIONS[key], given.value, key, unregistered)
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast("type[Section]", hint), given.value, key, unregistered)
    made = key_value(hint, given.value, key)
    for note in notes_of(item_of(hint)) if is_list(hint) else ():
        if isinstance(note, PartOf):
            _check_chosen(made, note.group, key, unregistered)
    return made


def _selection(selection: type[Selection[Any]], values: Any, path: str, unregistered: bool) -> Selection[Any]:
    """The chosen parts of a group, in the registry's order, then those that are not registered."""
    known = names(selection.group)
    _check_group(values, path)
    for name in values:
        if name not in known and not (unregistered and is_part_name(name)):
            raise ConfigError(_no_such_key(f"{path}.{name}", str(name), known))
    chosen = [name for name in dict.fromkeys([*known, *values]) if values.get(name) is not None]
    return selection(tuple((name, _option(selection.group, name, values[name], path)) for name in chosen))


def _option(group: str, name: str, values: Any, path: str) -> Section:
    section = GROUPS[group].section
    if name not in names(group):
        return plain_section(section, values, f"{path}.{name}")
    config: type[Section] = part(group, name).config
    _check_names(section, config, values, f"{path}.{name}")
    return _converted(config, values, f"{path}.{name}")


def _check_chosen(chosen: tuple[str, ...], group: str, path: str, unregistered: bool) -> None:
    """See that a list names parts of a group, each once. Errors: ConfigError."""
    for name in chosen:
        if not (unregistered and is_part_name(name)):
            _check_choice(name, names(group), path)
        if chosen.count(name) > 1:
            raise ConfigError(f"{path}: {name} is given twice")


def _section(section: type[S], values: Any, path: str, unregistered: bool = False) -> S:
    """One section from a mapping; where it has a name, that decides its dataclass."""
    _check_group(values, path)
    group = group_of(section)
    variant: type[S] = section
    if group is not None:
        name = values.get("name")
        if unregistered and is_part_name(name) and name not in names(group):
            return plain_section(section, values, path)
        if not isinstance(name, str) or name not in names(group):
            known, given = names(group), brief_text(name)
            raise ConfigError(f"{path}.name={given}: must be one of {', '.join(known)}{nearest(given, known)}")
        variant = typing.cast("type[S]", part(group, name).config)
    _check_names(section, variant, values, path)
    return _converted(variant, values, path)


def plain_section(section: type[S], values: Any, path: str) -> S:
    """A section of a part that is not registered: the group's own keys, checked, and the others as plain values.

    Errors: ConfigError naming the key.
    """
    _check_group(values, path)
    for key, value in values.items():
        items = value if isinstance(value, list | tuple) else [value]
        named = isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
        if not named or hasattr(section, key):  # it would hide a method
            raise ConfigError(f"{path}: {brief_text(repr(key))} is not a key")
        if not all(item is None or isinstance(item, bool | int | float | str) for item in items):
            raise ConfigError(f"{path}.{key}={brief_text(repr(value))}: must be a plain value")
    others = tuple(key for key in values if key not in hints_of(typing.cast(Any, section)))
    variant: type[S] = _plain_class(typing.cast(Any, section), others)
    _check_names(section, variant, values, path)
    return _converted(variant, {key: _listed(value) for key, value in values.items()}, path)


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@functools.lru_cache(maxsize=1_000)
def _plain_class(section: Any, others: tuple[str, ...]) -> Any:
    fields: list[Any] = [(key, Any) for key in others]
    bases = (section, Unregistered)
    return dataclasses.make_dataclass(section.__name__, fields, bases=bases, frozen=True, kw_only=True)


def _check_group(values: Any, path: str) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'config'}={brief_text(repr(values))}: must be a group of keys")


def _check_names(section: Any, variant: Any, values: Any, path: str) -> None:
    """See that a section's keys are those of its dataclass. Errors: ConfigError."""
    _check_group(values, path)
    hints = hints_of(variant)
    if values.keys() == hints.keys():
        return
    prefix = f"{path}." if path else ""
    for key in values:
        if key not in hints:
            raise ConfigError(_unknown_key(section, variant, f"{prefix}{key}", str(key), values))
    missing = [key for key in hints if key not in values and not (variant is Config and key in CHOSEN)]
    if missing:
        group, _, option = path.partition(".")
        remedy = f"; it comes with {group}={option}" if option else ""
        raise ConfigError(f"{prefix}{missing[0]}: is missing{remedy}")


def _unknown_key(section: Any, variant: Any, path: str, key: str, values: Mapping[str, Any]) -> str:
    owners = [name for name, other in variants(section).items() if name and key in hints_of(typing.cast(Any, other))]
    if owners and "name" in values:
        group = path.split(".")[0]
        return (
            f"{path}: is not a key of {group}={values['name']} (keys: {', '.join(hints_of(variant))})\n"
            f"it belongs to: {', '.join(f'{group}={owner}' for owner in owners)}"
        )
    return _no_such_key(path, key, tuple(hints_of(variant)))


def _no_such_key(path: str, key: str, known: tuple[str, ...]) -> str:
    found = meant(path)
    name = "" if found is None else found.name
    here = name.rpartition(".")[2]
    close = f"; did you mean {here if here in known else name}?" if name else nearest(key, known)
    return f"{path}: no such key (keys: {', '.join(known)}){close}"


def _converted(section: type[S], values: Mapping[str, Any], path: str) -> S:
    """A section whose keys are right. Errors: ConfigError."""
    in_order = {key: values[key] for key in hints_of(typing.cast(Any, section))}  # msgspec keeps the order of its input
    try:
        made = msgspec.convert(in_order, section)
    except (msgspec.ValidationError, UnicodeEncodeError):
        hints = hints_of(typing.cast(Any, section))
        made = section(**{key: key_value(hints[key], value, f"{path}.{key}") for key, value in values.items()})
    for key, value in vars(made).items():
        _check_value(value, path, key)
    for key, table in _tables(typing.cast(Any, section)).items():
        _check_choice(getattr(made, key), tuple(table.names), f"{path}.{key}")
    made.check(path)
    return made


@functools.cache
def _tables(section: Any) -> dict[str, OneOf]:
    """The keys of a section whose values are a table's names."""
    notes = {
        key: [note for note in notes_of(hint) if isinstance(note, OneOf)] for key, hint in hints_of(section).items()
    }
    return {key: found[0] for key, found in notes.items() if found}


def _check_choice(given: str, allowed: tuple[str, ...], path: str) -> None:
    if given not in allowed:
        given = brief_text(given)
        remedy = accepted(path, given) or nearest(given, allowed)
        raise ConfigError(f"{path}={given}: must be one of {', '.join(allowed)}{remedy}")


def key_value(hint: Any, value: Any, path: str) -> Any:
    """One key by itself; a number where a text belongs is its text. Errors: ConfigError that says what is wrong."""
    given = value
    if str in scalar_types(hint):
        given = [_as_text(path, item) for item in value] if isinstance(value, list | tuple) else _as_text(path, value)
    try:
        made = msgspec.convert(given, hint)
    except UnicodeEncodeError:
        for item in value if isinstance(value, list | tuple) else (value,):
            check_text(path, str(item))
        raise
    except msgspec.ValidationError as error:
        for index in map(int, re.findall(r"\[(\d+)\](?=[\[\]\d]*`$)", str(error))):
            if is_list(hint):
                hint, value, path = item_of(hint), value[index], f"{path}[{index}]"
        said, remedy = why_refused(hint, value, path), accepted(path, value)
        is_said = "did you mean" in said or said.endswith(remedy.removeprefix("; type "))
        raise ConfigError(said if is_said else f"{said}{remedy}") from None
    *section, key = path.split(".")
    _check_value(made, ".".join(section), key)
    return made


def _as_text(path: str, value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and not -INT_LIMIT <= value < INT_LIMIT:
        raise ConfigError(f"{path}: must be below 2**63")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_value(value: Any, section: str, key: str) -> None:
    """What msgspec lets pass: texts that no file holds, numbers without end. Errors: ConfigError."""
    if value is None or isinstance(value, bool):
        return
    path = f"{section}.{key}" if section else key
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, str):
            check_text(path, item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ConfigError(f"{path}={brief_text(item)}: must be a finite number")
        elif isinstance(item, int) and not -INT_LIMIT <= item < INT_LIMIT:
            raise ConfigError(f"{path}: must be below 2**63")
