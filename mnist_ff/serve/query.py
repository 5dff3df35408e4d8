"""What a page asks of the list: some runs, in an order, a page at a time; and the answer as plain values."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_ff.analysis.rows import GOOD, Row
from mnist_ff.analysis.run_filter import CONDITION, Condition, Order, missing_last
from mnist_ff.analysis.run_list import Entry
from mnist_ff.errors import ConfigError
from mnist_ff.serve.listing import Listing, id_of

PAGE = 100
"""Rows of a page."""
LONGEST_WORDS = 500
MOST_CHOICES = 50
"""Data sets to choose from."""
LONGEST_NOTE = 200


@dataclass(frozen=True)
class Line:
    """A row of the list: a run, or a sweep by its best run."""

    entry: Entry
    row: Row | None
    """The run, or a sweep's best one; None where none of its runs has a score."""

    @property
    def data(self) -> str:
        """The data set that all its runs share."""
        return str(self.entry.common("data.name") or "")


ORDERS: Mapping[str, str] = {
    "began": "began",
    "name": "name",
    "status": "status",
    "test": "test_accuracy",
    "loss": "test_loss",
    "validation": "validation_accuracy",
    "epochs": "epochs",
    "data": "data.name",
    "seconds": "seconds",
}
"""What the page's words stand for in `mnist-ff runs --sort`."""
DOWNWARD = ("began", "test", "validation", "epochs", "seconds")
"""Orders whose first row is the largest, unless it is asked for the other way."""


@dataclass(frozen=True)
class Query:
    """Which rows, and in which order."""

    words: str = ""
    """Each must stand in the name, path, data, status, tags or note; KEY=VALUE, as --where takes it, is a condition."""
    status: str = ""
    data: str = ""
    sort: str = "began"
    reverse: bool = False
    page: int = 0

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """From the query of an address. What is no page or order is the first one."""
        page = given.get("page", "")
        sort = given.get("sort", "began")
        return cls(
            given.get("words", "")[:LONGEST_WORDS],
            given.get("status", ""),
            given.get("data", ""),
            sort if sort in ORDERS else "began",
            given.get("reverse") == "1",
            int(page) if page.isascii() and page.isdecimal() and len(page) < 9 else 0,
        )


def answer(listing: Listing, query: Query) -> dict[str, Any]:
    """A page of the list, what there is to choose from, and how far it is read."""
    version, entries = listing.version, listing.entries
    lines = [Line(entry, entry.best if entry.sweep else entry.rows[0]) for entry in entries]
    try:
        fits, fault = _fitting(query, listing), None
    except ConfigError as error:
        fits, fault = (lambda line: False), str(error).removeprefix("--where ")
    chosen = _in_order([line for line in lines if fits(line)], query)
    pages = max(1, -(-len(chosen) // PAGE))
    page = min(query.page, pages - 1)
    return {
        "version": version,
        "found": listing.found,
        "read": listing.read,
        "complete": listing.complete,
        "total": len(entries),
        "matched": len(chosen),
        "page": page,
        "pages": pages,
        "fault": fault,
        "rows": [line_json(line, listing) for line in chosen[PAGE * page : PAGE * (page + 1)]],
        "statuses": dict(Counter(row.status for entry in entries for row in entry.rows).most_common()),
        "data": sorted({line.data for line in lines if line.data})[:MOST_CHOICES],
    }


def _fitting(query: Query, listing: Listing) -> Callable[[Line], bool]:
    """Whether a row fits. Errors: ConfigError for a condition that is none."""
    try:
        words = shlex.split(query.words)
    except ValueError:  # a quotation mark that is not closed yet
        words = query.words.split()
    conditions = [Condition.parse(word) for word in words if CONDITION.fullmatch(word)]
    plain = [word.casefold() for word in words if not CONDITION.fullmatch(word)]

    def fits(line: Line) -> bool:
        rows = [row for row in line.entry.rows if not query.status or row.status == query.status]
        rows = [row for row in rows if not query.data or row.values.get("data.name") == query.data]
        if not any(all(condition.fits(row) for condition in conditions) for row in rows):
            return False
        text = _text(line, listing) if plain else ""
        return all(word in text for word in plain)

    return fits


def _path(line: Line, listing: Listing) -> str:
    """Where a run or sweep lies in the folder."""
    path = line.entry.path
    return _shown(str(path.relative_to(listing.root) if path != listing.root else path))


def _text(line: Line, listing: Listing) -> str:
    """What words are looked for in."""
    labels = line.entry.labels
    texts = (line.entry.name or "", _path(line, listing), line.data, line.entry.status, *labels.tags, labels.note or "")
    return "\n".join(texts).casefold()


def _in_order(lines: Sequence[Line], query: Query) -> list[Line]:
    """Sorted as the page shows them: a run without a name by that of its directory."""
    order = Order(ORDERS[query.sort])
    descending = (query.sort in DOWNWARD) is not query.reverse
    if query.sort == "name":
        return missing_last(lines, lambda line: (line.entry.name or line.entry.path.name).casefold(), descending)
    return missing_last(lines, lambda line: order.of(line.entry), descending)


def line_json(line: Line, listing: Listing) -> dict[str, Any]:
    """A row of the list as plain values."""
    entry, row = line.entry, line.row
    test, validation = (None, None) if row is None else (row.test, row.validation)
    return {
        "id": id_of(entry.path),
        "sweep": entry.sweep,
        "name": entry.name or _shown(entry.path.name),
        "path": _path(line, listing),
        "status": entry.status if entry.sweep else entry.rows[0].status,
        "good": all(one.status in GOOD for one in entry.rows),
        "running": any(one.status == "running" for one in entry.rows),
        "reason": None if entry.sweep else entry.rows[0].reason,
        "test": None if test is None else test.accuracy,
        "loss": None if test is None else test.loss,
        "validation": None if validation is None else validation.accuracy,
        "epochs": None if row is None else row.epochs,
        "of_epochs": None if row is None else row.values.get("trainer.epochs"),
        "data": line.data,
        "seconds": entry.seconds,
        "began": entry.began[0],
        "tags": list(entry.labels.tags),
        "note": (entry.labels.note or "")[:LONGEST_NOTE],
    }


def jobs_json(entry: Entry, listing: Listing) -> list[dict[str, Any]]:
    """The jobs of a sweep, each as a row; those that are not there yet have no id."""
    made = []
    for row in entry.rows:
        line = Line(_job(row), row)
        made.append({**line_json(line, listing), "name": row.label, "path": _words(row, entry)})
        if not listing.holds(row.path) or listing.path(id_of(row.path)) is None:
            made[-1]["id"] = None
    return made


def _job(row: Row) -> Entry:
    """A job as an entry of its own, of which nothing is read again."""
    entry = Entry(row.path)
    entry.__dict__.update(rows=(row,), name=row.values.get("name"), began=(0.0, 0.0))
    return entry


def _words(row: Row, entry: Entry) -> str:
    """What sets a job apart: its values of the keys in which the jobs differ."""
    from mnist_ff.analysis.ranking import brief

    differ = [key for key in row.values if entry.common(key) is None and row.values[key] is not None]
    return " ".join(f"{key}={brief(row.values[key])}" for key in differ[:6])


def _shown(text: str) -> str:
    """A path as text: bytes that are none are written as they are in Python."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
