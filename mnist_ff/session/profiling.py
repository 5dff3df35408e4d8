"""Where the time of a run, an epoch and a step goes, for `mnist-ff profile`.

A real run is trained in a directory that is thrown away, without a profiler: its own seconds are the first two tables.
Then a window of steps is timed part by part, and another one is traced by torch's profiler, which slows it down.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch.profiler import record_function

from mnist_ff.config.schema import Config
from mnist_ff.data.load import load_data
from mnist_ff.engine.device import describe, prepared
from mnist_ff.engine.step import PARTS_OF_A_STEP, Named, never
from mnist_ff.errors import ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Plan, Summary
from mnist_ff.runs.signals import Interruption
from mnist_ff.session.request import RunRequest
from mnist_ff.session.session import train
from mnist_ff.session.step_trace import Trace, traced
from mnist_ff.session.timing import PARTS, TRAINING, CountedTiming
from mnist_ff.training.learner import Learner

WARM_UP, TIMED = 20, 100
"""Steps before and in the window whose parts are timed; fewer where an epoch has fewer."""
LONGEST_WINDOW_S = 10.0
OTHER = "other"


@dataclass(frozen=True)
class Part:
    """A row of a table."""

    name: str
    seconds: float
    count: float | None = None
    """How often it was done, in the whole run, or in each epoch or step; None where that says nothing."""


@dataclass(frozen=True)
class Profile:
    """What `mnist-ff profile` tells."""

    config: Config
    summary: Summary
    plan: Plan
    device: str
    engine: str
    threads: int
    on_cpu: bool
    whole: Sequence[Part]
    epoch: Sequence[Part]
    step: Sequence[Part]
    uncaptured: bool
    """Whether the parts of a step are of one outside the CUDA graph of the run."""
    trace: Trace
    warnings: Sequence[str] = ()

    @property
    def step_in_run(self) -> float | None:
        """Seconds of a step in the run; None where it had none."""
        steps = self.summary.steps
        return self.summary.seconds["train.steps"] / steps if steps else None


def profiled(
    config: Config, timing: CountedTiming, argv: Sequence[str], stopped: Interruption, out: Path, steps: int
) -> Profile | None:
    """Train a run of this resolved config, time and trace some of its steps; None where a signal came.

    Errors: those of training; RunError where the trace cannot be written.
    """
    assert config.seed is not None
    with tempfile.TemporaryDirectory(prefix="mnist-ff-profile-") as folder:
        run = Run.create(Path(folder) / "run")
        timing.claim("config")
        request = RunRequest(config, run, argv, timing, Console(quiet=True), stopped)
        summary = train(request)
        pictures = len(list(run.file("plots").glob("*.png")))
        warnings = _warnings(run)
    if stopped() is not None:
        return None
    with prepared(config.trainer, config.seed) as device:
        steps_of = _Steps(config, device)
        plan = steps_of.plan
        parts = steps_of.timed(WARM_UP, TIMED)
        trace = steps_of.traced(out, steps)
        engine, threads, name = steps_of.engine, torch.get_num_threads(), describe(device)
    whole, epoch = _whole_run(summary, timing.counts, pictures), _an_epoch(summary, timing.counts)
    return Profile(
        config=config,
        summary=summary,
        plan=plan,
        device=name,
        engine=engine,
        threads=threads,
        on_cpu=device.type == "cpu",
        whole=whole,
        epoch=epoch,
        step=parts,
        uncaptured=engine == "graph",
        trace=trace,
        warnings=warnings,
    )


def _warnings(run: Run) -> list[str]:
    """What the run warned of, from its log."""
    lines = run.file("train.log").read_text(encoding="utf-8", errors="replace").splitlines()
    marks = (" INFO warning: ", " WARNING ")
    return list(dict.fromkeys(line.partition(mark)[2] for line in lines for mark in marks if mark in line))


def _whole_run(summary: Summary, counts: Mapping[str, int], pictures: int) -> list[Part]:
    """The parts of the command, which add up to its total."""
    times = _times(summary, counts) | {"plots": pictures or None}
    found = [name for part in PARTS for name in (TRAINING if part == "train" else (part,))]
    return [Part(name, summary.seconds[name], times.get(name, 1)) for name in found if name in summary.seconds]


def _an_epoch(summary: Summary, counts: Mapping[str, int]) -> list[Part]:
    """The parts of training, divided by the epochs."""
    epochs, times = max(1, summary.epochs), _times(summary, counts)
    return [
        Part(name, summary.seconds[name] / epochs, None if (count := times.get(name)) is None else count / epochs)
        for name in TRAINING
        if name in summary.seconds
    ]


def _times(summary: Summary, counts: Mapping[str, int]) -> dict[str, float | None]:
    """How often the parts of training were done."""
    return {
        "train.steps": summary.steps,
        "train.scores": counts.get("train.scores"),
        "train.records": counts.get("train.records"),
        "train.checkpoints": counts.get("train.checkpoints", 1) - 1,  # at the end the last one is waited for once more
        "train.callbacks": None,
        "train.other": None,
        OTHER: None,
    }


class StepClock:
    """Seconds of each part of steps; every moment belongs to the innermost part that is open, else to `other`.

    The device is waited for at each border, so that its work counts where it was asked for.
    """

    def __init__(self, wait: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._wait, self._clock = wait, clock
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self._wait()
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._open, self._since = OTHER, self._clock()

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Count the block's seconds under `name`."""
        before = self._open
        self._enter(name)
        self.counts[name] = self.counts.get(name, 0) + 1
        try:
            yield
        finally:
            self._enter(before)

    def parts(self, steps: int) -> list[Part]:
        """The parts of one of so many steps until now."""
        self._enter(self._open)
        found = [name for name in PARTS_OF_A_STEP if name in self.seconds]
        parts = [Part(name, self.seconds[name] / steps, self.counts[name] / steps) for name in found]
        return [*parts, Part(OTHER, self.seconds.get(OTHER, 0.0) / steps)]

    def _enter(self, name: str) -> None:
        self._wait()
        now = self._clock()
        self.seconds[self._open] = self.seconds.get(self._open, 0.0) + now - self._since
        self._open, self._since = name, now


