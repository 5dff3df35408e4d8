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


def meant_of(word: str, keys: Iterable[str]) -> str:
    """'; did you mean X?' for the key that ends in a word, as optimizer.lr in lr, or that people call so; else the
    closest."""
    keys = sorted(keys)
    ends = [key for key in keys if key.rpartition(".")[2] == word]
    ends += [key for key in keys if word.lower() in SORTED_BY.get(key, "").split()]
    return f"; did you mean {ends[0]}?" if ends else nearest(word, keys)


SORTED_BY = {
    "began": "date time started start newest oldest age created",
    "score": "accuracy acc best top rank test val",
    "seconds": "duration elapsed runtime",
    "test_loss": "loss",
}
"""Facts of a run, with what others call them."""
LONGEST_SHOWN = 200


def brief_text(value: Any) -> str:
    """A value for a message of one line: a list of a megabyte is cut."""
    try:
        shown = str(value)
    except (ValueError, RecursionError):  # a whole number of too many digits
        return "..."
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
