"""A live line on a terminal: facts and a bar, as wide as there is room, and the time left once it is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from mnist_ff.runs.numbers import MISSING, duration

GAP, TIGHT = "  ", " "
NEEDED = 3
"""The most important facts, for which a narrow terminal has tight gaps."""
ECHO = 2
"""Columns of the ^C that a terminal shows behind the line at Ctrl-C: a line that it wraps could not be erased."""
BAR = "bar"
"""The name of the bar among the facts of a line."""
LEAST_BAR, MOST_BAR = 8, 40
"""Columns of the bar; with less room there is none."""


class ProgressLine(ProgressColumn):
    """The whole line of a task: the texts of its field `facts`, by name, each of which keeps its width.

    A terminal without room for all has those that come first in `by_importance`.
    """

    def __init__(self, console: Console, shown: Sequence[str], by_importance: Sequence[str]) -> None:
        super().__init__(table_column=Column(no_wrap=True, overflow="crop"))
        self._console, self._shown, self._by_importance = console, shown, by_importance

    def render(self, task: Task) -> Text:
        facts: dict[str, str] = task.fields["facts"]
        if not facts:
            return Text(f"{task.description} ..."[: self._console.width - 1 - ECHO])
        room = self._console.width - 1 - ECHO  # a line that ends in the last column is two on some terminals
        widths = {name: LEAST_BAR if name == BAR else len(facts[name]) for name in self._shown}
        kept, gap = self._kept(widths, room, GAP), GAP
        needed = self._by_importance[:NEEDED]
        if not {*needed} <= {*kept} and {*needed} <= {*self._kept(widths, room, TIGHT)}:
            kept, gap = list(needed), TIGHT
        used = sum(widths[name] for name in kept) + len(gap) * (len(kept) - 1)
        bar = min(LEAST_BAR + room - used, MOST_BAR)
        names = [name for name in self._shown if name in kept]
        return Text(gap).join([self._bar(task, bar) if name == BAR else Text(facts[name]) for name in names])

    def _kept(self, widths: Mapping[str, int], room: int, gap: str) -> list[str]:
        """The most important facts that fit."""
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
    """The time left by the pace since the first mark: what comes before it, such as compiling, is done once."""

    def __init__(self, least: float = 0.0) -> None:
        """least: seconds after the first mark in which nothing is said yet."""
        self._least = least
        self._first: tuple[float, int] | None = None

    def mark(self, done: int, of: int) -> tuple[float, float] | None:
        """So many are done: how many a second, and the seconds left; None before that is measured."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now, done
        began, first = self._first
        if done <= first or now - began < self._least:
            return None
        rate = (done - first) / max(now - began, 1e-9)
        return rate, (of - done) / rate


def eta(seconds: float | None) -> str:
    """The time left in a width that it keeps: ETA     0:42."""
    return f"ETA {MISSING if seconds is None else duration(seconds):>8}"


def count_of(number: int, of: int) -> str:
    """A number in the width of the largest: ' 3/20'."""
    return f"{number:>{len(str(of))}}/{of}"
