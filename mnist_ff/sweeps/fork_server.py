"""The process from which others are forked: it imports what they need once. Standard library only.

Signals that a terminal or a scheduler sends to all processes at once are the first process's alone until it has
imported: one of them would end it with a traceback, and the first process could start no other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.forkserver import ensure_running, set_forkserver_preload
from types import FrameType

FORKS = hasattr(os, "fork")
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
NOT_STARTED = (OSError, EOFError)
"""Errors of a process's start() if the system cannot create another process, or the fork server has ended."""


def context() -> BaseContext:
    """What makes processes: forked from this one, or new ones where the system cannot fork."""
    return multiprocessing.get_context("forkserver" if FORKS else "spawn")


def start(preload: Sequence[str]) -> None:
    """Start it, unless it is running, with these modules; it imports them while this process goes on.

    The first module imports the others within heard_again(). Errors: OSError.
    """
    if not FORKS:
        return
    set_forkserver_preload(list(preload))
    with held_back():
        resource_tracker.ensure_running()  # it gives SIGINT and SIGTERM free again
        with held_back():
            ensure_running()


@contextmanager
def held_back() -> Iterator[None]:
    """Inside the block this thread hears no signals, nor does a process that is started; they come at its end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_here() -> bool:
    """Whether this process is one that start() made, and has not imported yet."""
    return FORKS and set(SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())


@contextmanager
def heard_again() -> Iterator[None]:
    """After the block signals are heard again, but those of the meantime are forgotten.

    Ctrl-C does nothing in what is forked from here until that listens: the first process passes it on.
    """
    try:
        yield
    finally:
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}  # drops one that waits
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGINT, pass_over)


def pass_over(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing; unlike SIG_IGN it keeps nobody from listening later."""
