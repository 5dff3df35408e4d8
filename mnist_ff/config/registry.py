"""The parts that an experiment is made of, by group and name; built-in parts and a user's own register alike.

A part is one module: a frozen dataclass of its keys, a builder, and a call of register() at the end.

    @dataclass(frozen=True)
    class HalvingConfig(ScheduleConfig):                      # the group's own keys, such as `name`, are inherited
        every: Annotated[int, "steps between two halvings", Meta(ge=1)]     # type, meaning, limits (msgspec.Meta)

    register(Part("schedule", "halving", HalvingConfig, build))

Its defaults stand in one YAML file of the same name in conf/GROUP/ (a tracker's: conf/logger/). A built-in part's
module stands where GROUPS says and imports torch only inside its builder: `--help`, the Tab key and `compare` load it.
A check of several keys together is the dataclass's method check(); keys younger than saved runs go to `legacy`.

data: `DataSet` of data/catalog.py is its Part; the builder takes the config and returns a dict of uint8 tensors
    train_images (N, H, W) or (N, C, H, W), train_labels (N,), test_images, test_labels; `describe` says their shape
    and classes where they are not MNIST's.
    Module: data/sets/NAME.py. Example: data/sets/mnist_5k.py; a data set in IDX files: data/sets/kmnist.py.
model: build(config, spec, seed, device) returns the network; spec is a DataSpec (runs/records.py).
    Module: models/parts/NAME.py. Example: models/parts/mlp.py.
optimizer: build(config, parameters) returns the optimizer; `OptimizerPart` of optim/part.py says what engines need.
    Module: optim/NAME.py. Example: optim/lion.py.
schedule: build(config) returns a function: the share of the run that is done, 0 to 1, to the share of optimizer.lr.
    Module: optim/schedules/NAME.py. Example: optim/schedules/cosine.py.
augment: build(config, rng) returns a function: images (B, *shape) float32 in [0, 1] on rng.device to as many new ones;
    all random numbers come from the torch.Generator `rng`.
    Module: data/augment/NAME.py. Example: data/augment/shift.py.
tracker: build(config) returns a Tracker (trackers/base.py). `needs` lists the modules of its extra, named like it.
    Module: trackers/NAME.py. Example: trackers/tensorboard.py. Its dataclass says where it writes: inside_run,
    with_absolute_paths(), and place for people.
metric: the builder is the metric: (model, split) to a number or a dict of numbers. It has no keys and no YAML file.
    Module: training/metrics/NAME.py. Example: training/metrics/calibration.py.
callback: build(config) returns a Callback (training/callbacks.py). There is no built-in one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mnist_ff.config.messages import nearest
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.schema import (
    AugmentConfig,
    CallbackConfig,
    DataConfig,
    MetricConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    Section,
    TrackerConfig,
)
from mnist_ff.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """What register() takes: a group's part with its name, keys and builder. See the module's text."""

    group: str
    name: str
    config: type[Section]
    build: Callable[..., Any]
    legacy: Mapping[str, Any] = field(default_factory=dict)
    """Values of the keys that a saved config may lack because it is older than they are."""
    needs: tuple[str, ...] = ()
    """Modules that must be installed, with the extra that has the part's name."""
    defaults: Mapping[str, Any] | None = None
    """Values of its keys, of a user's own part; None where a file in conf/ has them."""
    source: str = ""
    """For a user's own part, the file and line of its registration."""
    taken: Callable[[Any], Any] | None = None
    """For a model: the data's DataSpec to that of the images it takes. None: the same."""


class Group(NamedTuple):
    """A group of parts."""

    section: type[Section]
    """Its keys that all parts have."""
    package: str
    """The package of the built-in parts, below mnist_ff."""
    folder: str | None
    """The folder of its YAML files, below conf/. None for parts without keys."""
    first: str | None = None
    """The part that is listed first, in saved configs too; the other built-in ones follow by name."""


GROUPS = {
    "data": Group(DataConfig, "data.sets", "data", "mnist"),
    "model": Group(ModelConfig, "models.parts", "model", "mlp"),
    "optimizer": Group(OptimizerConfig, "optim", "optimizer", "rmsprop"),
    "schedule": Group(ScheduleConfig, "optim.schedules", "schedule", "constant"),
    "augment": Group(AugmentConfig, "data.augment", "augment", "none"),
    "tracker": Group(TrackerConfig, "trackers", "logger", "tensorboard"),
    "metric": Group(MetricConfig, "training.metrics", None),
    "callback": Group(CallbackConfig, "training", "callbacks"),
}

GIVEN = {"data": "arrays", "model": "module"}
"""Names that stand for what mnist_ff.train() was given: parts while it trains, and in a config for ever."""

