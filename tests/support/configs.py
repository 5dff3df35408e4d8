"""Configs for unit tests, without a composition by Hydra for each."""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from mnist_ff.config.compose import compose
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.schema import Config
from mnist_ff.session.resume import changed

WORDS_OF_YAML = {"null": None, "true": True, "false": False}


def make_config(*overrides: str, **changes: Any) -> Config:
    """The default config with overrides as on the command line (`optimizer=adam`, `model.hidden=[8]`) and with changed
    keys, whose dot is written as two underscores (`model__dropout=0.1`). Options of groups are composed once."""
    options = tuple(word for word in overrides if (conf_dir() / word.split("=")[0]).is_dir())
    keys = dict(word.split("=", 1) for word in overrides if word not in options)
    values = {key: _value(text) for key, text in keys.items()}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    base = _composed(options, os.environ.get("MNIST_FF_DATA"))
    return changed(base, values) if values else base


@functools.cache
def _composed(options: tuple[str, ...], data_root: str | None) -> Config:
    return compose(options)


def _value(text: str) -> Any:
    if text in WORDS_OF_YAML:
        return WORDS_OF_YAML[text]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.strip("'\"")
