"""Where the time of a run, an epoch and a step goes, for `mnist-ff profile`.

A whole run is trained in a temporary directory without a profiler: its times make the first two tables.
Then some steps are timed part by part, and other steps are traced by torch's profiler, which slows them down.
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

WARM_UP_STEPS, TIMED_STEPS = 20, 100
"""Warm-up steps, and the steps after them whose parts are timed. Fewer if an epoch has fewer."""
MAX_WINDOW_S = 10.0
"""Maximum time of the timed steps, as estimated from the warm-up steps."""
OTHER = "other"
"""The row of the time outside all parts."""


@dataclass(frozen=True)
class Part:
    """A row of a table."""

    name: str
    seconds: float
    count: float | None = None
    """How often it was done per run, epoch or step, whichever the table is of. None if there is nothing to count."""


@dataclass(frozen=True)
class Profile:
    """The results of `mnist-ff profile`."""

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
    """Whether the run used CUDA graphs, and the parts are of a step without them."""
    trace: Trace
    warnings: Sequence[str] = ()

    @property
    def step_in_run(self) -> float | None:
        """Mean seconds per step in the run. None if it had no step."""
        steps = self.summary.steps
        return self.summary.seconds["train.steps"] / steps if steps else None


def profiled(
    config: Config, timing: CountedTiming, argv: Sequence[str], stopped: Interruption, out: Path, steps: int
) -> Profile | None:
    """Train a run of this resolved config, then time and trace some steps. None after a signal.

    out: the trace's file. steps: how many steps to trace.
    Errors: those of training; RunError if the trace cannot be written.
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
        parts = steps_of.timed(WARM_UP_STEPS, TIMED_STEPS)
        trace = steps_of.traced(out, steps)
        engine, threads, name = steps_of.engine, torch.get_num_threads(), describe(device)
    whole, epoch = _whole_run(summary, timing.counts, pictures), _per_epoch(summary, timing.counts)
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
    """The warnings in the run's log."""
    lines = run.file("train.log").read_text(encoding="utf-8", errors="replace").splitlines()
    marks = (" INFO warning: ", " WARNING ")
    return list(dict.fromkeys(line.partition(mark)[2] for line in lines for mark in marks if mark in line))


def _whole_run(summary: Summary, counts: Mapping[str, int], pictures: int) -> list[Part]:
    """The parts of the whole command. They add up to its total."""
    times = _part_counts(summary, counts) | {"plots": pictures or None}
    found = [name for part in PARTS for name in (TRAINING if part == "train" else (part,))]
    return [Part(name, summary.seconds[name], times.get(name, 1)) for name in found if name in summary.seconds]


def _per_epoch(summary: Summary, counts: Mapping[str, int]) -> list[Part]:
    """The parts of training, divided by the number of epochs."""
    epochs, times = max(1, summary.epochs), _part_counts(summary, counts)
    return [
        Part(name, summary.seconds[name] / epochs, None if (count := times.get(name)) is None else count / epochs)
        for name in TRAINING
        if name in summary.seconds
    ]


def _part_counts(summary: Summary, counts: Mapping[str, int]) -> dict[str, float | None]:
    """How often each part of training was done."""
    return {
        "train.steps": summary.steps,
        "train.scores": counts.get("train.scores"),
        "train.records": counts.get("train.records"),
        "train.checkpoints": counts.get("train.checkpoints", 1) - 1,  # the last entry only waits for the writer
        "train.callbacks": None,
        "train.other": None,
        OTHER: None,
    }


class StepClock:
    """Measures the seconds of each part of a step. Time counts for the innermost open part, else for `other`.

    The device is synchronised at each start and end of a part, so that its work counts for the right part.
    """

    def __init__(self, wait: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._wait, self._clock = wait, clock
        self.start()

    def start(self) -> None:
        """Reset all times."""
        self._wait()
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._open, self._since = OTHER, self._clock()

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Count the block's seconds for part `name`."""
        before = self._open
        self._switch_to(name)
        self.counts[name] = self.counts.get(name, 0) + 1
        try:
            yield
        finally:
            self._switch_to(before)

    def parts(self, steps: int) -> list[Part]:
        """The parts of a step: the mean over `steps` steps since start()."""
        self._switch_to(self._open)
        found = [name for name in PARTS_OF_A_STEP if name in self.seconds]
        parts = [Part(name, self.seconds[name] / steps, self.counts[name] / steps) for name in found]
        return [*parts, Part(OTHER, self.seconds.get(OTHER, 0.0) / steps)]

    def _switch_to(self, name: str) -> None:
        self._wait()
        now = self._clock()
        self.seconds[self._open] = self.seconds.get(self._open, 0.0) + now - self._since
        self._open, self._since = name, now


@dataclass
class _Steps:
    """Steps like those of the run, with new learners on the same data."""

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
        """The parts of a step, in chunks of the same size as in training."""
        clock = StepClock(self.wait)
        learner = self._learner(clock.named)
        began = time.perf_counter()
        warm_up = min(warm_up, self.plan.batches)
        self._train(learner, warm_up)
        each = (time.perf_counter() - began) / warm_up
        steps = max(1, min(steps, self.plan.batches, int(MAX_WINDOW_S / max(each, 1e-9))))
        clock.start()
        self._train(learner, steps)
        return clock.parts(steps)

    def traced(self, out: Path, steps: int) -> Trace:
        """Trace some steps and an evaluation."""
        return traced(self._learner(record_function), self.plan, out, steps, self.wait)

    def wait(self) -> None:
        """Wait until the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def _learner(self, named: Named) -> Learner:
        """A learner without CUDA graphs, in which the parts of a step cannot be told apart."""
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
