"""Summarise: how a run ended, for summary.json and for the terminal."""

from __future__ import annotations

import shlex

from mnist_ff.config.own_parts import flags
from mnist_ff.config.paths import display_path
from mnist_ff.models.mlp import count_parameters
from mnist_ff.runs.directory import REPORT
from mnist_ff.runs.given import given_arguments, python_call
from mnist_ff.runs.numbers import counted, score_text
from mnist_ff.runs.parts import has_own
from mnist_ff.runs.records import Outcome, Plan, Score, Status, Summary
from mnist_ff.session.request import RunRequest
from mnist_ff.training.learner import Learner


def summarise(request: RunRequest, learner: Learner, plan: Plan, outcome: Outcome, score: Score) -> Summary:
    """The summary after training; `score` is on the test images."""
    stop = outcome.stopped or request.stopped()
    return Summary(
        status=Status.FINISHED if outcome.stopped is None else outcome.stopped.status,
        cause=None if stop is None else stop.text,
        score=score,
        epochs=plan.start.epoch + len(outcome.epochs),
        steps=outcome.steps,
        parameters=count_parameters(learner.model),
        seed=learner.seed,
        name=request.config.name,
        data=learner.data.name,
        data_instead_of=learner.data.instead_of,
        seconds=request.timing.seconds(),
    )


def summary_lines(request: RunRequest, summary: Summary) -> list[str]:
    """What is printed when training has ended: the score, the time, and what to do next."""
    assert summary.score is not None
    run, seconds, lines = request.run, summary.seconds, []
    path = display_path(run.path)
    if summary.status is not Status.FINISHED or summary.stopped_early or summary.stopped_on_request:
        lines.append(f"{summary.status}: {summary.cause}, after {counted(summary.steps, 'batch')}")
    lines.append(f"score          {score_text(summary.score)}")
    steps = f" (steps {seconds['train.steps']:.1f} s)" if "train.steps" in seconds else ""
    lines.append(f"training {seconds['train']:.1f} s{steps}, total {seconds['total']:.1f} s")
    lines.append(f"run directory  {path}")
    if request.config.trainer.plots and request.stopped() is not None:
        lines.append(f"draw plots     mnist-ff report {shlex.quote(str(path))}")
    elif run.file(REPORT).is_file():
        lines.append(f"report         {shlex.quote(str(path / REPORT))}")
    if given_arguments(request.config):
        return [*lines, f"train further  {how_to_resume(request)}"]
    if summary.status is Status.INTERRUPTED:
        lines.append(f"resume         {how_to_resume(request)}")
    parts = flags() if has_own(request.config) else ""
    return [*lines, f"evaluate       mnist-ff evaluate {shlex.quote(str(path))}{parts}"]


def how_to_resume(request: RunRequest) -> str:
    """The command that trains the run further, or the call, where Python gave its data or model."""
    path, config = display_path(request.run.path), request.config
    if given_arguments(config):
        return python_call(path, config)
    parts = flags() if has_own(config) else ""
    return f"mnist-ff train resume={shlex.quote(str(path))}{parts}"
