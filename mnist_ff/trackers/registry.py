"""The trackers that a config chooses."""

from __future__ import annotations

from mnist_ff.config.schema import LoggerConfig
from mnist_ff.trackers.base import Tracker
from mnist_ff.trackers.mlflow import MLflow
from mnist_ff.trackers.tensorboard import TensorBoard
from mnist_ff.trackers.wandb import Wandb


def chosen_trackers(config: LoggerConfig) -> list[Tracker]:
    """One tracker for each section that is there; no tool is imported yet."""
    trackers: list[Tracker] = []
    if config.tensorboard is not None:
        trackers.append(TensorBoard(config.tensorboard))
    if config.mlflow is not None:
        trackers.append(MLflow(config.mlflow))
    if config.wandb is not None and not config.silenced:
        trackers.append(Wandb(config.wandb))
    return trackers


def tracker_notes(config: LoggerConfig) -> list[str]:
    """What a user should know about the choice, a line each."""
    return ["wandb is off: logger.wandb.mode=disabled (or WANDB_MODE)"] if config.silenced else []
