"""Overrides to configs by Hydra, which does nothing else here: the one module that imports it."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from antlr4 import CommonTokenStream, InputStream, Token  # type: ignore[import-untyped]
from antlr4.error.ErrorListener import ErrorListener  # type: ignore[import-untyped]
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.core.utils import JobRuntime, configure_log, setup_globals
from hydra.errors import ConfigCompositionException, HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from mnist_ff.config.convert import config_from, flat, sweep_from
from mnist_ff.config.float32 import check_float32
from mnist_ff.config.kept_loader import KeptLoader, state_of
from mnist_ff.config.options import options
from mnist_ff.config.overrides import (
    Override,
    check_override,
    holds_text,
    is_own_key,
    key_of,
    plain_override,
    quoted,
    reason_at,
    refuse_several,
    remedy_for,
)
from mnist_ff.config.own_part import node_of
from mnist_ff.config.paths import check_text, conf_dir, printed
from mnist_ff.config.registry import GROUPS, own_parts
from mnist_ff.config.schema import SELECTIONS, Config, SweepConfig
from mnist_ff.config.sources import with_source
from mnist_ff.errors import ConfigError

OF_ANOTHER_KEY = re.compile(r"\$\{(?!(?:oc|mnist_ff)\.env:\w+(?:,(?:\w+|'[^']*'))?\})")
"""A value that depends on others; what the environment says is the same for all jobs."""
REFUSED_ADVICE = ("To append to your config use +hydra.sweeper.", "To append to your config use +hydra.launcher.")
"""Beginnings of Hydra's own advice that our check of these keys refuses."""
OF_KEYS = ("sweep.rows", "hydra.sweeper.params")
"""Keys whose values are groups of keys and values."""
OF_VALUES = ("choice", "shuffle", "sort")
"""Hydra's functions whose arguments are values as they would stand alone."""
LOOKS_ELSE = {OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL}


def compose(overrides: Sequence[str] = ()) -> Config:
    """The config of a single run: conf/config.yaml with these overrides. Errors: ConfigError naming the key."""
    return Composer().run(overrides).config()