@dataclass
class _Steps:
    """Steps like those of the run, of learners with fresh weights on the same data."""

    config: Config
    device: torch.device
    engine: str = field(init=False)
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        assert self.config.seed is not None
        self._data = load_data(self.config.data, self.config.seed).to(self.device)
        learner = Learner(self.config, self._data)
        self.engine, self.plan = learner.step.info.engine, learner.plan()

    def timed(self, warm_up: int, steps: int) -> list[Part]:
        """The parts of a step, in chunks as training has them."""
        clock = StepClock(self.wait)
        learner = self._learner(clock.named)
        began = time.perf_counter()
        warm_up = min(warm_up, self.plan.batches)
        self._train(learner, warm_up)
        each = (time.perf_counter() - began) / warm_up
        steps = max(1, min(steps, self.plan.batches, int(LONGEST_WINDOW_S / max(each, 1e-9))))
        clock.start()
        self._train(learner, steps)
        return clock.parts(steps)

    def traced(self, out: Path, steps: int) -> Trace:
        """A trace of some steps, and of an evaluation."""
        return traced(self._learner(record_function), self.plan, out, steps, self.wait)

    def wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def _learner(self, named: Named) -> Learner:
        """One whose batches are no replays of a graph: in those no part can be told from another."""
        if self.engine != "graph":
            return Learner(self.config, self._data, named=named)
        try:
            return Learner(self._with_engine("fused"), self._data, named=named)
        except ConfigError:  # not the built-in network
            return Learner(self._with_engine("eager"), self._data, named=named)

    def _with_engine(self, engine: Literal["fused", "eager"]) -> Config:
        return dataclasses.replace(self.config, trainer=dataclasses.replace(self.config.trainer, engine=engine))

    def _train(self, learner: Learner, steps: int) -> None:
        order = learner.row_order(0)
        for chunk in self.plan.chunks():
            batches = range(chunk.start, min(chunk.stop, steps))
            if batches:
                learner.step(order[self.plan.rows(batches)], never, self.plan.rates(0, batches)).tolist()
