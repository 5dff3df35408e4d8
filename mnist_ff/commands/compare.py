"""Rank runs and sweeps in a table, from their directories alone."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.compare_plot import check_picture, draw_comparison
from mnist_ff.analysis.console import note, out, tell, tell_json
from mnist_ff.analysis.formats import to_csv
from mnist_ff.analysis.labels import run_labels
from mnist_ff.analysis.paired import NoTestError, paired, sentences
from mnist_ff.analysis.pivot import check_pivot, pivot_csv, pivot_json, pivot_of
from mnist_ff.analysis.pivot_table import show_pivots
from mnist_ff.analysis.ranking import Ranking, sorted_by
from mnist_ff.analysis.ranking_json import to_json
from mnist_ff.analysis.rows import Row, with_calibration
from mnist_ff.config.messages import meant_of
from mnist_ff.config.paths import argument, display_path
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.runs.find import is_sweep
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.search_result import SearchResult, read_search_result
from mnist_ff.sweeps.summary import collect_shown, ranking_of, save, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
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
    parser.add_argument(
        "--plot", type=argument, metavar="FILE", help="also draw the curves into one picture: .png, .svg or .pdf"
    )
    parser.add_argument(
        "--pivot", nargs=2, metavar=("ROWS", "COLUMNS"), help="print the score over two keys, such as optimizer.lr seed"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print as JSON")
    form.add_argument("--csv", action="store_true", help="print as CSV, one line per run")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print the table, and rewrite the files of a single sweep. Errors: ConfigError, BadRunError, RunError."""
    if arguments.plot is not None:
        check_picture(Path(arguments.plot))
    paths = _distinct(arguments.paths)
    swept = len(paths) == 1 and is_sweep(paths[0])
    rows = _once(collect_shown(paths, console))
    search_result = read_search_result(paths[0]) if swept else None
    if swept and os.access(paths[0], os.W_OK):
        save(ranking_of(rows, search_result), paths[0], console, search_result)
    ranking = _sorted(ranking_of([with_calibration(row) for row in rows], search_result), arguments.sort)
    if arguments.pivot is not None:
        check_pivot(ranking, *arguments.pivot)
    if arguments.html is not None:
        write_html(ranking, paths, Path(arguments.html))
        note(f"page  {arguments.html}")
    if arguments.plot is not None:
        _plot(ranking, Path(arguments.plot))
        note(f"plot  {arguments.plot}")
    if arguments.json:
        tell_json(_json(ranking, search_result, arguments.pivot))
    elif arguments.csv:
        out(to_csv(ranking) if arguments.pivot is None else _pivot_csv(ranking, arguments.pivot))
    elif arguments.pivot is not None:
        show_pivots(console, ranking, *arguments.pivot)
    else:
        _show(ranking, paths, console, search_result)
    return 0


def _distinct(words: Sequence[str]) -> list[Path]:
    """The directories of these words, each once: two words may name the same run."""
    found: dict[Path, tuple[str, Path]] = {}
    for word in words:
        path = resolve_run(word, note, sweeps=True)
        before, _ = found.setdefault(path.resolve(), (word, path))
        if before is not word:
            said = f"{word} is given twice" if before == word else f"{before} and {word} are the same run"
            note(f"{said}; it is shown once")
    return [path for _, path in found.values()]


def _once(rows: Sequence[Row]) -> list[Row]:
    """Each run once: a sweep and one of its jobs may both be given."""
    found: dict[Path, Row] = {}
    for row in rows:
        if found.setdefault(row.path.resolve(), row) is not row:
            note(f"{row.label} is given twice; it is shown once")
    return list(found.values())


def _sorted(ranking: Ranking, key: str | None) -> Ranking:
    """The ranking sorted by a key. Errors: ConfigError for an unknown key."""
    if key is None:
        return ranking
    try:
        return sorted_by(ranking, ranking.ranked_by.replace(" ", "_") if key == "score" else key)
    except KeyError as error:
        known = [*str(error.args[0]).split(", "), "score"]
        raise ConfigError(f"--sort {key}: must be one of {', '.join(known)}{meant_of(key, known)}") from None


def _show(ranking: Ranking, paths: Sequence[Path], console: Console, search_result: SearchResult | None) -> None:
    """Print the tables, and McNemar's test of two runs."""
    show(ranking, console, search_result)
    if len(paths) == 1 and ranking.rows and ranking.rows[0].path != paths[0]:
        tell(console, f"paths are relative to  {display_path(paths[0])}")
    for line in _paired_lines(ranking):
        tell(console, line)


def _json(ranking: Ranking, search_result: SearchResult | None, keys: Sequence[str] | None) -> dict[str, Any]:
    """The JSON document. With --pivot, each table has its pivot table."""
    values = {**to_json(ranking, search_result), **_paired_json(ranking)}
    if keys is not None:
        for made, table in zip(values["tables"], ranking.tables, strict=True):
            made["pivot"] = pivot_json(pivot_of(table, *keys))
    return values


def _pivot_csv(ranking: Ranking, keys: Sequence[str]) -> str:
    found = [(table.title, pivot_of(table, *keys)) for table in ranking.tables]
    return pivot_csv([(title, pivot) for title, pivot in found if pivot is not None])


def write_html(ranking: Ranking, paths: list[Path], target: Path) -> None:
    """Write the comparison page. Errors: RunError if it cannot be written."""
    from mnist_ff.report.sweep_page import write_comparison

    try:
        write_comparison(ranking, paths, target)
    except OSError as error:
        raise RunError(f"{target}: {error.strerror}") from None


def _plot(ranking: Ranking, target: Path) -> None:
    """Draw the curves. Errors: RunError if there are none, or if the file cannot be written."""
    try:
        if not draw_comparison(ranking, target):
            raise RunError(f"--plot {target}: none of the runs has a curve yet")
    except OSError as error:
        raise RunError(f"{target}: {error.strerror}") from None


def _paired_lines(ranking: Ranking) -> list[str]:
    """McNemar's test if there are exactly two runs, or the reason why it is not possible."""
    if len(ranking.rows) != 2:
        return []
    try:
        labels = run_labels(ranking)
        return sentences(paired(ranking.rows), *(labels[row.path] for row in ranking.rows))
    except NoTestError as error:
        return [f"No significance test: {error}."]


def _paired_json(ranking: Ranking) -> dict[str, Any]:
    """McNemar's test of two runs as JSON values, under `mcnemar`."""
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
