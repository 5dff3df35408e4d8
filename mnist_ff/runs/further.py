"""How a finished run trains further: the overrides that its resume needs."""

from __future__ import annotations

from mnist_ff.config.schema import Config
from mnist_ff.runs.records import StopKind, Summary


def further(config: Config, summary: Summary) -> list[str] | None:
    """The overrides beside resume=RUN; None where nothing is left to train, as after early stopping."""
    trainer, kind = config.trainer, None if summary.stop is None else summary.stop.kind
    if kind is StopKind.TIME_LIMIT and trainer.max_seconds is not None:
        return [f"trainer.max_seconds={2 * trainer.max_seconds:g}"]
    if kind is StopKind.TARGET:
        return ["trainer.target_accuracy=null"]
    if kind is StopKind.CALLBACK:
        return []
    return None if kind is StopKind.EARLY_STOPPING else [f"trainer.epochs={2 * trainer.epochs}"]
