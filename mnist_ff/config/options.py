"""The options of each group: the files of conf/, and those of a user's own config folders beside them.

Own folders come from --config-dir and MNIST_FF_CONFIG_DIR. They have conf/'s layout: GROUP/OPTION.yaml.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.config.defaults import HYDRA_GROUPS, built_in_groups
from mnist_ff.config.messages import nearest
from mnist_ff.config.paths import absolute, check_text, conf_dir
from mnist_ff.config.registry import names_in
from mnist_ff.config.yaml_io import read_yaml, yaml_values
from mnist_ff.errors import ConfigError

VARIABLE = "MNIST_FF_CONFIG_DIR"
FLAG = "--config-dir"
HYDRAS_OWN = {"hydra/launcher": ("basic",)}
"""Options that stand in no file of conf/, because Hydra brings them."""
WHOLE_CONFIG_GROUPS = ("experiment", "sweep")
"""Groups whose files set keys of the whole config."""
FIXED_HYDRA_KEYS = (
    "hydra.mode",
    "hydra.job.chdir",
    "hydra.sweeper._target_",
    "hydra.launcher._target_",
    "hydra.output_subdir",
)
"""Keys that would undo a promise: every job checked first, no directory shared, paths that stay true."""
NOT_SET_HERE = ("hydra.callbacks", "hydra.searchpath")
"""Beginnings of keys that nothing would read."""
OPTION_NAME = re.compile(r"(?!(?:null|true|false|nan|inf)\Z)[a-z_][\w-]*\Z", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Options:
    """Every group's options with their files, as they were when the folders were read."""

    folders: tuple[Path, ...]
    """The own folders, absolute."""
    files: Mapping[str, Mapping[str, Path]]
    """By group and option; names that begin with _ are parts of others."""

    @property
    def flags(self) -> list[str]:
        """The words by which a command gets the same own folders."""
        return [word for folder in self.folders for word in (FLAG, str(folder))]

    @property
    def groups(self) -> list[str]:
        """The groups of an experiment, without Hydra's."""
        return [group for group in self.files if group not in HYDRA_GROUPS]

    def paths(self) -> list[Path]:
        """All files that a config is composed of."""
        return [conf_dir() / "config.yaml", *(path for group in self.files.values() for path in group.values())]

    def names(self, group: str) -> list[str]:
        """The options that may be chosen in a group."""
        listed = [name for name in self.files.get(group, ()) if not name.startswith("_")]
        return sorted({*listed, *HYDRAS_OWN.get(group, ()), *names_in(group)})

    def own_file(self, group: str, option: str) -> Path | None:
        """The file of an option from one of the own folders; None for every other option."""
        path = self.files.get(group, {}).get(option)
        is_own = path is not None and any(path.is_relative_to(folder) for folder in self.folders)
        return path if is_own else None

    def folder_of(self, path: Path) -> Path:
        """The own folder that a file of it is from."""
        return next(folder for folder in self.folders if path.is_relative_to(folder))

    def part(self, group: str, option: str) -> str:
        """The name of the part that an option configures: rmsprop for a file optimizer/slow.yaml with `name: rmsprop`.

        Of Hydra's groups it is the option of ours that a file's defaults list begins with.
        Errors: ConfigError for a file that names none.
        """
        path = self.own_file(group, option)
        if path is None or group in WHOLE_CONFIG_GROUPS:
            return option
        found = self._part(group, path)
        if found is None and group in HYDRA_GROUPS:
            known = [name for name in self.names(group) if self.own_file(group, name) is None]
            raise ConfigError(f"{path}: needs a defaults list with one of {', '.join(known)}, as in defaults: [...]")
        return option if found is None else found

    def _part(self, group: str, path: Path) -> str | None:
        values, package = file_values(path, group)
        if package.startswith(f"{group}.") and package != f"{group}.":  # a tracker's, such as logger.mlflow
            return package.split(".")[1]
        if group not in HYDRA_GROUPS and "name" in values:
            return str(values["name"])
        for base in reversed(list(included(values, group))):
            file = self.own_file(group, base)
            found = base if file is None else self._part(group, file)
            if found is not None:
                return found
        return None

    def check_ends(self, group: str, option: str, inside: tuple[str, ...] = ()) -> None:
        """Errors: ConfigError for an own file whose defaults list leads back to it."""
        path = self.own_file(group, option)
        if path is None:
            return
        if option in inside:
            raise ConfigError(f"{path}: includes itself; change its defaults list")
        for base in included(read_yaml(path) or {}, group):
            self.check_ends(group, base, (*inside, option))

    def own_files_of(self, choices: Mapping[str, Any]) -> list[tuple[str, Path]]:
        """The own files, each with its group, that these options are made of; those that have the last word first."""
        found = []
        for group, chosen in reversed(list(choices.items())):
            for option in chosen if isinstance(chosen, list) else [chosen]:
                found += [(group, path) for path in self._own_chain(group, str(option))]
        return found

    def _own_chain(self, group: str, option: str) -> list[Path]:
        chain: list[Path] = []
        waiting = [option]
        while waiting:
            path = self.own_file(group, waiting.pop(0))
            if path is not None and path not in chain:
                chain.append(path)
                waiting += included(read_yaml(path) or {}, group)
        return chain


