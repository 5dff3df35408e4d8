"""Hydra's sweep syntax to a search space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from mnist_ff.config.keys import whole_keys
from mnist_ff.config.overrides import Override, Values
from mnist_ff.errors import ConfigError
from mnist_ff.sweeps.search.space import Choices, Dimension, Floats, Integers, Space, check_dimension

TAGS = {"log", "int", "float"}


def split_overrides(overrides: Sequence[Override]) -> tuple[list[str], Space]:
    """The overrides that every trial shares, and what is searched. Of a key that is given twice the later one counts.

    Errors: ConfigError for a form that means nothing in a search.
    """
    last = {override.key: override for override in overrides}
    fixed = [override.text for override in last.values() if override.values is None]
    space = {
        key: dimension_of(override, override.values) for key, override in last.items() if override.values is not None
    }
    return fixed, space


def dimension_of(override: Override, values: Values) -> Dimension:
    """The values that a key may take. Errors: ConfigError."""
    if override.kind != "CHANGE":
        raise ConfigError(f"{override.text}: only KEY=VALUES are allowed in a search")
    if values.tags - TAGS:
        tag = min(values.tags - TAGS)
        raise ConfigError(f"{override.text}: tag {tag}: must be one of {', '.join(sorted(TAGS))}")
    if values.shuffle:
        raise ConfigError(f"{override.text}: shuffle has no effect: the sampler chooses the order")
    if values.kind == "interval":
        found: Dimension = _interval(override, values)
    elif values.kind == "range":
        found = _range(override, values)
    else:
        if values.tags:
            tag = min(values.tags)
            raise ConfigError(f"{override.text}: tag {tag} needs an interval or a range")
        found = Choices(tuple(values.texts()))
    check_dimension(override.element, found)
    return found


def _interval(override: Override, values: Values) -> Dimension:
    """interval(a,b), both included: whole numbers where the key holds such, else any number between."""
    low, high = values.start, values.stop
    assert low is not None
    assert high is not None
    whole = override.key in whole_keys() or isinstance(low, int)  # int(interval(...)); Hydra makes floats
    if whole or "int" in values.tags:
        if low != int(low) or high != int(high):
            raise ConfigError(f"{override.text}: the bounds of an interval of integers must be integers")
        return Integers(int(low), int(high), log="log" in values.tags)
    return Floats(float(low), float(high), log="log" in values.tags)


def _range(override: Override, values: Values) -> Dimension:
    """range(a,b,step): a, a + step, ... below b, as in Hydra and in Python."""
    numbers = (values.start, values.stop, values.step)
    start, stop, step = (Decimal(str(number)) for number in numbers)
    if step <= 0:
        raise ConfigError(f"{override.text}: the step must be above 0")
    count = math.ceil((stop - start) / step)
    if count < 2:
        raise ConfigError(f"{override.text}: has {max(count, 0)} values; a search needs at least two")
    last = start + (count - 1) * step
    whole = all(isinstance(number, int) for number in numbers)
    if "log" in values.tags and (not whole or step != 1):
        raise ConfigError(f"{override.text}: has a step and a log scale; use tag(log,interval(...))")
    if whole and "float" not in values.tags:
        return Integers(int(start), int(last), log="log" in values.tags, step=int(step))
    return Floats(float(start), float(last), step=float(step))