class Composer:
    """Hydra over our conf folder and the user's own. Errors: ConfigError for an own folder that cannot be used."""

    def __init__(self) -> None:
        setup_globals()  # Hydra's resolvers
        OmegaConf.register_new_resolver("mnist_ff.hex", lambda: secrets.token_hex(2), use_cache=True, replace=True)
        OmegaConf.register_new_resolver("mnist_ff.env", lambda name, other: os.environ.get(name) or other, replace=True)
        JobRuntime.instance().set("name", "mnist-ff")
        self._options = options()
        search_path = create_config_search_path(str(conf_dir()))
        for folder in self._options.folders:
            search_path.prepend("config-dir", str(folder))
        self._loader = KeptLoader(search_path, state_of(self._options.paths(), _store_own_parts()))
        self._parser = OverridesParser.create(config_loader=self._loader)
        self.groups = {group: self._options.names(group) for group in self._options.files}
        """Every group with its options."""

    def check(self, overrides: Sequence[str], several: bool = False) -> list[Override]:
        """Parse overrides and look for keys, groups and options that do not exist.

        `several`: they are a sweep's, in which a comma stands between values.
        Errors: ConfigError with what there is and the nearest name.
        """
        found = [self.parse(text, several) for text in overrides]
        for override in found:
            check_override(override, self.groups)
        return found

    def parse(self, text: str, several: bool = False) -> Override:
        """One override. `several`: a comma stands between values. Errors: ConfigError with the remedy."""
        key = key_of(text)
        check_text(key if "=" in text else "override", text.removeprefix(f"{key}="))
        try:
            return plain_override(self._parser.parse_overrides([text])[0])
        except HydraException as error:
            remedy = remedy_for(text, several, self._meaning)
            raise ConfigError(f"{printed(text)}: {_reason(text, error)}\n{remedy}") from None

    def _meaning(self, text: str) -> Any:
        """What an override says, or None where it is not in the grammar."""
        with suppress(HydraException):
            found: Any = self._parser.parse_override(text).value()
            return [getattr(item, "text", item) for item in found.list] if isinstance(found, ChoiceSweep) else found
        return None

    def run(self, overrides: Sequence[str]) -> ComposedRun:
        """A single run. Errors: ConfigError."""
        overrides = with_texts_kept(overrides)
        refuse_several(self.check(overrides))
        return ComposedRun(_explained(lambda given: self._load(given, RunMode.RUN), overrides))

    def sweep(self, overrides: Sequence[str]) -> ComposedSweep:
        """What the jobs of a sweep are made from. Errors: ConfigError.

        A key may belong to an option that only jobs choose: then jobs alone have the keys, and say what is wrong.
        """
        with config_errors():
            try:
                master = self._load(overrides, RunMode.MULTIRUN)
            except (HydraException, OmegaConfBaseException):
                rest = [text for text in overrides if not is_own_key(text)]
                if len(rest) == len(overrides):
                    raise
                master = self._load(rest, RunMode.MULTIRUN)
        return ComposedSweep(self._loader, master)

    def _load(self, overrides: Sequence[str], mode: RunMode) -> DictConfig:
        return self._loader.load_configuration("config", list(overrides), run_mode=mode)

    def text(self, overrides: Sequence[str], part: str, package: str | None, resolve: bool) -> str:
        """A single run's config as YAML: its `part` job, hydra or all, and of that one section. Errors: ConfigError."""
        composed = self.run(overrides).composed
        with config_errors(), hydra_values(composed):
            keys = [str(key) for key in composed if part == "all" or (key == "hydra") == (part == "hydra")]
            shown = OmegaConf.masked_copy(composed, keys)
            if part == "hydra":
                shown.hydra = OmegaConf.masked_copy(shown.hydra, [k for k in map(str, shown.hydra) if "help" not in k])
            found = shown if package in (None, "_global_") else OmegaConf.select(shown, str(package))
            if found is None:
                raise ConfigError(f"--package {package}: there is no such section")
            if not OmegaConf.is_config(found):
                return f"{found}\n"
            head = "" if found is shown else f"# @package {package}\n"
            if resolve:
                OmegaConf.resolve(found)
            return head + OmegaConf.to_yaml(found)


def _store_own_parts() -> Hashable:
    """Let Hydra know the user's own parts with their defaults, as if each had a file in conf/; return them."""
    store, known = ConfigStore.instance(), []
    for name, folder in ((name, group.folder) for name, group in GROUPS.items() if group.folder is not None):
        store.repo.pop(folder, None)
        for option, part in own_parts(name).items():
            package = f"{folder}.{option}" if folder in SELECTIONS else None
            store.store(option, node_of(part), group=folder, package=package, provider="mnist-ff")
            known.append((name, option, repr(node_of(part))))
    return tuple(known)


class _Composed:
    """A config as Hydra composed it."""

    directory_key = "hydra.run.dir"

    def __init__(self, composed: DictConfig) -> None:
        self.composed = composed

    @property
    def directory(self) -> str:
        """The value of hydra.run.dir or hydra.sweep.dir. Errors: ConfigError."""
        return str(_selected(self.composed, self.directory_key))

    def enter(self, directory: Path) -> None:
        """Apply hydra.verbose, hydra/job_logging and hydra.job.env_set to this process; a log file may lie in the
        directory, which is there. Errors: ConfigError."""
        with config_errors(), hydra_values(self.composed):
            hydra = self.composed.hydra
            OmegaConf.set_readonly(hydra, False)
            with open_dict(hydra):
                hydra.runtime.output_dir = os.fspath(directory)
            configure_log(hydra.job_logging, hydra.verbose)
            os.environ.update({str(name): str(value) for name, value in hydra.job.env_set.items()})


