"""Find run and sweep directories, and when each began. Reads names and one timestamp, never a config."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from mnist_ff.errors import BadRunError
from mnist_ff.runs.reading import head_of, is_file, is_folder, written_at

OUTPUTS = Path("outputs")
"""Where runs go, unless hydra.run.dir says another place."""
JOBS = "jobs.json"
SWEEP_FILES = (JOBS, "multirun.yaml")
"""A directory with one of these files is a sweep's."""
MAX_DEPTH = 4
"""Folders below a sweep's or outputs/ in which a run may lie."""
SWEEP_DEPTH = 2
"""Levels below a folder in which sweeps are found: they are in outputs/sweeps/."""
START_BYTES = 4096
"""The part of environment.json and jobs.json in which "started" stands."""
UNIX_EPOCH = datetime.fromtimestamp(0, UTC)
CLOCK_SKEW_S = 86_400
"""How far another machine's clock may be ahead."""


def runs_below(path: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Directories with a config.yaml, at any of the first levels: a subdirectory's name may hold a slash.

    Among them those that cannot be looked into, as they may be runs: who reads them says why they are broken.
    Errors: BadRunError where `path` itself, which is there, cannot be listed.
    """
    if is_folder(path):
        yield from (found for found, _ in _walk(_entries(path), depth, 0))


def sweeps_below(folder: Path) -> list[Path]:
    """Sweep directories in a folder, or one level below it as in outputs/sweeps/. Empty for a folder that cannot be
    listed; runs_below() reports why."""
    with suppress(BadRunError):
        return [found for found, _ in _walk(_entries(folder), 0, SWEEP_DEPTH)]
    return []


def runs_and_sweeps(folder: Path) -> Iterator[tuple[Path, bool]]:
    """The runs and sweeps in a folder, without the jobs of these sweeps, in one walk. Pairs of a path and whether it is
    a sweep. Errors: as runs_below()."""
    if is_folder(folder):
        yield from _walk(_entries(folder), MAX_DEPTH, SWEEP_DEPTH)


def _walk(entries: Iterable[os.DirEntry[str]], runs: int, sweeps: int) -> Iterator[tuple[Path, bool]]:
    """Search runs and sweeps in this many levels. Links are followed to a run or sweep."""
    for entry in entries:
        if entry.name.startswith(".") or not _is_folder(entry):
            continue
        if _may_be_run(entry.path):
            if runs:
                yield Path(entry.path), False
            continue
        if sweeps and is_sweep(Path(entry.path)) and os.access(entry.path, os.R_OK):
            yield Path(entry.path), True
            continue
        deeper = runs - 1 if runs and not entry.is_symlink() else 0
        if not deeper and sweeps < 2:
            continue
        try:
            inner = _entries(Path(entry.path))
        except BadRunError:
            if deeper:
                yield Path(entry.path), False
            continue
        yield from _walk(inner, deeper, max(0, sweeps - 1))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, with their types, so that no file needs a stat() call. Errors: BadRunError."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BadRunError(f"{folder}: cannot be listed ({error.strerror})") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False


def may_be_run(folder: Path) -> bool:
    """Whether a folder has a config.yaml, of whatever kind, or cannot be asked."""
    return _may_be_run(os.fspath(folder))


def _may_be_run(folder: str) -> bool:
    try:
        os.lstat(f"{folder}/config.yaml")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def link_of_a_sweep(path: Path) -> Path | None:
    """The first link on the way to a run from the directory of the sweep that it belongs to; None without a sweep."""
    whole = Path(os.path.abspath(path))
    links: list[Path] = []
    for place in (whole, *whole.parents[:MAX_DEPTH]):
        if links and is_sweep(place):
            return links[-1]
        if os.path.islink(place):
            links.append(place)
    return None


def is_sweep(path: Path) -> bool:
    """Whether a sweep made this directory, so that its files belong there; runs may lie below any folder."""
    return any(is_file(path / name) for name in SWEEP_FILES)


def sweep_of(run: Path) -> Path | None:
    """The directory of the sweep that a run belongs to; a job's own may lie some levels below."""
    return next((folder for folder in run.absolute().parents[:MAX_DEPTH] if is_sweep(folder)), None)


def holds_runs(path: Path) -> bool:
    """Whether a path has saved jobs, or runs below it and is none itself."""
    return is_file(path / JOBS) or (not may_be_run(path) and next(runs_below(path), None) is not None)


def run_start(path: Path) -> tuple[float, float]:
    """When a run began, to order runs by, in seconds since 1970, whatever the clock on the wall showed there: as its
    environment.json says, else the time of its config.yaml; that time again tells runs of one second apart."""
    written = written_at(path / "config.yaml")
    started = _started(path / "environment.json")
    return (written if started is None else started), written


def sweep_start(path: Path) -> tuple[float, float]:
    """The same of a sweep: as its jobs.json says, else when the first of its runs began, else its files' own time."""
    jobs, made = SWEEP_FILES
    written = written_at(path / made) or written_at(path / jobs)  # a search writes its jobs again and again
    started = _started(path / jobs)
    if started is None:
        with suppress(BadRunError):  # a folder that cannot be listed
            started = min((run_start(run)[0] for run in runs_below(path)), default=None)
    return (written or written_at(path) if started is None else started), written


def _started(path: Path) -> float | None:
    """A moment near a file's beginning, in seconds since 1970; None for one that has no offset from UTC or that no
    clock can have shown yet."""
    try:
        found = re.search(rb'"started"\s*:\s*"([0-9TZ:.+-]{1,40})"', head_of(path, START_BYTES))
        moment = datetime.fromisoformat(found[1].decode()) if found else None
    except (BadRunError, ValueError):
        return None
    if moment is None or moment.utcoffset() is None:
        return None
    seconds = (moment - UNIX_EPOCH).total_seconds()
    return seconds if 0 < seconds < time.time() + CLOCK_SKEW_S else None