def included(values: Mapping[str, Any], group: str) -> Iterator[str]:
    """The options of the same group that a file's defaults list names."""
    for entry in values.get("defaults") or ():
        if isinstance(entry, str) and entry != "_self_":
            name = entry.partition("@")[0].removeprefix(f"/{group}/")
            yield name.removesuffix(".yaml")


def copyable(known: Options, group: str) -> list[str]:
    """The options of a group that have keys, in a file or as a user's own part."""
    return [name for name in known.names(group) if name not in HYDRAS_OWN.get(group, ())]


_options: ContextVar[Options | None] = ContextVar("options", default=None)


def options() -> Options:
    """The options of this process: with the folders of using_folders(), or else those of MNIST_FF_CONFIG_DIR.

    Errors: ConfigError for a folder that cannot be used.
    """
    return _options.get() or _read(folders_of(()))


@contextmanager
def using_folders(folders: Sequence[Path]) -> Iterator[None]:
    """Inside the block the options are those of conf/ and of these folders. Errors: ConfigError."""
    token = _options.set(_read(folders))
    try:
        yield
    finally:
        _options.reset(token)


def flag_values(words: Sequence[str]) -> list[str]:
    """The values of --config-dir on a command line."""
    after = [value for flag, value in itertools.pairwise(words) if flag == FLAG]
    return [*after, *(word.removeprefix(f"{FLAG}=") for word in words if word.startswith(f"{FLAG}="))]


