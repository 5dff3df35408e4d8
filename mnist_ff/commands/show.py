"""Explain a config key, a group or an option: meaning, type, range, default and its file."""

from __future__ import annotations

import argparse

from rich.console import Console

from mnist_ff.analysis.console import note, tell, tell_json
from mnist_ff.config.describe import describe, describe_groups
from mnist_ff.config.description_text import description_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("word", nargs="?", metavar="KEY|GROUP", help="such as optimizer.lr, optimizer, optimizer=adam")
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Explain the key, group or option, or list all groups. Errors: ConfigError with the nearest name."""
    if arguments.word is None:
        found = describe_groups()
    else:
        found, name = describe(arguments.word)
        if arguments.word.partition("=")[0] not in (name, name.partition("=")[0]) and "/" not in arguments.word:
            note(f"{arguments.word}: showing {name}")
    if arguments.json:
        tell_json(found)
        return 0
    for number, line in enumerate(description_lines(found, console.width)):
        tell(console, line, style="bold" if number == 0 else None)
    return 0
