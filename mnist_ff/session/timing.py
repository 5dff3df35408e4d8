"""Where the seconds of a command go, part by part."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("start", "import", "config", "data", "build", "train", "keep", "plots", "report", "other")
"""Parts of a command in their order. `start` is the interpreter before our code, `data` includes the choice of
trainer.threads=auto, and `keep` writes the files of a run's end."""
TRAINING = ("train.steps", "train.scores", "train.records", "train.checkpoints", "train.callbacks", "train.other")
"""Parts of `train`, which they add up to."""
LONGEST_START_S = 10.0
"""A process that was there for longer was something else first: a shell that became this program, or a server."""


class Timing:
    """Seconds of each part of a command or a run; every moment belongs to one part, the innermost that is open.

    So the parts add up to the total. Moments outside all parts are `other`, those of `train` outside its own parts
    `train.other`.
    """

    def __init__(self, began: float, started: float | None = None) -> None:
        """began: when our code began, by time.perf_counter(). started: when its process did, None for not counted."""
        self._spent = {} if started is None else {"start": began - started}
        self._open, self._since = "other", began

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's seconds to those under `name`, but for the parts that are opened in it."""
        assert name in PARTS or name in TRAINING, name
        before = self._open
        self._enter(name)
        try:
            yield
        finally:
            self._enter(before)

    def claim(self, name: str) -> None:
        """Count under `name` the moments so far that are outside all parts."""
        self._enter(self._open)
        self._spent[name] = self._spent.get(name, 0.0) + self._spent.pop("other", 0.0)

    def seconds(self) -> dict[str, float]:
        """All parts until now in their order, those of `train` after it, and `total`: the sum of the parts in PARTS."""
        self._enter(self._open)
        spent = {name: round(seconds, 4) for name, seconds in self._spent.items()}
        if any(name in spent for name in TRAINING):
            spent["train.other"] = spent.get("train", 0.0)
            spent["train"] = round(sum(spent.get(name, 0.0) for name in TRAINING), 4)
        spent.setdefault("other", 0.0)
        total = round(sum(spent.get(name, 0.0) for name in PARTS), 4)
        order = [name for part in PARTS for name in (part, *(TRAINING if part == "train" else ()))]
        return {name: spent[name] for name in order if name in spent} | {"total": total}

    def _enter(self, name: str) -> None:
        now = time.perf_counter()
        self._spent[self._open] = self._spent.get(self._open, 0.0) + now - self._since
        self._open, self._since = name, now


class CountedTiming(Timing):
    """Timing that also counts how often each part was entered."""

    def __init__(self, began: float, started: float | None = None) -> None:
        super().__init__(began, started)
        self.counts: dict[str, int] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """As Timing.part()."""
        self.counts[name] = self.counts.get(name, 0) + 1
        with super().part(name):
            yield


def process_start(began: float) -> float | None:
    """When this process started, by time.perf_counter(), to a hundredth of a second; our code began at `began`.

    None where the system does not tell, as outside Linux, or where it is too long ago to be this program's start.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # the name before it may hold anything
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    started = time.perf_counter() - age
    return started if began - LONGEST_START_S < started <= began else None
