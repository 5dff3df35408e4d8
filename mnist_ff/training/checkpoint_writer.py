"""Checkpoints are written while training goes on, by a thread: one at a time."""

from __future__ import annotations

import dataclasses
import os
import threading
from types import TracebackType
from typing import Self

import torch

from mnist_ff.errors import Stopped
from mnist_ff.runs.directory import Run
from mnist_ff.training.checkpoint import TrainingState, saving_checkpoint
from mnist_ff.training.snapshot import Snapshots

COPIED = frozenset({"cuda", "mps"})
"""Kinds of training devices whose state is copied, so that training waits for nothing else. On a CPU the thread would
take a core from the step for as long as training would wait: there it goes on when only the disk is waited for."""
PATIENCE_S = 1.0
"""Seconds that a second signal gives a save to notice that it is given up; a disk that hangs takes longer."""


class CheckpointWriter:
    """Saves checkpoints one after the other.

    All methods belong to the training thread, and a save is a row of them: wait(), held(), sync() for each file that
    the checkpoint counts on, write(). An error of the thread is raised by the next wait(). At the end of the block all
    is written; a second signal gives up what is not, and the checkpoint before stays.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self._run = run
        self._snapshots = Snapshots() if device.type in COPIED else None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._to_sync: list[int] = []
        self._aside = threading.Event()  # the state is in a file, which is not in its place yet
        self._ended = threading.Event()  # a signal that interrupts Thread.join() makes later ones return at once
        self._given_up = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
            elif not isinstance(error, Stopped | KeyboardInterrupt):
                self._join()
        finally:
            self._give_up()
            _close(self._to_sync)

    def wait(self) -> None:
        """Until the checkpoint before is in its place, or has failed. Errors: OSError, and any of torch.save()."""
        self._join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def held(self, state: TrainingState) -> TrainingState:
        """The state as write() takes it. The checkpoint before must be written: its copy is written over."""
        if self._snapshots is None:
            return state
        learner, best = self._snapshots.take((state.learner, state.best))
        return dataclasses.replace(state, learner=learner, best=best)

    def sync(self, descriptor: int) -> None:
        """See that an open file, as it is now, survives a power cut before the next checkpoint is in its place."""
        self._to_sync.append(os.dup(descriptor))

    def write(self, state: TrainingState) -> None:
        """Save a state that is held. When this returns, training may change what it was made of. Errors: as wait()."""
        self._aside.clear()
        self._ended.clear()
        self._thread = threading.Thread(target=self._work, args=(state,), name="checkpoint", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system has no room for another one
            self._thread = None
            self._save(state)
            return
        if self._snapshots is None:
            self._aside.wait()
            if self._failure is not None:
                self.wait()

    def _work(self, state: TrainingState) -> None:
        """In the thread. Signals never interrupt it."""
        try:
            self._save(state)
        except BaseException as error:  # it is the training thread's to raise
            self._failure = error
        finally:
            self._aside.set()
            self._ended.set()

    def _save(self, state: TrainingState) -> None:
        with saving_checkpoint(self._run, state, self._given_up.is_set):
            self._aside.set()
            self._sync_all()

    def _sync_all(self) -> None:
        descriptors, self._to_sync = self._to_sync, []
        try:
            for descriptor in descriptors:
                os.fsync(descriptor)
        finally:
            _close(descriptors)

    def _join(self) -> None:
        if self._thread is not None:
            if self._thread.ident is not None:  # it was started
                self._ended.wait()
                self._thread.join()
            self._thread = None

    def _give_up(self) -> None:
        """Have the thread end without a checkpoint, unless it has ended already."""
        if self._thread is not None:
            self._given_up.set()
            self._ended.wait(PATIENCE_S)


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
