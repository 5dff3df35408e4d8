"""Hydra's sweep syntax to a search space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, OverrideType, RangeSweep

from mnist_ff.config.keys import whole_keys
from mnist_ff.errors import ConfigError
from mnist_ff.sweeps.search.space import Choices, Dimension, Floats, Integers, Space, check_dimension

TAGS = {"log", "int", "float"}


def split_words(overrides: Sequence[Override]) -> tuple[list[str], Space]:
    """The words that every trial shares, and what is searched. Of a key that is given twice the later one counts.

    Errors: ConfigError for a form that means nothing in a search.
    """
    last = {override.key_or_group: override for override in overrides}
    fixed = [str(override.input_line) for override in last.values() if not override.is_sweep_override()]
    space = {key: dimension_of(override) for key, override in last.items() if override.is_sweep_override()}
    return fixed, space


def dimension_of(override: Override) -> Dimension:
    """The values that a key may take. Errors: ConfigError."""
    key, value = override.get_key_element(), override.value()
    if override.type != OverrideType.CHANGE:
        raise ConfigError(f"{override.input_line}: only KEY=VALUES are allowed in a search")
    tags: set[str] = getattr(value, "tags", set())
    if tags - TAGS:
        raise ConfigError(f"{override.input_line}: tag {min(tags - TAGS)}: must be one of {', '.join(sorted(TAGS))}")
    if getattr(value, "shuffle", False):
        raise ConfigError(f"{override.input_line}: shuffle has no effect: the sampler chooses the order")
    if isinstance(value, IntervalSweep):
        found: Dimension = _interval(override, value)
    elif isinstance(value, RangeSweep):
        found = _range(override, value)
    else:
        if isinstance(value, ChoiceSweep) and tags:
            raise ConfigError(f"{override.input_line}: tag {min(tags)} needs an interval or a range")
        found = Choices(tuple(override.sweep_string_iterator()))
    check_dimension(key, found)
    return found


def _interval(override: Override, value: IntervalSweep) -> Dimension:
    """interval(a,b), both included: whole numbers where the key holds such, else any number between."""
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    whole = override.key_or_group in whole_keys() or isinstance(low, int)  # int(interval(...)); Hydra makes floats
    if whole or "int" in value.tags:
        if low != int(low) or high != int(high):
            raise ConfigError(f"{override.input_line}: the bounds of an interval of integers must be integers")
        return Integers(int(low), int(high), log="log" in value.tags)
    return Floats(float(low), float(high), log="log" in value.tags)


def _range(override: Override, value: RangeSweep) -> Dimension:
    """range(a,b,step): a, a + step, ... below b, as in Hydra and in Python."""
    assert value.start is not None
    assert value.stop is not None
    start, stop, step = (Decimal(str(number)) for number in (value.start, value.stop, value.step))
    if step <= 0:
        raise ConfigError(f"{override.input_line}: the step must be above 0")
    count = math.ceil((stop - start) / step)
    if count < 2:
        raise ConfigError(f"{override.input_line}: has {max(count, 0)} values; a search needs at least two")
    last = start + (count - 1) * step
    whole = all(isinstance(number, int) for number in (value.start, value.stop, value.step))
    if "log" in value.tags and (not whole or step != 1):
        raise ConfigError(f"{override.input_line}: has a step and a log scale; use tag(log,interval(...))")
    if whole and "float" not in value.tags:
        return Integers(int(start), int(last), log="log" in value.tags, step=int(step))
    return Floats(float(start), float(last), step=float(step))
