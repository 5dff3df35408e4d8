"""The command line: chooses the command, imports it, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any

from mnist_ff.engine.spinning import settled
from mnist_ff.errors import (
    INTERRUPTED,
    BadRunError,
    ConfigError,
    MissingPartsError,
    MnistError,
    Stopped,
    of_the_machine,
    printable,
)
from mnist_ff.runs.signals import ending_at_once
from mnist_ff.runs.start_up import erase, going_on, importing

COMMANDS = {
    "train": "train a network, or sweep over values with -m",
    "evaluate": "evaluate a run: accuracy, interval, metrics per class",
    "compare": "rank runs and sweeps; test if two runs differ",
    "report": "write the HTML report of a run or sweep",
    "runs": "list, filter, label, delete and pack runs",
    "predict": "classify images: PNG, JPEG, photographs, test images",
    "export": "export a model: safetensors, ONNX, torch",
    "reproduce": "run a recipe with fresh seeds: mean, std, interval",
    "data": "list the cached data sets, or download one",
    "conf": "list the options of config groups, or copy one",
    "lr-find": "learning-rate range test; suggests a learning rate",
    "profile": "where the time of a run, an epoch and a step goes",
    "help": "show the commands, or the options of one",
    "show": "explain a config key or group: range, default, options",
    "bench": "measure a training step and whole commands",
    "serve": "show runs in a browser, live while they train",
    "completion": "print the completion script for bash, zsh or fish",
}

WITH_RUN = ("evaluate", "predict", "export")
"""Commands whose first argument is a run, which is resolved before PyTorch is imported."""
WITHOUT_PARTS = ("runs", "compare", "serve", "completion")
"""Commands that accept --parts and ignore it, as they only read files. `completion` imports the parts itself."""
PARTS_HELP = "Python file or module with your own parts (repeatable; or MNIST_FF_PARTS)"
WITH_OPTIONS = ("train", "reproduce", "conf", "lr-find", "profile", "bench", "help", "show")
"""Commands that compose or explain a config, and take --config-dir."""

HELP = """usage: mnist-ff COMMAND ...

Train, compare and understand small feed-forward networks on MNIST. Commands:

{commands}

mnist-ff help COMMAND shows the options of a command, mnist-ff show KEY explains
a config key, mnist-ff --version shows the version.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a failed run, 2 for bad input, 130 for Ctrl-C."""
    began = time.perf_counter()
    words, documents = sys.argv[1:] if argv is None else argv, _documents()
    try:
        _replace_unencodable()
        with settled():  # before a command imports torch
            code = _run(words, began, argv is None)
        unwritten = _flush()
        if unwritten is not None and words[:1] != ["train"]:  # what a training prints is in its run directory too
            unwritten.filename = "stdout"
            raise unwritten
        return code
    except MnistError as error:
        traceback = _own_code(error.__cause__)[0]
        if traceback:
            _complain(traceback.rstrip("\n"), style=None)
        said = printable(str(error)) if isinstance(error, BadRunError) else str(error)  # a path may contain a newline
        text = f"{said}{_command_with_parts(error, words)}"
        return _failed(text, error.exit_code, words, documents)
    except Stopped as stop:
        return stop.exit_code
    except BrokenPipeError:  # the reader of a pipe has gone, such as head
        _flush()
        return 1
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED, words, documents)
    except Exception as error:
        return _failed(*_said_of_exception(error), words, documents)
    except BaseException as error:  # such as sys.exit() in the user's own part, which is an error
        traceback, own = _own_code(error)
        if not traceback:
            raise
        _complain(traceback.rstrip("\n"), style=None)
        return _failed(str(own), 1, words, documents)


def _documents() -> int:
    """The number of JSON documents that this process has printed."""
    console = sys.modules.get("mnist_ff.analysis.console")  # not imported: none
    return 0 if console is None else console.documents()


def _failed(text: str, code: int, words: Sequence[str], documents: int) -> int:
    """Print an error to stderr, and with --json to stdout too, unless the command has printed a document since there
    were `documents`. Returns the exit code."""
    _complain(f"error: {text}")
    if "--json" in words and _documents() == documents:
        with suppress(OSError, MemoryError, ImportError):  # the line above must be enough
            from mnist_ff.analysis.console import tell_json

            tell_json({"error": text, "exit_code": code})
            _flush()
    return code


def _said_of_exception(error: Exception) -> tuple[str, int]:
    """The message and exit code of an exception that is not a MnistError: an error of the machine, of the user's own
    parts, or a bug. Prints the traceback if it helps."""
    said, (traceback, own) = of_the_machine(error), _own_code(error)
    if said is not None and not traceback:
        return said
    _complain((traceback or _traceback()).rstrip("\n"), style=None)
    broken = isinstance(error, OSError | MemoryError | ImportError)
    where = "a broken installation" if broken else "in a callback"
    return own or f"this is a bug in mnist-ff or {where}; see the traceback above", 1


def _own_code(error: BaseException | None) -> tuple[str, str | None]:
    """For an error in the user's own parts, the traceback of their lines only and a message; otherwise "" and None."""
    own_parts = sys.modules.get("mnist_ff.config.own_parts")  # not imported: there are none
    if own_parts is None or error is None:
        return "", None
    return own_parts.own_traceback(error), own_parts.told(error)


