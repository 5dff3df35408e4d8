"""The page of a sweep: ranked table, curves, links to the reports of its runs."""

from __future__ import annotations

import base64
import math
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnist_ff.analysis.formats import counted, legend, table_of
from mnist_ff.analysis.ranking import Ranking, brief, text
from mnist_ff.analysis.rows import Row
from mnist_ff.config.paths import display_path
from mnist_ff.errors import BadRunError
from mnist_ff.files import write_text
from mnist_ff.report.curves import batches_array, epoch_curves, means
from mnist_ff.report.page import render
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.find import is_sweep
from mnist_ff.runs.parts import parts_words
from mnist_ff.runs.reading import is_file, read_bytes
from mnist_ff.runs.search_result import lines as finding_lines
from mnist_ff.runs.search_result import read_search_result
from mnist_ff.runs.tables import BATCH_COLUMNS

SWEEP_SCRIPTS = ("pieces.js", "scale.js", "chart.js", "sweep.js")
MOST_CURVES = 60
"""Runs whose curves are drawn: the best ones, and those without a score after them."""
POINTS = 200
"""Of a run's loss curve, each the mean of some batches."""
MOST_ROWS = 1_000
"""Of a table; the sweep's files hold all."""
MOST_LINKS = 8
"""Of a row over several seeds."""
MAX_EPOCHS_PER_RUN = 200
MOST_KEYS = 3
"""Of a curve's name."""
LARGEST_PICTURE = 1_000_000
"""Bytes of a sweep.png that goes into the page."""


Href = Callable[[Path], str | None]
"""A run's directory to the address of its page, if it has one."""


@dataclass(frozen=True)
class Link:
    """A run's name, and the way to its page from this one, if it has one."""

    label: str
    href: str | None


@dataclass(frozen=True)
class Line:
    """A row of a table: its cells and its runs."""

    cells: list[str]
    runs: list[Link]
    more: int
    """Runs that are not named."""


def write_sweep_report(ranking: Ranking, directory: Path, place: Path | None = None) -> Path:
    """Write the page of a sweep or of a folder of runs into it, or to `place`. Errors: OSError."""
    target = directory / REPORT if place is None else place
    write_text(target, sweep_page(ranking, directory, lambda path: _way(path, target)))
    return target


def sweep_page(ranking: Ranking, directory: Path, href: Href) -> str:
    """The page of a sweep or of a folder of runs."""
    name = shlex.quote(str(display_path(directory)))
    commands = [
        (f"mnist-ff compare {name} --sort seconds", "print the table, sorted by seconds"),
        (f"mnist-ff report {name}", "write this report again"),
    ]
    if is_sweep(directory):
        first = next((row.path for row in ranking.rows), directory)
        resume = f"mnist-ff train -m resume={name}{parts_words(Run(first))}"
        commands.insert(0, (resume, "run only failed, interrupted and missing jobs"))
    search_result = read_search_result(directory)
    facts = {
        "title": directory.resolve().name,
        "path": str(display_path(directory)),
        "search_result": [] if search_result is None else finding_lines(search_result),
        "picture": _picture(directory / "sweep.png"),
        "commands": commands,
    }
    return _page(ranking, href, facts)


def write_comparison(ranking: Ranking, paths: Sequence[Path], target: Path) -> None:
    """Write the page of several runs and sweeps to `target`. Errors: OSError."""
    write_text(target, comparison_page(ranking, paths, str(target), lambda path: _way(path, target)))


def comparison_page(ranking: Ranking, paths: Sequence[Path], place: str, href: Href) -> str:
    """The page of several runs and sweeps; `place` is the file that a command on it writes."""
    names = [str(display_path(path)) for path in paths]
    facts = {
        "title": f"{len(ranking.rows)} run{'s' if len(ranking.rows) != 1 else ''} compared",
        "path": " ".join(names) if len(names) < 6 else f"{names[0]} ... {names[-1]}",
        "search_result": [],
        "picture": None,
        "commands": [(shlex.join(["mnist-ff", "compare", *names, "--html", place]), "write this report again")],
    }
    return _page(ranking, href, facts)


