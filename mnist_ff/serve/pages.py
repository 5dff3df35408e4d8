"""The pages of the server: the list, the live page of a run, and reports, which are drawn from a run's data.

The report.html in a run directory is never sent: somebody else may have written it.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Sequence
from pathlib import Path

from mnist_ff.analysis.rows import Row, collect
from mnist_ff.config.paths import display_path
from mnist_ff.report.page import render
from mnist_ff.report.run_page import run_page
from mnist_ff.report.sweep_page import SWEEP_SCRIPTS, comparison_page, sweep_page
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import holds_runs
from mnist_ff.runs.names import name_of
from mnist_ff.runs.search_result import read_search_result
from mnist_ff.serve.listing import Listing, id_of
from mnist_ff.sweeps.summary import ranking_of

ASSETS = Path(__file__).resolve().parent / "assets"
LIST_SCRIPTS = ("pieces.js", "list.js")
LIVE_SCRIPTS = (*SWEEP_SCRIPTS[:-1], "live.js")
"""The chart scripts of a sweep's page, with live.js in place of the page's own script."""
MAX_COMPARED = 200
"""Runs and sweeps on one comparison page."""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
COMPARISON = "comparison.html"
"""The file name in the command that the comparison page suggests."""


def policy_of(page: str) -> str:
    """The Content-Security-Policy header of a page: the policy of its <meta> element, and `frame-ancestors`, which
    only a header can set."""
    found = POLICY.search(page)  # the first match is ours: no text from run directories comes before it
    assert found is not None
    return f"{html.unescape(found[1])}; frame-ancestors 'none'"


def list_page(listing: Listing) -> str:
    """The page with the list of runs. Its script fetches the rows."""
    return render("list.html", LIST_SCRIPTS, {}, {"title": "Runs", "path": str(display_path(listing.root))}, ASSETS)


def live_page(path: Path, listing: Listing) -> str:
    """The live page of a run."""
    title = name_of(path) or path.name.encode("utf-8", "backslashreplace").decode("utf-8")
    values = {"id": id_of(path), "title": title}
    facts = {**values, "path": str(display_path(path))}
    return render("live.html", LIVE_SCRIPTS, values, facts, ASSETS)


def report_page(path: Path, listing: Listing) -> str:
    """The report of a run, or of a sweep with links to its jobs' reports. Errors: BadRunError."""
    if not holds_runs(path):
        return run_page(Run(path))
    ranking = ranking_of(_rows([path], listing), read_search_result(path))
    return sweep_page(ranking, path, lambda run: _href(run, listing))


def compared(paths: Sequence[Path], listing: Listing) -> str:
    """The comparison page of several runs and sweeps. Errors: BadRunError."""
    search_result = read_search_result(paths[0]) if len(paths) == 1 else None
    ranking = ranking_of(_rows(paths, listing), search_result)
    return comparison_page(ranking, paths, COMPARISON, lambda run: _href(run, listing))


def _rows(paths: Sequence[Path], listing: Listing) -> list[Row]:
    """The rows of these runs and sweeps, without those that symbolic links lead to outside the folder."""
    rows = [row for row in collect(paths) if listing.holds(row.path)]
    return [dataclasses.replace(row, label=str(display_path(Path(row.label)))) for row in rows]


def _href(run: Path, listing: Listing) -> str | None:
    return None if listing.path(id_of(run)) is None else f"/report/{id_of(run)}"
