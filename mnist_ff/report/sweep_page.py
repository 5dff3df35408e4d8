"""The page of a sweep: ranked table, curves, links to the reports of its runs."""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnist_ff.analysis.formats import counted, legend, metric_title, table_of
from mnist_ff.analysis.group_curves import GroupCurves, curves_of, parts_of
from mnist_ff.analysis.labels import group_labels, named
from mnist_ff.analysis.pivot import pivot_of, value_text
from mnist_ff.analysis.plot_values import colors_of, means_of
from mnist_ff.analysis.ranking import Ranking, brief, text
from mnist_ff.analysis.rows import Row
from mnist_ff.analysis.sweep_plot import is_grid
from mnist_ff.config.paths import display_path
from mnist_ff.errors import BadRunError
from mnist_ff.files import write_text
from mnist_ff.report.page import render
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.find import is_sweep
from mnist_ff.runs.numbers import MISSING
from mnist_ff.runs.parts import parts_words
from mnist_ff.runs.reading import is_file, read_bytes
from mnist_ff.runs.search_result import SearchResult, read_search_result
from mnist_ff.runs.search_result import lines as finding_lines

SWEEP_SCRIPTS = ("pieces.js", "scale.js", "chart.js", "sweep.js")
MAX_CURVES = 60
"""Settings whose curves are drawn: the best ones, then runs without a score."""
MAX_ROWS = 1_000
"""Rows of a table; sweep.csv has all of them."""
MAX_LINKS = 8
"""Runs that are linked in a row over several seeds."""
MAX_PICTURE_BYTES = 1_000_000
"""Size of a sweep.png that is embedded."""


Href = Callable[[Path], str | None]
"""A function from a run's directory to the URL of its report, None if there is none."""


@dataclass(frozen=True)
class Link:
    """A run's label, and the URL of its report, if it has one."""

    label: str
    href: str | None


@dataclass(frozen=True)
class Line:
    """A row of a table: its runs and its other cells."""

    name: str | None
    folder: str
    """What the paths of its runs begin with, said once; the links have the rest."""
    runs: list[Link]
    more: int
    """Number of further runs, without a link."""
    cells: list[str]


@dataclass(frozen=True)
class RankedTable:
    """The ranked settings of the runs that were evaluated on the same test images."""

    title: str | None
    legend: list[str]
    columns: list[str]
    """Rank and score come first, so that they are visible on narrow screens."""
    lines: list[Line]
    more: int
    heat: HeatMap | None


@dataclass(frozen=True)
class HeatMap:
    """The score over two crossed keys. Each cell has a text and a shade: 0 if empty, 1 (worst) to 5 (best)."""

    title: str
    rows: str
    columns: list[str]
    lines: list[tuple[str, list[tuple[str, int]]]]
    notes: list[str]


def write_sweep_report(ranking: Ranking, directory: Path, path: Path | None = None) -> Path:
    """Write the report of a sweep or folder of runs into it, or to `path`. Errors: OSError."""
    target = directory / REPORT if path is None else path
    write_text(target, sweep_page(ranking, directory, lambda run: _report_url(run, target)))
    return target


def sweep_page(ranking: Ranking, directory: Path, href: Href) -> str:
    """The report of a sweep or folder of runs, as HTML."""
    name = shlex.quote(str(display_path(directory)))
    commands = [
        (f"mnist-ff compare {name} --sort seconds", "print the table, sorted by seconds"),
        (f"mnist-ff report {name}", "write this report again"),
    ]
    if is_sweep(directory) and ranking.bad:
        first = next((row.path for row in ranking.rows), directory)
        resume = f"mnist-ff train -m resume={name}{parts_words(Run(first))}"
        commands.insert(0, (resume, "run only failed, interrupted and missing jobs"))
    search_result = read_search_result(directory)
    facts = {
        "title": directory.resolve().name,
        "path": str(display_path(directory)),
        "search_result": [] if search_result is None else finding_lines(_near(search_result)),
        "picture": _picture(directory / "sweep.png"),
        "commands": commands,
    }
    return _page(ranking, href, facts)


def _near(found: SearchResult) -> SearchResult:
    """The result with the path of its study as short as others are."""
    is_path = Path(found.storage).is_absolute()
    return replace(found, storage=str(display_path(Path(found.storage)))) if is_path else found


def write_comparison(ranking: Ranking, paths: Sequence[Path], target: Path) -> None:
    """Write the comparison page of several runs and sweeps to `target`. Errors: OSError."""
    write_text(target, comparison_page(ranking, paths, str(target), lambda run: _report_url(run, target)))


def comparison_page(ranking: Ranking, paths: Sequence[Path], file: str, href: Href) -> str:
    """The comparison page of several runs and sweeps. `file` is the path in the command that writes it again."""
    names = [str(display_path(path)) for path in paths]
    facts = {
        "title": f"{len(ranking.rows)} run{'s' if len(ranking.rows) != 1 else ''} compared",
        "path": " ".join(names) if len(names) < 6 else f"{names[0]} ... {names[-1]}",
        "search_result": [],
        "picture": None,
        "commands": [(shlex.join(["mnist-ff", "compare", *names, "--html", file]), "write this report again")],
    }
    return _page(ranking, href, facts)


