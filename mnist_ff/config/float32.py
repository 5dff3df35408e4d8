"""Checks of numbers against float32, in which training computes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from msgspec import Meta

from mnist_ff.config.constraints import allows, has_limits, limits_text
from mnist_ff.config.keys import is_list, item_of, leaves, notes_of, scalar_types, value_hint
from mnist_ff.config.registry import until_registered
from mnist_ff.config.schema import SELECTIONS, Config
from mnist_ff.errors import ConfigError

SMALLEST_FLOAT32, LARGEST_FLOAT32 = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""Sizes of the smallest and the largest normal float32. Smaller ones become 0, and dividing by that makes NaN."""


def check_float32(values: Mapping[str, Any]) -> None:
    """See that float32, in which training computes, holds the numbers of these dotted keys, each within its range.

    Old runs may have others, so this is for values that someone gives now. Errors: ConfigError naming the key.
    """
    limits = _float_limits(tuple(_chosen(values).items()))
    for key, value in values.items():
        for place, item in enumerate(value) if isinstance(value, list | tuple) else [(None, value)]:
            if isinstance(item, float) and key in limits:
                _check_float32(key if place is None else f"{key}[{place}]", item, limits[key])


def _check_float32(path: str, value: float, limits: Meta) -> None:
    if value != 0 and not SMALLEST_FLOAT32 <= abs(value) <= LARGEST_FLOAT32:
        raise ConfigError(
            f"{path}={value}: cannot be represented in float32, which training uses; except for 0, the range is "
            f"{SMALLEST_FLOAT32:.4g} to {LARGEST_FLOAT32:.4g} in size"
        )
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    if not allows(limits, rounded):
        raise ConfigError(
            f"{path}={value}: is {rounded:g} in float32, which training uses, but must be {limits_text(limits)}"
        )


def _chosen(values: Mapping[str, Any]) -> dict[str, str]:
    """The part that each section has by its name; in a section without one, a key may be that of any part."""
    named = {
        key.removesuffix(".name"): name
        for key, name in values.items()
        if key.endswith(".name") and isinstance(name, str)  # a part's own key may be called so too
    }
    several = {
        section: " ".join(sorted({key.split(".")[1] for key in values if key.startswith(f"{section}.")}))
        for section in SELECTIONS
    }
    return {**named, **several}


@until_registered
def _float_limits(chosen: tuple[tuple[str, str], ...]) -> dict[str, Meta]:
    """The limits of every dotted key of these parts that holds floats."""
    return {key: _limits(hint) for key, hint in leaves(Config, chosen=dict(chosen)) if float in scalar_types(hint)}


def _limits(hint: Any) -> Meta:
    """The limits that stand anywhere in a key's hint; where there are none, all numbers are allowed."""
    inner = value_hint(hint)
    notes = [*notes_of(hint), *notes_of(inner), *(notes_of(item_of(hint)) if is_list(hint) else ())]
    return next((note for note in notes if isinstance(note, Meta) and has_limits(note)), Meta())
