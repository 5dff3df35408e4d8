"""A user's own schedule: what its build() takes and must return."""

from __future__ import annotations

import math
from typing import Any

from mnist_ff.config.registry import Part, source_of
from mnist_ff.errors import PartError, type_name
from mnist_ff.optim.schedule import Shape

PARAMETERS = ()


def own_part(name: str, config: type[Any]) -> Part:
    """The part of a user's class."""
    return Part("schedule", name, config, build)


def build(config: Any) -> Shape:
    """The user's function of progress, each result checked. Errors: PartError, then or when it is called."""
    where = source_of("schedule", config.name)
    shape = config.build()
    if not callable(shape):
        raise PartError(f"{where}: build() returned {type_name(shape)}, not a function of progress")

    def checked(done: float) -> float:
        fraction = shape(done)
        try:
            number = float(fraction)
        except (TypeError, ValueError):
            raise PartError(f"{where}: returned {type_name(fraction)} at progress {done:g}, not a number") from None
        if not (math.isfinite(number) and number >= 0):
            raise PartError(f"{where}: returned {number} at progress {done:g}; it must be finite and at least 0")
        return number

    return checked
