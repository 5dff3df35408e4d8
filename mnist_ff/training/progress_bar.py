"""The progress bar of training on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID

from mnist_ff.runs.numbers import MISSING
from mnist_ff.runs.progress_line import BAR, Pace, ProgressLine, count_of, eta
from mnist_ff.runs.records import BatchRecord, Plan
from mnist_ff.training.callbacks import Callback

SHOWN = ("epoch", BAR, "batch", "loss", "speed", "left")
"""Columns from left to right."""
BY_IMPORTANCE = ("epoch", "loss", "left", "batch", BAR, "speed")
"""The same columns; a narrow terminal leaves out the last ones."""


class ProgressBar(Callback):
    """Epoch, bar, batch, loss, samples per second and the time left, as many as fit the terminal.

    Speed and time left are measured from the end of the first chunk, which includes compilation and warm-up.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._plan: Plan | None = None
        self._pace = Pace()

    @classmethod
    @contextmanager
    def shown(cls, console: Console) -> Iterator[ProgressBar]:
        """A bar that is shown inside the block and removed after it."""
        line = ProgressLine(console, SHOWN, BY_IMPORTANCE)
        with Progress(line, console=console, transient=True) as progress:
            yield cls(progress, progress.add_task("training", total=None, facts={}))

    def on_train_begin(self, plan: Plan) -> None:
        self._plan, self._pace = plan, Pace()
        self._show(plan.first_step, plan.start.epoch, len(plan.start.batches), MISSING, None)

    def on_chunk_end(self, batch: BatchRecord) -> None:
        assert self._plan is not None
        done = batch.step + 1
        pace = self._pace.mark(done, self._plan.steps)
        self._show(done, batch.epoch, batch.batch + 1, loss_cell(batch.loss), pace)

    def _show(self, done: int, epoch: int, batch: int, loss: str, pace: tuple[float, float] | None) -> None:
        plan = self._plan
        assert plan is not None
        images = plan.samples / plan.batches
        facts = {
            "epoch": f"epoch {count_of(min(epoch + 1, plan.epochs), plan.epochs)}",
            "batch": f"batch {count_of(batch, plan.batches)}",
            "loss": f"loss {loss:>7}",
            "speed": f"{MISSING if pace is None else speed_cell(pace[0] * images):>9} samples/s",
            "left": eta(None if pace is None else pace[1]),
        }
        self._progress.update(self._task, total=plan.steps, completed=done, facts=facts)


def loss_cell(loss: float) -> str:
    """A loss in at most seven characters: 0.0612, 2.3e+03."""
    return f"{loss:.4f}" if abs(loss) < 99 else f"{loss:.1e}"


def speed_cell(speed: float) -> str:
    """Samples per second in at most nine characters: 123,456 or 12.3 M."""
    return f"{speed:,.0f}" if speed < 1e7 else f"{speed / 1e6:,.1f} M"
