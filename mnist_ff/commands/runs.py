"""List the runs and sweeps in outputs/, delete and restore them, label them, pack them for others."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import note, tell, tell_json
from mnist_ff.analysis.rows import Row
from mnist_ff.analysis.run_filter import Filter, Order, other_data, select
from mnist_ff.analysis.run_list import Entry, entry_json
from mnist_ff.analysis.run_table import MAX_ROWS_SHOWN, show
from mnist_ff.config.paths import argument
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.reading import is_folder, why_no_folder

ACTIONS = {
    "delete": "RUN... or filters; moves to outputs/.trash; --purge empties it",
    "restore": "RUN...; brings deleted runs back; without RUN lists them",
    "tag": "RUN... TAG",
    "untag": "RUN... TAG",
    "note": "RUN TEXT",
    "archive": "FILE RUN... or filters; packs runs into one .zip or .tar.zst",
}
"""The actions, with their arguments. A folder with such a name is given as ./delete."""
ALIASES = {
    **dict.fromkeys(("rm", "remove", "del", "trash", "clean", "prune"), "delete"),
    **dict.fromkeys(("undelete", "undo", "recover"), "restore"),
    **dict.fromkeys(("pack", "zip", "export", "save", "share"), "archive"),
    **dict.fromkeys(("label", "mark"), "tag"),
    **dict.fromkeys(("comment", "annotate", "describe"), "note"),
    **dict.fromkeys(("ls", "list", "show", "all"), ""),
}
"""Other programs' words for an action, or for the list (""), to be suggested in errors."""
EPILOG = "actions:\n" + "\n".join(f"  {name:<9} {what}" for name, what in ACTIONS.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "words",
        nargs="*",
        default=[],
        type=argument,
        metavar="FOLDER|ACTION RUN|SWEEP_DIR",
        help="folder (default: outputs)",
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
        metavar="STATUS",
        help="only runs with this status: finished, pruned, interrupted, diverged, failed, repeated, running, "
        "'not started' or broken (repeatable: one of several)",
    )
    parser.add_argument("--data", metavar="DATA", help="only runs on this data set")
    parser.add_argument("--name", metavar="GLOB", help="only runs whose name matches, such as 'lr*'")
    parser.add_argument("--tag", action="append", metavar="TAG", help="only runs with this tag (repeatable)")
    parser.add_argument(
        "--where",
        action="append",
        metavar="CONDITION",
        help="only runs with optimizer.lr=0.01, 'optimizer.lr>=0.01', 'score>0.98' (repeatable)",
    )
    parser.add_argument("--since", metavar="WHEN", help="only runs begun in the last 2d, 12h, 30m, 1w, or since a date")
    parser.add_argument("--sort", metavar="KEY", help="began (default), score, seconds, name or a config key")
    parser.add_argument("--reverse", action="store_true", help="reverse the order")
    parser.add_argument("--limit", type=int, metavar="N", help=f"at most N lines (default: {MAX_ROWS_SHOWN})")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--purge", action="store_true", help="with delete: empty the trash for good")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print the list, or perform the action. Errors: ConfigError, BadRunError, RunError."""
    action, *words = arguments.words or [""]
    if action in ACTIONS:
        _check_flags(arguments, action)
        said = Console(stderr=True) if arguments.json else console
        values = _act(arguments, action, words, said)
        if arguments.json:
            tell_json(values)
        return 0
    if words or (action and not is_folder(Path(action)) and action.lower() in ALIASES):
        meant = ALIASES.get(action.lower())
        hint = "see mnist-ff runs --help" if meant is None else f"type {' '.join(['mnist-ff runs', meant]).strip()}"
        raise ConfigError(f"runs {action}: takes one folder, or one of {', '.join(ACTIONS)} first; {hint}")
    if arguments.yes or arguments.purge:
        raise ConfigError("--yes and --purge: are for mnist-ff runs delete")
    return _list(arguments, Path(action or OUTPUTS), console)


def _list(arguments: argparse.Namespace, folder: Path, console: Console) -> int:
    if folder != OUTPUTS and not is_folder(folder):
        hint = f"mnist-ff runs without a folder lists outputs/, and {', '.join(ACTIONS)} are its actions"
        raise BadRunError(f"{folder}: {why_no_folder(folder)}; {hint}")
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit {arguments.limit}: must be at least 1")
    chosen = filter_of(arguments)
    limit = MAX_ROWS_SHOWN if arguments.limit is None and not arguments.json else arguments.limit
    order = Order(arguments.sort or "began", arguments.reverse, limit)
    selected = select(folder, chosen, order, arguments.all)
    if arguments.json:
        tell_json([entry_json(entry) for entry in selected.entries])
    elif selected.entries:
        show(selected.entries, selected.more if arguments.limit is None else 0, console)
        if partial := selected.partial:
            note(f"{_matched(partial)}; --all lists single jobs")
    elif chosen.is_empty:
        tell(console, f"No runs in {folder}/ yet. mnist-ff train starts one.")
    else:
        tell(console, f"No run in {folder}/ matches{other_data(folder, chosen)}.")
    return 0


def _matched(partial: Mapping[Entry, Sequence[Row]]) -> str:
    """Describe the sweeps of which only some jobs match."""
    if len(partial) > 1:
        return f"{len(partial)} sweeps match in part"
    ((entry, rows),) = partial.items()
    return f"{entry.path}: {len(rows)} of its {len(entry.rows)} jobs {'matches' if len(rows) == 1 else 'match'}"


def filter_of(arguments: argparse.Namespace) -> Filter:
    """The filter of the command's options. Errors: ConfigError."""
    return Filter.of(
        status=arguments.status or (),
        data=arguments.data,
        name=arguments.name,
        where=arguments.where or (),
        since=arguments.since,
        tags=arguments.tag or (),
    )


def _check_flags(arguments: argparse.Namespace, action: str) -> None:
    """Check the options of an action. Errors: ConfigError for one that has no effect."""
    for flag in ("sort", "reverse", "limit"):
        if getattr(arguments, flag):
            raise ConfigError(f"--{flag}: is for the list, not for runs {action}")
    if action not in ("delete", "archive") and (arguments.all or not filter_of(arguments).is_empty):
        raise ConfigError(f"runs {action}: takes runs by name or path, no filters")
    if action != "delete" and (arguments.yes or arguments.purge):
        raise ConfigError("--yes and --purge: are for mnist-ff runs delete")


def _act(arguments: argparse.Namespace, action: str, words: Sequence[str], console: Console) -> dict[str, Any]:
    from mnist_ff.session import housekeeping

    chosen = housekeeping.Selection(words, filter_of(arguments), arguments.all)
    if action == "delete" and arguments.purge:
        if words or not chosen.filter.is_empty:
            raise ConfigError("--purge: empties the whole trash; give no runs with it")
        return housekeeping.empty_trash(arguments.yes, console)
    if action == "delete":
        return housekeeping.delete(chosen, arguments.yes, console)
    if action == "restore":
        return housekeeping.bring_back(words, console) if words else housekeeping.list_trash(console)
    if len(words) < 2 - (action == "archive" and not chosen.filter.is_empty) or (action == "note" and len(words) > 2):
        quote = "; a text with spaces needs quotes" if action == "note" else ""
        raise ConfigError(f"runs {action}: needs {ACTIONS[action]}{quote}")
    if action == "note":
        return housekeeping.annotate(words[0], words[1], console)
    if action == "archive":
        rest = housekeeping.Selection(words[1:], chosen.filter, arguments.all)
        return housekeeping.archive(Path(words[0]), rest, console)
    return housekeeping.label(words[:-1], console, words[-1], remove=action == "untag")
