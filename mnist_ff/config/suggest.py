"""Suggestions for overrides: groups, keys and values, from the schema and conf/. No torch, no Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mnist_ff.config.defaults import HYDRA_GROUPS, default_options
from mnist_ff.config.keys import choices, known_keys, leaves, sweep_keys
from mnist_ff.config.options import options
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.schema import SELECTIONS, Config, SweepConfig

NOT_TYPED = ("data.name", "data.instead_of")
"""Keys of the data that its choice decides, or that mnist-ff sets itself."""


def data_words(before: Sequence[str]) -> Iterator[str]:
    """Data sets and, after one, the keys that it takes."""
    sets = options_of("data")
    yield from (f"{name} " for name in sets)
    named = [name for name in before if name in sets]
    keys = dict.fromkeys(key for key, _ in leaves(Config, "", {"data": named[-1]} if named else {}, "data."))
    yield from (f"{key}=" for key in keys if key not in NOT_TYPED)


def shown_words(current: str) -> Iterator[str]:
    """What `show` explains: keys and groups, and after GROUP= its options."""
    group, equals, _ = current.partition("=")
    if equals:
        yield from (f"{group}={name} " for name in options_of(group))
        return
    yield from (f"{name} " for name in dict.fromkeys([*known_keys(), *sweep_keys(), *options().files]))


def options_of(group: str) -> list[str]:
    """The options of a group, a user's own among them."""
    return options().names(group)


def _chosen(before: Sequence[str]) -> dict[str, str]:
    """Each group's option on this command line, or by conf/config.yaml."""
    return default_options() | dict(word.split("=", 1) for word in before if re.match(r"[\w/]+=", word))


def override_words(before: Sequence[str], current: str, sweeping: bool) -> Iterator[str]:
    """Hydra's words: GROUP=OPTION and KEY=VALUE; ++KEY=VALUE, as there is no key to add (+) or to remove (~)."""
    plus = "++" if current.startswith("+") else ""
    key, equals, _ = current.removeprefix(plus).partition("=")
    values = _values(_chosen(before), sweeping, key)
    if equals:
        if not plus or key not in options().groups:
            if key == "metrics" and "[" not in current:  # a list, also of one
                current = f"{key}=["
            yield from _after_equals(current, values.get(key, ()), sweeping or key in SELECTIONS or key == "metrics")
        return
    for name in [*values, *([] if plus else ["resume"])]:
        if not plus or not (name in options().groups or "/" in name or name == "dry_run"):
            yield f"{plus}{name}="


def _values(chosen: Mapping[str, str], sweeping: bool, begins: str) -> dict[str, tuple[str, ...]]:
    """The keys that may be typed, with the values that can be listed; of the parts only those that `begins` needs."""
    groups = [group for group in options().groups if group != "sweep" or sweeping]
    values: dict[str, tuple[str, ...]] = {group: found for group in groups if (found := tuple(options_of(group)))}
    parts = {
        group: ",".join(options().part(group, word) for word in re.findall(r"[\w-]+", option))
        for group, option in {**dict.fromkeys(SELECTIONS, ""), **chosen}.items()
    }
    for key, hint in leaves(Config, "", parts, begins):
        section, _, name = key.partition(".")
        if key not in NOT_TYPED and not (name == "name" and section in groups):
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
    """One value, or with `several` one more after a comma or an opening bracket."""
    place = max(current.rfind(","), current.rfind("[")) if several else -1
    place = place if place >= 0 else current.index("=")
    head, there = (
        current[: place + 1],
        re.findall(r"\w+", current.partition("=")[2][: -len(current[place + 1 :]) or None]),
    )
    end = "] " if "[" in head else " "
    yield from (f"{head}{value}{end}" for value in values if value not in there)
