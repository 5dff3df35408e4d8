"""Overrides as plain data: how they are quoted, taken from a command line, and checked against what exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnist_ff.config.aliases import instead_of, meant, suggestion
from mnist_ff.config.defaults import HYDRA_GROUPS
from mnist_ff.config.keys import hints_at, is_list, known_keys, scalar_types, sweep_keys
from mnist_ff.config.messages import nearest
from mnist_ff.config.options import FIXED_HYDRA_KEYS
from mnist_ff.config.registry import GROUPS, names_in
from mnist_ff.config.schema import SELECTIONS
from mnist_ff.errors import ConfigError

HYDRA_TEXT_KEYS = {
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
    "hydra.sweeper.storage",
    "hydra.sweeper.study_name",
    *(
        f"hydra.launcher.{key}"
        for key in ("account", "comment", "constraint", "exclude", "gres", "name", "partition", "qos", "setup")
    ),
}
"""Keys of Hydra, our launchers and our sweepers that hold texts."""
EXAMPLE = "an override is KEY=VALUE, such as optimizer.lr=0.003"
PLAIN_NAME = re.compile(r"(?!(?:null|true|false|nan|inf)$)[a-z_]\w*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Values:
    """Several values of one key. `items` and `texts` list them as plain values and in the grammar of overrides."""

    kind: Literal["choice", "range", "interval"]
    items: Callable[[], list[Any]]
    texts: Callable[[], list[str]]
    tags: frozenset[str] = frozenset()
    shuffle: bool = False
    start: float | int | None = None
    stop: float | int | None = None
    step: float | int | None = None


@dataclass(frozen=True)
class Override:
    """One parsed override."""

    text: str
    """As given."""
    key: str
    """A dotted key, or a group, without + or ~."""
    element: str
    """What stands before the =."""
    kind: str
    """Hydra's: CHANGE, ADD (+), FORCE_ADD (++) or DEL (~)."""
    package: str | None
    value: Any
    """The plain value; the text of several ones."""
    value_text: str
    """The value in the grammar of overrides."""
    values: Values | None = None
    """Several values, which make a sweep."""

    @property
    def is_hydra(self) -> bool:
        """Whether it sets something of Hydra's, not of the run."""
        return self.key == "hydra" or self.key.startswith(("hydra.", "hydra/"))

    def alternatives(self) -> list[str]:
        """The override of each value. Errors: ConfigError for an interval, which has no end of them."""
        if self.values is None:
            return [f"{self.element}={self.value_text}"]
        if self.values.kind == "interval":
            raise ConfigError("interval(a,b): is only for searches; add hydra/sweeper=optuna, or give values")
        return [f"{self.element}={text}" for text in self.values.texts()]


def plain_override(parsed: Any) -> Override:
    """One override as Hydra parsed it, as plain data."""
    given, several = parsed.value(), parsed.is_sweep_override()
    return Override(
        text=str(parsed.input_line),
        key=parsed.key_or_group,
        element=parsed.get_key_element(),
        kind=parsed.type.name,
        package=parsed.package,
        value=str(given) if several else given,
        value_text="" if several or parsed.value_type is None else parsed.get_value_element_as_str(),
        values=_several(parsed, given) if several else None,
    )


def _several(parsed: Any, given: Any) -> Values:
    interval = parsed.is_interval_sweep()
    return Values(
        kind="interval" if interval else "range" if parsed.is_range_sweep() else "choice",
        items=lambda: list(parsed.sweep_iterator()),
        texts=lambda: list(parsed.sweep_string_iterator()),
        tags=frozenset(getattr(given, "tags", ())),
        shuffle=bool(getattr(given, "shuffle", False)),
        start=getattr(given, "start", None),
        stop=getattr(given, "end" if interval else "stop", None),
        step=getattr(given, "step", None),
    )


def key_of(override: str) -> str:
    """What stands before the = of an override."""
    return override.partition("=")[0]


