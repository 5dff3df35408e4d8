"""The runs and sweeps of a folder, kept as they were read until their files change, by a thread of its own."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_ff.analysis.console import warning
from mnist_ff.analysis.run_list import Entry
from mnist_ff.errors import BadRunError, first_line, of_the_machine
from mnist_ff.runs.find import JOBS, is_sweep, may_be_run, runs_below, sweeps_below
from mnist_ff.runs.lock import is_locked
from mnist_ff.runs.search_result import SEARCH
from mnist_ff.serve.live import WATCHED, signature

PAUSE_S = 2.0
"""Between two looks at the files, while somebody reads the list; where a look takes long, EASE times as long."""
EASE = 10
"""At most a share of 1 / EASE of one core is taken, once all is read: runs train on the same machine."""
LOOKED_AT_S = 10.0
"""For how long after a question the list is kept up to date."""
SHOWN_EVERY_S = 0.25
"""While the runs are read for the first time."""
ID_LETTERS = 20
OF_SWEEP = (JOBS, SEARCH, "labels.json")
OF_RUN = (*WATCHED, "labels.json")


def id_of(path: Path) -> str:
    """By which a page asks for a run: never by its path, so that a name can lead nowhere."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:ID_LETTERS]


class Listing:
    """The list of a folder, and how far it is read."""

    def __init__(self, folder: Path) -> None:
        self.root = Path(os.path.realpath(folder))
        self.entries: tuple[Entry, ...] = ()
        """Those that are read, the newest first."""
        self.version = 0
        """Another number whenever the list has changed."""
        self.found = self.read = 0
        self.complete = False
        """Whether all that was found has been read once."""
        self._kept: dict[Path, tuple[Any, Entry]] = {}
        self._paths: dict[str, Path] = {}
        self._asked, self._wake = 0.0, threading.Event()
        self._said: set[str] = set()

    def start(self) -> None:
        """Begin to read, in a thread that ends with the process."""
        threading.Thread(target=self._keep_reading, name="listing", daemon=True).start()

    def looked_at(self) -> None:
        """Somebody reads the list."""
        self._asked = time.monotonic()
        self._wake.set()

    def path(self, word: str) -> Path | None:
        """The run or sweep of an id, None where the list has none; links that lead out of the folder are not in it."""
        found = self._paths.get(word)
        return found if found is not None and self.holds(found) else None

    def holds(self, path: Path) -> bool:
        """Whether a path lies in the folder, whatever links are on the way."""
        return Path(os.path.realpath(path)).is_relative_to(self.root)

    def _keep_reading(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self.scan()
            except Exception as error:  # the list stays as it is until the next look
                self._complain(error)
            time.sleep(max(PAUSE_S, EASE * (time.monotonic() - began) if self.complete else 0))
            self._wake.clear()
            if time.monotonic() - self._asked > LOOKED_AT_S:
                self._wake.wait()

    def _complain(self, error: Exception) -> None:
        """Say once in the terminal what went wrong."""
        said = of_the_machine(error)
        text = said[0] if said else f"{type(error).__name__}: {first_line(error)}"
        if text not in self._said:
            self._said.add(text)
            warning(f"the list could not be read: {text}")

    def scan(self) -> None:
        """Read what is new or has changed."""
        found = list(self._found())
        self.found, self.read = len(found), 0
        there = {path for path, _ in found}
        changed = [path for path in self._kept if path not in there]
        for path in changed:
            del self._kept[path]
        shown = time.monotonic()
        for path, sweep in found:
            seen = _sweep_state(path) if sweep else _run_state(path)
            kept = self._kept.get(path)
            if kept is None or kept[0] != seen or kept[1].sweep != sweep:
                self._keep(path, sweep, seen)
                changed.append(path)
            self.read += 1
            if not self.complete and time.monotonic() - shown > SHOWN_EVERY_S:
                self._show()
                shown = time.monotonic()
        if changed or not self.complete:
            self.complete = True
            self._show()

    def _keep(self, path: Path, sweep: bool, seen: Any) -> None:
        try:
            self._kept[path] = seen, self._entry(path, sweep)
        except BadRunError:  # it went meanwhile
            self._kept.pop(path, None)

    def _entry(self, path: Path, sweep: bool) -> Entry:
        """An entry with all that the list shows of it. The jobs of a sweep that are links out of the folder are not."""
        entry = Entry(path, sweep)
        _ = entry.began, entry.rows, entry.name, entry.labels
        if sweep and not all(self.holds(row.path) for row in entry.rows if row.path.is_symlink()):
            entry.__dict__["rows"] = tuple(row for row in entry.rows if self.holds(row.path))
        return entry

    def _found(self) -> Iterator[tuple[Path, bool]]:
        """The paths of runs and sweeps, the newest names first, and whether each is a sweep; ids for all of them."""
        if may_be_run(self.root):
            runs, sweeps = [self.root], []
        else:
            sweeps = [] if is_sweep(self.root) else [path for path in sweeps_below(self.root) if self.holds(path)]
            try:
                runs = [path for path in runs_below(self.root) if not path.is_symlink() or self.holds(path)]
            except BadRunError:  # it has gone, or may not be read: nothing is found
                runs = []
        whole = set(sweeps)
        self._paths = {id_of(path): path for path in (*runs, *sweeps)}
        apart = [(path, False) for path in runs if not whole.intersection(path.parents)]
        yield from sorted([*apart, *((path, True) for path in sweeps)], key=lambda one: one[0].name, reverse=True)

    def _show(self) -> None:
        """Make the list of what is read."""
        entries = [entry for _, entry in self._kept.values()]
        self.entries = tuple(sorted(entries, key=lambda entry: entry.began, reverse=True))
        self.version += 1


def _run_state(path: Path) -> tuple[Any, ...]:
    """What changes when a run does."""
    stats = tuple(signature(path / name) for name in OF_RUN)
    ended = stats[OF_RUN.index("summary.json")] is not None
    return (*stats, not ended and is_locked(path))


def _sweep_state(path: Path) -> tuple[Any, ...]:
    """What changes when a sweep or one of its jobs does."""
    try:
        jobs = sorted(runs_below(path))
    except BadRunError:
        jobs = []
    return (*(signature(path / name) for name in OF_SWEEP), *((job.name, _run_state(job)) for job in jobs))
