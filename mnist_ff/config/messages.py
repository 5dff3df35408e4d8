"""Parts of error messages: shortened values, and the closest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def nearest(word: str, words: Iterable[str]) -> str:
    """'; did you mean X?' for the closest of `words`, or nothing."""
    import difflib

    lower = {other.lower(): other for other in words}  # Adam is adam
    close = difflib.get_close_matches(word[:LONGEST_SHOWN].lower(), lower, n=1, cutoff=0.5)
    return f"; did you mean {lower[close[0]]}?" if close else ""


LONGEST_SHOWN = 200


def brief_text(value: Any) -> str:
    """A value for a message of one line: a list of a megabyte is cut."""
    try:
        shown = str(value)
    except (ValueError, RecursionError):  # a whole number of too many digits
        return "..."
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
