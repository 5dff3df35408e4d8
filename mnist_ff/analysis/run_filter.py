"""Filter and sort runs by status, data, name, tag, time and any key of their configs."""

from __future__ import annotations

import fnmatch
import json
import operator
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from mnist_ff.analysis.rows import STATUSES, Row
from mnist_ff.analysis.run_list import Entry, found_in
from mnist_ff.config.keys import known_keys
from mnist_ff.config.messages import meant_of, nearest
from mnist_ff.errors import ConfigError
from mnist_ff.runs.find import run_start
from mnist_ff.runs.labels import labels_of
from mnist_ff.runs.names import name_of

T = TypeVar("T")

FACTS: Mapping[str, Callable[[Row], Any]] = {
    "score": lambda row: None if row.watched is None else row.watched.accuracy,
    "test_accuracy": lambda row: None if row.test is None else row.test.accuracy,
    "test_loss": lambda row: None if row.test is None else row.test.loss,
    "validation_accuracy": lambda row: None if row.validation is None else row.validation.accuracy,
    "validation_loss": lambda row: None if row.validation is None else row.validation.loss,
    "seconds": lambda row: row.seconds,
    "epochs": lambda row: row.epochs,
    "status": lambda row: row.status,
}
"""Results of a run that can be filtered and sorted by, besides the keys of its config."""
ENTRY_FACTS: Mapping[str, Callable[[Entry], Any]] = {
    "began": lambda entry: entry.began,
    "name": lambda entry: entry.name,
    "path": lambda entry: str(entry.path),
    "seconds": lambda entry: entry.seconds,
    "status": lambda entry: entry.status,
}
"""Further values that a list can be sorted by."""
SHORT_KEYS = {"data": "data.name", "model": "model.name", "optimizer": "optimizer.name", "schedule": "schedule.name"}
SHARES = ("score", "test_accuracy", "validation_accuracy")
"""Results that are shares from 0 to 1, and may be given as percent."""
DESCENDING = ("began", "score", "test_accuracy", "validation_accuracy")
"""Keys that sort in descending order by default; all others sort in ascending order."""
INSTEAD = {
    "began": "; use --since",
    "path": "; give a folder, or use --name",
    "tags": "; use --tag",
    "note": "; mnist-ff runs shows the notes",
}
"""Hints for words that are not keys of --where."""
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
CONDITION = re.compile(r"([\w./]+)\s*(>=|<=|!=|==|=|>|<)\s*(.*)", re.DOTALL)
"""A key, an operator and a value. == means the same as =."""
UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Seconds."""
SINCE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([mhdw])")


@dataclass(frozen=True)
class Condition:
    """A comparison of a run's key or score with a value."""

    key: str
    sign: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse KEY=VALUE, KEY>=VALUE and the like. Errors: ConfigError."""
        found = CONDITION.fullmatch(text)
        if found is None:
            raise ConfigError(f"--where {text}: give KEY=VALUE, or one of >=, <=, !=, > and < in place of =")
        key, sign, value = SHORT_KEYS.get(found[1], found[1]), found[2], _value(found[3])
        sign = "=" if sign == "==" else sign
        share = _share_of_percent(found[3]) if key in SHARES and not (_is_number(value) and 0 <= value <= 1) else None
        if share is not None:
            raise ConfigError(f"--where {text}: accuracies are shares from 0 to 1; type '{found[1]}{sign}{share}'")
        if sign not in ("=", "!=") and not _is_number(value):
            raise ConfigError(f"--where {text}: {sign} compares numbers; {found[3] or 'nothing'} is not a number")
        return cls(key, sign, value)

    def fits(self, row: Row) -> bool:
        """Whether the condition is true for a run. It is false for a run without the key."""
        if self.key not in FACTS and self.key not in row.values:
            return False
        found = FACTS[self.key](row) if self.key in FACTS else row.values[self.key]
        if self.sign in ("=", "!="):
            return _is_same(found, self.value) is (self.sign == "=")
        return _is_number(found) and OPERATORS[self.sign](found, self.value)


def _share_of_percent(text: str) -> str | None:
    """Parse a percentage, such as 98, 98 % or 98.5%, as a share; None for other texts."""
    with suppress(ValueError):
        number = float(text.strip().removesuffix("%"))
        return f"{number / 100:g}" if 0 <= number <= 100 else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(text: str) -> Any:
    """Parse a value: a number, true, false, null, a list, or a text."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    with suppress(ValueError):
        return float(text)
    return text


