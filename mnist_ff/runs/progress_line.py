"""A progress line on a terminal: texts and a bar that fit its width, and the time left once it can be measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from mnist_ff.runs.numbers import MISSING, duration

GAP, NARROW_GAP = "  ", " "
NEEDED = 3
"""A narrow terminal has NARROW_GAP between the parts if the NEEDED most important ones do not fit otherwise."""
ECHO = 2
"""Columns left free for the ^C that a terminal prints after the line at Ctrl-C. A wrapped line cannot be erased."""
BAR = "bar"
"""The name of the bar among the parts of a line."""
MIN_BAR, MAX_BAR = 8, 40
"""Least and greatest width of the bar, in columns. With less room it is left out."""


class ProgressLine(ProgressColumn):
    """A column of rich's progress display that makes up the whole line: the texts in the task's field `facts`, by name.

    `shown` is their order in the line. In a narrow terminal, those last in `by_importance` are left out.
    """

    def __init__(self, console: Console, shown: Sequence[str], by_importance: Sequence[str]) -> None:
        super().__init__(table_column=Column(no_wrap=True, overflow="crop"))
        self._console, self._shown, self._by_importance = console, shown, by_importance

    def render(self, task: Task) -> Text:
        facts: dict[str, str] = task.fields["facts"]
        if not facts:
            return Text(f"{task.description} ..."[: self._console.width - 1 - ECHO])
        room = self._console.width - 1 - ECHO  # some terminals wrap a line that fills the last column
        widths = {name: MIN_BAR if name == BAR else len(facts[name]) for name in self._shown}
        kept, gap = self._kept(widths, room, GAP), GAP
        needed = self._by_importance[:NEEDED]
        if not {*needed} <= {*kept} and {*needed} <= {*self._kept(widths, room, NARROW_GAP)}:
            kept, gap = list(needed), NARROW_GAP
        used = sum(widths[name] for name in kept) + len(gap) * (len(kept) - 1)
        bar = min(MIN_BAR + room - used, MAX_BAR)
        names = [name for name in self._shown if name in kept]
        return Text(gap).join([self._bar(task, bar) if name == BAR else Text(facts[name]) for name in names])

    def _kept(self, widths: Mapping[str, int], room: int, gap: str) -> list[str]:
        """The names of the most important parts that fit."""
        kept: list[str] = []
        for name in self._by_importance:
            if sum(widths[other] for other in kept) + widths[name] + len(gap) * len(kept) <= room:
                kept.append(name)
        return kept

    def _bar(self, task: Task, width: int) -> Text:
        letter = "-" if self._console.options.ascii_only or self._console.legacy_windows else "━"
        done = int(width * task.completed / max(task.total or 1, 1))
        return Text.assemble((letter * done, "bar.complete"), (letter * (width - done), "bar.back"))


class Pace:
    """Estimates the time left from the speed since the first mark, so that compiling before it is not counted."""

    def __init__(self, least: float = 0.0) -> None:
        """least: seconds after the first mark until the first estimate."""
        self._least = least
        self._first: tuple[float, int] | None = None

    def mark(self, done: int, of: int) -> tuple[float, float] | None:
        """Note that `done` of `of` items are done. Returns items per second and seconds left, None before these are
        known."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now, done
        began, first = self._first
        if done <= first or now - began < self._least:
            return None
        rate = (done - first) / max(now - began, 1e-9)
        return rate, (of - done) / rate


def eta(seconds: float | None) -> str:
    """The time left, in a fixed width: ETA     0:42."""
    return f"ETA {MISSING if seconds is None else duration(seconds):>8}"


def count_of(number: int, of: int) -> str:
    """A count and its total, in a fixed width: ' 3/20'."""
    return f"{number:>{len(str(of))}}/{of}"
