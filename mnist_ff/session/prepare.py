"""What the train command and `mnist_ff.train()` share: the directory of a new run, and the config of a resumed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnist_ff.config.convert import flat
from mnist_ff.config.float32 import check_float32
from mnist_ff.config.schema import Config
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.files import write_texts
from mnist_ff.runs.directory import Run
from mnist_ff.runs.parts import check_parts
from mnist_ff.session.resume import own_places, resumed_config, saved_config
from mnist_ff.session.threads import with_number
from mnist_ff.session.validate import check


def check_is_new(directory: Path) -> None:
    """Errors: ConfigError if something is there already."""
    if directory.exists():
        raise ConfigError(f"{directory}: already exists; two runs never share a directory")


def write_overrides(run: Run, files: Mapping[str, str], remedy: str) -> None:
    """Write the files of the run's `.hydra/`. Errors: RunError, which ends with `remedy`."""
    try:
        write_texts(run.file(".hydra"), files)
    except OSError as error:
        raise RunError(f"{error.filename or run.path}: {error.strerror or error}; {remedy}") from None


class Resumption(NamedTuple):
    """How a run continues."""

    config: Config
    changes: dict[str, Any]
    """The changed keys with their new values."""
    warnings: list[str]


def resumption(run: Run, values: Mapping[str, Any], warn: Callable[[str], None]) -> Resumption:
    """How a run continues with these values, by dotted key, changed. `warn` hears of the user's own parts.

    Errors: ConfigError, BadRunError.
    """
    check_float32(flat(values))
    saved = saved_config(run)
    check_parts(run, saved, warn, trains=True)
    own, said = own_places(run, values)
    config, changes, warnings = resumed_config(run, with_number(saved, {**own, **values}))
    check(config)
    return Resumption(config, changes, [*said, *warnings])
