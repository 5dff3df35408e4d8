"""The runs and sweeps of a folder, read by a background thread and read again when their files change."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from mnist_ff.analysis.console import warning
from mnist_ff.analysis.run_list import Entry
from mnist_ff.errors import BadRunError, first_line, of_the_machine
from mnist_ff.runs.find import JOBS, is_sweep, may_be_run, runs_and_sweeps, runs_below
from mnist_ff.runs.lock import is_locked
from mnist_ff.runs.search_result import SEARCH
from mnist_ff.serve.live import WATCHED, signature

PAUSE_S = 2.0
"""Least seconds between two scans of the folder."""
PAUSE_FACTOR = 10
"""The pause after a scan is at least this many times the scan's duration. So, after the first scan, at most
1 / PAUSE_FACTOR of one core is used: runs may be training on the same machine. The same holds for updates of the list
during the first scan."""
KEEP_FRESH_S = 10.0
"""Seconds after the last request for which the list is kept up to date."""
FIRST_PAGE = 100
"""The list is shown for the first time when this many of the newest runs have been read."""
SHOWN_EVERY_S = 0.25
"""Least seconds between two later updates of the list during the first scan."""
ID_LENGTH = 20
SWEEP_FILES = (JOBS, SEARCH, "labels.json")
RUN_FILES = (*WATCHED, "labels.json")


def id_of(path: Path) -> str:
    """The id of a run or sweep in URLs: a hash of its path. Requests hold no paths, so none can leave the folder."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:ID_LENGTH]


