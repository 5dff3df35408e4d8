"""Some training steps and an evaluation under the profiler of torch: a Chrome trace, and the longest operations."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from mnist_ff.engine.device import variable
from mnist_ff.engine.step import PARTS_OF_A_STEP, never
from mnist_ff.errors import RunError
from mnist_ff.files import replacing
from mnist_ff.runs.records import Plan
from mnist_ff.training.learner import Learner

WARM_UP = 3
MOST_EVENTS = 60_000
"""In a trace: 25 MB or so. A network of very many operations is traced for fewer steps."""
TAIL_BYTES = 64
"""In which a whole trace ends."""
TOP = 10
"""Operations that are listed; the others are added up."""
EVALUATE, STEP = "evaluate", "step "
MEANINGS = {
    "addmm": "matrix product and sum",
    "mm": "matrix product",
    "bmm": "batched matrix product",
    "matmul": "matrix product",
    "linear": "linear layer",
    "mkldnn_convolution": "convolution",
    "convolution_backward": "gradient of a convolution",
    "index_select": "fetch rows",
    "gather": "fetch elements",
    "random_": "random numbers",
    "bernoulli_": "dropout mask",
    "native_dropout": "dropout",
    "_log_softmax": "log-softmax",
    "_log_softmax_backward_data": "gradient of log-softmax",
    "threshold_backward": "gradient of ReLU",
    "clamp_min": "ReLU",
    "clamp_min_": "ReLU",
    "relu": "ReLU",
    "sum": "sum",
    "copy_": "copy or conversion",
    "fill_": "fill",
    "zero_": "fill with zeros",
    "add": "sum of two tensors",
    "add_": "sum of two tensors",
    "mul": "product of two tensors",
    "mul_": "product of two tensors",
    "addcmul_": "multiply and add",
    "addcdiv_": "divide and add",
    "_foreach_addcdiv_": "divide and add, all weights",
}
"""What operations do, where their name does not say it to everybody."""


@dataclass(frozen=True)
class Operation:
    """An operation's own time in a traced step, without that of operations that it calls."""

    name: str
    """As torch names it, without `aten::`."""
    meaning: str | None
    seconds: float
    calls: float


@dataclass(frozen=True)
class Trace:
    """What was traced."""

    path: Path
    steps: int
    seconds: float
    """Of a step under the profiler."""
    plain_seconds: float
    """Of the same step without it."""
    operations: Sequence[Operation]
    """The longest first; then all others as one, and what no operation takes."""
    on_device: bool = False
    """Whether operations were timed on the device, beside which the host works."""

    @property
    def times_slower(self) -> float:
        """What the profiler costs."""
        return self.seconds / max(self.plain_seconds, 1e-9)


@variable("KINETO_LOG_LEVEL", "9")  # what the profiler's library would say on stderr
def _export(profiler: Any, out: Path) -> None:
    """Write the trace. torch says nothing where the disk is full. Errors: OSError, RuntimeError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        try:
            profiler.export_chrome_trace(str(temporary))
        finally:  # it writes to a name of its own first, and may leave that
            temporary.with_name(f"{temporary.name}.tmp").unlink(missing_ok=True)
        with temporary.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            if not file.read().rstrip().endswith(b"}"):
                raise OSError(errno.ENOSPC, "was not written to its end; see whether the disk is full")


def traced(learner: Learner, plan: Plan, out: Path, steps: int, wait: Callable[[], None]) -> Trace:
    """Trace up to so many steps of a learner whose parts are named by record_function(), write the trace.

    Errors: RunError where it cannot be written.
    """
    step = _step_of(learner, plan)
    for number in range(WARM_UP):
        step(number)
    with _profiler(learner.device) as once:
        step(WARM_UP)
        wait()
    steps = max(1, min(steps, MOST_EVENTS // max(1, len(once.events()))))
    before = _seconds(lambda: _run(step, steps), wait)
    with _profiler(learner.device) as profiler:
        seconds = _seconds(lambda: _run(step, steps), wait)
        with record_function(EVALUATE):
            learner.evaluate()
            wait()
    plain = (before + _seconds(lambda: _run(step, steps), wait)) / 2
    try:
        _export(profiler, out)
    except (OSError, RuntimeError) as error:
        raise RunError(f"{out}: {getattr(error, 'strerror', None) or error}") from None
    events, on_device = _of_steps(profiler.events()), learner.device.type == "cuda"
    return Trace(out, steps, seconds / steps, plain / steps, _operations(events, steps, seconds, on_device), on_device)


def _profiler(device: torch.device) -> Any:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    return profile(activities=activities)


def _step_of(learner: Learner, plan: Plan) -> Callable[[int], None]:
    """A function that trains on one batch, named by its number."""
    order = learner.row_order(0)

    def step(number: int) -> None:
        batch = number % plan.batches
        with record_function(f"{STEP}{number + 1}"):
            learner.step(order[plan.rows(range(batch, batch + 1))], never, plan.rates(0, range(batch, batch + 1)))

    return step


def _run(step: Callable[[int], None], steps: int) -> None:
    for number in range(steps):
        step(number)


def _seconds(work: Callable[[], None], wait: Callable[[], None]) -> float:
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def _of_steps(events: Iterable[Any]) -> list[Any]:
    """The events before the evaluation."""
    listed = list(events)
    until = min((event.time_range.start for event in listed if event.name == EVALUATE), default=float("inf"))
    return [event for event in listed if event.time_range.start < until]


def _operations(events: Iterable[Any], steps: int, seconds: float, on_device: bool) -> list[Operation]:
    """The operations with the most own time in a step, the rest, and what is outside of all."""
    own: dict[str, float] = {}
    calls: dict[str, int] = {}
    for event in events:
        if event.name in PARTS_OF_A_STEP or event.name.startswith((STEP, "[memory]")):
            continue
        time_of = event.self_device_time_total if on_device else event.self_cpu_time_total
        if on_device and time_of <= 0:
            continue
        name = short_name(event.name)
        own[name] = own.get(name, 0.0) + time_of / 1e6
        calls[name] = calls.get(name, 0) + 1
    longest = sorted(own, key=lambda name: own[name], reverse=True)
    found = [Operation(name, MEANINGS.get(name), own[name] / steps, calls[name] / steps) for name in longest[:TOP]]
    rest = longest[TOP:]
    if rest:
        together, times = sum(own[name] for name in rest), sum(calls[name] for name in rest)
        found.append(Operation(f"{len(rest)} others", None, together / steps, times / steps))
    if not on_device:
        outside = max(0.0, seconds - sum(own.values()))
        found.append(Operation("Python", "between operations", outside / steps, 0))
    return found


def short_name(name: str) -> str:
    """A name as people write it: no namespace, and of a range of autograd's the node."""
    name = name.removeprefix("autograd::engine::evaluate_function: ")
    if name.startswith("Optimizer.step#"):
        return "Optimizer.step"
    return name.removeprefix("aten::")