class ComposedRun(_Composed):
    """A single run's config."""

    def config(self) -> Config:
        """The typed config. Errors: ConfigError."""
        return _typed(self.composed)

    def files(self) -> dict[str, str]:
        """What `.hydra/` holds of it: for people, and never read."""
        job = [str(key) for key in self.composed if key != "hydra"]
        with hydra_values(self.composed):
            return {
                "config.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(self.composed, job)),
                "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(self.composed, "hydra")),
                "overrides.yaml": OmegaConf.to_yaml(self.composed.hydra.overrides.task),
            }


class ComposedSweep(_Composed):
    """A sweep's config, and that of each of its jobs on demand."""

    directory_key = "hydra.sweep.dir"

    def __init__(self, loader: KeptLoader, composed: DictConfig) -> None:
        super().__init__(composed)
        self._loader = loader
        self.is_numbered = str(composed.hydra.sweep._get_node("subdir")) == "${hydra.job.num}"
        """Whether a job's directory is named by its number alone."""

    @property
    def options(self) -> SweepConfig:
        """The section `sweep`. Errors: ConfigError."""
        return sweep_from(_selected(self.composed, "sweep"))

    def take_directory(self, directory: Path) -> None:
        """Let all jobs lie below this directory."""
        with open_dict(self.composed):
            self.composed.hydra.sweep.dir = os.fspath(directory)
            self.composed.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(os.fspath(directory))}")

    def choice(self, part: str) -> tuple[str, dict[str, Any]]:
        """The option of ours that is chosen for `launcher` or `sweeper`, maybe by a user's file, and its keys.

        Errors: ConfigError.
        """
        chosen = str(self.composed.hydra.runtime.choices[f"hydra/{part}"])
        name = options().part(f"hydra/{part}", chosen)
        keys = _selected(self.composed, f"hydra.{part}")
        if not isinstance(keys, dict):
            raise ConfigError(f"hydra.{part}={keys}: must be a group of keys")
        keys.pop("_target_", None)  # Hydra's own, of its launcher `basic`
        return name, keys

    def yaml(self) -> str:
        """The whole as YAML, for people."""
        return OmegaConf.to_yaml(self.composed)

    def job(self, number: int, overrides: Sequence[str]) -> tuple[Config, str]:
        """A job's config and its directory below the sweep's. Errors: ConfigError."""
        composed = self._composed(overrides)
        with open_dict(composed):
            composed.hydra.job.num = composed.hydra.job.id = number
        return _typed(composed), str(_selected(composed, "hydra.sweep.subdir"))

    def base(self, overrides: Sequence[str]) -> Config | None:
        """The config of these overrides, or None where it is wrong or a value of it depends on another one."""
        with suppress(ConfigError):
            composed = self._composed(overrides)
            parts = [str(composed._get_node(key)) for key in composed if key not in ("hydra", "sweep")]
            return None if any(map(OF_ANOTHER_KEY.search, parts)) else _typed(composed)
        return None

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        return _explained(lambda given: self._loader.load_sweep_config(self.composed, given), list(overrides))


def _explained(load: Callable[[list[str]], DictConfig], overrides: list[str]) -> DictConfig:
    """Compose with `load`. Errors: ConfigError, in our words where a key belongs to another option of its group."""
    with config_errors():
        try:
            return load(overrides)
        except ConfigCompositionException:
            # Hydra says only that the key is not there; forced in, our own converter says whose key it is
            with suppress(HydraException):
                _typed(load([f"++{text}" if is_own_key(text) else text for text in overrides]))
            raise


def _typed(composed: DictConfig) -> Config:
    """The job part of a composed config as our own. Errors: ConfigError."""
    plain = {str(key): _selected(composed, str(key)) for key in composed if key not in ("hydra", "sweep")}
    try:
        config = config_from(plain)
        check_float32(flat(plain))
        return config
    except ConfigError as error:
        choices, typed = OmegaConf.to_container(composed.hydra.runtime.choices), composed.hydra.overrides.task
        raise ConfigError(with_source(str(error), typed, choices, lambda key: _text_of(composed, key))) from None


def _text_of(composed: DictConfig, key: str) -> str:
    """The value of a dotted key as it stands in its file, nothing of it looked up; empty where there is none."""
    with suppress(OmegaConfBaseException, AttributeError):
        *sections, name = key.split(".")
        section = OmegaConf.select(composed, ".".join(sections)) if sections else composed
        return str(section._get_node(name))
    return ""


