"""parts/ of a run directory: the files of a user's own parts that were loaded, as data. Nothing there is imported."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mnist_ff.config.own_parts import FLAG, PartsFile, content_of, in_use
from mnist_ff.config.paths import display_path, printed
from mnist_ff.config.registry import GIVEN, GROUPS, names, own_parts
from mnist_ff.config.schema import SELECTIONS, Config, Unregistered
from mnist_ff.errors import BadRunError, MissingFileError, MissingPartsError
from mnist_ff.files import write_bytes, write_text
from mnist_ff.runs.directory import Run
from mnist_ff.runs.given import why_not_here
from mnist_ff.runs.jobs import parts_file
from mnist_ff.runs.reading import Fields, is_taken, read_json

FOLDER, LIST = "parts", "parts.json"
MOST_FILES = 100
"""Of parts files that a run lists."""
MAX_LIST_BYTES = 1 << 20
COPY_NAME = re.compile(r"[\w-][\w.-]{0,150}\.py")


@dataclass(frozen=True)
class Recorded:
    """A parts file as a run recorded it."""

    path: str
    """Where it was, absolute."""
    sha256: str
    copy: str
    """The name of its copy in the run's parts/."""
    module: str | None = None
    """The name of the module that was given in place of the path."""
    earlier: bool | None = None
    """True where a resume has been given others since."""


def write_parts(run: Run) -> None:
    """Keep a copy of every parts file in use, beside those that an earlier part of the run had.

    Errors: OSError; BadRunError where the list that is there cannot be read.
    """
    if not in_use():
        return
    now = [(file.path, file.sha256) for file in in_use()]
    known = [replace(one, earlier=None if (one.path, one.sha256) in now else True) for one in read_parts(run)]
    folder = run.file(FOLDER)
    folder.mkdir(exist_ok=True)
    for file in in_use():
        if any((one.path, one.sha256) == (file.path, file.sha256) for one in known):
            continue
        copy = _copy_name(file, [one.copy for one in known])
        write_bytes(folder / copy, content_of(file))
        known = [*known, Recorded(file.path, file.sha256, copy, file.module)]
    listed = [{key: value for key, value in asdict(one).items() if value is not None} for one in known]
    write_text(folder / LIST, json.dumps(listed, indent=2) + "\n")


def _copy_name(file: PartsFile, taken: Sequence[str]) -> str:
    stem = re.sub(r"[^\w-]", "_", Path(file.path).stem)[:100]
    return f"{stem}.py" if f"{stem}.py" not in taken else f"{stem}.{file.sha256[:8]}.py"


def read_parts(run: Run) -> list[Recorded]:
    """The parts files that a run recorded, in order; none where it has no list. Errors: BadRunError."""
    path = run.file(FOLDER) / LIST
    if not is_taken(run.file(FOLDER)):
        return []
    if run.file(FOLDER).is_symlink():
        raise BadRunError(f"{run.file(FOLDER)}: is a symbolic link; a run's files are in its own directory")
    try:
        values = read_json(path, MAX_LIST_BYTES)
        if not isinstance(values, list) or len(values) > MOST_FILES:
            raise ValueError("it is not a short list")
        return [_recorded(Fields(one, "a file")) for one in values]
    except MissingFileError:
        return []
    except ValueError as error:
        raise BadRunError(f"{path}: not a list of parts files ({error})") from None


def _recorded(values: Fields) -> Recorded:
    """Errors: ValueError."""
    copy = values.text("copy")
    if not COPY_NAME.fullmatch(copy):
        raise ValueError("a copy is no plain name")
    file = parts_file(values)
    return Recorded(file.path, file.sha256, copy, file.module, values.values.get("earlier") is True or None)


def unregistered(config: Config, trains: bool) -> list[str]:
    """The parts of a config that are not registered, as GROUP=NAME; `trains`: with those that only training needs."""
    found = [
        f"{group}={getattr(config, group).name}"
        for group in GROUPS
        if isinstance(getattr(config, group, None), Unregistered)
    ]
    if not trains:
        return found
    for key in SELECTIONS:
        found += [f"{key}={name}" for name, part in getattr(config, key) if isinstance(part, Unregistered)]
    return [*found, *(f"metrics={name}" for name in config.metrics if name not in names("metric"))]


def check_parts(
    run: Run, config: Config, warn: Callable[[str], None], trains: bool = False, groups: Collection[str] = GROUPS
) -> None:
    """Check that the run's own parts of these groups are registered, and warn if a parts file differs from the one that
    the run was trained with.

    Errors: BadRunError with the command to type, or if parts/ cannot be read.
    """
    missing = [option for option in unregistered(config, trains) if trains or option.partition("=")[0] in groups]
    if any(f"{group}={name}" in missing for group, name in GIVEN.items()):
        raise BadRunError(why_not_here(run.path, config))
    if missing:
        raise _missing(run, missing)
    if not in_use() or not has_own(config):
        return
    sums = {file.sha256 for file in in_use()}
    for one in _last(read_parts(run)):
        if one.sha256 in sums:
            continue
        named = [file for file in in_use() if Path(file.path).name == Path(one.path).name]
        file = next(iter(named or in_use()))
        warn(
            f"{display_path(Path(file.path))}: has SHA-256 {file.sha256}, but {run.path} was trained with {one.sha256} "
            f"(copy: {run.file(FOLDER) / one.copy})"
        )


def _missing(run: Run, missing: Sequence[str]) -> MissingPartsError:
    """What to say of parts that are not registered: which file has them, and where the copy is."""
    files = _last(read_parts(run))
    what = f"{run.path}: {', '.join(missing)}: not registered"
    if not files:
        return MissingPartsError(f"{what}, and {FOLDER}/{LIST} names no file; give the one that registers it", [])
    copies = ", ".join(f"{printed(one.path)} (copy: {run.file(FOLDER) / one.copy})" for one in files)
    return MissingPartsError(f"{what}; it was in {copies}", flags_of(run))


def parts_words(run: Run) -> str:
    """What a command on a run with the user's own parts needs, for a shell, with a space before each word."""
    try:
        return "".join(f" {shlex.quote(word)}" for word in flags_of(run))
    except BadRunError:
        return ""


def flags_of(run: Run) -> list[str]:
    """`--parts FILE` for each file that a run was last trained with. Errors: BadRunError."""
    return [word for one in _last(read_parts(run)) for word in (FLAG, one.module or one.path)]


def _last(files: Sequence[Recorded]) -> list[Recorded]:
    """Those that the run was last trained with."""
    return [one for one in files if not one.earlier]


def has_own(config: Config) -> bool:
    """Whether a config has parts of the user's own, whose files are in use."""
    chosen = [(group, getattr(getattr(config, group, None), "name", "")) for group in GROUPS]
    for key, selection in SELECTIONS.items():
        chosen += [(selection.group, name) for name, _ in getattr(config, key)]
    chosen += [("metric", name) for name in config.metrics]
    return any(name in own_parts(group) for group, name in chosen)
