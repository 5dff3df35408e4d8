"""Completions of overrides: groups, keys and values, from the schema and conf/. No torch, no Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mnist_ff.config.defaults import HYDRA_GROUPS, default_options
from mnist_ff.config.keys import choices, known_keys, leaves, sweep_keys
from mnist_ff.config.options import options
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.schema import SELECTIONS, Config, SweepConfig

INTERNAL_KEYS = ("data.name", "data.instead_of")
"""Keys of the data that mnist-ff sets itself."""


def data_words(before: Sequence[str]) -> Iterator[str]:
    """Data sets, and the keys of the one on the command line."""
    sets = options_of("data")
    yield from (f"{name} " for name in sets)
    named = [name for name in before if name in sets]
    keys = dict.fromkeys(key for key, _ in leaves(Config, "", {"data": named[-1]} if named else {}, "data."))
    yield from (f"{key}=" for key in keys if key not in INTERNAL_KEYS)


def shown_words(current: str) -> Iterator[str]:
    """Arguments of `show`: keys and groups, and after GROUP= its options."""
    group, equals, _ = current.partition("=")
    if equals:
        yield from (f"{group}={name} " for name in options_of(group))
        return
    yield from (f"{name} " for name in dict.fromkeys([*known_keys(), *sweep_keys(), *options().files]))


def options_of(group: str) -> list[str]:
    """The options of a group, including the user's own."""
    return options().names(group)


def _chosen_options(before: Sequence[str]) -> dict[str, str]:
    """Each group's option on this command line, or its default."""
    return default_options() | dict(word.split("=", 1) for word in before if re.match(r"[\w/]+=", word))


def override_words(before: Sequence[str], current: str, sweeping: bool) -> Iterator[str]:
    """Overrides: GROUP=, KEY= and ++KEY=, and their values. No key can be added (+) or removed (~)."""
    plus = "++" if current.startswith("+") else ""
    key, equals, _ = current.removeprefix(plus).partition("=")
    values = _values(_chosen_options(before), sweeping, key)
    if equals:
        if not plus or key not in options().groups:
            if key == "metrics" and "[" not in current:  # always a list
                current = f"{key}=["
            yield from _after_equals(current, values.get(key, ()), sweeping or key in SELECTIONS or key == "metrics")
        return
    for name in [*values, *([] if plus else ["resume"])]:
        if not plus or not (name in options().groups or "/" in name or name == "dry_run"):
            yield f"{plus}{name}="


def _values(chosen: Mapping[str, str], sweeping: bool, prefix: str) -> dict[str, tuple[str, ...]]:
    """Keys with the values that can be suggested. Keys of parts only if they begin with `prefix`."""
    groups = [group for group in options().groups if group != "sweep" or sweeping]
    values: dict[str, tuple[str, ...]] = {group: found for group in groups if (found := tuple(options_of(group)))}
    parts = {
        group: ",".join(options().part(group, word) for word in re.findall(r"[\w-]+", option))
        for group, option in {**dict.fromkeys(SELECTIONS, ""), **chosen}.items()
    }
    for key, hint in leaves(Config, "", parts, prefix):
        section, _, name = key.partition(".")
        if key not in INTERNAL_KEYS and not (name == "name" and section in groups):
            values[key] = choices(hint)
    values["hydra.sweep.dir" if sweeping else "hydra.run.dir"] = ()
    if not sweeping:
        return values
    values |= {key: choices(hint) for key, hint in leaves(SweepConfig, "sweep.")}
    values["dry_run"] = ("true", "false")
    for group in HYDRA_GROUPS:
        values[group] = tuple(options_of(group))
        path = conf_dir() / group / f"{parts.get(group, 'basic')}.yaml"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        values |= {f"{group.replace('/', '.')}.{key}": () for key in re.findall(r"^([a-z]\w*):", text, flags=re.M)}
    return values


def _after_equals(current: str, values: Sequence[str], several: bool) -> Iterator[str]:
    """Completions of a value; with `several`, of one more value after a comma or an opening bracket."""
    place = max(current.rfind(","), current.rfind("[")) if several else -1
    place = place if place >= 0 else current.index("=")
    head, there = (
        current[: place + 1],
        re.findall(r"\w+", current.partition("=")[2][: -len(current[place + 1 :]) or None]),
    )
    end = "] " if "[" in head else " "
    yield from (f"{head}{value}{end}" for value in values if value not in there)
