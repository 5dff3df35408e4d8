"""Describe a key, a group or an option: meaning, type, range, default and its source. No torch, no Hydra."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Meta

from mnist_ff.config.aliases import every_name, meant
from mnist_ff.config.constraints import PartOf, limits_text
from mnist_ff.config.keys import (
    bare_type,
    choices,
    hints_at,
    hints_of,
    is_list,
    item_of,
    known_keys,
    leaves,
    meaning_of,
    notes_of,
    options_of,
    sweep_keys,
    union_members,
)
from mnist_ff.config.messages import nearest
from mnist_ff.config.options import WHOLE_CONFIG_GROUPS, options
from mnist_ff.config.paths import display_path
from mnist_ff.config.registry import GROUPS, own_part
from mnist_ff.config.schema import Config, SweepConfig
from mnist_ff.config.settings import (
    MISSING,
    Setting,
    chosen_in,
    default_of,
    heading,
    settings_of,
    settings_of_config,
)
from mnist_ff.errors import ConfigError

GROUP_MEANINGS = {
    "augment": "random changes of the training images",
    "callbacks": "your own callbacks, one or several",
    "data": "data set",
    "experiment": "recipe: a few changed values",
    "logger": "experiment trackers, one or several",
    "model": "network",
    "optimizer": "update rule",
    "schedule": "learning rate over the steps",
    "sweep": "sweep preset, with -m",
    "trainer": "training loop",
    "hydra/launcher": "where the jobs of a sweep run, with -m",
    "hydra/sweeper": "grid or search, with -m",
}
TYPED_WORDS = {
    "resume": "run to continue: a directory or name, last or best; with -m a sweep",
    "dry_run": "true: list the jobs of a sweep and write nothing, with -m",
    "hydra.run.dir": "directory of the run",
    "hydra.sweep.dir": "directory of the sweep, with -m",
}
"""Keys of the command line that are not part of the config."""
TYPE_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}

PART_GROUPS = [found.folder for found in GROUPS.values()]
"""The groups whose options are parts."""

Described = dict[str, Any]


def describe(word: str) -> tuple[Described, str]:
    """A description of what a word names, as plain values for JSON, and the exact name of that.

    Errors: ConfigError with the nearest name.
    """
    for found in (word, word.partition("=")[0]):  # optimizer.lr=0.1 is tried as optimizer.lr, too
        if (described := _exactly(found)) is not None:
            return described
    key = meant(word.partition("=")[0])
    if key is not None and key.name and (described := _exactly(key.name)) is not None:
        return described
    for group in options().files:
        if word in options().names(group):
            return describe_option(group, word), f"{group}={word}"
    if key is not None:
        raise ConfigError(f"{word}: no such key; {key.advice}")
    known = [*every_name(), *TYPED_WORDS, *(name for group in options().files for name in options().names(group))]
    raise ConfigError(f"{word}: no such key, group or option{nearest(word, known)}; mnist-ff show lists the groups")


def _exactly(word: str) -> tuple[Described, str] | None:
    known = options()
    if word in known.files:
        return describe_group(word), word
    group, _, option = word.replace("=", "/").rpartition("/")
    if group in known.files and option:
        if option not in (listed := known.names(group)):
            raise ConfigError(f"{word}: must be one of {', '.join(listed) or 'none'}{nearest(option, listed)}")
        return describe_option(group, option), f"{group}={option}"
    if word in {**known_keys(), **sweep_keys(), **TYPED_WORDS} or word in _hydra_keys():
        return describe_key(word), word
    return None


def describe_key(key: str) -> Described:
    """Describe a key, with the values that the options of its group and presets give it."""
    hints = _hints(key)
    group = _group_of(key)
    values = {option: own[key] for option in _option_names(group) if key in (own := settings_of(group, option))}
    chosen = default_of(group).value if group else ""
    default = settings_of_config().get(key) or values.get(chosen)
    if default is None and values:
        default, chosen = next(iter(values.values())), next(iter(values))
    others = {f"{group}={option}": own for option, own in values.items() if own != default}
    presets = [] if key.startswith("sweep.") else WHOLE_CONFIG_GROUPS
    for preset in presets:
        found = {option: settings_of(preset, option) for option in _option_names(preset)}
        others |= {f"{preset}={option}": settings[key] for option, settings in found.items() if key in settings}
    needed = f"{group}={chosen}" if group and chosen != default_of(group).value else ""
    listed = list(dict.fromkeys(name for hint in hints for name in choices(hint)))
    return {
        "kind": "key",
        "key": key,
        "meaning": {**known_keys(), **sweep_keys(), **TYPED_WORDS}.get(key, ""),
        "type": "; ".join(dict.fromkeys(map(type_text, hints))) or None,
        "range": "; ".join(dict.fromkeys(filter(None, map(range_text, hints)))) or None,
        "choices": listed,
        "default": None if default is None else _value(default),
        "of": f"{group}={chosen}" if group and chosen in values else None,
        "source": None if default is None else default.source,
        "about": "" if default is None else default.about,
        "others": [{"option": name, "value": _value(found), "source": found.source} for name, found in others.items()],
        "command": _command(key, needed, default, hints),
    }


def _command(key: str, option: str, default: Setting | None, hints: Sequence[Any]) -> str:
    """A command that sets a key: to its default if that is a plain value, true or false to the opposite of it."""
    words = ["mnist-ff train", *(["-m"] if key.startswith(("sweep.", "hydra.")) and key != "hydra.run.dir" else [])]
    value = None if default is None else _value(default)
    if isinstance(value, bool):
        value = not value
    example = "VALUE" if value is None or "${" in str(value) else value_text(value)
    if value == [] and (listed := [name for hint in hints for name in choices(hint)]):
        example = f"[{listed[0]}]"
    return " ".join([*words, *([option] if option else []), f"{key}={example}"])


def describe_group(group: str) -> Described:
    """Describe a group: its options with one line each, and the keys of the default option."""
    default = default_of(group)
    keys = settings_of(group, default.value) if default.value in _option_names(group) else {}
    if group == "sweep":
        keys = {key: found for key, found in settings_of_config().items() if key.startswith("sweep.")}
    return {
        "kind": "group",
        "group": group,
        "meaning": GROUP_MEANINGS[group],
        "default": None if default.value in ("null", "[]") else default.value,
        "source": default.source,
        "options": [_option(group, option) for option in _option_names(group)],
        "keys": _keys(keys, group, str(default.value)),
    }


def describe_option(group: str, option: str) -> Described:
    """Describe an option: the values that it sets."""
    return {
        "kind": "option",
        "group": group,
        **_option(group, option),
        "chooses": chosen_in(group, option),
        "keys": _keys(settings_of(group, option), group, option),
    }


def describe_groups() -> Described:
    """Describe all groups, with their default options."""
    return {"kind": "groups", "groups": [_group(group) for group in options().files]}


def _group(group: str) -> Described:
    chosen = default_of(group).value
    default = None if chosen in ("null", "[]") else chosen
    return {"group": group, "meaning": GROUP_MEANINGS[group], "default": default, "options": _option_names(group)}


def _option(group: str, option: str) -> Described:
    path, own = options().files[group].get(option), own_part(group, option)
    part = options().part(group, option)
    about = heading(group, option) or (f"configures {part}" if part != option else "your own" if own else "")
    if path is None:
        source = "Hydra" if own is None else own.source
    else:
        is_own = options().own_file(group, option) is not None
        source = str(display_path(path)) if is_own else f"conf/{group}/{option}.yaml"
    return {"option": option, "about": about, "source": source}


def _keys(settings: Mapping[str, Setting], group: str, option: str) -> list[Described]:
    """Keys with their meanings for this option."""
    meanings = {**known_keys(), **sweep_keys()}
    if group in PART_GROUPS and option in _option_names(group):
        chosen = {group: options().part(group, option)}
        meanings |= {key: meaning_of(hint) for key, hint in leaves(Config, "", chosen, f"{group}.")}
    return [
        {"key": key, "meaning": meanings.get(key, found.about), "value": _value(found), "source": found.source}
        for key, found in settings.items()
        if not key.endswith(".name")
    ]


def _option_names(group: str) -> list[str]:
    return options().names(group) if group in options().files else []


def _group_of(key: str) -> str:
    """The group whose options have the key. Empty for a key outside of groups."""
    parts = key.split(".")
    group = "/".join(parts[:2]) if parts[0] == "hydra" else parts[0]
    return group if "." in key and group in options().files and group != "sweep" else ""


def _hydra_keys() -> set[str]:
    groups = [group for group in options().files if group.startswith("hydra/")]
    return {key for group in groups for option in _option_names(group) for key in settings_of(group, option)}


def _hints(key: str) -> tuple[Any, ...]:
    section, _, name = key.partition(".")
    return (hints_of(SweepConfig)[name],) if section == "sweep" else hints_at(key)


def _value(setting: Setting) -> Any:
    return None if setting.value == MISSING else setting.value


def type_text(hint: Any) -> str:
    """The type of a key in words: 'number', 'list of whole numbers or null'."""
    words: list[str] = []
    for option in options_of(hint):
        if option is type(None):
            continue
        if typing.get_origin(option) is Literal:
            words += map(str, typing.get_args(option))
        elif typing.get_origin(option) is tuple:
            item = bare_type(item_of(hint))
            words.append(f"list of {TYPE_NAMES[item]}s" if item in TYPE_NAMES else "list of groups of keys and values")
        else:
            words.append(TYPE_NAMES.get(option, "group of keys and values"))
    words += ["null"] if type(None) in options_of(hint) else []
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def range_text(hint: Any) -> str:
    """The limits of a number in words: 'above 0 and at most 1'. Empty without limits."""
    places = [hint, *union_members(hint)]
    if is_list(hint):
        places.append(item_of(hint))
        if any(isinstance(note, PartOf) for note in notes_of(item_of(hint))):
            return ""
    notes = [note for place in places for note in notes_of(place) if isinstance(note, Meta)]
    return next(filter(None, map(limits_text, notes)), "")


def value_text(value: Any) -> str:
    """A value as typed on the command line. For one that an environment variable may set, with its name."""
    from mnist_ff.config.overrides import in_grammar

    found = re.fullmatch(r"\$\{(?:oc|mnist_ff)\.env:(\w+),'?(.*?)'?\}", value) if isinstance(value, str) else None
    if found is not None:
        return f"{found[2]} (or the environment variable {found[1]})"
    return value if isinstance(value, str) and "${" in value else in_grammar(value)