def _selected(composed: DictConfig, key: str) -> Any:
    """The plain value of a dotted key. Errors: ConfigError."""
    with config_errors(), hydra_values(composed):
        value = OmegaConf.select(composed, key, throw_on_missing=True)
        is_config = OmegaConf.is_config(value)
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if is_config else value


@contextmanager
def hydra_values(composed: DictConfig) -> Iterator[None]:
    """Inside the block ${hydra:KEY} is a value of this config, as it is in a job of Hydra's own."""
    instance: Any = HydraConfig.instance()
    before, instance.cfg = instance.cfg, composed
    try:
        yield
    finally:
        instance.cfg = before


@contextmanager
def config_errors() -> Iterator[None]:
    """Turn Hydra's and omegaconf's own errors into one line of ours. An own part's file need not set all defaults."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).* is validated against ConfigStore schema")
            yield
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}: has no value; set it with {error.full_key}=VALUE") from None
    except (HydraException, OmegaConfBaseException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(REFUSED_ADVICE)] or lines
        raise ConfigError("\n".join(lines[:2])) from None
    except RecursionError:
        raise ConfigError("--config-dir: the defaults lists of its files lead back to each other") from None


def with_texts_kept(overrides: Sequence[str]) -> list[str]:
    """The overrides, with quotes around what is a text's value and Hydra would take for a number, true or false."""
    return [_with_text_kept(text) for text in overrides]


def _with_text_kept(override: str) -> str:
    key = key_of(override).lstrip("+")
    if not holds_text(key) and key not in OF_KEYS:
        return override
    try:
        tree = _tree(override)
    except _UnreadableError:
        return override  # whoever reads it says why
    for start, stop in sorted(_other_kinds(tree, holds_text(key)), reverse=True):
        override = f"{override[:start]}{quoted(override[start:stop])}{override[stop:]}"
    return override


def _other_kinds(node: Any, of_text: bool) -> Iterator[tuple[int, int]]:
    """Where numbers, true and false stand as the values of texts: start, and one past the end."""
    if isinstance(node, OverrideParser.PrimitiveContext):
        tokens = [child.symbol for child in node.getChildren() if child.symbol.type != OverrideLexer.WS]
        if of_text and len(tokens) == 1 and tokens[0].type in LOOKS_ELSE:
            yield tokens[0].start, tokens[0].stop + 1
        return
    if isinstance(node, OverrideParser.FunctionContext) and node.getChild(0).getText() not in OF_VALUES:
        return
    if isinstance(node, OverrideParser.DictKeyValuePairContext):
        of_text = holds_text(node.getChild(0).getText().strip())
    for child in getattr(node, "children", None) or ():
        if not isinstance(child, OverrideParser.ArgNameContext):
            yield from _other_kinds(child, of_text)


class _UnreadableError(Exception):
    """An override is not in the grammar; its argument is the first character that is not allowed, None for the end."""


class _FirstError(ErrorListener):  # type: ignore[misc]
    def syntaxError(self, recognizer: Any, symbol: Any, line: int, column: int, message: str, error: Any) -> None:  # noqa: N802 (antlr's)
        if symbol is None:  # of the lexer
            raise _UnreadableError(error.startIndex)
        raise _UnreadableError(None if symbol.type == Token.EOF else symbol.start)


def _tree(override: str) -> Any:
    """The parsed override as a tree. Errors: _UnreadableError."""
    lexer = OverrideLexer(InputStream(override))
    parser = OverrideParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(_FirstError())
    return parser.override()  # type: ignore[no-untyped-call]


def _reason(text: str, error: HydraException) -> str:
    """What is wrong with an override that cannot be read."""
    try:
        _tree(text)
    except _UnreadableError as unreadable:
        return reason_at(text, *unreadable.args)
    return (str(error).splitlines() or ["cannot be read"])[0]  # of a function that was called, such as int(x)