class Listing:
    """The list of a folder's runs and sweeps, and how much of the folder has been read."""

    def __init__(self, folder: Path) -> None:
        self.root = Path(os.path.realpath(folder))
        self.entries: tuple[Entry, ...] = ()
        """The runs and sweeps that have been read, newest first."""
        self.version = 0
        """Increases whenever the list changes."""
        self.found = self.read = 0
        """Runs and sweeps found by the scan in progress or the last one, and how many of them it has checked."""
        self.complete = False
        """Whether the first scan is done."""
        self._kept: dict[Path, tuple[Any, Entry]] = {}
        self._paths: dict[str, Path] = {}
        self._asked, self._wake = 0.0, threading.Event()
        self._said: set[str] = set()

    def start(self) -> None:
        """Start scanning in a daemon thread."""
        threading.Thread(target=self._keep_reading, name="listing", daemon=True).start()

    def note_request(self) -> None:
        """Note that the list was requested: the thread keeps it up to date for KEEP_FRESH_S."""
        self._asked = time.monotonic()
        self._wake.set()

    def path(self, word: str) -> Path | None:
        """The path with this id, None if there is none or if a symbolic link leads out of the folder."""
        found = self._paths.get(word)
        return found if found is not None and self.holds(found) else None

    def holds(self, path: Path) -> bool:
        """Whether a path lies in the folder after all symbolic links are resolved."""
        return Path(os.path.realpath(path)).is_relative_to(self.root)

    def _keep_reading(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self.scan()
            except Exception as error:  # the list stays as it is until the next scan
                self._report(error)
            time.sleep(max(PAUSE_S, PAUSE_FACTOR * (time.monotonic() - began) if self.complete else 0))
            self._wake.clear()
            if time.monotonic() - self._asked > KEEP_FRESH_S:
                self._wake.wait()

    def _report(self, error: Exception) -> None:
        """Print an error to the terminal, each one once."""
        said = of_the_machine(error)
        text = said[0] if said else f"{type(error).__name__}: {first_line(error)}"
        if text not in self._said:
            self._said.add(text)
            warning(f"the list could not be read: {text}")

    def scan(self) -> None:
        """Scan the folder once: read runs and sweeps that are new or changed, drop those that have gone."""
        found, jobs = self._found()
        self.found, self.read = len(found), 0
        there = {path for path, _ in found}
        changed = [path for path in self._kept if path not in there]
        for path in changed:
            del self._kept[path]
        show_at, page = time.monotonic() + SHOWN_EVERY_S, min(FIRST_PAGE, len(found))
        for path, sweep in found:
            seen = _sweep_state(path, jobs[path]) if sweep else _run_state(path)
            kept = self._kept.get(path)
            if kept is None or kept[0] != seen or kept[1].sweep != sweep:
                self._keep(path, sweep, seen)
                changed.append(path)
            self.read += 1
            now = time.monotonic()
            if not self.complete and (now > show_at or self.read == page):
                self._show()
                show_at = time.monotonic() + max(SHOWN_EVERY_S, PAUSE_FACTOR * (time.monotonic() - now))
        if changed or not self.complete:
            self.complete = True
            self._show()

    def _keep(self, path: Path, sweep: bool, seen: Any) -> None:
        try:
            self._kept[path] = seen, self._entry(path, sweep)
        except BadRunError:  # removed since the scan found it
            self._kept.pop(path, None)

    def _entry(self, path: Path, sweep: bool) -> Entry:
        """An entry with everything that the list shows already read, without jobs that are links out of the folder."""
        entry = Entry(path, sweep)
        _ = entry.began, entry.rows, entry.name, entry.labels  # in this order: a name is one of the rows' values
        if sweep and not all(self.holds(row.path) for row in entry.rows if row.path.is_symlink()):
            entry.__dict__["rows"] = tuple(row for row in entry.rows if self.holds(row.path))
        return entry

    def _found(self) -> tuple[list[tuple[Path, bool]], dict[Path, list[Path]]]:
        """The paths of runs and sweeps, newest names first, each with whether it is a sweep, and the jobs of each
        sweep. Renews the table of ids."""
        found, jobs = _read_folder(self.root)
        found = [(path, sweep) for path, sweep in found if self._is_inside(path, sweep)]
        jobs = {path: [job for job in jobs[path] if self._is_inside(job)] for path, sweep in found if sweep}
        self._paths = {id_of(path): path for path in chain((path for path, _ in found), *jobs.values())}
        return sorted(found, key=lambda one: one[0].name, reverse=True), jobs

    def _is_inside(self, path: Path, sweep: bool = False) -> bool:
        """Whether a found path lies in the folder after links are resolved. The path to a sweep may contain links."""
        return self.holds(path) if sweep or path.is_symlink() else True

    def _show(self) -> None:
        """Publish what has been read as a new version of the list."""
        entries = [entry for _, entry in self._kept.values()]
        self.entries = tuple(sorted(entries, key=lambda entry: entry.began, reverse=True))
        self.version += 1


def _run_state(path: Path) -> tuple[Any, ...]:
    """A value that changes when the run does: the signatures of its files, and whether it is training."""
    stats = tuple(signature(path / name) for name in RUN_FILES)
    ended = stats[RUN_FILES.index("summary.json")] is not None
    return (*stats, not ended and is_locked(path))


def _sweep_state(path: Path, jobs: Sequence[Path]) -> tuple[Any, ...]:
    """A value that changes when the sweep or one of its jobs does."""
    return (*(signature(path / name) for name in SWEEP_FILES), *((job.name, _run_state(job)) for job in jobs))


def _read_folder(root: Path) -> tuple[list[tuple[Path, bool]], dict[Path, list[Path]]]:
    """Runs and sweeps in a folder, which may be one itself, and the jobs of each sweep; nothing if the folder was
    removed or cannot be read."""
    if may_be_run(root):
        return [(root, False)], {}
    try:
        found = [(run, False) for run in runs_below(root)] if is_sweep(root) else list(runs_and_sweeps(root))
    except BadRunError:
        return [], {}
    return found, {path: _jobs_of(path) for path, sweep in found if sweep}


def _jobs_of(sweep: Path) -> list[Path]:
    try:
        return sorted(runs_below(sweep))
    except BadRunError:
        return []
