"""The progress bar: its line has a constant width, fits the terminal, and shows the time left once it is measured."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest
from rich.console import Console
from rich.progress import Progress

from mnist_ff.runs import progress_line
from mnist_ff.runs.numbers import duration
from mnist_ff.runs.progress_line import ProgressLine
from mnist_ff.runs.records import BatchRecord, Plan
from mnist_ff.training.progress_bar import BY_IMPORTANCE, SHOWN, ProgressBar, loss_cell, speed_cell
from tests.support.commands import Command
from tests.support.processes import in_a_terminal

PLAN = Plan(epochs=20, samples=60_000, batch_size=256, sync_every=25, learning_rate=0.001)
LONG = Plan(epochs=1_000, samples=60_000, batch_size=1, sync_every=25, learning_rate=0.001)


def lines(width: int, plan: Plan, monkeypatch: pytest.MonkeyPatch, steps: list[int], seconds: float) -> list[str]:
    """The line at the start and after each of these steps. A step takes `seconds`."""
    now = [100.0]
    monkeypatch.setattr(progress_line.time, "perf_counter", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    shown = []
    with Progress(ProgressLine(console, SHOWN, BY_IMPORTANCE), console=console, auto_refresh=False) as progress:
        bar = ProgressBar(progress, progress.add_task("training", total=None, facts={}))
        column, task = progress.columns[0], progress.tasks[0]
        shown.append(column.render(task).plain)
        bar.on_train_begin(plan)
        shown.append(column.render(task).plain)
        for before, step in pairwise([-1, *steps]):
            now[0] += seconds * (step - before)
            epoch, batch = divmod(step, plan.batches)
            bar.on_chunk_end(BatchRecord(step, epoch, batch, 2.3 / (step + 1), 0.001, plan.samples_in(batch), 1))
            shown.append(column.render(task).plain)
    return shown


@pytest.mark.parametrize(("plan", "width"), [(plan, width) for plan in (PLAN, LONG) for width in (120, 80, 60, 40)])
def test_the_line_keeps_its_width_and_fits(plan: Plan, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    last = plan.steps - 1
    first, *shown = lines(width, plan, monkeypatch, [24, 49, 99, 2_350, last - 1, last], 0.002)
    assert first == "training ..."
    assert len({len(line) for line in shown}) == 1
    assert len(shown[0]) + len("^C") < width, "a terminal that shows ^C behind it does not wrap it"
    of = plan.epochs
    assert shown[0].startswith(f"epoch {1:>{len(str(of))}}/{of} ")
    assert shown[-1].startswith(f"epoch {of}/{of} ")
    places = [[found.start() for found in re.finditer("epoch|batch|loss|samples|ETA", line)] for line in shown]
    assert all(place == places[0] for place in places), "nothing jumps"
    assert "loss 2.3" not in shown[-1]
    assert ("batch" in shown[0], "samples/s" in shown[0]) == (width > (40 if plan is PLAN else 60), width == 120)
    assert ("━" in shown[0]) == (width >= 80 or (plan is LONG and width == 60)), "8 columns at least"


def test_the_time_left_begins_after_a_measured_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = lines(80, PLAN, monkeypatch, [24, 49, 99, 4_698, 4_699], 0.01)
    left = [line.rpartition("ETA")[2].strip() for line in shown[1:]]
    assert left == ["-", "-", "0:47", "0:46", "0:01", "0:00"]


def test_the_first_chunk_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """It includes compilation, capture and warm-up."""
    now = [0.0]
    monkeypatch.setattr(progress_line.time, "perf_counter", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ProgressBar.shown(console) as bar:
        bar.on_train_begin(PLAN)
        for step, moment in ((24, 60.0), (49, 60.25)):
            now[0] = moment
            bar.on_chunk_end(BatchRecord(step, 0, step, 0.5, 0.001, 256, 1))
        facts = bar._progress.tasks[0].fields["facts"]
    assert facts["left"] == "ETA     0:47"
    assert facts["speed"] == "   25,532 samples/s"


def test_numbers_keep_their_columns() -> None:
    assert [loss_cell(loss) for loss in (0.061234, 98.7, 2345.6)] == ["0.0612", "98.7000", "2.3e+03"]
    assert [speed_cell(speed) for speed in (950.4, 9_876_543.0, 23_456_789.0)] == ["950", "9,876,543", "23.5 M"]
    times = [0, 0.2, 5, 754, 3_723, 359_999, 400_000]
    assert [duration(seconds) for seconds in times] == ["0:00", "0:01", "0:05", "12:34", "1:02:03", "99:59:59", "111 h"]
    assert max(map(len, map(duration, times))) == 8


EACH_WIDTH = """
import fcntl, struct, sys, termios, os
from mnist_ff.cli import main
for columns in (120, 80, 60, 40):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.environ["COLUMNS"] = str(columns)
    print(f"@{columns}@", flush=True)
    code = main([*sys.argv[1:], f"hydra.run.dir=run_{columns}"])
sys.exit(code)
"""


def test_in_a_real_terminal_of_each_width(mnist_ff: Command) -> None:
    """Lines of one width, none wrapped; epochs and batches count from 1; the bar is removed at the end."""
    words = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=2", "trainer.sync_every=4", "trainer.plots=false")
    code, seen = in_a_terminal("train", *words, script=EACH_WIDTH)
    assert code == 0, seen
    for columns, text in re.findall(r"@(\d+)@(.*?)(?=@\d+@|\Z)", seen, flags=re.DOTALL):
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        rows = [row for row in re.split(r"[\r\n]+", plain) if row]
        bars = [row for row in rows if "ETA" in row]
        assert bars
        assert {len(row) for row in bars} == {len(bars[0])}
        assert len(bars[0]) + len("^C") < int(columns)
        assert all(row.startswith(("epoch 1/2 ", "epoch 2/2 ")) for row in bars)
        assert all(re.search(r"ETA +(-|\d:\d\d)$", row) for row in bars)
        assert not any(re.search(r"epoch 0|batch +0/16.*loss +\d", row) for row in rows)
        epochs = [row for row in rows if re.match(r"epoch \d/2 .*%$", row)]
        assert len(epochs) == 2
        assert max(map(len, epochs)) <= int(columns)
        assert text.startswith("\r\ntrain: loading ...\r\x1b[K")
