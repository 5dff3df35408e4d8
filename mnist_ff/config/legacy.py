"""What older saved configs mean: keys that did not exist when they were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_ff.config.convert import experiment
from mnist_ff.config.keys import bare_type, hints_of
from mnist_ff.config.schema import VARIANTS, Config, ModelConfig, RMSpropConfig, TrainerConfig

LEGACY_VALUES: dict[type | None, dict[str, Any]] = {
    Config: {"schedule": {"name": "constant", "warmup": 0}, "augment": {"name": "none"}},
    ModelConfig: {"input_dropout": 0.0, "input_noise": 0.0},
    RMSpropConfig: {"weight_decay": 0.0},
    TrainerConfig: {
        "evaluate_every": 1,
        "checkpoint_epochs": 1,
        "label_smoothing": 0.0,
        "confidence_penalty": 0.0,
        "adversarial": 0.0,
        "clip_norm": None,
        "max_norm": None,
        "ema": 0.0,
        "patience": None,
        "min_delta": 0.0,
        "monitor": "validation_loss",
        "keep_best": False,
        "teacher": None,
        "temperature": 1.0,
        "teacher_weight": 0.0,
    },
}
"""What a saved config means that is older than these keys: all of them off. No defaults: those stand in conf/."""


def with_legacy_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a saved config, with the keys that are younger than it as LEGACY_VALUES has them."""
    whole = {**LEGACY_VALUES[Config], **values}
    for section, place in whole.items():
        if isinstance(place, Mapping):
            whole[section] = {**LEGACY_VALUES.get(_variant_of(section, place), {}), **place}
    return whole


def identity_fields(config: Config) -> dict[str, Any]:
    """Plain values of the experiment without the keys that mean what their absence means.

    Their digest is the one that the same config had before there were these keys.
    """
    absent = LEGACY_VALUES[Config]
    values = {key: value for key, value in experiment(config).items() if key not in absent or value != absent[key]}
    for section, place in values.items():
        if isinstance(place, dict):
            off = LEGACY_VALUES.get(_variant_of(section, place), {})
            values[section] = {key: value for key, value in place.items() if key not in off or value != off[key]}
    return values


def _variant_of(section: str, values: Mapping[str, Any]) -> type | None:
    """The dataclass of a section's plain values; None where there is no such section or option."""
    kind = bare_type(hints_of(Config).get(section))
    name = values.get("name")
    return VARIANTS[kind].get(name) if kind in VARIANTS and isinstance(name, str) else kind
