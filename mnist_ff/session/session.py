"""Train a resolved config: from data to a run directory with metrics, weights, plots and report."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch

from mnist_ff.analysis.console import tell
from mnist_ff.data.load import load_data
from mnist_ff.engine import device as devices
from mnist_ff.errors import DivergedError, RunError, Stopped
from mnist_ff.models.mlp import count_parameters
from mnist_ff.runs.directory import CHECKPOINT
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.parts import write_parts
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.records import Outcome, Plan, Position, Score, StopReason, Summary
from mnist_ff.runs.tables import metric_columns
from mnist_ff.session.artifacts import keep
from mnist_ff.session.drawing import draw, write_page
from mnist_ff.session.environment import environment
from mnist_ff.session.failures import failures_of_the_machine, write_failure
from mnist_ff.session.messages import Messages, logging_to
from mnist_ff.session.request import RunRequest
from mnist_ff.session.resolve import warn_of_fallback
from mnist_ff.session.restore import (
    begin,
    begin_again,
    check_same_data,
    check_same_teacher,
    monitored,
    read_checkpoint,
    restore,
    seconds_before,
    watched_before,
)
from mnist_ff.session.resume import recipe
from mnist_ff.session.summary import Ended, how_to_resume, overfit_line, summarise, summary_lines
from mnist_ff.session.tracking import tracked
from mnist_ff.trackers.tracking import Tracking, tracker_notes
from mnist_ff.training.busy import WatchedStep
from mnist_ff.training.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochLines,
    MetricWarnings,
    RunWriter,
)
from mnist_ff.training.checkpoint import TrainingState
from mnist_ff.training.checkpoint_writer import CheckpointWriter
from mnist_ff.training.chosen_callbacks import chosen_callbacks, with_view
from mnist_ff.training.evaluation import score as score_on
from mnist_ff.training.learner import Learner
from mnist_ff.training.limits import Clock, TargetAccuracy, first_reason
from mnist_ff.training.loss_watch import LossWatch
from mnist_ff.training.progress_bar import ProgressBar

log = logging.getLogger("mnist_ff")


def train(request: RunRequest) -> Summary:
    """Train in the request's directory and return the summary, which is also written to summary.json.

    Errors: any; a summary with status diverged or failed is written first.
    """
    config, run = request.config, request.run
    assert config.seed is not None
    with run.locked(), logging_to(run.file("train.log")):
        if not request.is_resume:
            with failures_of_the_machine(run):
                write_parts(run)
                run.write_config(config)
        training = None
        try:
            with failures_of_the_machine(run), devices.prepared(config.trainer, config.seed) as device:
                training = _Training(request, device)
                with tracked(request, training.plan.first_step, training.messages) as trackings:
                    return training.run_all(trackings)
        except Stopped:  # by a second signal
            if run.file(CHECKPOINT).exists():
                Messages(request.console).say(f"stopped at once; resume  {how_to_resume(request)}")
            raise
        except BaseException as error:  # also SystemExit and others from a user's part; Ctrl-C is handled as a signal
            if not request.is_resume or training is not None:  # a resume that could not begin changes nothing
                with suppress(OSError, RunError):  # a full disk must not hide the reason
                    write_failure(run, config, error, request.timing)
                if is_taken(run.file(CHECKPOINT)) and not isinstance(error, DivergedError):
                    tell(request.console, f"resume         {how_to_resume(request)}")
                if config.trainer.plots and isinstance(error, DivergedError):
                    write_page(run, log.warning)
            raise


class _Training:
    """One run from its first step to its summary."""

    def __init__(self, request: RunRequest, device: torch.device) -> None:
        config, run, timing = request.config, request.run, request.timing
        assert config.seed is not None
        self.request, self.config, self.run, self.device = request, config, run, device
        self.messages = Messages(request.console)
        self.early_stopping = EarlyStopping.from_config(config.trainer)
        self.target, self.clock = TargetAccuracy.from_config(config.trainer), Clock(config.trainer.max_seconds)
        self.best_weights: dict[str, torch.Tensor] | None = None
        self.writer: RunWriter | None = None
        self.checkpoints = CheckpointWriter(run, device)
        saved = read_checkpoint(run, config, self.messages.warn) if request.is_resume else None
        with timing.part("data"):
            data = load_data(config.data, config.seed).to(device)
        if saved is not None:
            check_same_data(run, data)
        with timing.part("build"):
            self.learner = Learner(config, data)
        conditions = environment(config, data, device, self.learner.step.info, list(request.argv))
        position = Position()
        if saved is not None:
            position = self._restore(saved)
            check_same_teacher(run, conditions)
        self.plan = self.learner.plan(position)
        trained_on = self.learner.data.train
        self.loss_watch = LossWatch(config, trained_on.labels, trained_on.classes, self.messages.warn)
        self.callbacks = chosen_callbacks(config.callbacks, self.learner.model)
        if saved is None:
            begin(run, conditions)
            return
        write_parts(run)
        begin_again(run, self.plan, conditions, request.changes or {})
        self.learner.metrics.columns = metric_columns(run.path) or None
        if self.early_stopping is not None:
            self.early_stopping.resume(monitored(run, config.trainer.monitor), config.trainer.epochs)
        if self.target is not None:
            self.target.resume(*watched_before(run, self.learner.data))
        self.clock.resume(seconds_before(run, saved))

    def _restore(self, saved: Mapping[str, Any]) -> Position:
        position = restore(self.learner, saved, self.run)
        before, now = saved["device"], self.learner.device.type
        if before != now:
            self.messages.warn(f"the random generators of {before} cannot be restored on {now}; they are reseeded")
        if self.config.trainer.keep_best:
            self.best_weights = saved["best"]
        return position

    def run_all(self, trackings: Sequence[Tracking]) -> Summary:
        """Train, save the results, summarise and draw."""
        self._announce(trackings)
        outcome = self._fit(trackings)
        with self.request.timing.part("keep"):
            self._choose_weights(outcome)
            ended = self._ended(outcome, keep(self.run, self.learner))
            self._secure_numbers()
            summary = summarise(self.request, self.learner, ended)
            self.run.write_summary(summary)  # before plots, which a signal gives 5 s and a kill none
        if self.config.trainer.plots and self.request.draws and self.request.stopped() is None:
            summary = self._draw(ended)
        if self.config.trainer.limit_batches == 1 and outcome.epochs:
            self.messages.say(*overfit_line(outcome.epochs[-1]))
        for line in summary_lines(self.request, summary):
            self.messages.say(line)
        warn_of_fallback(self.learner.data, self.messages.console)
        return summary

    def _ended(self, outcome: Outcome, score: Score) -> Ended:
        """How training ended. `score` is that of the kept weights on the test images."""
        held_out = self.learner.data.validation
        within = outcome.stopped is not None and outcome.steps % self.plan.batches > 0
        validation = score_on(self.learner.model, held_out) if within and held_out is not None else None
        unfinished_epoch = (validation or score) if within else None
        return Ended(
            self.plan,
            outcome,
            score,
            trained_seconds=self.clock.seconds,
            target_reached=None if self.target is None else self.target.reached_by(unfinished_epoch),
            validation=validation,
            not_learning=self.loss_watch.found,
        )

    def _announce(self, trackings: Sequence[Tracking]) -> None:
        learner, trainer, say = self.learner, self.config.trainer, self.messages.say
        warn_of_fallback(learner.data, self.messages.console)
        for text in learner.data.facts.warnings:
            self.messages.warn(text)
        how = f"{learner.step.info.engine}, {trainer.precision}"
        if self.device.type == "cpu":
            how += f", {counted(torch.get_num_threads(), 'thread')}"
        say(
            f"{learner.data.own_title}: {len(learner.data.train):,} images to train, "
            f"{count_parameters(learner.model):,} parameters, {self.device} ({how})"
        )
        if self.request.is_resume:
            say(_goes_on(self.plan))
        notes = [f"tracked by {tracking.where}" for tracking in trackings]
        for note in [*notes, *tracker_notes(self.config.logger), *learner.step.info.notes]:
            say(note)

    def _fit(self, trackings: Sequence[Tracking]) -> Outcome:
        timing, messages = self.request.timing, self.messages
        with timing.part("build"):
            self.learner.prepare(self.plan)
        if self.device.type == "cpu":
            self.learner.step = WatchedStep(self.learner.step, partial(_say_busy, messages.warn))
        with ExitStack() as stack:
            stack.enter_context(timing.part("train"))
            early = self._limit_reached()
            if self.request.is_resume and early is not None:  # nothing is left to train, only to save
                return Outcome(self.plan.first_step, (), 0.0, early)
            self.writer = stack.enter_context(RunWriter.opened(self.run, self.request.is_resume))
            stack.enter_context(self.checkpoints)
            callbacks: list[Callback | None] = [
                self.writer,
                EpochLines(messages.say, messages.console.width if messages.console.is_terminal else None),
                self.clock,
                self.loss_watch,
                self.early_stopping,
                self.target,
                Checkpoint(self._timed_save),
                self.request.pruning,
                MetricWarnings(messages.warn),
                *trackings,
            ]
            if messages.console.is_terminal:
                callbacks.append(stack.enter_context(ProgressBar.shown(messages.console)))
            callbacks += [*self.callbacks, *with_view(self.request.observers, self.learner.model)]
            observers = [callback for callback in callbacks if callback is not None]
            asked = (self.request.stopped, self.request.pruning, self.early_stopping, self.target, self.clock)
            outcome = self.learner.fit(self.plan, observers, first_reason(*asked), timing.part)
            with timing.part("train.checkpoints"):
                self.checkpoints.wait()
            return outcome

    def _limit_reached(self) -> StopReason | None:
        """The reason to stop, if the epochs before this resume already reached a limit."""
        if self.plan.first_step == self.plan.steps:
            return None
        return first_reason(self.early_stopping, self.target, self.clock)()

    def _timed_save(self, position: Position) -> None:
        with self.request.timing.part("train.checkpoints"):
            self._save(position)

    def _save(self, position: Position) -> None:
        """Save a checkpoint, and keep a copy of the weights after the best epoch so far."""
        self.checkpoints.wait()  # one at a time
        if self.config.trainer.keep_best and not position.batches:
            assert self.early_stopping is not None
            if self.early_stopping.best_epoch == position.epoch - 1:
                self.best_weights = self.learner.averaged_weights()
        state = TrainingState(
            position, recipe(self.config), self.learner.state_dict(), self.best_weights, self.clock.seconds
        )
        held = self.checkpoints.held(state)
        self._check_finite(held.learner["model"], position)
        self._secure_numbers(self.checkpoints.sync)  # a checkpoint implies that they are on disk
        self.checkpoints.write(held)
        if position == Position():
            self.checkpoints.wait()  # a run without any checkpoint cannot be resumed

    def _check_finite(self, weights: Mapping[str, torch.Tensor], position: Position) -> None:
        """Check that all weights are finite. Errors: DivergedError, with the learning rate of the last step."""
        if not all(_is_finite(weights[name]) for name in self.learner.must_be_finite):
            steps = position.epoch * self.plan.batches + len(position.batches)
            raise DivergedError(
                f"a weight is not finite after epoch {position.epoch}, batch {len(position.batches)} "
                f"(lr {self.plan.rate(max(0, steps - 1)):g}); try a smaller optimizer.lr"
            )

    def _secure_numbers(self, sync: Callable[[int], object] = os.fsync) -> None:
        for wrong in [] if self.writer is None else self.writer.secure(sync):
            self.messages.warn(wrong)

    def _choose_weights(self, outcome: Outcome) -> None:
        """Load the weights that the run keeps into the model: the best epoch's, or the averages."""
        if self.config.trainer.keep_best and self.best_weights is not None:
            assert self.early_stopping is not None
            assert self.early_stopping.best_epoch is not None
            self.learner.model.load_state_dict(self.best_weights)
            self.messages.say(f"keeping the weights of the best epoch, {self.early_stopping.best_epoch + 1}")
        elif outcome.steps:
            self.learner.use_averages()

    def _draw(self, ended: Ended) -> Summary:
        """Draw plots and report. The summary is written again after each, with its seconds, which the report shows.

        After a signal the rest is left to mnist-ff report.
        """
        title, name, timing = self.learner.data.title, self.config.name, self.request.timing
        with timing.part("plots"):
            draw(self.run, title if name is None else f"{name}: {title}", self.messages.warn, self.request.stopped)
        summary = self._summarise_again(ended)
        if self.request.stopped() is not None:
            return summary
        with timing.part("report"):
            write_page(self.run, self.messages.warn)
        return self._summarise_again(ended)

    def _summarise_again(self, ended: Ended) -> Summary:
        summary = summarise(self.request, self.learner, ended)
        try:
            self.run.write_summary(summary)
        except RunError as error:
            self.messages.warn(f"{error}; the summary written before is kept")
        return summary


def _goes_on(plan: Plan) -> str:
    """A message where a resumed run continues, counted from 1."""
    if plan.first_step == plan.steps:
        return f"resumed after the last epoch ({plan.epochs}): only the final files are missing"
    where = f"epoch {plan.start.epoch + 1} of {plan.epochs}, batch {len(plan.start.batches) + 1} of {plan.batches}"
    return f"resumed from {where}"


def _say_busy(warn: Callable[[str], None], times: float) -> None:
    """Not a method: a reference cycle through the learner would keep its data in memory after the run."""
    threads = torch.get_num_threads()
    fewer = "" if threads == 1 else f", or a resume with trainer.threads=1 or auto (now {threads})"
    warn(
        f"steps are {times:.1f} times slower than at the start, because other programs use the processor; what "
        f"helps: fewer programs or jobs at once{fewer}"
    )


def _is_finite(numbers: torch.Tensor) -> bool:
    """Whether all elements of a tensor are finite. If their sum is finite, so are they; else each is checked."""
    summed = numbers.dtype in (torch.float32, torch.float64) and bool(numbers.sum().isfinite())
    return summed or bool(numbers.isfinite().all())