def _is_same(found: Any, value: Any) -> bool:
    if _is_number(found) and _is_number(value):
        return bool(found == value)
    if isinstance(found, list | tuple):
        return list(found) == value or ",".join(map(str, found)) == str(value).strip("[]").replace(" ", "")
    return found == value if type(found) is type(value) else found is not None and str(found) == str(value)


@dataclass(frozen=True)
class Filter:
    """Conditions that a run must meet, all together. Empty ones are always met."""

    status: Sequence[str] = ()
    """The run's status is one of these."""
    data: str | None = None
    name: str | None = None
    """A pattern with *, ? and [...]."""
    where: Sequence[Condition] = ()
    since: float | None = None
    """The run began at this time or later, in seconds since 1970."""
    tags: Sequence[str] = ()
    """The run has all of these tags."""

    @classmethod
    def of(
        cls,
        status: Iterable[str] = (),
        data: str | None = None,
        name: str | None = None,
        where: Iterable[str] = (),
        since: str | None = None,
        tags: Iterable[str] = (),
    ) -> Filter:
        """Parse the options of the command line. Errors: ConfigError."""
        statuses = tuple(status)
        for word in statuses:
            if word not in STATUSES:
                raise ConfigError(f"--status {word}: must be one of {', '.join(STATUSES)}{nearest(word, STATUSES)}")
        moment = None if since is None else moment_of(since)
        return cls(statuses, data, name, tuple(map(Condition.parse, where)), moment, tuple(tags))

    @property
    def is_empty(self) -> bool:
        """Whether every run matches."""
        return self == NO_FILTER

    def fitting(self, entry: Entry) -> list[Row]:
        """The runs of an entry that match. Conditions that are quick to check come first."""
        if not entry.sweep:
            return list(entry.rows) if self._fits_path(entry.path) and self._fits_row(entry.rows[0]) else []
        tags = set(entry.labels.tags)
        return [row for row in entry.rows if self._fits_path(row.path, tags) and self._fits_row(row)]

    def _fits_path(self, path: Path, tags_of_sweep: set[str] = frozenset()) -> bool:  # type: ignore[assignment]
        if self.since is not None and run_start(path)[0] < self.since:
            return False
        if self.name is not None and not fnmatch.fnmatchcase(name_of(path) or "", self.name):
            return False
        return not self.tags or set(self.tags) <= tags_of_sweep | set(labels_of(path).tags)

    def _fits_row(self, row: Row) -> bool:
        if self.status and row.status not in self.status:
            return False
        if self.data is not None and row.values.get("data.name") != self.data:
            return False
        return all(condition.fits(row) for condition in self.where)


NO_FILTER = Filter()


def moment_of(text: str) -> float:
    """The time of a duration ago (30m, 12h, 2d, 1w), or of a date or local time, in seconds since 1970.

    Errors: ConfigError.
    """
    found = SINCE.fullmatch(text)
    if found is not None:
        return time.time() - float(found[1]) * UNITS[found[2]]
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromisoformat(text).timestamp()
    raise ConfigError(f"--since {text}: give 30m, 12h, 2d, 1w, or a date such as 2026-11-24 or 2026-11-24T18:00")


def other_data(folder: Path, chosen: Filter) -> str:
    """The end of the message that no run matches: the runs' data sets, if the filter's is not one of them."""
    rows = [row for entry in found_in(folder, jobs=False) for row in entry.rows]
    there = {str(row.values["data.name"]) for row in rows if "data.name" in row.values}
    if chosen.data is None or chosen.data in there or not there:
        return ""
    return f"; their data: {', '.join(sorted(there))}"


