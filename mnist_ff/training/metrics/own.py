"""A user's own metric: a function of the model and the scored images."""

from __future__ import annotations

from typing import Any

from mnist_ff.config.registry import Part
from mnist_ff.config.schema import MetricConfig

PARAMETERS = ("model", "split")


def own_part(name: str, function: Any) -> Part:
    """The part of a user's function, whose values are checked when it is measured."""
    return Part("metric", name, MetricConfig, function)
