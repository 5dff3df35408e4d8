"""trainer.threads=auto: how many threads make a step fastest here and now.

Steps of the real config are timed on random images, with weights and generators of their own: nothing of a run is
touched. The number goes into the run's config, so that whoever repeats or resumes it needs no measurement.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mnist_ff.config.convert import experiment, flat
from mnist_ff.config.registry import GIVEN, part
from mnist_ff.config.schema import Config
from mnist_ff.engine.cores import cores_here
from mnist_ff.runs.records import DataSpec
from mnist_ff.session.resume import RESUMABLE_KEYS, changed

if TYPE_CHECKING:  # a sweep that imports this has no need of torch yet
    import torch
    from torch import nn

BUDGET_S = 0.3
"""Seconds for all timed steps together."""
CHUNK_S = 0.005
"""Approximate seconds per measurement: longer than threads take to wake up."""
MOST_BATCHES = 25
GAIN = 1.1
"""How many times faster more threads must be than fewer to be chosen."""
Seconds = Callable[[int, int], float]
"""Seconds that so many threads take for so many batches."""

_remembered: dict[str, int] | None = None


@contextmanager
def remembered() -> Iterator[None]:
    """Inside the block steps that take the same time are measured once: the seeds of a sweep get the same threads."""
    global _remembered
    _remembered = {}
    try:
        yield
    finally:
        _remembered = None


def with_threads(config: Config, model: nn.Module | None = None, spec: DataSpec | None = None) -> Config:
    """The config with a number in place of trainer.threads=auto; any other as it is.

    `model` and `spec` are what Python gives in place of the config's model and data. On a GPU, and where no step can
    be measured, the number is PyTorch's own.
    """
    if config.trainer.threads != "auto":
        return config
    key = _what_takes_time(config)
    found = None if _remembered is None else _remembered.get(key)
    if found is None:
        found = _measured(config, model, spec)
        if _remembered is not None:
            _remembered[key] = found
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, threads=found))


def with_number(saved: Config, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values that a resume of `saved` is given, with a number in place of trainer.threads=auto."""
    if values.get("trainer.threads") != "auto":
        return values
    return {**values, "trainer.threads": with_threads(changed(saved, values)).trainer.threads}


def _what_takes_time(config: Config) -> str:
    """The keys on which the time of a step depends; of numbers that switch something on, whether they do."""
    values = flat(experiment(config)).items()
    kept = {key: value for key, value in values if key not in RESUMABLE_KEYS | {"seed", "name"}}
    return json.dumps({key: bool(value) if isinstance(value, float) else value for key, value in kept.items()})


def _measured(config: Config, model: nn.Module | None, spec: DataSpec | None) -> int:
    import torch

    from mnist_ff.engine.device import prepared

    threads = candidates(min(torch.get_num_threads(), cores_here()))
    if len(threads) == 1:
        return threads[0]
    own = dataclasses.replace(config.trainer, threads=None)
    if own.compile:  # compiling alone takes a minute
        own = dataclasses.replace(own, compile=False, engine="eager")
    with prepared(own, 0) as device, _chance_of_others_kept():
        if device.type != "cpu":
            return torch.get_num_threads()
        try:
            seconds = _timed(dataclasses.replace(config, trainer=own, seed=0, metrics=()), device, model, spec)
            return fastest(threads, seconds)
        except (Exception, SystemExit):  # a step that cannot be made: the run says why
            return threads[-1]


def candidates(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the most."""
    return (*(1 << power for power in range(most.bit_length()) if 1 << power < most), most)


def fastest(threads: Sequence[int], seconds: Seconds) -> int:
    """The number of threads with the smallest median time, and of those nearly as fast the smallest number.

    All take turns, so that the machine's other work falls on all alike. Where the first few take too long, so large a
    step gets the most.
    """
    last: dict[int, float] = {}
    for count in threads:
        if sum(last.values()) > BUDGET_S:
            return threads[-1]
        last[count] = seconds(count, 1)  # with all that is set up at a first step
    times: dict[int, list[float]] = {count: [] for count in threads}
    spent = coming = sum(last.values())
    turn = tuple(threads)
    while spent + coming <= BUDGET_S:
        coming, turn = 0.0, turn[::-1]
        for count in turn:
            batches = max(1, min(int(CHUNK_S / max(last[count], 1e-9)), MOST_BATCHES))
            took = seconds(count, batches)
            coming += took
            last[count] = took / batches
            times[count].append(last[count])
        spent += coming
    medians = {count: statistics.median(found or [last[count]]) for count, found in times.items()}
    best = min(medians.values())
    return min(count for count, median in medians.items() if median <= GAIN * best)


def _timed(config: Config, device: torch.device, model: nn.Module | None, spec: DataSpec | None) -> Seconds:
    """Times steps of a learner that is nobody else's."""
    import torch

    from mnist_ff.data.catalog import description
    from mnist_ff.data.random_images import random_images
    from mnist_ff.models.user_module import to_train_on
    from mnist_ff.optim.schedule import is_scheduled
    from mnist_ff.training.learner import Learner

    spec = description(config.data).spec if spec is None else spec
    if model is None and config.model.name == GIVEN["model"]:
        model = part("model", config.model.name).build(config.model, spec, 0, torch.device("meta"))
    shape, batch = spec.shape, config.trainer.batch_size
    if model is not None:
        model, shape = to_train_on(copy.deepcopy(model), 0, device, spec)
    step = Learner(config, random_images(spec, batch).viewed(shape).to(device), model).step
    rates = MOST_BATCHES * (config.optimizer.lr,) if is_scheduled(config.schedule) else ()
    rows = torch.arange(MOST_BATCHES * batch) % batch

    def seconds(threads: int, batches: int) -> float:
        torch.set_num_threads(threads)
        began = time.perf_counter()
        step(rows[: batches * batch], rates=rates[:batches])
        return time.perf_counter() - began

    return seconds


@contextmanager
def _chance_of_others_kept() -> Iterator[None]:
    """After the block Python's and NumPy's generators, which a user's model may draw from, are as they were.

    What it warns of is said when the run builds it.
    """
    import numpy as np

    states: tuple[Any, Any] = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
