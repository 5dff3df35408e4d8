"""mnist_ff.register: a user's class becomes a part like the built-in ones, after everything about it was checked.

What each group expects of a class stands with the group, in the module `own` beside its built-in parts: the arguments
of its build(), and the builder that calls it.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypeVar

import msgspec
from msgspec import Meta

from mnist_ff.config import registry
from mnist_ff.config.convert import key_value
from mnist_ff.config.keys import bare_type, hints_of, is_optional, meaning_of, notes_of, union_members
from mnist_ff.config.messages import nearest
from mnist_ff.config.paths import conf_dir, display_path
from mnist_ff.config.registry import GROUPS, Part
from mnist_ff.config.schema import Section
from mnist_ff.config.yaml_io import read_yaml
from mnist_ff.errors import ConfigError

SUPPORTED = "bool, int, float, str, Literal of texts, tuple[X, ...] or X | None"
PLAIN = (bool, int, float, str, tuple, list, dict, set)
"""Types of a class attribute that was probably meant as a key."""

T = TypeVar("T")

registered: list[Part] = []
"""Every part that register() has made in this process, in order."""
files: set[str] = set()
"""The files that they stand in, absolute."""


class Place(NamedTuple):
    """Where a part stands in a user's file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{display_path(Path(self.file))}:{self.line}"


