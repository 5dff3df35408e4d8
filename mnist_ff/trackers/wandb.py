"""logger=wandb: Weights & Biases, in files by default; a sweep is a group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ff.config import WandbConfig
from mnist_ff.records import BatchRecord, EpochRecord
from mnist_ff.trackers.tracking import (
    PATIENCE,
    Beginning,
    Ending,
    Tracker,
    batch_figures,
    epoch_figures,
    final_figures,
)

if TYPE_CHECKING:
    import wandb


class Wandb(Tracker):
    """History, config, summary, pictures, and the model as an artifact."""

    title = "wandb"

    def __init__(self, config: WandbConfig) -> None:
        self._config = config
        self.place = f"{config.mode}, project {config.project}"
        self._run: wandb.Run
        self._identity = ""

    def load(self) -> None:
        """Import the library, without its reports of errors over the network."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # noqa: F401

    def begin(self, beginning: Beginning, first_step: int) -> None:
        """Start a run under this directory's identity, which goes on with the earlier one."""
        import wandb

        if self._config.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("nobody is logged in; wandb login first")
        folder = beginning.directory if self._config.directory is None else Path(self._config.directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._identity = beginning.identity
        self._run = wandb.init(
            mode=self._config.mode,
            project=self._config.project,
            entity=self._config.entity,
            dir=str(folder),
            id=beginning.identity,
            resume="allow" if self._config.mode == "online" else None,
            name=beginning.name,
            group=None if beginning.sweep is None else beginning.sweep.name,
            config={**beginning.config, **{f"run.{key}": value for key, value in beginning.tags.items()}},
            reinit="create_new",  # another job of the process may have one, and a user's script too
            settings=_quiet(),
        )
        self._run.define_metric("*", step_metric="step")

    def batches(self, records: Sequence[BatchRecord]) -> None:
        """Loss and learning rate of every batch."""
        for record in records:
            self._run.log({"step": record.step, **batch_figures(record)})

    def epoch(self, record: EpochRecord, step: int) -> None:
        """The epoch's figures."""
        self._run.log({"step": step, **epoch_figures(record)})

    def end(self, ending: Ending, step: int) -> None:
        """Score, status, pictures, model."""
        import wandb

        pictures = {f"plots/{picture.stem}": wandb.Image(str(picture)) for picture in ending.pictures}
        figures = {**final_figures(ending), **pictures}
        if figures:
            self._run.log({"step": max(step, 0), **figures})
        self._run.summary.update({"status": ending.status, "cause": ending.cause})
        if ending.model is not None:
            model = wandb.Artifact(f"model-{self._identity}", type="model")
            model.add_file(str(ending.model), skip_cache=True, policy="immutable")
            self._run.log_artifact(model)
        self._run.finish(exit_code=0 if ending.status in ("finished", "pruned") else 1)


def _quiet() -> wandb.Settings:
    """Nothing is printed, asked or captured: neither the console, nor code and git, nor the machine's figures."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        symlink=False,
        finish_timeout=PATIENCE,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
    )
