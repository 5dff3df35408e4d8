"""The live bar of a training on a terminal. Its line keeps its width and fits the terminal, also a narrow one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from mnist_ff.runs.numbers import MISSING, duration
from mnist_ff.runs.records import BatchRecord, Plan
from mnist_ff.training.callbacks import Callback

GAP = "  "
LEAST_BAR, MOST_BAR = 10, 40
"""Columns of the bar itself; with less room there is none."""


class ProgressBar(Callback):
    """Epoch, bar, batch, loss, samples a second and the time left; a narrow terminal has the more important ones.

    The time left and the speed are measured from the end of the first chunk, which also compiles, captures or warms up.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._plan: Plan | None = None
        self._measured_from: tuple[float, BatchRecord] | None = None

    @classmethod
    @contextmanager
    def shown(cls, console: Console) -> Iterator[ProgressBar]:
        """A bar that is drawn inside the block and leaves no trace after it."""
        with Progress(_Line(console), console=console, transient=True) as progress:
            yield cls(progress, progress.add_task("training", total=None, facts={}))

    def on_train_begin(self, plan: Plan) -> None:
        self._plan, self._measured_from = plan, None
        self._show(plan.first_step, plan.start.epoch, len(plan.start.batches), MISSING, None, None)

    def on_chunk_end(self, batch: BatchRecord) -> None:
        plan, now = self._plan, time.perf_counter()
        assert plan is not None
        done, speed, left = batch.step + 1, None, None
        if self._measured_from is None:
            self._measured_from = now, batch
        elif done - self._measured_from[1].step > 1:
            began, first = self._measured_from
            seconds = max(now - began, 1e-9)
            speed = (_samples(plan, batch) - _samples(plan, first)) / seconds
            left = seconds / (batch.step - first.step) * (plan.steps - done)
        self._show(done, batch.epoch, batch.batch + 1, loss_cell(batch.loss), speed, left)

    def _show(self, done: int, epoch: int, batch: int, loss: str, speed: float | None, left: float | None) -> None:
        plan = self._plan
        assert plan is not None
        facts = {
            "epoch": f"epoch {_of(min(epoch + 1, plan.epochs), plan.epochs)}",
            "batch": f"batch {_of(batch, plan.batches)}",
            "loss": f"loss {loss:>7}",
            "speed": f"{MISSING if speed is None else speed_cell(speed):>9} samples/s",
            "left": f"ETA {MISSING if left is None else duration(left):>8}",
        }
        self._progress.update(self._task, total=plan.steps, completed=done, facts=facts)


class _Line(ProgressColumn):
    """The whole line, as wide as the terminal is at the moment."""

    max_refresh = 0.1
    SHOWN = ("epoch", "bar", "batch", "loss", "speed", "left")
    BY_IMPORTANCE = ("epoch", "loss", "left", "batch", "bar", "speed")

    def __init__(self, console: Console) -> None:
        super().__init__(table_column=Column(no_wrap=True, overflow="crop"))
        self._console = console

    def render(self, task: Task) -> Text:
        facts: dict[str, str] = task.fields["facts"]
        if not facts:
            return Text("training ...")
        room = self._console.width - 1  # a line that ends in the last column is two on some terminals
        widths = {name: LEAST_BAR if name == "bar" else len(facts[name]) for name in self.SHOWN}
        shown: list[str] = []
        for name in self.BY_IMPORTANCE:
            if sum(widths[other] for other in shown) + widths[name] + len(GAP) * len(shown) <= room:
                shown.append(name)
        used = sum(widths[name] for name in shown) + len(GAP) * (len(shown) - 1)
        bar = min(LEAST_BAR + room - used, MOST_BAR)
        parts = [self._bar(task, bar) if name == "bar" else Text(facts[name]) for name in self.SHOWN if name in shown]
        return Text(GAP).join(parts)

    def _bar(self, task: Task, width: int) -> Text:
        letter = "-" if self._console.options.ascii_only or self._console.legacy_windows else "━"
        done = int(width * task.completed / max(task.total or 1, 1))
        return Text.assemble((letter * done, "bar.complete"), (letter * (width - done), "bar.back"))


def _samples(plan: Plan, batch: BatchRecord) -> int:
    """Images trained on up to the end of a batch."""
    return batch.epoch * plan.samples + min((batch.batch + 1) * plan.batch_size, plan.samples)


def _of(number: int, of: int) -> str:
    """A number in the width of the largest: ' 3/20'."""
    return f"{number:>{len(str(of))}}/{of}"


def loss_cell(loss: float) -> str:
    """A loss in at most seven columns: 0.0612, 2.3e+03."""
    return f"{loss:.4f}" if abs(loss) < 99 else f"{loss:.1e}"


def speed_cell(speed: float) -> str:
    """Samples a second in at most nine columns: 123,456 or 12.3 M."""
    return f"{speed:,.0f}" if speed < 1e7 else f"{speed / 1e6:,.1f} M"
