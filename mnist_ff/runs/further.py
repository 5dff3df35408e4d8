"""How a finished run trains further: the overrides that its resume needs."""

from __future__ import annotations

from mnist_ff.config.schema import Config
from mnist_ff.runs.records import StopKind, Summary


def overrides_to_continue(config: Config, summary: Summary) -> list[str] | None:
    """The overrides besides resume=RUN with which a finished run trains on; None after early stopping."""
    trainer, kind = config.trainer, None if summary.stop is None else summary.stop.kind
    if kind is StopKind.TIME_LIMIT and trainer.max_seconds is not None:
        return [f"trainer.max_seconds={2 * trainer.max_seconds:g}"]
    if kind is StopKind.TARGET:
        return ["trainer.target_accuracy=null"]
    if kind is StopKind.CALLBACK:
        return []
    return None if kind is StopKind.EARLY_STOPPING else [f"trainer.epochs={2 * trainer.epochs}"]
