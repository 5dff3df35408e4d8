"""Checkpoints are written by a thread, from a snapshot, while training goes on: one at a time."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import torch

from mnist_ff.errors import Stopped
from mnist_ff.runs.directory import Run
from mnist_ff.training.checkpoint import TrainingState, save_checkpoint
from mnist_ff.training.snapshot import Snapshots

IN_A_THREAD: Mapping[str, bool] = {"cpu": True, "cuda": True, "mps": True}
"""By kind of training device, whether a thread pays."""
PATIENCE_S = 1.0
"""Seconds that a second signal gives a write to notice that it is given up; a disk that hangs takes longer."""


class CheckpointWriter:
    """Saves checkpoints one after the other: what is to be saved is copied, and a thread writes the copy.

    All methods belong to the training thread. An error of the writing thread is raised there, by the next wait(). A
    save is wait(), held(), sync() for each file that the checkpoint counts on, write(). At the end of the block all is
    written, unless it ends by a second signal, which gives the write up: the checkpoint before is whole then.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self._run = run
        self._snapshots = Snapshots() if IN_A_THREAD.get(device.type, False) else None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._to_sync: list[int] = []
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
        """Until the checkpoint before is written, or has failed. Errors: those of save_checkpoint()."""
        self._join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def held(self, state: TrainingState) -> TrainingState:
        """The state as it is now, whatever training does to it afterwards. The one before must be written."""
        if self._snapshots is None:  # it is written before training goes on
            return state
        learner, best = self._snapshots.take((state.learner, state.best))
        return dataclasses.replace(state, learner=learner, best=best)

    def sync(self, descriptor: int) -> None:
        """See that an open file, as it is now, survives a power cut before the next checkpoint is in its place."""
        self._to_sync.append(os.dup(descriptor))

    def write(self, state: TrainingState) -> None:
        """Write a state that is held. Errors: those of save_checkpoint(), where there is no thread."""
        assert self._thread is None, "one at a time"
        if self._snapshots is None:
            self._save(state)
            return
        thread = threading.Thread(target=self._work, args=(state,), name="checkpoint", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no room for another one
            self._save(state)
        else:
            self._thread = thread

    def _work(self, state: TrainingState) -> None:
        """In the thread."""
        try:
            self._save(state)
        except BaseException as error:  # it is the training thread's to raise
            self._failure = error

    def _save(self, state: TrainingState) -> None:
        descriptors, self._to_sync = self._to_sync, []
        try:
            for descriptor in descriptors:
                os.fsync(descriptor)
        finally:
            _close(descriptors)
        save_checkpoint(self._run, state, self._given_up.is_set)

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _give_up(self) -> None:
        """Have the thread end without a checkpoint, unless it has ended already."""
        if self._thread is not None:
            self._given_up.set()
            self._thread.join(PATIENCE_S)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