def _page(ranking: Ranking, href: Href, facts: dict[str, Any]) -> str:
    labels = iter(group_labels(ranking))
    tables = [_table(table, [next(labels) for _ in table.groups], href) for table in ranking.tables]
    bad = sorted(ranking.bad, key=lambda row: row.status)
    curves = curves_of(ranking, MAX_CURVES)
    settings = sum(not group.again for group in ranking.groups)
    heats = all(table.heat is not None for table in tables)
    return render(
        "sweep.html",
        SWEEP_SCRIPTS,
        {"curves": [_curve_facts(curve) for curve in curves]},
        {
            **facts,
            "picture": None if heats else facts["picture"],
            "picture_coloured": len(ranking.varied) > 1,  # coloured by score: not inverted in dark mode
            "kicker": counted(ranking),
            "tables": [table for table in tables if table.lines],
            "apart": len(tables) > 1,
            "bad": [_unfinished(row, ranking, href) for row in bad[:MAX_ROWS]],
            "more_bad": max(0, len(bad) - MAX_ROWS),
            "parts": parts_of(curves),
            "drawn": len(curves),
            "left_out": max(0, settings - MAX_CURVES),
            "common": [(key, text(value)) for key, value in ranking.common.items()],
        },
    )


def _curve_facts(curve: GroupCurves) -> dict[str, Any]:
    facts = {"name": curve.name, "legend": curve.legend, "part": curve.title, "runs": curve.runs}
    return {**facts, "epochs": curve.epochs, "batches": curve.batches}


def _table(table: Ranking, labels: Sequence[str], href: Href) -> RankedTable:
    """A ranked table. Its first columns are the run, its rank and the score by which it is ranked."""
    made = table_of(table, labels)
    score = metric_title(table.ranked_by.replace(" ", "_"))
    first = [column for column in ("rank", score) if column in made.columns]
    columns = first + [column for column in made.columns if column not in (*first, "name", "path")]
    order = [made.columns.index(column) for column in columns]
    named = "name" in made.columns
    names = [cells[made.columns.index("name")] if named else MISSING for cells in made.ranked]
    rows = zip(names, made.ranked[:MAX_ROWS], table.groups, strict=False)
    lines = [
        Line(None if name == MISSING else name, *_links(group.rows, href), [cells[index] for index in order])
        for name, cells, group in rows
    ]
    return RankedTable(
        table.title, legend(table), columns, lines, max(0, len(made.ranked) - MAX_ROWS), _heat_map(table)
    )


def _heat_map(table: Ranking) -> HeatMap | None:
    """The heat map of two crossed keys, None if the runs are no grid. The key with more values goes down the rows."""
    if len(table.varied) != 2:
        return None
    levels = {key: {text(group.values.get(key)) for group in table.ranked} for key in table.varied}
    if not table.ranked or not is_grid(table, {key: list(found) for key, found in levels.items()}):
        return None
    down, across = sorted(table.varied, key=lambda key: -len(levels[key]))
    found = pivot_of(table, down, across)
    if found is None:
        return None
    colors = colors_of(means_of(table.ranked, table), table)
    scale = 1.0 if table.by_loss else 100.0
    shades = [
        [0 if cell is None else 1 + round(4 * colors.goodness(scale * cell.mean)) for cell in line]
        for line in found.cells
    ]
    lines = [
        (value_text(value), list(zip(texts, shade, strict=True)))
        for value, texts, shade in zip(found.row_values, found.texts, shades, strict=True)
    ]
    heads = [f"{across}={value_text(value)}" for value in found.column_values]
    return HeatMap(found.title, down, heads, lines, found.notes)


def _links(rows: Sequence[Row], href: Href) -> tuple[str, list[Link], int]:
    """The folder that several runs share, the ways to their pages, and how many more there are."""
    shown = rows[:MAX_LINKS]
    folders = {os.path.dirname(row.label) for row in shown}
    folder = f"{folders.pop()}/" if len(shown) > 1 and len(folders) == 1 and folders != {""} else ""
    links = [Link(row.label.removeprefix(folder), href(row.path)) for row in shown]
    return folder, links, max(0, len(rows) - MAX_LINKS)


def _link(row: Row, href: Href) -> Link:
    return Link(row.label, href(row.path))


def _unfinished(row: Row, ranking: Ranking, href: Href) -> tuple[str, str, str, str | None, Link]:
    """Status, reason, keys, name if the runs have names, and a link to the run's report."""
    name = row.name if named(ranking) else None
    return row.status, row.reason or "", _named(row, ranking), name, _link(row, href)


def _report_url(run: Path, target: Path) -> str | None:
    """The relative URL from the page `target` to a run's report, None if it has none."""
    if not is_file(run / REPORT):
        return None
    relative = os.path.relpath((run / REPORT).absolute(), target.absolute().parent)
    return quote(Path(relative).as_posix(), errors="surrogateescape")


def _named(row: Row, ranking: Ranking) -> str:
    return " ".join(f"{key}={brief(row.values[key])}" for key in ranking.keys if key in row.values)


def _picture(path: Path) -> str | None:
    """sweep.png as a data URI; None if it is missing, too large or not a PNG file."""
    try:
        content = read_bytes(path, MAX_PICTURE_BYTES)
    except BadRunError:
        return None
    is_png = content.startswith(b"\x89PNG\r\n\x1a\n")
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}" if is_png else None
