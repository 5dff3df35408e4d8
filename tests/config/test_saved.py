"""A saved config is the same whether it is made key by key or as a whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.config import saved
from mnist_ff.config.convert import config_from, experiment, flat
from mnist_ff.config.legacy import with_legacy_keys
from mnist_ff.config.saved import flat_experiment, parsed_config
from mnist_ff.config.yaml_io import to_yaml, yaml_values
from mnist_ff.errors import ConfigError
from tests.support.configs import make_config

FILE = Path("config.yaml")
WORDS = [
    [], ["seed=7", "name='two words'"], ["name='12'"], ["name='null'"], ["name=No"], ["name='1e5'"], ["name='a: b'"],
    ["name='é'"], [f"name={'long ' * 30}x"], ["seed=9223372036854775807"], ["model.hidden=[]", "optimizer=adam"],
    ["data=kmnist", "augment=shift", "schedule=cosine"],
]  # fmt: skip


def as_a_whole(content: bytes) -> Any:
    return config_from(with_legacy_keys(yaml_values(FILE, content)), str(FILE), unregistered=True)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_key_by_key_is_as_a_whole(words: list[str]) -> None:
    config = dataclasses.replace(make_config(*words), metrics=("calibration",) if len(words) > 1 else ())
    content = to_yaml(config).encode()
    for _ in range(2):
        assert repr(parsed_config(FILE, content)) == repr(as_a_whole(content)) == repr(config)
    values = flat_experiment(config)
    assert repr(values) == repr(flat(experiment(config)))


def test_keys_that_old_configs_lack() -> None:
    lines = to_yaml(make_config()).splitlines(keepends=True)
    text = "".join(line for line in lines if "ema:" not in line and "keep_best:" not in line)
    old = text[: text.index("schedule:")] + text[text.index("trainer:") :]
    assert repr(parsed_config(FILE, old.encode())) == repr(as_a_whole(old.encode()))
    assert parsed_config(FILE, old.encode()).schedule.name == "constant"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 1\n", "seed: 1\nseed: 1\n", "twice"),
        ("seed: 1\n", "seed: -1\n", "seed=-1"),
        ("seed: 1\n", "", "seed: is missing"),
        ("seed: 1\n", "sead: 1\n", "sead: no such key"),
        ("name: null\n", "name: [\n", "not readable as YAML"),
        ("trainer:\n", "trainer: 1\nold:\n", "old: no such key"),
    ],
)
def test_what_is_wrong_is_said_of_the_whole(old: str, new: str, said: str) -> None:
    text = to_yaml(make_config("seed=1"))
    assert old in text
    with pytest.raises(ConfigError, match=r"config\.yaml: ") as caught:
        parsed_config(FILE, text.replace(old, new).encode())
    assert said in str(caught.value)


def test_the_thousandth_config_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs share all but their seeds and names, which need no YAML parser."""
    text = to_yaml(make_config("seed=1", "name=one"))
    parsed_config(FILE, text.encode())
    monkeypatch.setattr("mnist_ff.config.yaml_io._quick_yaml", lambda content: pytest.fail(content.decode()))
    other = text.replace("seed: 1\n", "seed: 12345\n").replace("name: one\n", "name: run 2/b\n")
    config = saved.parsed_config(FILE, other.encode())
    assert (config.seed, config.name) == (12345, "run 2/b")
