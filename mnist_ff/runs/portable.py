"""Copy a run or sweep directory for sharing: without paths, seals, locks and logs of this machine.

Only the files listed here are copied. Paths in config.yaml, environment.json and jobs.json are cut to their last
component; no command needs them to open a run of another machine.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.config.legacy import with_legacy_keys
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import plain_yaml, yaml_values
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.directory import AUGMENTED, CHECKPOINT, HIDDEN, MAX_YAML_BYTES, PREDICTIONS
from mnist_ff.runs.find import JOBS, is_sweep, runs_below
from mnist_ff.runs.jobs import SweepPlan, read_plan, write_plan
from mnist_ff.runs.labels import LABELS
from mnist_ff.runs.parts import FOLDER, LIST
from mnist_ff.runs.reading import is_file, is_folder, listed, read_bytes, read_json
from mnist_ff.runs.search_result import SEARCH
from mnist_ff.runs.tables import BATCHES, EPOCHS

COPIED = (BATCHES, EPOCHS, CHECKPOINT, "model.safetensors", PREDICTIONS, HIDDEN, AUGMENTED, LABELS)
"""Files that are copied unchanged."""
CLEANED = ("environment.json", "evaluation.json", "summary.json", SEARCH)
"""JSON files that are copied with `cleaned` values."""
FOLDERS = {"plots": {".png", ".svg", ".pdf"}, FOLDER: {".py"}}
"""Folders that are copied, with the suffixes of the files to copy."""
SWEEP_FILES = ("sweep.png",)
LEFT_OUT = (
    "checkpoint.previous.pt, git.diff, train.log, .hydra/, .lock, files of trackers, seals; paths, host and user names"
)
"""What is not copied, as text for the user."""
OMITTED_KEYS = {"places", "seal", "hostname", "user", "cwd", "repository"}
"""Keys of JSON objects that are left out, at any level."""
PATHS = re.compile(r"(?<![\w.:/])(?:~|[A-Za-z]:)?/(?:[^\s'\"<>|,;:=()\[\]{}/]+/)*[^\s'\"<>|,;:=()\[\]{}/]+")
"""An absolute path in a text."""
LOGIN = re.compile(r"(?<=://)[^\s/?#'\"]*@")
"""The user and password in a URL."""


def copy_portable(source: Path, target: Path) -> None:
    """Copy a run or sweep directory to a new folder for sharing. Symbolic links are not followed.

    Errors: BadRunError for a directory that cannot be read; OSError.
    """
    target.mkdir(parents=True)
    if is_sweep(source):
        plan = read_plan(source) if is_file(source / JOBS) else None
        if plan is not None:
            write_plan(target, _plan(plan))
        for name in (*SWEEP_FILES, LABELS):
            _copy_file(source / name, target / name)
        _clean_json(source / SEARCH, target / SEARCH)
        for run in runs_below(source):
            if not run.is_symlink():
                _copy_run(run, target / run.relative_to(source))
    else:
        _copy_run(source, target)


def _copy_run(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.yaml").write_text(_config_text(source / "config.yaml"), encoding="utf-8")
    for name in COPIED:
        _copy_file(source / name, target / name)
    for name in CLEANED:
        _clean_json(source / name, target / name)
    for folder, kinds in FOLDERS.items():
        if is_folder(source / folder) and not (source / folder).is_symlink():
            (target / folder).mkdir()
            for path in listed(source / folder):
                if path.name == LIST and folder == FOLDER:
                    _clean_parts(path, target / folder / path.name)
                elif path.suffix in kinds:
                    _copy_file(path, target / folder / path.name)


def _copy_file(source: Path, target: Path) -> None:
    if is_file(source):
        shutil.copyfile(source, target, follow_symlinks=False)


def _clean_json(source: Path, target: Path) -> None:
    if is_file(source):
        target.write_text(json.dumps(cleaned(read_json(source)), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _clean_parts(source: Path, target: Path) -> None:
    """Copy the list of a run's parts files, with the last component of each path."""
    values = read_json(source)
    for one in values if isinstance(values, list) else ():
        if isinstance(one, dict) and isinstance(one.get("path"), str):
            one["path"] = f"/{PurePosixPath(one['path']).name}"
    target.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _config_text(path: Path) -> str:
    """The text of a config.yaml without paths. Errors: BadRunError."""
    try:
        values = yaml_values(path, read_bytes(path, MAX_YAML_BYTES))
        if not isinstance(values, dict):
            raise BadRunError(f"{path}: is not a run's config")
        return plain_yaml(_without_paths(values))
    except ConfigError as error:
        raise BadRunError(str(error)) from None


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    """A config's values without paths, trackers and callbacks; `--config-of` reads it."""
    kept = {key: value for key, value in values.items() if key not in ("logger", "callbacks")}
    data, trainer = dict(kept.get("data") or {}), dict(kept.get("trainer") or {})
    if "root" in data:
        data["root"] = None
    if "mirrors" in data:
        data["mirrors"] = []
    for group, key in ((data, "path"), (trainer, "teacher")):
        if isinstance(group.get(key), str):
            group[key] = PurePosixPath(group[key]).name
    return {**kept, "data": data, "trainer": trainer}


def _plan(plan: SweepPlan) -> SweepPlan:
    """A sweep's plan without paths. It is written without seals, and with new digests."""
    jobs = tuple(
        dataclasses.replace(job, config=_config(job.config), overrides=_words(job.overrides), own=False)
        for job in plan.jobs
    )
    files = tuple(dataclasses.replace(file, path=f"/{PurePosixPath(file.path).name}") for file in plan.parts)
    words = _words(plan.overrides)
    return dataclasses.replace(plan, jobs=jobs, overrides=words, own=False, config_dirs=(), parts=files)


def _config(config: Config) -> Config:
    return config_from(with_legacy_keys(_without_paths(config_to_dict(config))), unregistered=True)


def _words(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(clean_text(word) for word in words)


def cleaned(value: Any) -> Any:
    """The values of a JSON file without OMITTED_KEYS, and with each text as `clean_text` makes it."""
    if isinstance(value, dict):
        return {key: cleaned(one) for key, one in value.items() if key not in OMITTED_KEYS}
    if isinstance(value, list):
        return [cleaned(one) for one in value]
    return clean_text(value) if isinstance(value, str) else value


def clean_text(text: str) -> str:
    """A text with absolute paths cut to their last component, without logins and names of this machine and user."""
    text = LOGIN.sub("", text)
    text = PATHS.sub(lambda found: PurePosixPath(found[0]).name, text)
    for name in private_names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "-", text)
    return text


def private_names() -> Iterator[str]:
    """The names of this machine and user, if they are too long to be parts of other words by chance."""
    found = [platform.node()]
    with suppress(KeyError, OSError, ImportError):  # a user without a name
        found.append(getpass.getuser())
    yield from (name for name in found if len(name) > 3 and name not in ("localhost", "root", "user"))


def private_paths() -> list[str]:
    """Paths that must not occur in a shared file: the home folder and the current folder."""
    return [path for path in {os.path.expanduser("~"), os.getcwd()} if len(path) > 1]
