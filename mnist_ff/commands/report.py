"""Write the report of a run or sweep, and missing plots of its runs, from its directory."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from mnist_ff.analysis.console import note, tell, tell_json
from mnist_ff.config.paths import argument, display_path
from mnist_ff.errors import BadRunError, RunError
from mnist_ff.report.run_page import write_report
from mnist_ff.report.sweep_page import write_sweep_report
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.find import holds_runs, is_sweep
from mnist_ff.runs.reading import is_folder
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.search_result import read_search_result
from mnist_ff.session.drawing import complete
from mnist_ff.session.resume import saved_config
from mnist_ff.sweeps.pictures import draw_jobs
from mnist_ff.sweeps.summary import collect_shown, ranking_of, save


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "path", type=argument, metavar="RUN|SWEEP_DIR", help="run or sweep directory or name, or last, best"
    )
    parser.add_argument(
        "--out", type=argument, metavar="FILE", help=f"output file (default: {REPORT} in the directory)"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Write the report and print its path. Errors: BadRunError; RunError if it cannot be written."""
    directory = resolve_run(arguments.path, note, sweeps=True)
    place = directory / REPORT if arguments.out is None else Path(arguments.out)
    drawn: list[str] = []
    said = Console(stderr=True) if arguments.json else console
    run = None if is_folder(directory) and holds_runs(directory) else Run.open(directory)
    try:
        if run is None:
            search_result = read_search_result(directory)
            rows = collect_shown([directory], said)
            ranking = ranking_of(rows, search_result)
            if is_sweep(directory) and os.access(directory, os.W_OK):
                save(ranking, directory, said, search_result)
                signalled = draw_jobs(rows, note, said)
                if signalled:
                    return signalled
            write_sweep_report(ranking, directory, place)
        else:
            if arguments.out is None:
                run.check_place()
            drawn = _draw_missing(run)
            write_report(run, place)
    except OSError as error:
        raise RunError(f"{place}: {error.strerror}; choose another file with --out") from None
    if arguments.json:
        tell_json({"report": str(display_path(place)), "drawn": drawn})
    else:
        for path in [*drawn, str(display_path(place))]:
            tell(console, path)
    return 0


def _draw_missing(run: Run) -> list[str]:
    """Draw the plots that a run lacks, and return their paths."""
    with suppress(BadRunError):  # the page says what cannot be read
        return [str(display_path(run.file(name))) for name in complete(run, saved_config(run), note, page=False)]
    return []
