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
from mnist_ff.runs.reading import is_file, is_folder, listed, opened, written_at

OUTPUTS = Path("outputs")
"""Where runs go, unless hydra.run.dir says another place."""
JOBS = "jobs.json"
SWEEP_FILES = (JOBS, "multirun.yaml")
"""A directory with one of these files is a sweep's."""
MAX_DEPTH = 4
"""Folders below a sweep's or outputs/ in which a run may lie."""
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
        yield from _runs_in(listed(path), depth)


def _runs_in(entries: Iterable[Path], depth: int) -> Iterator[Path]:
    for folder in entries:
        if folder.name.startswith(".") or not is_folder(folder):
            continue
        if may_be_run(folder):
            yield folder
        elif depth > 1 and not folder.is_symlink():
            try:
                inner = listed(folder)
            except BadRunError:
                yield folder
                continue
            yield from _runs_in(inner, depth - 1)


def may_be_run(folder: Path) -> bool:
    """Whether a folder has a config.yaml, of whatever kind, or cannot be asked."""
    try:
        os.lstat(folder / "config.yaml")
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


def sweeps_below(folder: Path, depth: int = 2) -> list[Path]:
    """Sweep directories in a folder, or one level below it as in outputs/sweeps/."""
    try:
        entries = listed(folder)
    except BadRunError:  # runs_below() names it
        return []
    folders = [path for path in entries if path.name[0] != "." and is_folder(path) and not may_be_run(path)]
    deeper = [sweep for path in folders if depth > 1 and not is_sweep(path) for sweep in sweeps_below(path, depth - 1)]
    return [path for path in folders if is_sweep(path)] + deeper


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
        with opened(path) as file:
            found = re.search(rb'"started"\s*:\s*"([0-9TZ:.+-]{1,40})"', file.read(START_BYTES))
        moment = datetime.fromisoformat(found[1].decode()) if found else None
    except (BadRunError, ValueError):
        return None
    if moment is None or moment.utcoffset() is None:
        return None
    seconds = (moment - UNIX_EPOCH).total_seconds()
    return seconds if 0 < seconds < time.time() + CLOCK_SKEW_S else None
