"""Compare runs: the ranked table of sweeps and run directories, from the directories alone."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import note, out, tell
from mnist_ff.analysis.formats import to_csv, to_json
from mnist_ff.analysis.paired import NoTestError, paired, sentences
from mnist_ff.analysis.ranking import Ranking, sorted_by
from mnist_ff.config.paths import argument, display_path
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.runs.find import is_sweep
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.search_result import read_search_result
from mnist_ff.sweeps.summary import collect_shown, ranking_of, save, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's words."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=argument,
        metavar="RUN|SWEEP_DIR",
        help="run or sweep directories, names, or last, best",
    )
    parser.add_argument("--sort", metavar="KEY", help="sort by a key that differs, or by a metric such as seconds")
    parser.add_argument(
        "--html", type=argument, metavar="FILE", help="also write an HTML page with the table and the curves"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print as JSON")
    form.add_argument("--csv", action="store_true", help="print as CSV, one line per run")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print the table; a single sweep's files are written anew. Errors: ConfigError, BadRunError."""
    paths = [resolve_run(path, note, sweeps=True) for path in arguments.paths]
    swept = len(paths) == 1 and is_sweep(paths[0])
    rows = collect_shown(paths, console)
    search_result = read_search_result(paths[0]) if swept else None
    ranking = ranking_of(rows, search_result)
    if swept and os.access(paths[0], os.W_OK):
        save(ranking, paths[0], console, search_result)
    if arguments.sort is not None:
        try:
            ranking = sorted_by(ranking, arguments.sort)
        except KeyError as error:
            raise ConfigError(f"--sort {arguments.sort}: there is {error.args[0]}") from None
    if arguments.html is not None:
        write_html(ranking, paths, Path(arguments.html))
    if arguments.json:
        values = {**to_json(ranking, search_result), **_paired_json(ranking)}
        out(json.dumps(values, indent=1, allow_nan=False))
    elif arguments.csv:
        out(to_csv(ranking))
    else:
        show(ranking, console, search_result)
        if len(paths) == 1 and ranking.rows and ranking.rows[0].path != paths[0]:
            tell(console, f"paths are relative to  {display_path(paths[0])}")
        for line in _paired_lines(ranking):
            tell(console, line)
    return 0


def write_html(ranking: Ranking, paths: list[Path], place: Path) -> None:
    """Write the page of these runs. Errors: RunError when it cannot be written."""
    from mnist_ff.report.sweep_page import write_comparison

    try:
        write_comparison(ranking, paths, place)
    except OSError as error:
        raise RunError(f"{place}: {error.strerror}") from None


def _paired_lines(ranking: Ranking) -> list[str]:
    """McNemar's test where there are two runs, or why there is none."""
    if len(ranking.rows) != 2:
        return []
    try:
        return sentences(paired(ranking.rows), *(row.label for row in ranking.rows))
    except NoTestError as error:
        return [f"No significance test: {error}."]


def _paired_json(ranking: Ranking) -> dict[str, Any]:
    """The same for programs, under mcnemar."""
    if len(ranking.rows) != 2:
        return {}
    try:
        found = paired(ranking.rows)
    except NoTestError as error:
        return {"mcnemar": {"no_test": str(error)}}
    runs = [row.label for row in ranking.rows]
    test = "exact binomial" if found.exact else "chi-squared"
    metrics = {"b": found.only_first, "c": found.only_second, "p": found.p, "test": test}
    return {"mcnemar": {"runs": runs, "images": found.images, **metrics, "differ": found.differ}}
