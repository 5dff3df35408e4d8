"""Each tracker in a thread of its own: one that fails or hangs costs a run nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from mnist_ff.config.registry import part
from mnist_ff.config.schema import LoggerConfig
from mnist_ff.runs.records import BatchRecord, EpochRecord, Plan
from mnist_ff.trackers.base import END_TIMEOUT_S, Beginning, Ending, Tracker
from mnist_ff.trackers.heard import facts_of_files
from mnist_ff.training.callbacks import Callback

HURRIED_END_TIMEOUT_S = 3.0
"""END_TIMEOUT_S after a signal."""
MOST_WAITING = 10_000
"""Chunks that may wait for a tracker; one that is further behind will not catch up."""


def chosen_trackers(config: LoggerConfig) -> list[Tracker]:
    """The trackers that a config chooses and does not turn off; no tool is imported yet."""
    return [part("tracker", name).build(tracker) for name, tracker in config if tracker.off is None]


def tracker_notes(config: LoggerConfig) -> list[str]:
    """What a user should know about the choice, a line each."""
    return [f"{name} is off: {tracker.off}" for name, tracker in config if tracker.off is not None]


Message: TypeAlias = "tuple[BatchRecord, ...] | Callable[[], None] | None"
"""Batches, another fact as a call that tells it, or the end."""


class Tracking(Callback):
    """Hands each chunk's facts to a tracker's thread and never waits for it, but for a while at the end.

    `complain` hears, in the run's own thread, why a tracker is dropped. `since` is the first step that the tracker is
    to have received of a resumed run, which it may have missed; None: only new ones.
    """

    def __init__(
        self, tracker: Tracker, beginning: Beginning, complain: Callable[[str], None], since: int | None = None
    ) -> None:
        self._tracker, self._beginning, self._complain, self._since = tracker, beginning, complain, since
        self._batches: list[BatchRecord] = []
        self._step = 0
        self._messages: queue.Queue[Message] = queue.Queue(MOST_WAITING)
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        try:
            tracker.load()
        except Exception as error:
            self._failure = error

    @property
    def where(self) -> str:
        """The tracker and the place that it writes to, where it names one."""
        return ", ".join(filter(None, (self._tracker.title, self._tracker.place)))

    def on_train_begin(self, plan: Plan) -> None:
        if self._failure is not None:
            self._drop(self._failure)
            return
        self._thread = threading.Thread(target=self._work, name=f"tracker {self._tracker.title}", daemon=True)
        self._thread.start()
        self._step = plan.first_step - 1
        self._put(partial(self._begin, plan.first_step))

    def _begin(self, first_step: int) -> None:
        """In the tracker's thread: what the files have is read there too."""
        since = first_step if self._since is None else self._since
        facts = facts_of_files(self._beginning.directory, since, first_step) if since < first_step else ()
        self._tracker.begin(replace(self._beginning, earlier=tuple(facts)), first_step)

    def on_batch_end(self, batch: BatchRecord) -> None:
        self._batches.append(batch)

    def on_chunk_end(self, batch: BatchRecord) -> None:
        self._step = batch.step
        self._put(tuple(self._batches))
        self._batches = []

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        self._put(partial(self._tracker.epoch, epoch, self._step))

    def tell_end(self, ending: Ending) -> None:
        """The run has ended; its files are written."""
        if self._batches:  # of a chunk in which a loss was not finite
            self.on_chunk_end(self._batches[-1])
        self._put(partial(self._tracker.end, ending, self._step))
        self._put(None)

    def wait(self, until: Callable[[], float]) -> None:
        """Give the tracker's thread time, in seconds of time.monotonic(), to be done."""
        if self._thread is None:
            return
        while self._thread.is_alive() and time.monotonic() < until():
            self._thread.join(0.05)
        if self._failure is not None:
            self._drop(self._failure)
        elif self._thread.is_alive():
            self._drop(TimeoutError("it had not received everything when the run ended"))

    def _put(self, message: Message) -> None:
        if self._thread is None:
            return
        if self._failure is not None:
            self._drop(self._failure)
            return
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            self._drop(TimeoutError(f"it has fallen {MOST_WAITING} chunks behind"))

    def _drop(self, error: BaseException) -> None:
        """Say it once; hear and tell no more."""
        self._thread = None
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self._complain(f"{self._tracker.title} stopped ({first}); the run continues without it")

    def _work(self) -> None:
        try:
            self._tell()
        except BaseException as error:  # also SystemExit, by which some tools say that they will not
            self._failure = error

    def _tell(self) -> None:
        """Until the end: all batches that wait together, then what came after them."""
        batches: list[BatchRecord] = []
        while True:
            message = self._messages.get()
            if isinstance(message, tuple):
                batches += message
                if not self._messages.empty():
                    continue
            if batches:
                self._tracker.batches(batches)
                batches = []
            if message is None:
                return
            if not isinstance(message, tuple):
                message()


def end_all(trackings: Sequence[Tracking], ending: Ending, hurried: Callable[[], object]) -> None:
    """Tell every tracker that the run has ended, and wait for all of them together; less when `hurried` answers."""
    for tracking in trackings:
        tracking.tell_end(ending)
    began = time.monotonic()
    for tracking in trackings:
        tracking.wait(lambda: began + (END_TIMEOUT_S if hurried() is None else HURRIED_END_TIMEOUT_S))
