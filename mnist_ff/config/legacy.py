"""What older saved configs mean: the keys that did not exist yet when they were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_ff.config.convert import experiment
from mnist_ff.config.registry import GROUPS, names, part
from mnist_ff.config.schema import Config

SECTIONS: dict[str, Any] = {"schedule": {"name": "constant", "warmup": 0}, "augment": {"name": "none"}}
"""Sections that a saved config may lack, and what that means."""
TRAINER: dict[str, Any] = {
    "evaluate_every": 1,
    "checkpoint_epochs": 1,
    "label_smoothing": 0.0,
    "confidence_penalty": 0.0,
    "adversarial": 0.0,
    "clip_norm": None,
    "max_norm": None,
    "ema": 0.0,
    "limit_batches": None,
    "max_seconds": None,
    "target_accuracy": None,
    "patience": None,
    "min_delta": 0.0,
    "monitor": "validation_loss",
    "monitor_mode": None,
    "keep_best": False,
    "teacher": None,
    "temperature": 1.0,
    "teacher_weight": 0.0,
}
"""Keys of the trainer that it may lack: all of them off. No defaults: those stand in conf/. A part's: Part.legacy."""


def with_legacy_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a saved config, with the keys that are younger than it."""
    whole = {**SECTIONS, **values}
    for section, place in whole.items():
        if isinstance(place, Mapping):
            whole[section] = {**_legacy_values(section, place), **place}
    return whole


def identity_fields(config: Config) -> dict[str, Any]:
    """Plain values of the experiment without the keys that mean what their absence means.

    Their digest is the one that the same config had before these keys existed.
    """
    values = {key: value for key, value in experiment(config).items() if value != SECTIONS.get(key, ...)}
    for section, place in values.items():
        if isinstance(place, dict):
            old = _legacy_values(section, place)
            values[section] = {key: value for key, value in place.items() if value != old.get(key, ...)}
    return values


def _legacy_values(section: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a section of plain values means without its younger keys; nothing where there is no such part."""
    if section == "trainer":
        return TRAINER
    name = values.get("name")
    known = section in GROUPS and isinstance(name, str) and name in names(section)
    return part(section, str(name)).legacy if known else {}
