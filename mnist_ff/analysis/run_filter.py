"""Choose and order runs: by status, data, name, tag, time and any key of their configs."""

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
from typing import Any

from mnist_ff.analysis.rows import STATUSES, Row
from mnist_ff.analysis.run_list import Entry, found_in
from mnist_ff.config.keys import known_keys
from mnist_ff.config.messages import nearest
from mnist_ff.errors import ConfigError
from mnist_ff.runs.find import run_start
from mnist_ff.runs.labels import labels_of
from mnist_ff.runs.names import name_of

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
"""What a run has beside its config's keys."""
OF_ENTRIES: Mapping[str, Callable[[Entry], Any]] = {
    "began": lambda entry: entry.began,
    "name": lambda entry: entry.name,
    "path": lambda entry: str(entry.path),
    "seconds": lambda entry: entry.seconds,
    "status": lambda entry: entry.status,
}
"""What a list is sorted by besides."""
SHORT = {"data": "data.name", "model": "model.name", "optimizer": "optimizer.name", "schedule": "schedule.name"}
INSTEAD = {
    "began": "; --since takes a time",
    "path": "; give a folder, or --name",
    "tags": "; --tag takes one",
    "note": "; mnist-ff runs shows the notes",
}
"""What to do with a key that no condition or order takes."""
LARGEST_FIRST = ("began", "score", "test_accuracy", "validation_accuracy")
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
CONDITION = re.compile(r"([\w./]+)\s*(>=|<=|!=|==|=|>|<)\s*(.*)", re.DOTALL)
"""As on the command line; == is Python's =."""
UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
SINCE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([mhdw])")