_parts: dict[str, dict[str, Part]] = {group: {} for group in GROUPS}
_caches: list[Callable[[], None]] = []

Function = TypeVar("Function", bound=Callable[..., Any])


def until_registered(function: Function) -> Function:
    """functools.lru_cache, emptied when a part is registered."""
    cached = functools.lru_cache(maxsize=1_000)(function)
    _caches.append(cached.cache_clear)
    return cached  # type: ignore[return-value]


def register(part: Part) -> None:
    """Make a part known. Errors: ConfigError for an unknown group, an unfit dataclass or a name that is taken."""
    what = f"{part.group}={part.name}"
    if part.group not in GROUPS:
        raise ConfigError(f"{what}: no such group (there are: {', '.join(GROUPS)}){nearest(part.group, GROUPS)}")
    section = GROUPS[part.group].section
    if not is_part_name(part.name):
        raise ConfigError(f"{what}: a part's name is lower-case letters, digits and _, such as my_part")
    if not (issubclass(part.config, section) and _is_frozen(part.config)):
        raise ConfigError(f"{what}: {part.config.__name__} must be a frozen dataclass derived from {section.__name__}")
    known = _parts[part.group].get(part.name)
    if known is not None and known != part:
        raise ConfigError(
            f"{what}: registered twice, by {known.config.__module__} and {part.config.__module__}; rename one of them"
        )
    _parts[part.group][part.name] = part
    _forget()


def unregister(part: Part) -> None:
    """Take a part out again, such as one of a user's file that is no longer in use."""
    if _parts[part.group].get(part.name) == part:
        del _parts[part.group][part.name]
        _forget()


def own_parts(group: str) -> dict[str, Part]:
    """The user's own parts of a group by name: those that no file in conf/ describes."""
    return {name: found for name, found in _parts[group].items() if found.defaults is not None}


def source_of(group: str, name: str) -> str:
    """A part for a message, with the file and line of a user's own: model=cnn (parts.py:12)."""
    found = _parts[group].get(name)
    return f"{group}={name}" if found is None or not found.source else f"{group}={name} ({found.source})"


def _forget() -> None:
    """Empty what until_registered() keeps."""
    for clear in _caches:
        clear()


def names_in(folder: str) -> list[str]:
    """The user's own parts whose defaults would stand in this folder of conf/."""
    return [name for group, found in GROUPS.items() if found.folder == folder for name in own_parts(group)]


def own_part(folder: str, name: str) -> Part | None:
    """The user's own part whose defaults would stand in this folder of conf/, under this name."""
    return next((own_parts(group).get(name) for group, found in GROUPS.items() if found.folder == folder), None)


def is_part_name(name: Any) -> bool:
    """Whether a part may have this name."""
    return isinstance(name, str) and re.fullmatch("[a-z][a-z0-9_]{0,99}", name) is not None


def _is_frozen(config: type) -> bool:
    return dataclasses.is_dataclass(config) and bool(config.__dataclass_params__.frozen)  # type: ignore[attr-defined]


def part(group: str, name: str) -> Part:
    """A part by name; of the built-in ones only its own module is imported. Errors: ConfigError with the nearest."""
    if name not in _parts[group]:
        if name not in names(group):
            known = names(group)
            raise ConfigError(f"{group}.name={name}: must be one of {', '.join(known)}{nearest(name, known)}")
        importlib.import_module(f"mnist_ff.{GROUPS[group].package}.{name}")
    return _parts[group][name]


@until_registered
def names(group: str) -> tuple[str, ...]:
    """The names of a group's parts, without importing any: the built-in ones, then the others."""
    return tuple(dict.fromkeys([*_built_in(group), *_parts[group]]))


def parts(group: str) -> dict[str, Part]:
    """Every part of a group by its name."""
    return {name: part(group, name) for name in names(group)}


def group_of(section: type) -> str | None:
    """The group whose parts' dataclasses derive from this section; None for a section that all configs share."""
    return next((name for name, group in GROUPS.items() if group.section is section), None)


def variants(section: type[Section]) -> dict[str, type[Section]]:
    """The dataclasses that a section may be, by the name that decides."""
    group = group_of(section)
    return {"": section} if group is None else {name: found.config for name, found in parts(group).items()}


@functools.cache
def _built_in(group: str) -> tuple[str, ...]:
    """Names that have a module in the package, and a YAML file in conf/ where the group has such files."""
    _, package, folder, first = GROUPS[group]
    modules = Path(__file__).parents[1].joinpath(*package.split("."))
    found = {path.stem for path in modules.glob("[a-z]*.py")} - {"own"}
    if folder is not None:
        found &= {path.stem for path in conf_dir().joinpath(folder).glob("[a-z]*.yaml")}
    return tuple(sorted(found, key=lambda name: (name != first, name)))
