"""Pictures and pages of a sweep's jobs, made when all have ended: the ranking comes first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from mnist_ff.analysis.rows import GOOD, Row
from mnist_ff.config.own_parts import in_use
from mnist_ff.config.paths import display_path
from mnist_ff.engine.cores import cores_here
from mnist_ff.errors import MnistError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.signals import interruptible
from mnist_ff.session.drawing import complete, left_out
from mnist_ff.session.messages import logging_to
from mnist_ff.session.resume import saved_config
from mnist_ff.sweeps import fork_server

if TYPE_CHECKING:
    from rich.console import Console

PRELOAD = ("mnist_ff.sweeps.drawing_preload",)
RUNS_OF_A_HELPER, MOST_HELPERS = 5, 7
"""Runs for each other process that draws too, which takes as long to start as three of them; and the most of these."""


def draw_jobs(rows: Sequence[Row], say: Callable[[str], None], console: Console) -> int:
    """Make the pictures and pages that the runs of these rows should have and do not; say a line, and what failed.

    Those that make them themselves, or were made before, cost a look at their files. A bar on the console tells how
    far it is, on a terminal. Returns the exit code of a signal, after which the rest is left out, else 0.
    """
    with interruptible() as stopped:
        runs = [Run(row.path) for row in rows if _should_have(row) and _lacks(Run(row.path), say)]
        if runs and stopped() is None:
            say(f"drawing the pictures of {len(runs)} run{'s' if len(runs) > 1 else ''}")
            with _bar(console, len(runs)) as begun:
                _draw(runs, stopped, begun)
        if stopped() is None:
            for run in runs:
                _lacks(run, say, "could not draw")
        return stopped.exit_code


def _should_have(row: Row) -> bool:
    return row.status in GOOD and row.values.get("trainer.plots") is True


def _lacks(run: Run, say: Callable[[str], None], failed: str = "") -> bool:
    """Whether there is something to make; where that `failed`, or cannot be told, with a warning."""
    try:
        run.check_no_links()
        names = left_out(run, saved_config(run))
    except MnistError as error:
        say(f"warning: {error}")
        return False
    if names and failed:
        say(f"warning: {display_path(run.path)}: {failed} {', '.join(names)}; see its train.log")
    return bool(names)


@contextmanager
def _bar(console: Console, count: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, gone with the block, and the function that tells it how many runs have begun before."""
    if not console.is_terminal:
        yield lambda number: None
        return
    from rich.progress import Progress

    from mnist_ff.runs.progress_line import BAR, Pace, ProgressLine, count_of, eta

    line, pace = ProgressLine(console, ("what", BAR, "run", "left"), ("run", "left", "what", BAR)), Pace()
    with Progress(line, console=console, transient=True) as progress:
        task = progress.add_task("drawing", total=count, facts={})

        def begun(number: int) -> None:
            left = pace.mark(number, count)
            facts = {"what": "drawing", "run": f"run {count_of(number + 1, count)}"}
            facts["left"] = eta(None if left is None else left[1])
            progress.update(task, completed=number, facts=facts)

        yield begun


def _draw(runs: Sequence[Run], stopped: Callable[[], object], begun: Callable[[int], None]) -> None:
    """Draw them all: in this process and, where it pays, in others. A user's own parts stay in this one."""
    helpers = 0 if in_use() else min(cores_here() - 1, len(runs) // RUNS_OF_A_HELPER, MOST_HELPERS)
    context: Any = fork_server.context()
    taken = None
    with suppress(OSError, ImportError):  # a machine without shared memory
        if helpers > 0:
            fork_server.start(PRELOAD)
            taken = context.Value("i", 0)
    if taken is None:
        _draw_each(enumerate(runs), stopped, begun)
        return
    shared = _Shared(tuple(runs), taken)
    with _helping(context, helpers, shared) as processes:
        _draw_each(shared, stopped, begun)
        while stopped() is None and any(process.is_alive() for process in processes):
            wait([process.sentinel for process in processes if process.is_alive()], 0.1)
        if any(process.exitcode for process in processes):  # one was killed
            _draw_each(enumerate(runs), stopped)


def _draw_each(
    runs: Iterable[tuple[int, Run]], stopped: Callable[[], object], begun: Callable[[int], None] = lambda number: None
) -> None:
    """One run after another, each with its number. What fails is in its train.log."""
    for number, run in runs:
        if stopped() is not None:
            return
        begun(number)
        with suppress(MnistError, OSError), logging_to(run.file("train.log")):
            complete(run, saved_config(run), lambda text: None, stopped=stopped)


@dataclass(frozen=True)
class _Shared:
    """Runs of which each goes to one of several processes, the first that asks."""

    runs: tuple[Run, ...]
    taken: Any
    """How many have gone, in memory that the processes share."""

    def __iter__(self) -> Iterator[tuple[int, Run]]:
        """Those that this process gets, each with its number."""
        while True:
            with self.taken.get_lock():
                number = self.taken.value
                self.taken.value += 1
            if number >= len(self.runs):
                return
            yield number, self.runs[number]


@contextmanager
def _helping(context: Any, count: int, shared: _Shared) -> Iterator[list[Any]]:
    """Other processes at the same work, which end with the block."""
    processes = []
    try:
        with suppress(*fork_server.NOT_STARTED):  # this process does it all
            for _ in range(count):
                process = context.Process(target=_help, args=(shared, os.getcwd()), daemon=True)
                with fork_server.held_back():  # one that is not known yet could not be ended
                    process.start()
                    processes.append(process)
        yield processes
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _help(shared: _Shared, folder: str) -> None:
    """In another process: draw until nothing is left, or the first one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends this by the first one
    signal.signal(signal.SIGTERM, lambda *given: sys.exit())  # no file is left half written
    os.chdir(folder)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel
    _draw_each(shared, lambda: wait([sentinel], 0) or None)
