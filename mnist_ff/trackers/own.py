"""A user's own tracker: what its build() takes and must return."""

from __future__ import annotations

from typing import Any

from mnist_ff.config.registry import Part, source_of
from mnist_ff.errors import PartError, type_name
from mnist_ff.trackers.base import Tracker

PARAMETERS = ()


def own_part(name: str, config: type[Any]) -> Part:
    """The part of a user's class."""

    def build(keys: Any) -> Tracker:
        tracker = keys.build()
        if not isinstance(tracker, Tracker):
            where = source_of("tracker", name)
            raise PartError(f"{where}: build() returned {type_name(tracker)}, not a mnist_ff.Tracker")
        for attribute, value in (("title", name), ("place", keys.place)):
            if not hasattr(tracker, attribute):
                setattr(tracker, attribute, value)
        return tracker

    return Part("tracker", name, config, build)