@dataclass(frozen=True)
class Condition:
    """A comparison of a run's key or score with a value."""

    key: str
    sign: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Condition:
        """From KEY=VALUE, KEY>=VALUE and the like. Errors: ConfigError."""
        found = CONDITION.fullmatch(text)
        if found is None:
            raise ConfigError(f"--where {text}: give KEY=VALUE, or one of >=, <=, !=, > and < in place of =")
        key, sign, value = SHORT.get(found[1], found[1]), found[2], _value(found[3])
        sign = "=" if sign == "==" else sign
        if sign not in ("=", "!=") and not _is_number(value):
            raise ConfigError(f"--where {text}: {sign} compares numbers, and {found[3] or 'nothing'} is none")
        return cls(key, sign, value)

    def fits(self, row: Row) -> bool:
        """Whether it is true of a run; a run that lacks the key fits none."""
        if self.key not in FACTS and self.key not in row.values:
            return False
        found = FACTS[self.key](row) if self.key in FACTS else row.values[self.key]
        if self.sign in ("=", "!="):
            return _is_same(found, self.value) is (self.sign == "=")
        return _is_number(found) and OPERATORS[self.sign](found, self.value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(text: str) -> Any:
    """A value as it is typed: a number, true, null, a list, or a text."""
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
    """What runs must be like to be listed; all of it together."""

    status: Sequence[str] = ()
    """One of these; none given: any."""
    data: str | None = None
    name: str | None = None
    """A pattern with *, ? and [...]."""
    where: Sequence[Condition] = ()
    since: float | None = None
    """Began then or later, in seconds since 1970."""
    tags: Sequence[str] = ()
    """Each of them."""

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
        """From words as they are typed. Errors: ConfigError."""
        statuses = tuple(status)
        for word in statuses:
            if word not in STATUSES:
                raise ConfigError(f"--status {word}: must be one of {', '.join(STATUSES)}{nearest(word, STATUSES)}")
        moment = None if since is None else moment_of(since)
        return cls(statuses, data, name, tuple(map(Condition.parse, where)), moment, tuple(tags))

    @property
    def is_empty(self) -> bool:
        """Whether every run fits."""
        return self == NO_FILTER

    def fitting(self, entry: Entry) -> list[Row]:
        """The runs of an entry that fit; what is quick to find out is asked first."""
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
    """The moment that 30m, 12h, 2d, 1w ago was, or that a date or time on the clock names. Errors: ConfigError."""
    found = SINCE.fullmatch(text)
    if found is not None:
        return time.time() - float(found[1]) * UNITS[found[2]]
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromisoformat(text).timestamp()
    raise ConfigError(f"--since {text}: give 30m, 12h, 2d, 1w, or a date such as 2026-11-24 or 2026-11-24T18:00")


@dataclass(frozen=True)
class Order:
    """How a list is sorted, and how much of it is wanted."""

    key: str = "began"
    reverse: bool = False
    limit: int | None = None

    def of(self, entry: Entry) -> tuple[int, Any]:
        """What an entry is sorted by: numbers before texts."""
        key = SHORT.get(self.key, self.key)
        if key in OF_ENTRIES:
            value = OF_ENTRIES[key](entry)
        else:
            row = entry.best if entry.sweep and key in FACTS else None
            rows = [row] if row is not None else list(entry.rows)
            values = [FACTS[key](one) if key in FACTS else one.values.get(key) for one in rows]
            value = values[0] if values and all(one == values[0] for one in values) else None
        if value is None:
            return 2, None
        comparable = _is_number(value) or key == "began"
        return (0, value) if comparable else (1, str(value))


@dataclass(frozen=True)
class Selected:
    """What a folder's list comes to."""

    entries: list[Entry]
    fitting: dict[Path, list[Row]] = field(default_factory=dict)
    """For each entry the runs of it that fit."""
    more: int = 0
    """Entries that fit and were cut by the limit; at least so many where nobody has counted."""


def select(folder: Path, chosen: Filter = Filter(), order: Order = Order(), jobs: bool = False) -> Selected:
    """The runs and sweeps of a folder that fit, in order; a sweep fits where one of its jobs does. With `jobs`, its
    jobs stand one by one.

    Errors: ConfigError for a key that neither a config nor a run in the folder has.
    """
    entries = found_in(folder, jobs)
    _check_keys([condition.key for condition in chosen.where], FACTS, entries)
    _check_keys([SHORT.get(order.key, order.key)], {*FACTS, *OF_ENTRIES}, entries)
    newest_first = order.key == "began"
    if newest_first and order.reverse:
        entries.reverse()
    fitting: dict[Path, list[Row]] = {}
    kept: list[Entry] = []
    for place, entry in enumerate(entries):
        if newest_first and order.limit is not None and len(kept) >= order.limit:
            return Selected(kept, fitting, len(entries) - place)
        if chosen.is_empty:
            kept.append(entry)
        elif rows := chosen.fitting(entry):
            kept.append(entry)
            fitting[entry.path] = rows
    if not newest_first:
        kept = _in_order(kept, order)
    wanted = len(kept) if order.limit is None else order.limit
    return Selected(kept[:wanted], fitting, max(0, len(kept) - wanted))


def _in_order(entries: Sequence[Entry], order: Order) -> list[Entry]:
    """Sorted, those that lack the key last whatever the direction."""
    keyed = [(order.of(entry), entry) for entry in entries]
    having = [pair for pair in keyed if pair[0][0] < 2]
    descending = (SHORT.get(order.key, order.key) in LARGEST_FIRST) is not order.reverse
    having.sort(key=lambda pair: pair[0], reverse=descending)
    return [entry for _, entry in having] + [entry for key, entry in keyed if key[0] == 2]


def _check_keys(keys: Sequence[str], facts: Collection[str], entries: Sequence[Entry]) -> None:
    """Errors: ConfigError for a key that there is not; those of own parts are known by the runs that have them."""
    odd = [key for key in keys if key not in facts and key not in known_keys()]
    if not odd:
        return
    known = {*known_keys(), *facts, *(key for entry in entries for row in entry.rows for key in row.values)}
    for key in odd:
        if key not in known:
            ends = sorted(one for one in known if one.rpartition(".")[2] == key)
            hint = f"; did you mean {ends[0]}?" if ends else INSTEAD.get(key) or nearest(key, sorted(known))
            raise ConfigError(f"{key}: no such key{hint}")
