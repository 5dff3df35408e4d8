"""Write the page of a run or of a sweep, from its directory alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from mnist_ff.commands.compare import answer_of, collect_shown
from mnist_ff.errors import RunError
from mnist_ff.paths import argument
from mnist_ff.reading import is_folder
from mnist_ff.report.run_page import REPORT, write_report
from mnist_ff.report.sweep_page import write_sweep_report
from mnist_ff.runs import Run, chosen, shown
from mnist_ff.sweeps.collect import holds_runs
from mnist_ff.sweeps.finding import read_finding
from mnist_ff.tables import note, tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's words."""
    parser.add_argument("path", type=argument, metavar="RUN|SWEEP_DIR", help="a run directory or a sweep's, last, best")
    parser.add_argument(
        "--out", type=argument, metavar="FILE", help=f"where to write it (default: {REPORT} in the directory)"
    )


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Write the page and say where. Errors: BadRunError; RunError when it cannot be written."""
    directory = chosen(arguments.path, note)
    place = directory / REPORT if arguments.out is None else Path(arguments.out)
    try:
        if is_folder(directory) and holds_runs(directory):
            answer = answer_of(collect_shown([directory], console), read_finding(directory))
            write_sweep_report(answer, directory, place)
        else:
            run = Run.open(directory)
            if arguments.out is None:
                run.check_place()
            write_report(run, place)
    except OSError as error:
        raise RunError(f"{place}: {error.strerror}; --out FILE writes it elsewhere") from None
    tell(console, str(shown(place)))
    return 0
