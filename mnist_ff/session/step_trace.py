"""Trace training steps and an evaluation with torch's profiler: a Chrome trace, and the longest operations."""

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
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.records import Plan
from mnist_ff.training.learner import Learner

WARM_UP_STEPS = 3
"""Steps before the traced ones."""
MAX_EVENTS = 60_000
"""About how many events a trace may have: 25 MB. A network with very many operations is traced for fewer steps."""
END_BYTES = 64
"""Bytes at the end of a trace in which its closing brace is looked for."""
MAX_LISTED = 10
"""Operations that are listed. The others are summed."""
EVALUATE, STEP = "evaluate", "step "
"""Names in the trace: the evaluation, and the prefix of a step's number."""
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
"""What an operation does, if its name does not say it to everybody."""


@dataclass(frozen=True)
class Operation:
    """An operation in a traced step."""

    name: str
    """torch's name, without `aten::`."""
    meaning: str | None
    seconds: float
    """Self time per step: without the operations that it calls."""
    calls: float
    """Calls per step."""


@dataclass(frozen=True)
class Trace:
    """A written trace and its times."""

    path: Path
    steps: int
    seconds: float
    """Seconds per step under the profiler."""
    plain_seconds: float
    """Seconds per step without it."""
    operations: Sequence[Operation]
    """The longest first, then the sum of the others, then on a CPU the time outside all operations."""
    on_device: bool = False
    """Whether operations were timed on the device, which works while the host does."""

    @property
    def times_slower(self) -> float:
        """How many times slower a step is under the profiler."""
        return self.seconds / max(self.plain_seconds, 1e-9)


@variable("KINETO_LOG_LEVEL", "9")  # keeps the profiler's library from writing to stderr
def _export(profiler: Any, out: Path) -> None:
    """Write the trace, and check that it is complete: torch ignores a full disk. Errors: OSError, RuntimeError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        try:
            profiler.export_chrome_trace(str(temporary))
        finally:  # torch writes to this file first, and may leave it behind
            temporary.with_name(f"{temporary.name}.tmp").unlink(missing_ok=True)
        with temporary.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END_BYTES))
            if not file.read().rstrip().endswith(b"}"):
                raise OSError(errno.ENOSPC, "was not written to its end; see whether the disk is full")


def traced(learner: Learner, plan: Plan, out: Path, steps: int, wait: Callable[[], None]) -> Trace:
    """Trace up to `steps` steps and an evaluation, and write the trace to `out`.

    learner: built with named=record_function. wait: synchronises the device.
    Errors: RunError if the trace cannot be written.
    """
    step = _step_of(learner, plan)
    for number in range(WARM_UP_STEPS):
        step(number)
    with _profiler(learner.device) as once:
        step(WARM_UP_STEPS)
        wait()
    steps = max(1, min(steps, MAX_EVENTS // max(1, len(once.events()))))
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
    events, on_device = _without_evaluation(profiler.events()), learner.device.type == "cuda"
    return Trace(out, steps, seconds / steps, plain / steps, _operations(events, steps, seconds, on_device), on_device)


def _profiler(device: torch.device) -> Any:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    return profile(activities=activities)


def _step_of(learner: Learner, plan: Plan) -> Callable[[int], None]:
    """A function that trains on the batch of a number, as a named range of the trace."""
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


def _without_evaluation(events: Iterable[Any]) -> list[Any]:
    """The events that begin before the evaluation."""
    listed = list(events)
    until = min((event.time_range.start for event in listed if event.name == EVALUATE), default=float("inf"))
    return [event for event in listed if event.time_range.start < until]


def _operations(events: Iterable[Any], steps: int, seconds: float, on_device: bool) -> list[Operation]:
    """The operations with the most self time, the sum of the others, and on a CPU the time outside all operations."""
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
    found = [
        Operation(name, MEANINGS.get(name), own[name] / steps, calls[name] / steps) for name in longest[:MAX_LISTED]
    ]
    rest = longest[MAX_LISTED:]
    if rest:
        seconds_of_rest, calls_of_rest = sum(own[name] for name in rest), sum(calls[name] for name in rest)
        found.append(Operation(counted(len(rest), "other"), None, seconds_of_rest / steps, calls_of_rest / steps))
    if not on_device:
        outside = max(0.0, seconds - sum(own.values()))
        found.append(Operation("Python", "between operations", outside / steps, 0))
    return found


def short_name(name: str) -> str:
    """An operation's name without its namespace or the prefix of autograd."""
    name = name.removeprefix("autograd::engine::evaluate_function: ")
    if name.startswith("Optimizer.step#"):
        return "Optimizer.step"
    return name.removeprefix("aten::")
