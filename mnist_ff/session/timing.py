"""Seconds spent in each part of a run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager


@dataclasses.dataclass
class Timing:
    """Where a run's seconds went. `began` and the results of time.perf_counter() share an origin."""

    began: float
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's seconds to those under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self.seconds[name] = round(spent, 4)

    def total(self) -> dict[str, float]:
        """All parts, and the seconds since `began`."""
        return {**self.seconds, "total": round(time.perf_counter() - self.began, 4)}
