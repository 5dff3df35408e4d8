"""Override words to a typed config, with errors that name the key."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_ff.config.checks import check_float32
from mnist_ff.config.convert import config_from, flat, sweep_from
from mnist_ff.config.keys import known_keys, sweep_keys
from mnist_ff.config.messages import nearest
from mnist_ff.config.overrides import parsed, with_texts_kept
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.schema import Config, SweepConfig
from mnist_ff.errors import ConfigError

CONFIG_NAME = "config"
FROM_ENVIRONMENT = re.compile(r"\$\{(?:oc|mnist_ff)\.env:(\w+)")

REFUSED_ADVICE = ("To append to your config use +hydra.sweeper.", "To append to your config use +hydra.launcher.")
"""Beginnings of Hydra's own advice that our check of these keys refuses."""

LAUNCHERS = {
    "joblib": ("joblib", "parallel"),
    "submitit_local": ("submitit", "slurm"),
    "submitit_slurm": ("submitit", "slurm"),
}
"""Our launchers' options with the module each needs and the extra that brings it."""


@contextmanager
def hydra_session() -> Iterator[Hydra]:
    """Hydra over our conf folder, cleared at the end so that a later one starts fresh."""
    OmegaConf.register_new_resolver("mnist_ff.hex", lambda: secrets.token_hex(2), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("mnist_ff.env", lambda name, other: os.environ.get(name) or other, replace=True)
    instance = GlobalHydra.instance()
    before = instance.hydra  # a notebook's own; ours must not take its place for longer than this
    instance.clear()
    try:
        yield Hydra.create_main_hydra2("mnist-ff", create_config_search_path(str(conf_dir())))
    finally:
        instance.hydra = before


def compose(overrides: Sequence[str] = ()) -> Config:
    """The config of a single run: conf/config.yaml with these overrides, each key checked by itself.

    Errors: ConfigError naming the key.
    """
    with hydra_session() as hydra:
        return typed(compose_run(hydra, list(overrides)))


def compose_run(hydra: Hydra, overrides: list[str]) -> DictConfig:
    """Hydra's config for a single run, job and hydra parts. Errors: ConfigError."""
    overrides = with_texts_kept(overrides)
    check_overrides(hydra.config_loader, overrides)

    def load(words: list[str]) -> DictConfig:
        return hydra.compose_config(CONFIG_NAME, words, run_mode=RunMode.RUN, with_log_configuration=True)

    return composed_or_explained(load, overrides)


def composed_or_explained(load: Callable[[list[str]], DictConfig], overrides: list[str]) -> DictConfig:
    """Compose with `load`. Errors: ConfigError, in our words where a key belongs to another option of its group."""
    with config_errors():
        try:
            return load(overrides)
        except ConfigCompositionException:
            # Hydra says only that the key is not there; forced in, our own converter says whose key it is
            with suppress(HydraException):
                typed(load([f"++{word}" if is_own_key(word) else word for word in overrides]))
            raise


def is_own_key(word: str) -> bool:
    """Whether a word gives a key of a run's config its value."""
    return word.split("=")[0] in known_keys()


def typed(composed: DictConfig) -> Config:
    """The job part of a composed config as our own, its numbers such as one may begin with. Errors: ConfigError."""
    keys = [key for key in composed if key not in ("hydra", "sweep")]
    plain = _plain(composed, keys)
    try:
        config = config_from(plain)
        check_float32(flat(plain))
        return config
    except ConfigError as error:
        raise ConfigError(f"{error}{_variable(composed, str(error))}") from None


def _variable(composed: DictConfig, complaint: str) -> str:
    """Which environment variable the value comes from that a complaint is about, where it comes from one."""
    key = complaint.partition("=")[0]
    with suppress(OmegaConfBaseException, AttributeError):
        *sections, name = key.split(".")
        section = OmegaConf.select(composed, ".".join(sections)) if sections else composed
        found = FROM_ENVIRONMENT.match(str(section._get_node(name)))
        if found and os.environ.get(found[1]):
            return f"\nset by the environment variable {found[1]}"
    return ""


def sweep_options(composed: DictConfig) -> SweepConfig:
    """The section `sweep` of a composed config as our own. Errors: ConfigError."""
    return sweep_from(_plain(composed, ["sweep"])["sweep"])


def _plain(composed: DictConfig, keys: Sequence[Any]) -> dict[str, Any]:
    with config_errors(), hydra_values(composed):
        values = {key: composed[key] for key in keys}
        return {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in values.items()
        }


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
    """Turn Hydra's and omegaconf's own errors into one line of ours."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(REFUSED_ADVICE)] or lines
        if "sweep type : INTERVAL_SWEEP" in lines[0]:
            lines = ["interval(a,b): is only for searches; add hydra/sweeper=optuna, or give values"]
        raise ConfigError("\n".join(lines[:2])) from None


def check_overrides(loader: ConfigLoader, words: Sequence[str], several: bool = False) -> list[Override]:
    """Parse override words and look for keys, groups and options that do not exist.

    `several`: the words are a sweep's, in which a comma stands between values.
    Errors: ConfigError with what there is and the nearest name.
    """
    parser = OverridesParser.create(config_loader=loader)
    overrides = [parsed(parser, word, several) for word in words]
    groups = config_groups(loader)
    for override in overrides:
        _check_override(groups, override)
    return overrides


def _check_override(groups: dict[str, list[str]], override: Override) -> None:
    key = override.key_or_group
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        _check_hydra_override(key, override)
        return
    if key == "data.instead_of":
        raise ConfigError("data.instead_of: is set by mnist-ff when MNIST cannot be downloaded")
    if override.type == OverrideType.DEL:
        raise ConfigError(f"~{key}: keys cannot be removed")
    if key in groups:
        _check_options(key, override, groups[key])
        return
    known = {**known_keys(), **sweep_keys()}
    sections = {name.split(".")[0] for name in known if "." in name}
    if key.endswith(".name") and key.removesuffix(".name") in groups:
        group = key.removesuffix(".name")
        raise ConfigError(f"{override.input_line}: use {group}={override.value()}")
    if key not in known and key not in sections:
        raise ConfigError(
            f"{override.input_line}: no such key {key}{nearest(key, [*known, *groups])}\n"
            "mnist-ff train --help lists the keys"
        )


def _check_hydra_override(key: str, override: Override) -> None:
    """Refuse what would undo a promise: every job checked first, no directory shared, paths that stay true."""
    if key == "hydra/sweeper":
        own = sorted(path.stem for path in (conf_dir() / "hydra" / "sweeper").glob("*.yaml"))
        if override.value() not in own:
            raise ConfigError(f"{override.input_line}: must be one of {', '.join(own)}")
    if key in (
        "hydra.mode",
        "hydra.job.chdir",
        "hydra.sweeper._target_",
        "hydra.launcher._target_",
        "hydra.output_subdir",
    ):
        raise ConfigError(f"{override.input_line}: cannot be changed here; use -m for a sweep")
    if key == "hydra.sweep.subdir" and "hydra.job.num" not in str(override.value()):
        raise ConfigError(f"{override.input_line}: must contain ${{hydra.job.num}}, or jobs would share a directory")


def check_launcher(composed: DictConfig) -> None:
    """See that what the chosen launcher needs is here: to run jobs, not to say what they are.

    Errors: ConfigError naming the extra.
    """
    name = str(composed.hydra.runtime.choices["hydra/launcher"])
    if name not in LAUNCHERS:
        return  # Hydra's own says if there is none
    module, extra = LAUNCHERS[name]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"hydra/launcher={name}: needs {module}, which is not installed: pip install 'mnist-ff[{extra}]'"
        )
    if name == "submitit_slurm" and shutil.which("sbatch") is None:
        raise ConfigError(
            f"hydra/launcher={name}: sbatch not found; submit from a machine of the cluster; dry_run=true works here"
        )


def _check_options(group: str, override: Override, options: list[str]) -> None:
    asked = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    if group == "logger":  # the one group of which several, or none, may be chosen
        asked = [option for given in asked for option in (given if isinstance(given, list) else [given])]
    for option in asked:
        if option is None:  # Hydra has no word for none of a group but leaving it out
            raise ConfigError(f"{group}=null: leave it out, or use one of {', '.join(options)}")
        if str(option) not in options:
            names = ", ".join(options) or "nothing yet"
            raise ConfigError(f"{group}={option}: must be one of {names}{nearest(str(option), options)}")


def config_groups(loader: ConfigLoader) -> dict[str, list[str]]:
    """The groups of conf/ with their options; names that begin with _ are parts of others."""
    names = [path.name for path in sorted(conf_dir().iterdir()) if path.is_dir() and path.name != "hydra"]
    return {name: [option for option in _options(loader, name) if not option.startswith("_")] for name in names}


def _options(loader: ConfigLoader, group: str) -> list[str]:
    options: Any = loader.get_group_options(group, results_filter=ObjectType.CONFIG)
    return list(options)