def _page(ranking: Ranking, href: Href, facts: dict[str, Any]) -> str:
    made = table_of(ranking)
    ranked = [
        Line(cells[:-1], *_links(group.rows, href))
        for cells, group in zip(made.ranked[:MOST_ROWS], ranking.groups, strict=False)
    ]
    bad = sorted(ranking.bad, key=lambda row: row.status)
    curves = _curves(ranking)
    scored = sum(len(group.rows) for group in ranking.groups)
    return render(
        "sweep.html",
        SWEEP_SCRIPTS,
        {"runs": curves, "ranked_by": ranking.ranked_by},
        {
            **facts,
            "kicker": counted(ranking),
            "legend": legend(ranking),
            "columns": (*made.columns[:-1], "run"),
            "ranked": ranked,
            "more": max(0, len(made.ranked) - MOST_ROWS),
            "bad": [(row.status, row.reason or "", _named(row, ranking), _link(row, href)) for row in bad[:MOST_ROWS]],
            "more_bad": max(0, len(bad) - MOST_ROWS),
            "drawn": len(curves),
            "left_out": max(0, scored - MOST_CURVES),
            "common": [(key, text(value)) for key, value in ranking.common.items()],
        },
    )


def _links(rows: Sequence[Row], href: Href) -> tuple[list[Link], int]:
    return [_link(row, href) for row in rows[:MOST_LINKS]], max(0, len(rows) - MOST_LINKS)


def _link(row: Row, href: Href) -> Link:
    return Link(row.label, href(row.path))


def _way(path: Path, target: Path) -> str | None:
    """The way from a file to the report of a run, where it has one."""
    if not is_file(path / REPORT):
        return None
    way = os.path.relpath((path / REPORT).absolute(), target.absolute().parent)
    return quote(Path(way).as_posix(), errors="surrogateescape")


def _named(row: Row, ranking: Ranking) -> str:
    return " ".join(f"{key}={brief(row.values[key])}" for key in ranking.keys if key in row.values)


def _curves(ranking: Ranking) -> list[dict[str, Any]]:
    """The curves of the best runs, the best first, then of those that did not finish but have some."""
    ranked = [row for group in ranking.groups for row in group.rows]
    drawn = [(row, _curves_of(Run(row.path))) for row in [*ranked, *ranking.bad][:MOST_CURVES]]
    return [{"name": _label(row, ranking), **curves} for row, curves in drawn if curves is not None]


def _label(row: Row, ranking: Ranking) -> str:
    """A short name for a curve: its values where few keys differ, else the run's own name or place."""
    if 0 < len(ranking.keys) <= MOST_KEYS:
        return _named(row, ranking)
    name = row.values.get("name")
    return row.label if name is None else str(name)


def _curves_of(run: Run) -> dict[str, Any] | None:
    """A run's epochs and its loss in POINTS steps; None where it has neither."""
    curves: dict[str, Any] = {}
    try:
        epochs = epoch_curves(run)
        if epochs is not None and epochs["part"] is not None:
            columns, part = epochs["columns"], epochs["part"]
            step = math.ceil(len(columns["epoch"]) / MAX_EPOCHS_PER_RUN)
            names = {"epoch": "epoch", "loss": f"{part}_loss", "accuracy": f"{part}_accuracy"}
            curves["epochs"] = {name: columns[key][::-step][::-1] for name, key in names.items() if key in columns}
            curves["part"] = part
        loss = batches_array(run)[:, BATCH_COLUMNS.index("loss")]
        if len(loss):
            size = math.ceil(len(loss) / POINTS)
            digits = 9 if size == 1 else 6
            points = [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in means(loss, size)]
            curves["batches"] = {"per_point": size, "count": len(loss), "loss": points}
    except BadRunError:
        return curves or None
    return curves or None


def _picture(path: Path) -> str | None:
    """sweep.png as a data URI, if it is there and no giant."""
    try:
        content = read_bytes(path, LARGEST_PICTURE)
    except BadRunError:
        return None
    is_png = content.startswith(b"\x89PNG\r\n\x1a\n")
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}" if is_png else None
