"""Queries of the list page: filter, sort order and page number; and the answer as JSON values."""

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
"""Rows per page of the list."""
MAX_SEARCH_LENGTH = 500
"""Letters of the search text; the rest is ignored."""
MAX_CHOICES = 50
"""Data sets offered as a filter."""
MAX_NOTE_LENGTH = 200


@dataclass(frozen=True)
class Line:
    """A line of the list: a run, or a sweep with the scores of its best run."""

    entry: Entry
    row: Row | None
    """The run, or the best run of a sweep; None if no run of the sweep has a score."""

    @property
    def data(self) -> str:
        """The data set of its runs; empty if they differ."""
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
"""The page's sort keys, and the keys of `mnist-ff runs --sort` that they use."""
ASCENDING = ("name", "status", "data", "loss")
"""Sort keys that are ascending by default; the others are descending."""


@dataclass(frozen=True)
class Query:
    """Which lines to return, and in which order."""

    words: str = ""
    """Each word must occur in the name, path, data set, status, tags or note. A word KEY=VALUE is a condition, as in
    `runs --where`."""
    status: str = ""
    data: str = ""
    sort: str = "began"
    reverse: bool = False
    page: int = 0

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """Parse a URL's query. An invalid page number or sort key becomes the default."""
        page = given.get("page", "")
        sort = given.get("sort", "began")
        return cls(
            given.get("words", "")[:MAX_SEARCH_LENGTH],
            given.get("status", ""),
            given.get("data", ""),
            sort if sort in ORDERS else "began",
            given.get("reverse") == "1",
            int(page) if page.isascii() and page.isdecimal() and len(page) < 9 else 0,
        )


def answer(listing: Listing, query: Query) -> dict[str, Any]:
    """A page of the list, the choices of its filters, and how many runs have been read so far."""
    version, entries = listing.version, listing.entries
    lines = [Line(entry, entry.best if entry.sweep else entry.rows[0]) for entry in entries]
    try:
        fits, fault = _line_filter(query, listing), None
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
        "data": sorted({line.data for line in lines if line.data})[:MAX_CHOICES],
    }


def _line_filter(query: Query, listing: Listing) -> Callable[[Line], bool]:
    """A function that says whether a line matches the query. Errors: ConfigError for an invalid condition."""
    try:
        words = shlex.split(query.words)
    except ValueError:  # an unclosed quotation mark
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
    """The path of a run or sweep relative to the listed folder."""
    path = line.entry.path
    return _shown(str(path.relative_to(listing.root) if path != listing.root else path))


def _text(line: Line, listing: Listing) -> str:
    """The text in which the words of a query are searched, in lower case."""
    labels = line.entry.labels
    texts = (line.entry.name or "", _path(line, listing), line.data, line.entry.status, *labels.tags, labels.note or "")
    return "\n".join(texts).casefold()


def _in_order(lines: Sequence[Line], query: Query) -> list[Line]:
    """The lines in the query's order. Runs without a name are sorted by the name of their directory."""
    order = Order(ORDERS[query.sort])
    descending = (query.sort not in ASCENDING) is not query.reverse
    if query.sort == "name":
        return missing_last(lines, lambda line: (line.entry.name or line.entry.path.name).casefold(), descending)
    return missing_last(lines, lambda line: order.of(line.entry), descending)


def line_json(line: Line, listing: Listing) -> dict[str, Any]:
    """A line of the list as JSON values."""
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
        "note": (entry.labels.note or "")[:MAX_NOTE_LENGTH],
    }


def jobs_json(entry: Entry, listing: Listing) -> list[dict[str, Any]]:
    """The jobs of a sweep, each as a line of the list. Jobs without a run directory have no id."""
    made = []
    for row in entry.rows:
        line = Line(_job(row), row)
        made.append({**line_json(line, listing), "name": row.label, "path": _varied(row, entry)})
        if not listing.holds(row.path) or listing.path(id_of(row.path)) is None:
            made[-1]["id"] = None
    return made


def _job(row: Row) -> Entry:
    """A job as an entry. Its cached properties are set here, so that nothing is read again."""
    entry = Entry(row.path)
    entry.__dict__.update(rows=(row,), name=row.values.get("name"), began=(0.0, 0.0))
    return entry


def _varied(row: Row, entry: Entry) -> str:
    """A job's values of the keys that vary among the jobs, at most six: `optimizer.lr=0.01 seed=0`."""
    from mnist_ff.analysis.ranking import brief

    differ = [key for key in row.values if entry.common(key) is None and row.values[key] is not None]
    return " ".join(f"{key}={brief(row.values[key])}" for key in differ[:6])


def _shown(text: str) -> str:
    """A path as text. Bytes that are not UTF-8 are escaped: \\xff."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
