"""Constraints on a key's value beyond its type: limits by msgspec's Meta, and lists of names."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import Meta

INT_LIMIT = 1 << 63
"""Integer values of keys are below this."""

COMPARISONS = {
    "gt": ("above", operator.gt),
    "ge": ("at least", operator.ge),
    "lt": ("below", operator.lt),
    "le": ("at most", operator.le),
}


def has_limits(meta: Meta) -> bool:
    """Whether `meta` limits a number."""
    return any(getattr(meta, name) is not None for name in COMPARISONS)


def allows(meta: Meta, value: float) -> bool:
    """Whether a finite number lies within the limits."""
    bounds = ((getattr(meta, name), compare) for name, (_, compare) in COMPARISONS.items())
    return all(bound is None or compare(value, bound) for bound, compare in bounds)


def limits_text(meta: Meta) -> str:
    """The limits for a message: 'above 0 and at most 1'."""
    found = [(words, getattr(meta, name)) for name, (words, _) in COMPARISONS.items()]
    return " and ".join(f"{words} {_bound(bound)}" for words, bound in found if bound is not None)


def _bound(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) or abs(bound) < 10_000 else f"{bound:,}"


@dataclass(frozen=True)
class OneOf:
    """Annotation of a text key whose values are these names, including names that are added later."""

    names: Iterable[str]


@dataclass(frozen=True)
class Among:
    """Annotation of a text key: values to suggest. Others are allowed."""

    names: Iterable[str]


@dataclass(frozen=True)
class PartOf:
    """Annotation of a text key whose values are the names of a group's parts."""

    group: str
