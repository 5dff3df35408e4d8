"""List the options of all groups with their sources, or copy one to the user's config folder."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_json
from mnist_ff.config.defaults import HYDRA_GROUPS
from mnist_ff.config.messages import nearest
from mnist_ff.config.options import (
    FLAG,
    OPTION_NAME,
    WHOLE_CONFIG_GROUPS,
    Options,
    copyable,
    options,
)
from mnist_ff.config.own_part import node_of
from mnist_ff.config.own_parts import FLAG as PARTS_FLAG
from mnist_ff.config.own_parts import in_use
from mnist_ff.config.paths import path_argument
from mnist_ff.config.registry import GROUPS, Part, names, own_part, own_parts
from mnist_ff.config.schema import SELECTIONS
from mnist_ff.config.yaml_io import plain_yaml
from mnist_ff.errors import ConfigError, RunError

BUILT_IN = "built-in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("list", "copy"), help="list all options, or copy one to change it")
    parser.add_argument("option", nargs="?", metavar="GROUP/OPTION", help="to copy, such as experiment/clean")
    parser.add_argument("folder", nargs="?", type=path_argument, metavar="DIR", help="your config folder")
    parser.add_argument("--as", dest="new_name", metavar="OPTION", help="name of the copy (default: my_OPTION)")
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """List the options, or copy one. Errors: ConfigError; RunError if the copy cannot be written."""
    if arguments.action == "list":
        if arguments.option is not None or arguments.new_name is not None:
            raise ConfigError("conf list: takes no option; mnist-ff conf copy GROUP/OPTION DIR copies one")
        if arguments.json:
            tell_json(_document(options()))
            return 0
        for line in _listing(options()):
            tell(console, line)
        return 0
    if arguments.option is None or arguments.folder is None:
        raise ConfigError("conf copy: needs an option and a folder, as in mnist-ff conf copy experiment/clean my_conf")
    path, command = _copy(arguments.option, arguments.folder, arguments.new_name)
    if arguments.json:
        tell_json({"path": str(path), "command": command})
    else:
        tell(console, f"written to {path}")
        tell(console, f"use it     {command}")
    return 0


def _listing(known: Options) -> list[str]:
    """Every source of options with its groups, in lines of at most 80 columns but for the names of folders."""
    lines: list[str] = []
    for source, groups in _by_source(known).items():
        lines.append(source)
        for group, listed in groups.items():
            head = f"  {f'{group}=':<16}"
            lines += textwrap.wrap(
                f"{head}{' | '.join(listed)}", 80, subsequent_indent=" " * len(head), break_on_hyphens=False
            )
    return lines


def _by_source(known: Options) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """The options by source and group, as "OPTION (PART)" if the part that they configure has another name."""
    found: dict[str, dict[str, list[str]]] = {BUILT_IN: {}}
    for group in known.files:
        for name in known.names(group):
            path, part, own = known.own_file(group, name), known.part(group, name), own_part(group, name)
            file = BUILT_IN if own is None else own.source.rpartition(":")[0]
            source = file if path is None else str(known.folder_of(path))
            shown = name if part == name else f"{name} ({part})"
            found.setdefault(source, {}).setdefault(group, []).append(shown)
    for name in names("metric"):  # chosen by a list, metrics=[NAME], and without keys
        own = own_parts("metric").get(name)
        source = BUILT_IN if own is None else own.source.rpartition(":")[0]
        found.setdefault(source, {}).setdefault("metrics", []).append(name)
    return found


def _document(known: Options) -> dict[str, list[dict[str, str]]]:
    """The JSON document: the options of each group, with the part that they configure and their source."""
    found: dict[str, list[dict[str, str]]] = {}
    for source, groups in _by_source(known).items():
        for group, listed in groups.items():
            for shown in listed:
                option, _, part = shown.removesuffix(")").partition(" (")
                row = {"option": option, "part": part or option, "source": source}
                found.setdefault(group, []).append(row)
    return found


def _copy(option: str, folder: Path, new_name: str | None) -> tuple[Path, str]:
    """Write a copy of an option's file under a new name. Returns its path, and the command that uses it.

    Errors: ConfigError, RunError.
    """
    known = options()
    group, name = _named(option, known)
    new_name = f"my_{name}" if new_name is None else new_name
    if not OPTION_NAME.match(new_name):
        raise ConfigError(f"--as {new_name}: an option's name is letters, digits, _ and -, such as my_{name}")
    if new_name in known.names(group):
        raise ConfigError(f"--as {new_name}: {group}={new_name} exists already; choose another name")
    path = folder / group / f"{new_name}.yaml"
    command = _command(group, new_name, folder, known)
    file, own = known.files[group].get(name), own_part(group, name)
    text = defaults_text(own) if file is None and own is not None else known.files[group][name].read_text("utf-8")
    _write_new(path, _changed(text, group, name, command))
    return path, command


def _named(option: str, known: Options) -> tuple[str, str]:
    """Group and name of GROUP/OPTION. Errors: ConfigError with the nearest name."""
    group, _, name = option.rpartition("/")
    if group not in known.files:
        raise ConfigError(
            f"{option}: no such group (there are: {', '.join(known.files)}){nearest(group or option, known.files)}"
            if group
            else f"{option}: give GROUP/OPTION, such as experiment/clean"
        )
    there = copyable(known, group)
    if name not in there:
        raise ConfigError(f"{option}: must be one of {', '.join(there)}{nearest(name, there)}")
    return group, name


def defaults_text(part: Part) -> str:
    """The YAML text of a user's own part: its keys with their defaults, ??? for keys without one."""
    folder = GROUPS[part.group].folder
    head = f"# @package {folder}.{part.name}\n" if folder in SELECTIONS else ""
    return head + plain_yaml(node_of(part))


def _changed(text: str, group: str, name: str, command: str) -> str:
    """The text of the copy, without the comment on the results and commands of the original."""
    package = re.match(r"# *@package .*\n", text)
    head = "" if package is None else package[0]
    body = text[len(head) :]
    if group in WHOLE_CONFIG_GROUPS:
        body = re.sub(r"\A(?:#.*\n)+", "", body)
    if group in HYDRA_GROUPS and not re.search(r"^defaults:", body, re.MULTILINE):
        body = f"defaults: [{name}]\n{body}"
    return f"{head}# A copy of {group}/{name}, to be changed.\n#   {command}\n{body}"


def _command(group: str, name: str, folder: Path, known: Options) -> str:
    """The command that uses the copy."""
    words = ["mnist-ff", "train"]
    if group == "sweep" or group in HYDRA_GROUPS:
        words.append("-m")
    others = [str(other) for other in known.folders if other != folder.absolute()]
    for place in [*others, str(folder)]:
        words += [FLAG, place]
    for file in in_use():
        words += [PARTS_FLAG, file.path]
    words.append(f"{group}={name}")
    if group in HYDRA_GROUPS:
        words.append("seed=0,1")
    return shlex.join(words)


def _write_new(path: Path, text: str) -> None:
    """Errors: ConfigError where there is a file already; RunError where none can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:  # a link in its place is not followed
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: already exists; choose another name with --as") from None
    except OSError as error:
        raise RunError(f"{error.filename or path}: {error.strerror}; choose another folder") from None
