"""The trackers that a config chooses."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from pathlib import Path

from mnist_ff.config import LoggerConfig
from mnist_ff.files import write_text
from mnist_ff.runs import Run
from mnist_ff.trackers.mlflow import MLflow
from mnist_ff.trackers.tensorboard import TensorBoard
from mnist_ff.trackers.tracking import Tracker
from mnist_ff.trackers.wandb import Wandb

IDENTITY = "tracking.id"


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


def identity(run: Run) -> str:
    """The name by which trackers know this run again, 16 hex digits: the saved one, or a new one, which is saved.

    Errors: OSError.
    """
    path: Path = run.file(IDENTITY)
    with suppress(OSError, UnicodeDecodeError):
        saved = path.read_text(encoding="utf-8").strip()
        if re.fullmatch(r"[0-9a-f]{16}", saved):
            return saved
    made = secrets.token_hex(8)
    write_text(path, made + "\n")
    return made
