"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch

from mnist_ff.engine.step import Step, never
from mnist_ff.errors import DivergedError
from mnist_ff.runs.records import BatchRecord, EpochRecord, Outcome, Plan, StopReason
from mnist_ff.training.callbacks import Callback
from mnist_ff.training.chosen_callbacks import ChosenCallback
from mnist_ff.training.evaluation import EpochScores

Evaluate = Callable[[], EpochScores]
Shuffle = Callable[[int], torch.Tensor]
"""An epoch's number to its row order, (N,) int64 on the device."""
Timed = Callable[[str], AbstractContextManager[None]]
"""The name of a part of a run to a context manager that measures its seconds; see session/timing.py."""


def untimed(name: str) -> AbstractContextManager[None]:
    """Measures nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Listeners:
    """The callbacks of training, what can stop it, and what measures its time."""

    callbacks: Sequence[Callback] = ()
    stopped: Callable[[], StopReason | None] = never
    """Called after every batch, or as often as the step can stop. Returns a reason to stop, or None."""
    timed: Timed = untimed

    @cached_property
    def chosen(self) -> list[ChosenCallback]:
        """The user's callbacks, which may ask to stop, or fail."""
        return [callback for callback in self.callbacks if isinstance(callback, ChosenCallback)]

    def asked_to_stop(self) -> StopReason | None:
        """The first reason to stop that a user's callback gives, or None."""
        reasons = (callback.reason_to_stop() for callback in self.chosen)
        return next((reason for reason in reasons if reason is not None), None)

    def reason_to_stop(self) -> StopReason | None:
        """The reason to stop, or None."""
        return self.stopped() or self.asked_to_stop()


def fit(
    step: Step,
    evaluate: Evaluate,
    shuffle: Shuffle,
    plan: Plan,
    listeners: Listeners = Listeners(),
) -> Outcome:
    """Train as planned and pass each batch's own loss to the callbacks.

    Training stops early if `listeners.stopped` gives a reason, or if a user's callback asks for it or raises an
    exception, which is raised again after on_train_end(). Everything so far is kept.
    Errors: DivergedError at the first loss that is not finite; exceptions of users' callbacks.
    """
    callbacks, timed = listeners.callbacks, listeners.timed
    epochs: list[EpochRecord] = []
    began, steps, reason = time.perf_counter(), plan.first_step, None
    with timed("train.callbacks"):
        for callback in callbacks:
            callback.on_train_begin(plan)
    for epoch in range(plan.start.epoch, plan.epochs):
        epoch_began = time.perf_counter()
        batches, reason = _train_epoch(step, shuffle(epoch), epoch, plan, listeners)
        steps = epoch * plan.batches + len(batches)
        if len(batches) < plan.batches:
            break
        with timed("train.scores"):
            scores = evaluate() if plan.evaluates(epoch) else EpochScores()
        _check_finite(scores, epoch, plan)
        epochs.append(_epoch_record(epoch, batches, scores, time.perf_counter() - epoch_began))
        with timed("train.callbacks"):
            for callback in callbacks:
                callback.on_epoch_end(epochs[-1])
        reason = reason or listeners.reason_to_stop()
        if reason is not None:
            break
    outcome = Outcome(steps, tuple(epochs), time.perf_counter() - began, reason if steps < plan.steps else None)
    with timed("train.callbacks"):
        for callback in callbacks:
            callback.on_train_end(outcome)
    for callback in listeners.chosen:
        callback.raise_failure()
    return outcome


def _train_epoch(
    step: Step, order: torch.Tensor, epoch: int, plan: Plan, listeners: Listeners
) -> tuple[list[BatchRecord], StopReason | None]:
    """Train an epoch, or the rest of the plan's first one. Returns all its records, and the reason to stop or None."""
    callbacks, stopped, timed = listeners.callbacks, listeners.stopped, listeners.timed
    with timed("train.callbacks"):
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
    batch_listeners = [callback.on_batch_end for callback in callbacks if _hears_batches(callback)]
    batches = list(plan.start.batches) if epoch == plan.start.epoch else []
    reason = listeners.asked_to_stop()
    for chunk in plan.chunks(len(batches)) if reason is None else ():
        with timed("train.steps"):
            metrics = _read(step(order[plan.rows(chunk)], stopped, plan.rates(epoch, chunk)))
        with timed("train.records"):
            for record in _records(plan, epoch, chunk, metrics):
                batches.append(record)
                for on_batch_end in batch_listeners:
                    on_batch_end(record)
            for callback in callbacks:
                callback.on_chunk_end(batches[-1])
        reason = listeners.reason_to_stop()
        if reason is not None:
            break
    return batches, reason


def _hears_batches(callback: Callback) -> bool:
    """Whether a callback overrides on_batch_end(). Most do not, and empty calls take time, too."""
    return getattr(callback.on_batch_end, "__func__", None) is not Callback.on_batch_end


def _read(metrics: torch.Tensor) -> list[tuple[float, float]]:
    """Copy the losses and correct counts of a chunk to the host. This is the only place that waits for the device."""
    return [(loss, correct) for loss, correct in metrics.tolist()]


def _records(plan: Plan, epoch: int, chunk: range, metrics: list[tuple[float, float]]) -> Iterator[BatchRecord]:
    first = epoch * plan.batches
    for batch, (loss, correct) in zip(chunk, metrics, strict=False):  # fewer metrics if training was stopped
        step = first + batch
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss} at epoch {epoch + 1}, batch {batch + 1} (lr {plan.rate(step):g}); "
                "try a smaller optimizer.lr"
            )
        yield BatchRecord(step, epoch, batch, loss, plan.rate(step), plan.samples_in(batch), int(correct))


def _check_finite(scores: EpochScores, epoch: int, plan: Plan) -> None:
    for part, score in scores.parts.items():
        if not math.isfinite(score.loss):
            rate = plan.rate((epoch + 1) * plan.batches - 1)
            raise DivergedError(
                f"the {part} loss became {score.loss} after epoch {epoch + 1} (lr {rate:g}); try a smaller optimizer.lr"
            )


def _epoch_record(epoch: int, batches: Sequence[BatchRecord], scores: EpochScores, seconds: float) -> EpochRecord:
    samples = sum(batch.samples for batch in batches)
    return EpochRecord(
        epoch=epoch,
        train_loss=sum(batch.loss * batch.samples for batch in batches) / samples,
        train_accuracy=sum(batch.correct for batch in batches) / samples,
        test=scores.parts.get("test"),
        validation=scores.parts.get("validation"),
        seconds=seconds,
        train=scores.parts.get("train"),
        metrics=scores.metrics,
    )
