"""The trackers of one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mnist_ff.config.convert import experiment, flat
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import sweep_of
from mnist_ff.session.failures import status_of
from mnist_ff.session.messages import Messages
from mnist_ff.session.request import RunRequest
from mnist_ff.trackers.base import Beginning, Ending
from mnist_ff.trackers.identity import identify
from mnist_ff.trackers.tracking import Tracking, chosen_trackers, end_all


@contextmanager
def tracked(request: RunRequest, first_step: int, messages: Messages) -> Iterator[list[Tracking]]:
    """Inside the block the chosen trackers hear of the run as observers; at its end they hear how it ended."""
    with request.timing.part("import"):
        trackings = _begin(request, first_step, messages)
    try:
        yield trackings
    except BaseException as error:
        end_all(trackings, Ending(status_of(error), str(error)), request.stopped)
        raise
    end_all(trackings, _ending(request), request.stopped)


def _begin(request: RunRequest, first_step: int, messages: Messages) -> list[Tracking]:
    run, config = request.run, request.config
    chosen = chosen_trackers(config.logger)
    if not chosen:
        return []
    identity = identify(run, [tracker.title for tracker in chosen], first_step)
    if identity.copied is not None:
        messages.say(f"this is a copy of {identity.copied}: trackers treat it as a new run")
    beginning = Beginning(
        identity=identity.name,
        directory=run.path,
        name=config.name or run.path.name,
        sweep=sweep_of(run.path),
        config=flat(experiment(config)),
        tags=_tags(run),
    )
    return [Tracking(tracker, beginning, messages.warn, identity.since[tracker.title]) for tracker in chosen]


def _tags(run: Run) -> dict[str, str]:
    """What trackers are told of a run beside its config, from its environment.json."""
    known = run.environment()
    keys = ("started", "device", "device_name", "engine")
    tags = {"directory": run.path, "torch": torch.__version__, **{key: known.get(key) for key in keys}}
    git = known.get("git")
    if isinstance(git, dict):
        tags |= {f"git_{key}": git.get(key) for key in ("sha", "dirty")}
    return {key: str(value) for key, value in tags.items()}


def _ending(request: RunRequest) -> Ending:
    """How the run ended, from its own files."""
    run = request.run
    summary, model = run.summary(), run.file("model.safetensors")
    assert summary is not None
    pictures = sorted(run.file("plots").glob("*.png")) if request.config.trainer.plots else []
    return Ending(summary.status, summary.cause, summary.score, tuple(pictures), model)