def Range(  # noqa: N802 (it is written where types are)
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Meta:
    """The values that a key may have, for its annotation: Annotated[int, "units", Range(at_least=1)].

    Errors: ConfigError for two lower or two upper limits.
    """
    if (at_least is not None and above is not None) or (at_most is not None and below is not None):
        frame = sys._getframe(1)
        place = Place(os.path.abspath(frame.f_code.co_filename), frame.f_lineno)
        raise ConfigError(f"{place}: Range: takes one of at_least and above, and one of at_most and below")
    limits: dict[str, Any] = {"ge": at_least, "gt": above, "le": at_most, "lt": below}
    return Meta(**limits)


def register(group: str, name: str) -> Callable[[T], T]:
    """Make a class a part: option `name` of `group`, chosen like the built-in ones, as GROUP=NAME.

    group: data, model, optimizer, schedule, augment, tracker, metric or callback. The class is a frozen dataclass; its
    fields are keys of the config with types, meanings, ranges and defaults, and its method build() makes the part:

        data       build(self): dict of train_images, train_labels, test_images, test_labels; if you like also
                   validation_images, validation_labels and classes, the names
        model      build(self, shape, classes): torch.nn.Module, (B, *shape) float32 in [0, 1] to (B, classes) logits
        optimizer  build(self, parameters): torch.optim.Optimizer; its key `lr` is there already
        schedule   build(self): function of progress, 0 to 1, to the fraction of optimizer.lr
        augment    build(self, rng): function of images (B, *shape) float32 to as many new ones
        tracker    build(self): mnist_ff.Tracker

    A callback derives from mnist_ff.Callback and needs no build(); it need not be frozen. A metric is no class but a
    function of (model, split) that returns a number or a dict of numbers.

    Returns the class or function as it was. Errors: ConfigError with file, line and remedy.
    """
    frame = sys._getframe(1)
    place = Place(os.path.abspath(frame.f_code.co_filename), frame.f_lineno)

    def decorate(target: T) -> T:
        part = _part(group, name, target, place)
        registry.register(part)
        registered.append(part)
        files.add(place.file)
        return target

    return decorate


def _part(group: str, name: str, target: Any, place: Place) -> Part:
    """The part that a user's class is. Errors: ConfigError."""
    what = f"{place}: {group}={name}"
    if group not in GROUPS:
        raise ConfigError(f"{what}: no such group (there are: {', '.join(GROUPS)}){nearest(str(group), GROUPS)}")
    if not registry.is_part_name(name):
        raise ConfigError(f"{what}: a part's name is lower-case letters, digits and _, such as my_part")
    _check_free(group, name, target, place)
    adapter = importlib.import_module(f"mnist_ff.{GROUPS[group].package}.own")
    part: Part
    if GROUPS[group].folder is None:  # its parts have no keys
        _check_function(target, adapter.PARAMETERS, place, what)
        part = adapter.own_part(name, target)
        return dataclasses.replace(part, defaults={}, source=str(place))
    if not inspect.isclass(target):
        raise ConfigError(f"{what}: is not a class; decorate a frozen dataclass with a method build()")
    makes_itself = adapter.PARAMETERS is None  # an instance is what others build
    _check_dataclass(target, what, frozen=not makes_itself)
    _check_build(target, adapter.PARAMETERS, place, what)
    config = _config_class(target, GROUPS[group].section, place, with_methods=not makes_itself)
    try:
        part = adapter.own_part(name, config, *([target] if makes_itself else []))
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None
    return dataclasses.replace(part, defaults=_defaults(group, name, config, target, place), source=str(place))


def _check_free(group: str, name: str, target: Any, place: Place) -> None:
    """See that no other part has the name. A cell of a notebook may be run again. Errors: ConfigError."""
    if name == registry.GIVEN.get(group):
        raise ConfigError(f"{place}: {group}={name}: stands for what Python gives; choose another name")
    known = registry.own_parts(group).get(name)
    if known is None:
        if name in registry.names(group):
            raise ConfigError(f"{place}: {group}={name}: is built in; choose another name")
        return
    other: Any = known.build if GROUPS[group].folder is None else known.config
    same = (other.__module__, other.__qualname__) == (target.__module__, target.__qualname__)
    if known.source == str(place) and other.__module__ != target.__module__:
        raise ConfigError(
            f"{place}: {group}={name}: is registered already, as another parts file imports this one; leave out "
            f"--parts {display_path(Path(place.file))}"
        )
    if not (same and target.__module__ == "__main__"):
        raise ConfigError(f"{place}: {group}={name}: is registered at {known.source} too; rename one of them")
    registry.unregister(known)


def _check_dataclass(target: type, what: str, frozen: bool) -> None:
    """Errors: ConfigError for a class that is no dataclass, is not frozen where it must be, or has slots."""
    decorator = "@dataclass(frozen=True)" if frozen else "@dataclass"
    remedy = f"write {decorator} between @mnist_ff.register(...) and the class"
    if "__dataclass_params__" not in vars(target):
        raise ConfigError(f"{what}: class {target.__name__} is not a dataclass; {remedy}")
    if frozen and not target.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ConfigError(f"{what}: class {target.__name__} is not frozen; {remedy}")
    if "__slots__" in vars(target):
        raise ConfigError(f"{what}: class {target.__name__} has slots; leave out slots=True")


def _check_build(target: type, expected: tuple[str, ...] | None, place: Place, what: str) -> None:
    """See that build() takes what it will be given. Errors: ConfigError."""
    if expected is None:  # the class itself does the work
        return
    wanted = f"build({', '.join(['self', *expected])})"
    build = inspect.getattr_static(target, "build", None)
    if build is None:
        raise ConfigError(f"{what}: class {target.__name__} has no method {wanted}")
    if not inspect.isfunction(build):
        raise ConfigError(f"{what}: build must be a method, {wanted}")
    _check_arguments(build, ("self", *expected), place, what)


def _check_function(target: Any, expected: tuple[str, ...], place: Place, what: str) -> None:
    """See that a part which is a function takes what it will be given. Errors: ConfigError."""
    if not inspect.isfunction(target):
        raise ConfigError(f"{what}: is not a function; decorate a function of ({', '.join(expected)})")
    _check_arguments(target, expected, place, what)


def _check_arguments(function: types.FunctionType, expected: tuple[str, ...], place: Place, what: str) -> None:
    """See that a function or method takes these arguments, and no two of them the other way round."""
    place = Place(place.file, inspect.unwrap(function).__code__.co_firstlineno)
    signature = inspect.signature(function)
    given = [name for name, one in signature.parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    try:
        signature.bind(*expected)
    except TypeError:
        fits = False
    else:
        places = [given.index(name) for name in expected if name in given]
        fits = places == sorted(places)
    if not fits:
        shown = ", ".join(map(str, (one.replace(annotation=one.empty) for one in signature.parameters.values())))
        name = function.__name__
        raise ConfigError(f"{place}: {what.partition(': ')[2]}: {name}({shown}): must be {name}({', '.join(expected)})")


def _config_class(target: type, section: Any, place: Place, with_methods: bool) -> type[Section]:
    """The dataclass of the part's keys: the group's own, then the class's, whose methods it has where it shall."""
    inherited = hints_of(section)
    bases = (target,) if issubclass(target, section) else (target, section) if with_methods else (section,)
    _check_untyped(target, place)
    hints = _hints(target, place)
    own = []
    for field in dataclasses.fields(target):
        if not (with_methods or field.init):  # what a callback keeps while it hears a run
            continue
        try:
            if hasattr(section, field.name):
                raise ConfigError("is the name of a method here; call the field otherwise")
            own.append((field.name, _hint(field.name, hints[field.name], inherited.get(field.name))))
        except ConfigError as error:
            raise ConfigError(f"{_at(target, field.name, place)}: {field.name}: {error}") from None
    made: Any = dataclasses.make_dataclass(target.__name__, own, bases=bases, frozen=True, kw_only=True)
    made.__module__, made.__qualname__, made.__doc__ = target.__module__, target.__qualname__, target.__doc__
    typed: type[Section] = made
    return typed


def _check_untyped(target: type, place: Place) -> None:
    """Errors: ConfigError for what looks like a key and has no type."""
    typed = vars(target).get("__annotations__", {})
    for name, value in vars(target).items():
        if isinstance(value, PLAIN) and name not in typed and name.islower() and not name.startswith("_"):
            raise ConfigError(
                f"{_at(target, name, place)}: {name}: has no type, so it is no key; "
                f"write {name}: {type(value).__name__} = {value!r}"
            )


def _hints(target: type, place: Place) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception as error:  # an annotation may be any expression
        raise ConfigError(f"{place}: class {target.__name__}: a type cannot be read ({error})") from None


def _hint(name: str, hint: Any, inherited: Any) -> Any:
    """A field's type with its meaning, and with its limits where msgspec wants them: inside X | None and tuples.

    `inherited` is the hint of the group's key of that name, if it has one. Errors: ConfigError without the place.
    """
    if name == "name" and inherited is not None:
        raise ConfigError("is the part's own name; call the field otherwise")
    if inherited is not None and bare_type(inherited) != bare_type(hint):
        raise ConfigError(f"is a key that all of the group have; its type must be {_shown(bare_type(inherited))}")
    kinds = [kind for kind in union_members(hint) if bare_type(kind) is not type(None)]
    if len(kinds) != 1 or not _is_supported(bare_type(kinds[0])):
        raise ConfigError(f"has the type {_shown(bare_type(hint))}; use {SUPPORTED}")
    limits = _limits(kinds[0]) or _limits(hint) or _limits(inherited)
    kind: Any = bare_type(kinds[0])
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        limited: Any = _limited(bare_type(item), _limits(item) or limits)
        kind = types.GenericAlias(tuple, (limited, Ellipsis))
    else:
        kind = _limited(kind, limits)
    meaning = meaning_of(hint) or meaning_of(inherited) or name.replace("_", " ")
    made: Any = Optional[kind] if is_optional(hint) else kind  # noqa: UP045 (it is a value)
    made = Annotated[made, meaning]
    try:
        msgspec.inspect.type_info(made)
    except TypeError as error:  # such as a limit of a text
        raise ConfigError(str(error).splitlines()[0]) from None
    return made


def _limits(hint: Any) -> list[Meta]:
    return [note for note in notes_of(hint) if isinstance(note, Meta)]


def _limited(kind: Any, limits: list[Meta]) -> Any:
    for limit in limits:
        kind = Annotated[kind, limit]
    return kind


def _is_supported(kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        return len(items) == 2 and items[1] is Ellipsis and bare_type(items[0]) in (bool, int, float, str)
    if typing.get_origin(kind) is Literal:
        return all(isinstance(word, str) for word in typing.get_args(kind))
    return kind in (bool, int, float, str)


def _shown(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) else str(kind)


def _defaults(group: str, name: str, config: Any, target: Any, place: Place) -> dict[str, Any]:
    """The default of each key, as plain values; a key without one has none. Errors: ConfigError."""
    base = conf_dir() / str(GROUPS[group].folder) / "_base.yaml"
    values: dict[str, Any] = dict(read_yaml(base)) if base.is_file() else {}
    values = {key: value for key, value in values.items() if key in hints_of(config)}
    if "name" in hints_of(config):
        values = {"name": name, **values}
    for field in dataclasses.fields(target):
        factory = field.default_factory
        has_none = field.default is dataclasses.MISSING and factory is dataclasses.MISSING
        if has_none or field.name not in hints_of(config):
            continue
        value = field.default if factory is dataclasses.MISSING else factory()
        try:
            value = key_value(hints_of(config)[field.name], value, f"{group}.{field.name}")
        except ConfigError as error:
            raise ConfigError(f"{_at(target, field.name, place)}: the default {error}") from None
        values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def node_of(part: Part) -> dict[str, Any]:
    """A part's keys as Hydra composes them: ??? where there is no default, and no text is looked up."""
    assert part.defaults is not None
    values = dict.fromkeys(_keys(part.config), "???") | dict(part.defaults)
    inherited = _keys(GROUPS[part.group].section)
    return {key: value if key in inherited else _escaped(value) for key, value in values.items()}


def _keys(section: Any) -> dict[str, Any]:
    return hints_of(section)


def _escaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value


def _at(target: type, field: str, place: Place) -> Place:
    """The line of a class's field; the class's own where the file cannot be read. For messages."""
    try:
        tree = ast.parse(Path(place.file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return place
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == target.__name__:
            for line in node.body:
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                if any(isinstance(found, ast.Name) and found.id == field for found in targets):
                    return Place(place.file, line.lineno)
    return place
