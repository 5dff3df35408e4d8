"""List the runs and sweeps in outputs/, newest first."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_json
from mnist_ff.analysis.run_filter import Filter, Order, select
from mnist_ff.analysis.run_list import entry_json
from mnist_ff.analysis.run_table import MAX_ROWS_SHOWN, show
from mnist_ff.config.paths import path_argument
from mnist_ff.errors import BadRunError
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.reading import is_folder, why_no_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=path_argument,
        default=OUTPUTS,
        metavar="FOLDER",
        help="folder to search (default: outputs)",
    )
    parser.add_argument("--all", action="store_true", help="one line per job instead of one per sweep")
    parser.add_argument(
        "--status",
        action="append",
        choices=(
            "finished",
            "pruned",
            "interrupted",
            "diverged",
            "failed",
            "repeated",
            "running",
            "not started",
            "broken",
        ),
        help="only runs with this status (repeatable: one of several)",
    )
    parser.add_argument("--data", metavar="DATA", help="only runs on this data set")
    parser.add_argument("--name", metavar="GLOB", help="only runs whose name fits, such as 'lr*'")
    parser.add_argument("--tag", action="append", metavar="TAG", help="only runs with this tag (repeatable)")
    parser.add_argument(
        "--where",
        action="append",
        metavar="CONDITION",
        help="only runs with optimizer.lr=0.01, 'optimizer.lr>=0.01', 'score>0.98' (repeatable)",
    )
    parser.add_argument("--since", metavar="WHEN", help="only runs begun in the last 2d, 12h, 30m, 1w, or since a date")
    parser.add_argument("--sort", default="began", metavar="KEY", help="began, score, seconds, name or a config's key")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--limit", type=int, metavar="N", help=f"at most N lines (default: {MAX_ROWS_SHOWN})")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print the list. Errors: BadRunError for a folder that is none; ConfigError."""
    folder: Path = arguments.folder
    if folder != OUTPUTS and not is_folder(folder):
        raise BadRunError(f"{folder}: {why_no_folder(folder)}; mnist-ff runs without a folder lists outputs/")
    chosen = filter_of(arguments)
    limit = MAX_ROWS_SHOWN if arguments.limit is None and not arguments.json else arguments.limit
    selected = select(folder, chosen, Order(arguments.sort, arguments.reverse, limit), arguments.all)
    if arguments.json:
        tell_json([entry_json(entry) for entry in selected.entries])
    elif selected.entries:
        show(selected.entries, selected.more if arguments.limit is None else 0, console)
    elif chosen.is_empty:
        tell(console, f"No runs in {folder}/ yet. mnist-ff train starts one.")
    else:
        tell(console, f"No run in {folder}/ fits.")
    return 0


def filter_of(arguments: argparse.Namespace) -> Filter:
    """What the command's flags choose. Errors: ConfigError."""
    return Filter.of(
        status=arguments.status or (),
        data=arguments.data,
        name=arguments.name,
        where=arguments.where or (),
        since=arguments.since,
        tags=arguments.tag or (),
    )
