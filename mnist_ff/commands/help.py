"""Show the commands, or the options of one."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import out, tell_json
from mnist_ff.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("topic", nargs="?", metavar="COMMAND", help="command to explain (default: list all)")
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print what `mnist-ff --help`, or `mnist-ff COMMAND --help`, prints. Errors: ConfigError."""
    if arguments.topic is None:
        commands = [{"name": name, "meaning": meaning} for name, meaning in arguments.commands.items()]
        if arguments.json:
            tell_json({"commands": commands})
        else:
            out(arguments.overview)
        return 0
    word: str = arguments.topic
    if word not in arguments.commands and _is_of_config(word):
        raise ConfigError(f"{word}: is a word of the config, not a command; type mnist-ff show {word}")
    parser: argparse.ArgumentParser = arguments.parser_of(arguments.topic)
    if arguments.json:
        words = [_described(action) for action in parser._actions if action.help != argparse.SUPPRESS]
        tell_json({"command": arguments.topic, "meaning": arguments.commands[arguments.topic], "arguments": words})
    else:
        out(parser.format_help())
    return 0


def _is_of_config(word: str) -> bool:
    """Whether it names a key, a group or an option."""
    from mnist_ff.config.describe import describe

    try:
        describe(word)
    except ConfigError:
        return False
    return True


def _described(action: argparse.Action) -> dict[str, Any]:
    """An argument of a command as JSON values: an option with its flags, or a positional argument."""
    metavar = action.metavar if isinstance(action.metavar, str) else None
    return {
        "flags": list(action.option_strings),
        "name": metavar or action.dest,
        "meaning": action.help,
        "choices": None if action.choices is None else [str(choice) for choice in action.choices],
        "default": action.default if action.default != argparse.SUPPRESS and _is_plain(action.default) else None,
        "takes_value": action.nargs != 0,
        "many": action.nargs in ("*", "+"),
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)