def _traceback() -> str:
    import traceback

    return traceback.format_exc()


def _command_with_parts(error: MnistError, argv: list[str]) -> str:
    """The end of the error message about missing parts: the command with --parts."""
    if not isinstance(error, MissingPartsError):
        return ""
    import shlex

    shown = error.flags if all(word.isprintable() for word in error.flags) else []
    return f"; mnist-ff {shlex.join([*argv, *(shown or ['--parts', 'FILE.py'])])}"


def _replace_unencodable() -> None:
    """Print ? for characters that a terminal cannot show, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _flush() -> OSError | None:
    """Flush stdout. If that fails, return the error and redirect stdout to the null device, so that Python's exit
    raises no second one."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def _run(argv: list[str], began: float, is_process: bool) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        return 0
    name, *rest = argv
    if "--version" in argv:
        from importlib.metadata import version  # its import takes longer than the rest of --help

        sys.stdout.write(f"mnist-ff {version('mnist-ff')}\n")
        return 0
    if name not in COMMANDS:
        raise _no_command(name, rest)
    return _command(name, rest, began, is_process)


def _overview() -> str:
    """The text of `mnist-ff --help`."""
    return HELP.format(commands="\n".join(f"  {name:<12}{meaning}" for name, meaning in COMMANDS.items()))


def _no_command(name: str, rest: list[str]) -> ConfigError:
    """The error for a first word that is not a command."""
    from mnist_ff.config.aliases import no_command

    command = next((word for word in rest if word in COMMANDS), None)
    if name.startswith("-") and command is not None:
        import shlex

        others = list(rest)
        others.remove(command)
        return ConfigError(f"{name}: options come after the command: mnist-ff {shlex.join([command, name, *others])}")
    return no_command(name, COMMANDS)


def _command(name: str, argv: list[str], began: float, is_process: bool) -> int:
    """Run a command. is_process: whether this process was started for it."""
    if name == "completion":  # without a console, for speed: shells call it at every press of Tab
        from mnist_ff.commands.completion import main as completion_main

        return completion_main(argv, COMMANDS)
    with ExitStack() as stack:
        argv = _with_parts(name, argv, stack)
        stack.callback(erase)
        given, argv = argv, _with_run_found(name, argv)
        command = _imported(name)
        from rich.console import Console

        console = Console()
        going_on(f"{name}: {'reading the config' if name in ('train', 'reproduce') else 'working'}")
        stack.enter_context(_own_options(name, argv))
        parser = _Parser.of(name, command, given)
        parser.set_defaults(began=began, is_process=is_process)
        if name == "help":
            parser.set_defaults(overview=_overview(), commands=COMMANDS, parser_of=_parser_of)
        if {"-h", "--help"} & set(argv):
            erase()
            sys.stdout.write(parser.format_help())
            return 0
        with ending_at_once():  # an interrupt within argparse would leave it in a broken state
            # intermixed: overrides may come before and after options
            arguments = parser.parse_intermixed_args(argv)
        if arguments.parts is not None:
            raise ConfigError("--parts: cannot be shortened")
        code: int = command.main(arguments, console)
        return code


def _with_run_found(name: str, argv: list[str]) -> list[str]:
    """The arguments with the run's path in place of its name, so that an unknown run is reported before PyTorch is
    imported. Errors: BadRunError."""
    if name not in WITH_RUN or not argv or argv[0].startswith("-") or {"-h", "--help"} & set(argv):
        return argv
    going_on(f"{name}: finding the run")
    from mnist_ff.analysis.console import note
    from mnist_ff.config.paths import argument
    from mnist_ff.runs.names import quoted_name
    from mnist_ff.runs.resolve import resolve_run

    try:
        found = str(resolve_run(argument(argv[0]), note))
    except BadRunError:
        if quoted_name(argv) is not None:  # the parser's error explains the quotes
            return argv
        raise
    return argv if found.startswith("-") or os.path.isdir(argv[0]) else [found, *argv[1:]]