@dataclass(frozen=True)
class Order:
    """How a list is sorted, and its largest number of entries."""

    key: str = "began"
    reverse: bool = False
    limit: int | None = None

    @property
    def descending(self) -> bool:
        """Whether the order is descending."""
        return (SHORT_KEYS.get(self.key, self.key) in DESCENDING) is not self.reverse

    def of(self, entry: Entry) -> tuple[int, Any] | None:
        """The sort key of an entry: numbers before texts; None for an entry without a value."""
        key = SHORT_KEYS.get(self.key, self.key)
        if key in ENTRY_FACTS:
            value = ENTRY_FACTS[key](entry)
        else:
            row = entry.best if entry.sweep and key in FACTS else None
            rows = [row] if row is not None else list(entry.rows)
            values = [FACTS[key](one) if key in FACTS else one.values.get(key) for one in rows]
            value = values[0] if values and all(one == values[0] for one in values) else None
        if value is None:
            return None
        comparable = _is_number(value) or key == "began"
        return (0, value) if comparable else (1, str(value))


@dataclass(frozen=True)
class Selected:
    """The selected entries of a folder."""

    entries: list[Entry]
    fitting: dict[Path, list[Row]] = field(default_factory=dict)
    """The matching runs of each entry, by the entry's path."""
    more: int = 0
    """Entries left out by the limit. With a filter this may be too large: not all of them were checked."""

    @property
    def partial(self) -> dict[Entry, list[Row]]:
        """The sweeps of which only some jobs match, with these jobs."""
        matched = {entry: self.fitting[entry.path] for entry in self.entries if entry.path in self.fitting}
        return {entry: rows for entry, rows in matched.items() if len(rows) < len(entry.rows)}


def select(folder: Path, chosen: Filter = Filter(), order: Order = Order(), jobs: bool = False) -> Selected:
    """The runs and sweeps of a folder that match, in order. A sweep matches if one of its jobs does. With `jobs`, jobs
    are listed one by one instead of their sweep.

    Errors: ConfigError for a key that exists neither in configs nor in a run of the folder.
    """
    entries = found_in(folder, jobs)
    _check_keys([condition.key for condition in chosen.where], FACTS, entries)
    _check_keys([SHORT_KEYS.get(order.key, order.key)], {*FACTS, *ENTRY_FACTS}, entries)
    newest_first = order.key == "began"
    if newest_first and order.reverse:
        entries.reverse()
    fitting: dict[Path, list[Row]] = {}
    kept: list[Entry] = []
    for number, entry in enumerate(entries):
        if newest_first and order.limit is not None and len(kept) >= order.limit:
            return Selected(kept, fitting, len(entries) - number)
        if chosen.is_empty:
            kept.append(entry)
        elif rows := chosen.fitting(entry):
            kept.append(entry)
            fitting[entry.path] = rows
    if not newest_first:
        kept = missing_last(kept, order.of, order.descending)
    wanted = len(kept) if order.limit is None else order.limit
    return Selected(kept[:wanted], fitting, max(0, len(kept) - wanted))


def missing_last(items: Iterable[T], key: Callable[[T], Any], descending: bool) -> list[T]:
    """The items sorted by a key. Those whose key is None come last in either direction."""
    keyed = [(key(item), item) for item in items]
    having = sorted((pair for pair in keyed if pair[0] is not None), key=lambda pair: pair[0], reverse=descending)
    return [item for _, item in having] + [item for value, item in keyed if value is None]


def _check_keys(keys: Sequence[str], facts: Collection[str], entries: Sequence[Entry]) -> None:
    """Check that keys exist. Keys of users' own parts are found in the runs. Errors: ConfigError."""
    unknown = [key for key in keys if key not in facts and key not in known_keys()]
    if not unknown:
        return
    known = {*known_keys(), *facts, *(key for entry in entries for row in entry.rows for key in row.values)}
    for key in unknown:
        if key not in known:
            hint = (
                INSTEAD.get(key)
                or meant_of(key, known)
                or "; mnist-ff show lists the groups, and mnist-ff show GROUP its keys"
            )
            raise ConfigError(f"{key}: no such key{hint}")
