"""Draw the plots and reports of a sweep's jobs when all have ended, after the ranking."""

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
RUNS_PER_HELPER, MAX_HELPERS = 5, 7
"""Runs for each further process that draws, and the maximum number of such processes. Starting one takes as long as
drawing three runs."""


def draw_jobs(rows: Sequence[Row], say: Callable[[str], None], console: Console) -> int:
    """Draw the plots and reports that the runs of these rows lack, with a progress bar and warnings of what failed.

    For complete runs only their files are looked at. Returns 0, or the exit code of a signal, after which no further
    run is drawn.
    """
    with interruptible() as stopped:
        runs = [Run(row.path) for row in rows if _should_have(row) and _is_incomplete(Run(row.path), say)]
        if runs and stopped() is None:
            say(f"drawing the pictures of {len(runs)} run{'s' if len(runs) > 1 else ''}")
            with _bar(console, len(runs)) as begun:
                _draw(runs, stopped, begun)
        if stopped() is None:
            for run in runs:
                _is_incomplete(run, say, "could not draw")
        return stopped.exit_code


def _should_have(row: Row) -> bool:
    return row.status in GOOD and row.values.get("trainer.plots") is True


def _is_incomplete(run: Run, say: Callable[[str], None], failed: str = "") -> bool:
    """Whether a run lacks plots or its report. Warns of them if `failed`, and if the run cannot be read."""
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
    """A progress bar on a terminal, removed after the block. Yields a function that takes the number of runs done."""
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
    """Draw all runs in this process and, if there are many, in others, too. Users' own parts are drawn only here."""
    helpers = 0 if in_use() else min(cores_here() - 1, len(runs) // RUNS_PER_HELPER, MAX_HELPERS)
    context: Any = fork_server.context()
    taken = None
    with suppress(OSError, ImportError):  # a machine without shared memory
        if helpers > 0:
            fork_server.start(PRELOAD)
            taken = context.Value("i", 0)
    if taken is None:
        _draw_each(enumerate(runs), stopped, begun)
        return
    queue = _Queue(tuple(runs), taken)
    with _helpers(context, helpers, queue) as processes:
        _draw_each(queue, stopped, begun)
        while stopped() is None and any(process.is_alive() for process in processes):
            wait([process.sentinel for process in processes if process.is_alive()], 0.1)
        if any(process.exitcode for process in processes):  # one was killed
            _draw_each(enumerate(runs), stopped)


def _draw_each(
    runs: Iterable[tuple[int, Run]], stopped: Callable[[], object], begun: Callable[[int], None] = lambda number: None
) -> None:
    """Draw numbered runs one after another. Errors go to the run's train.log."""
    for number, run in runs:
        if stopped() is not None:
            return
        begun(number)
        with suppress(MnistError, OSError), logging_to(run.file("train.log")):
            complete(run, saved_config(run), lambda text: None, stopped=stopped)


@dataclass(frozen=True)
class _Queue:
    """Runs for several processes: each run is given to one of them."""

    runs: tuple[Run, ...]
    taken: Any
    """How many runs are taken, in shared memory."""

    def __iter__(self) -> Iterator[tuple[int, Run]]:
        """Take runs, each with its number, until none is left."""
        while True:
            with self.taken.get_lock():
                number = self.taken.value
                self.taken.value += 1
            if number >= len(self.runs):
                return
            yield number, self.runs[number]


@contextmanager
def _helpers(context: Any, count: int, queue: _Queue) -> Iterator[list[Any]]:
    """Further processes that draw. They are ended at the end of the block."""
    processes = []
    try:
        with suppress(*fork_server.NOT_STARTED):  # without helpers this process draws everything
            for _ in range(count):
                process = context.Process(target=_work, args=(queue, os.getcwd()), daemon=True)
                with fork_server.held_back():  # a signal here would leave a process that is not in the list
                    process.start()
                    processes.append(process)
        yield processes
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(queue: _Queue, folder: str) -> None:
    """In a helper process: draw until no run is left, or the parent process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends this process
    signal.signal(signal.SIGTERM, lambda *given: sys.exit())  # SystemExit runs the cleanup of half-written files
    os.chdir(folder)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel
    _draw_each(queue, lambda: wait([sentinel], 0) or None)