def take(overrides: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """The value of a word that is ours alone, such as resume=, and the other overrides.

    Errors: ConfigError when it is given twice.
    """
    found = [text.partition("=")[2] for text in overrides if key_of(text) == key]
    if len(found) > 1:
        raise ConfigError(f"{key}=: give it only once")
    return found[0] if found else None, [text for text in overrides if key_of(text) != key]


def without_quotes(value: str) -> str:
    """A value's text as it was meant."""
    return value.strip("'\"")


def quoted(text: str) -> str:
    """A text in quotes, with what is special to Hydra and to omegaconf escaped."""
    return in_quotes(text.replace("${", "\\${"), "'")


def in_quotes(text: str, mark: str) -> str:
    """A text between two quotation marks, with these escaped."""
    text = re.sub(rf"(\\*){mark}", lambda found: f"{found[1] * 2}\\{mark}", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return f"{mark}{text}{chr(92) * trailing}{mark}"


def in_grammar(value: Any) -> str:
    """A plain value in the grammar of overrides. Texts are quoted where they are more than a name."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(in_grammar, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{in_grammar(inner)}' for key, inner in value.items())}}}"
    return str(value) if PLAIN_NAME.fullmatch(str(value)) else quoted(str(value))


def holds_text(key: str) -> bool:
    """Whether a dotted key's value is a text, or a list of texts: what is typed there is never a number."""
    return key in HYDRA_TEXT_KEYS or any(str in scalar_types(hint) for hint in hints_at(key))


def is_own_key(override: str) -> bool:
    """Whether it gives a key of a run's config its value."""
    return key_of(override) in known_keys()


def check_override(override: Override, groups: Mapping[str, list[str]]) -> None:
    """See that the key, group and option exist. Errors: ConfigError with what there is and the nearest name."""
    key = override.key
    if override.is_hydra:
        _check_hydra_override(override, groups)
        return
    if key == "data.instead_of":
        raise ConfigError("data.instead_of: is set by mnist-ff when MNIST cannot be downloaded")
    if override.kind == "DEL":
        raise ConfigError(f"~{key}: keys cannot be removed")
    if key in groups:
        _check_options(key, override, groups[key])
        return
    if key.endswith(".name") and key.removesuffix(".name") in groups:
        raise ConfigError(f"{override.text}: use {key.removesuffix('.name')}={override.value}")
    if not hints_at(key):
        known = [*known_keys(), *sweep_keys(), *groups, "hydra.run.dir"]
        sections = {name.split(".")[0] for name in known if "." in name}
        if key not in known and key not in sections:
            raise _no_such_key(override.text, key, suggestion(key, override.text.partition("=")[2], known))


def _no_such_key(text: str, key: str, close: str) -> ConfigError:
    listed = "" if close and "did you mean" not in close else "\nmnist-ff train --help lists the keys"
    return ConfigError(f"{text}: no such key {key}{close}{listed}")


def refuse_several(overrides: Sequence[Override]) -> None:
    """Errors: ConfigError for several values of a key where one run is wanted."""
    for override in overrides:
        if override.values is not None:
            value = override.text.partition("=")[2]
            is_plain = any(is_list(hint) for hint in hints_at(override.key)) and not {*"([{"} & {*value}
            instead = f"; a list is {override.element}=[{value}]" if is_plain else ""
            if holds_text(override.key) and not is_plain:
                typed = shlex.quote(f"{override.element}={in_quotes(value, chr(34))}")
                instead = f"; a text with a comma needs quotes: {typed}"
            raise ConfigError(f"{override.text}: has several values{instead}; -m makes a run of each")


def _check_hydra_override(override: Override, groups: Mapping[str, list[str]]) -> None:
    """Refuse what would undo a promise: every job checked first, no directory shared, paths that stay true."""
    key = override.key
    if key in HYDRA_GROUPS and override.value not in groups[key]:
        known = groups[key]
        raise ConfigError(f"{override.text}: must be one of {', '.join(known)}{nearest(str(override.value), known)}")
    if key == "hydra.searchpath":
        raise ConfigError(f"{override.text}: is not supported; use --config-dir FOLDER")
    if key in FIXED_HYDRA_KEYS:
        raise ConfigError(f"{override.text}: cannot be changed here; use -m for a sweep")
    if key == "hydra.callbacks" or key.startswith("hydra.callbacks."):
        raise ConfigError(f"{override.text}: is not supported")
    if key == "hydra.sweep.subdir" and "hydra.job.num" not in str(override.value):
        raise ConfigError(f"{override.text}: must contain ${{hydra.job.num}}, or jobs would share a directory")


def _check_options(group: str, override: Override, options: list[str]) -> None:
    asked = [override.value] if override.values is None else override.values.items()
    if group in SELECTIONS:  # several, or none, may be chosen
        asked = [option for given in asked for option in (given if isinstance(given, list) else [given])]
    for option in asked:
        if option is None:  # Hydra has no word for none of a group but leaving it out
            raise ConfigError(f"{group}=null: leave it out, or use one of {', '.join(options)}")
        if str(option) not in options:
            names = f"must be one of {', '.join(options)}" if options else "is not built in"
            remedy = instead_of(group, str(option)) or nearest(str(option), options) or _own_option(group)
            raise ConfigError(f"{group}={option}: {names}{remedy}")


def _own_option(group: str) -> str:
    """What an option of the user's needs, where none of theirs is known."""
    if group in ("experiment", "sweep"):
        return "; one of your own needs --config-dir FOLDER"
    if group in {found.folder for found in GROUPS.values()} and not names_in(group):
        return "; one of your own needs --parts FILE.py"
    return ""


def reason_at(text: str, place: int | None) -> str:
    """Why an override is not in the grammar from this character on; None: at its end."""
    equals = text.find("=")
    if equals < 0:
        return "has no =" if place is None else f"has no =, and {_letter(text, place)} is not allowed in a key"
    if place is None:
        open_bracket = any(text.count(left) > text.count(right) for left, right in ("()", "[]", "{}"))
        return "ends too early: a bracket is open" if open_bracket else "ends too early"
    if place <= equals:
        return f"{_letter(text, place)} is not allowed in a key"
    if text[place] in "'\"":
        return f"the quote {text[place]} (character {place + 1}) is not closed, or is inside a value"
    return f"{_letter(text, place)} is only allowed inside quotes here"


def _letter(text: str, place: int) -> str:
    letter = text[place]
    name = letter if letter.isprintable() and not letter.isspace() else f"U+{ord(letter):04X}"
    return f"{'the space' if letter == ' ' else name} (character {place + 1})"


def remedy_for(override: str, several: bool, meaning: Callable[[str], Any]) -> str:
    """How a shell is told the text that an override means; an example where it means none, or quotes do not help.

    `meaning` is the value, or the list of values, that an override says to Hydra.
    Errors: ConfigError where the key has another name here.
    """
    key, equals, value = override.partition("=")
    found = meant(key) if value and "hydra" not in key and re.fullmatch(r"[\w.+~/-]+", key) else None
    if found is not None and found.name != key.lstrip("+~"):
        raise _no_such_key(override, key, suggestion(key, value))
    if not equals and meant(key) is not None:
        return f"did you mean {suggestion(key, None).removeprefix('; type ')}?"
    if not equals or not holds_text(key.lstrip("+")) or not override.isprintable() or "${" in value:
        return EXAMPLE
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else None
    texts = [value] if inside is None and not several else (value if inside is None else inside).split(",")
    for mark in ('"', "'"):
        given = ",".join(in_quotes(text, mark) for text in texts)
        candidate = f"{key}={given if inside is None else f'[{given}]'}"
        if meaning(candidate) == (texts[0] if len(texts) == 1 and inside is None else texts):
            return f"in a shell: {shlex.quote(candidate)}"
    return EXAMPLE
