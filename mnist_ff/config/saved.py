"""The config.yaml of a run, key by key: each is made once of equal text, as thousands of runs share most of them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from mnist_ff.config.convert import CHOSEN, config_from, config_of, flat, made_of, plain_values
from mnist_ff.config.legacy import SECTIONS, with_legacy_keys
from mnist_ff.config.registry import until_registered
from mnist_ff.config.schema import Config, Section
from mnist_ff.config.yaml_io import key_texts, key_values, yaml_errors, yaml_values
from mnist_ff.errors import ConfigError


def parsed_config(path: Path, content: bytes) -> Config:
    """The config that a config.yaml of this content holds; keys that are younger than it mean what they meant then.

    Errors: ConfigError naming the file, and the key where it is one.
    """
    config = _key_by_key(key_texts(content))
    if config is not None:
        return config
    values = yaml_values(path, content)  # of an odd text, and to say what is wrong
    plain = with_legacy_keys(values) if isinstance(values, dict) else {}
    return config_from(plain, where=str(path), unregistered=True)


def _key_by_key(texts: list[bytes] | None) -> Config | None:
    """The config of the texts of its keys; None where only the whole text says what it means or what is wrong."""
    if texts is None:
        return None
    expected: tuple[type[Exception], ...] = (ConfigError, *yaml_errors())
    try:
        made = dict(map(_made, texts))
        return None if len(made) < len(texts) else config_of({**_absent(), **made})
    except expected:
        return None


@until_registered
def _made(text: bytes) -> tuple[str, Any]:
    """A key, and what it becomes. Errors: those of yaml_errors() and ConfigError."""
    ((key, _),) = (values := key_values(text)).items()
    return key, made_of(key, with_legacy_keys(values)[key], unregistered=True)


@until_registered
def _absent() -> dict[str, Any]:
    """What the sections become that an old config may lack."""
    whole = with_legacy_keys({})
    return {key: made_of(key, whole[key], unregistered=True) for key in SECTIONS}


def flat_experiment(config: Config) -> dict[str, Any]:
    """Values of what is trained and how by dotted key, as flat(experiment(config)) makes them."""
    found: dict[str, Any] = {}
    for key, value in vars(config).items():
        if isinstance(value, Section):
            found |= _flat(key, _Same(value))
        elif key not in CHOSEN:
            found[key] = value
    return found | ({"metrics": list(config.metrics)} if config.metrics else {})


@lru_cache(maxsize=1_000)
def _flat(key: str, section: _Same) -> dict[str, Any]:
    """The same of a section, made once."""
    return flat(plain_values(section.value), f"{key}.")


class _Same:
    """An object as a key that only itself equals: sections with 1, 1.0 and True are equal to each other."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value
