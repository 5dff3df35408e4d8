"""Summarise how a run ended, for summary.json and for the terminal."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from mnist_ff.config.own_parts import flags
from mnist_ff.config.paths import display_path
from mnist_ff.config.schema import Config
from mnist_ff.models.mlp import count_parameters
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.further import overrides_to_continue
from mnist_ff.runs.given import given_arguments, python_call
from mnist_ff.runs.numbers import counted, loss_text, score_text
from mnist_ff.runs.parts import has_own
from mnist_ff.runs.records import EpochRecord, Outcome, Plan, Score, Status, Summary
from mnist_ff.session.request import RunRequest
from mnist_ff.training.learner import Learner

NEARLY_ZERO_LOSS = 0.01
"""Loss below which a network has memorised a single batch."""


@dataclass(frozen=True)
class Ended:
    """How the training of a run ended."""

    plan: Plan
    outcome: Outcome
    score: Score
    """Of the kept weights on the test images."""
    trained_seconds: float
    """This field and the next three are as in Summary."""
    target_reached: bool | None
    validation: Score | None
    not_learning: str | None


def summarise(request: RunRequest, learner: Learner, ended: Ended) -> Summary:
    """The summary after training."""
    outcome = ended.outcome
    stop = outcome.stopped or request.stopped()
    return Summary(
        status=Status.FINISHED if outcome.stopped is None else outcome.stopped.status,
        cause=None if stop is None else stop.text,
        score=ended.score,
        epochs=ended.plan.start.epoch + len(outcome.epochs),
        steps=outcome.steps,
        parameters=count_parameters(learner.model),
        seed=learner.seed,
        name=request.config.name,
        data=learner.data.name,
        data_instead_of=learner.data.instead_of,
        seconds=request.timing.seconds(),
        trained_seconds=round(ended.trained_seconds, 4),
        target_reached=ended.target_reached,
        validation=ended.validation,
        not_learning=ended.not_learning,
    )


def overfit_line(epoch: EpochRecord) -> tuple[str, str]:
    """A message whether a single batch was memorised, and its colour."""
    loss = epoch.train_loss if epoch.train is None else epoch.train.loss
    if loss < NEARLY_ZERO_LOSS:
        return f"one batch      learned by heart: its loss is {loss_text(loss)}, about zero", "green"
    return (
        f"warning: the loss of one batch is {loss_text(loss)} after {counted(epoch.epoch + 1, 'epoch')}, not about "
        "zero: raise trainer.epochs or optimizer.lr, or look for a fault in model, optimizer or labels"
    ), "yellow"


def resume_command(run: Run, config: Config, *words: str) -> str:
    """The command that resumes a run, quoted for a shell."""
    parts = flags() if has_own(config) else ""
    return f"mnist-ff train {shlex.join([f'resume={display_path(run.path)}', *words])}{parts}"


def summary_lines(request: RunRequest, summary: Summary) -> list[str]:
    """The lines that are printed when training has ended: score, time, and the next commands."""
    assert summary.score is not None
    run, seconds, lines = request.run, summary.seconds, []
    path = display_path(run.path)
    if summary.status is not Status.FINISHED or summary.stopped_early or summary.stopped_on_request:
        target = request.config.trainer.target_accuracy
        missed = summary.status is Status.FINISHED and summary.target_reached is False
        missing = f"; trainer.target_accuracy={target:g} was not reached" if missed else ""
        lines.append(f"{summary.status}: {summary.cause}, after {counted(summary.steps, 'batch')}{missing}")
    elif summary.target_reached is False:
        lines.append(f"finished: no epoch reached trainer.target_accuracy={request.config.trainer.target_accuracy:g}")
    lines.append(f"score          {score_text(summary.score)}")
    steps = f" (steps {seconds['train.steps']:.1f} s)" if "train.steps" in seconds else ""
    lines.append(f"training       {seconds['train']:.1f} s{steps}, total {seconds['total']:.1f} s")
    lines.append(f"run directory  {path}")
    if request.config.trainer.plots and request.stopped() is not None:
        lines.append(f"draw plots     mnist-ff report {shlex.quote(str(path))}")
    elif run.file(REPORT).is_file():
        lines.append(f"report         {shlex.quote(str(path / REPORT))}")
    return [*lines, *next_commands(run, request.config, summary)]


def next_commands(run: Run, config: Config, summary: Summary) -> list[str]:
    """The two most useful commands after a run, by how it ended."""
    path = display_path(run.path)
    if given_arguments(config):
        return [f"train further  {python_call(path, config)}"]
    parts = flags() if has_own(config) else ""
    evaluate = f"evaluate       mnist-ff evaluate {shlex.quote(str(path))}{parts}"
    if summary.status is Status.INTERRUPTED:
        return [f"resume         {resume_command(run, config)}", evaluate]
    more = overrides_to_continue(config, summary) if summary.stopped_early or summary.stopped_on_request else None
    if more is not None:
        return [evaluate, f"train further  {resume_command(run, config, *more)}"]
    return [evaluate, f"predict        mnist-ff predict {shlex.quote(str(path))} --index 0 1 2{parts}"]


def how_to_resume(request: RunRequest) -> str:
    """The command that resumes the run, or the Python call if its data or model came from Python."""
    config = request.config
    if given_arguments(config):
        return python_call(display_path(request.run.path), config)
    return resume_command(request.run, config)