def folders_of(given: Sequence[str], source: str = FLAG) -> list[Path]:
    """The folders of MNIST_FF_CONFIG_DIR, then the given ones; absolute, each once.

    `source` names them in errors. Errors: ConfigError.
    """
    of_variable = [(VARIABLE, text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    found: list[Path] = []
    for source, text in [*of_variable, *((source, text) for text in given)]:
        if not text:
            raise ConfigError(f"{source}=: is empty; give a folder with files such as experiment/mine.yaml")
        check_text(source, text)
        path = Path(absolute(source, text))
        try:
            if not path.is_dir():
                there = "is not a folder" if path.exists() else "no such folder"
                raise ConfigError(f"{source}={text}: {there}")
            if not any(path.samefile(other) for other in found):
                found.append(path)
        except OSError as error:
            raise ConfigError(f"{source}={text}: {error.strerror}") from None
    return found


def _read(folders: Sequence[Path]) -> Options:
    """Errors: ConfigError for a file that is no option, or a name that two files have."""
    files = {group: dict(_listed(conf_dir() / group)) for group in built_in_groups()}
    for folder in folders:
        for group, name, path in _own_files(folder, list(files)):
            other = files[group].get(name)
            if other is not None:
                clash = "the built-in option" if other.is_relative_to(conf_dir()) else "also"
                raise ConfigError(f"{path}: {group}={name} is {clash} {other}; rename your file")
            if name in HYDRAS_OWN.get(group, ()):
                raise ConfigError(f"{path}: {group}={name} is built in; rename your file")
            files[group][name] = path
    found = Options(tuple(folders), files)
    for group in files:
        for name in files[group]:
            found.check_ends(group, name)
    return found


def _listed(folder: Path) -> list[tuple[str, Path]]:
    return sorted((path.stem, path) for path in folder.glob("*.yaml"))


def _own_files(folder: Path, groups: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    """Group, option and file of everything in an own folder. Errors: ConfigError for what would be ignored."""
    for path in _entries(folder):
        if path.suffix in (".yaml", ".yml"):
            raise ConfigError(
                f"{path}: a config folder has files in groups, such as {folder}/experiment/mine.yaml; "
                "only mnist-ff's own conf/ has a config.yaml"
            )
        if path.name == "hydra" and path.is_dir():
            for below in _entries(path):
                yield from _of_group(below, f"hydra/{below.name}", groups)
        elif path.is_dir() or not path.exists():  # a link to nothing, or to itself: _entries() says so
            yield from _of_group(path, path.name, groups)


def _of_group(folder: Path, group: str, groups: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    if group not in groups:
        raise ConfigError(f"{folder}: no such group (there are: {', '.join(groups)}){nearest(group, groups)}")
    for path in _entries(folder):
        if path.suffix == ".yml":
            raise ConfigError(f"{path}: the name of an option's file ends with .yaml; rename it")
        if path.suffix == ".yaml":
            _check_file(path, group)
            yield group, path.stem, path
        elif path.is_dir():
            raise ConfigError(f"{path}: a group has no folders; move its files to {folder}")


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, without hidden files. Errors: ConfigError where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None


def _check_file(path: Path, group: str) -> None:
    """See that a file can be an option. Errors: ConfigError naming the file."""
    if not OPTION_NAME.match(path.stem):
        raise ConfigError(f"{path}: an option's name is letters, digits, _ and -, such as my_{group.split('/')[-1]}")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: is not a file")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    values = yaml_values(path, content) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a group of keys and values, such as lr: 0.01")
    if not isinstance(values.get("defaults") or [], list):
        raise ConfigError(f"{path}: its defaults must be a list, such as defaults: [rmsprop]")
    if group in WHOLE_CONFIG_GROUPS and _package(content, group) != "":
        raise ConfigError(f"{path}: must have the line # @package _global_ on top, as its keys are the whole config's")
    for key in _dotted(values, _package(content, group)):
        if key in FIXED_HYDRA_KEYS or key.startswith(NOT_SET_HERE):
            raise ConfigError(f"{path}: {key} cannot be set in a file; leave it out")


def _package(content: bytes, group: str) -> str:
    """The section of the config that a file's keys belong to, with a dot at its end; empty for the whole config."""
    found = re.search(rb"^# *@package +(\S+) *\r?$", content, re.MULTILINE)
    package = "_group_" if found is None else found[1].decode(errors="replace")
    if package == "_global_":
        return ""
    return f"{group.replace('/', '.') if package == '_group_' else package}."


def file_values(path: Path, group: str) -> tuple[dict[str, Any], str]:
    """The values of an option's file, and the section of the config that they belong to, with a dot at its end."""
    return read_yaml(path) or {}, _package(path.read_bytes(), group)


def keys_in(path: Path, group: str) -> set[str]:
    """The dotted keys of the config that a file sets, those of sections too. Errors: ConfigError."""
    return set(_dotted(*file_values(path, group)))


def _dotted(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