def _imported(name: str) -> Any:
    """Import a command's module, after a line on the terminal that says so."""
    going_on(f"{name}: loading")
    with ending_at_once(), importing():
        import rich.console  # noqa: F401 (every command needs it)

        return importlib.import_module(f"mnist_ff.commands.{name.replace('-', '_')}")


def _parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command, for `help`. Errors: ConfigError."""
    if name not in COMMANDS:
        raise _no_command(name, [])
    if name == "completion":
        from mnist_ff.commands.completion import parser

        return parser()
    return _Parser.of(name, _imported(name), [])


def _with_parts(name: str, argv: list[str], stack: ExitStack) -> list[str]:
    """Import the files of --parts and MNIST_FF_PARTS until the stack is closed, and return the other arguments.

    This comes first, as the options of a command may list parts. Errors: ConfigError.
    """
    if not os.environ.get("MNIST_FF_PARTS") and not any(word.startswith("--parts") for word in argv):
        return argv
    from mnist_ff.config.own_parts import loaded, taken, with_variable

    words, others = taken(argv)
    if name not in WITHOUT_PARTS:
        with ending_at_once(), importing():
            stack.enter_context(loaded(with_variable(words)))
    return others


def _own_options(name: str, argv: list[str]) -> AbstractContextManager[None]:
    """Use the folders of --config-dir in the block. They are needed before parsing: the help lists their options."""
    if name not in WITH_OPTIONS:
        return nullcontext()
    from mnist_ff.config.options import flag_values, folders_of, using_folders

    return using_folders(folders_of(flag_values(argv)))


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises ConfigError, with hints for options of other libraries and names with spaces."""

    words: list[str]
    """The arguments after the command."""

    @classmethod
    def of(cls, name: str, command: Any, argv: list[str]) -> _Parser:
        """The parser of a command. `command` is its module."""
        parser = cls(prog=f"mnist-ff {name}", description=COMMANDS[name])
        parser.words = argv
        command.add_arguments(parser)
        parser.add_argument("--parts", action="append", metavar="FILE|MODULE", help=PARTS_HELP)
        return parser

    def error(self, message: str) -> Any:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown.startswith("-"):
            from mnist_ff.config.aliases import no_flag

            message = no_flag(unknown.split()[0], self.words, self._flags(), self._takes_overrides())
        elif unknown != message:
            from mnist_ff.runs.names import quoted_name

            name = quoted_name(self.words)
            message = message if name is None else f'{message}; type a name with spaces in quotes: "{name}"'
        else:
            message = self._of_one_argument(message)
        raise ConfigError(message if "; type " in message else f"{message}; see {self.prog} --help")

    def _of_one_argument(self, message: str) -> str:
        """Reword argparse's error about one argument: its name, what is wrong, what it takes."""
        import re

        found = re.fullmatch(r"argument (.+?): (.*)", message, re.DOTALL)
        if found is None:
            return message
        name, wrong = found.groups()
        action = next(one for one in self._actions if name in ("/".join(one.option_strings), one.metavar, one.dest))
        if wrong.startswith("expected"):
            takes = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ["a value"])
            return f"{name}: needs {takes}"
        choice = re.match(r"invalid (choice|int value): '(.*?)'", wrong)
        if choice is None:
            return f"{name}: {wrong}"
        if action.choices is None:
            return f"{name} {choice[2]}: must be an integer"
        from mnist_ff.config.messages import nearest

        choices = [str(one) for one in action.choices]
        return f"{name} {choice[2]}: must be one of {', '.join(choices)}{nearest(choice[2], choices)}"

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def _takes_overrides(self) -> bool:
        return any(action.metavar == "KEY=VALUE" for action in self._actions)


def _complain(text: str, style: str | None = "red") -> None:
    try:
        from mnist_ff.analysis.console import complain
    except (OSError, MemoryError, ImportError):  # out of memory or file descriptors
        sys.stderr.write("".join(f"{ascii(line)[1:-1]}\n" for line in text.splitlines()))
        return
    complain(text, style)
