"""logger=tensorboard: event files, written by torch's SummaryWriter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_ff.config import TensorBoardConfig
from mnist_ff.records import BatchRecord, EpochRecord
from mnist_ff.trackers.tracking import Beginning, Ending, Tracker, batch_figures, epoch_figures, final_figures

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSHED = 10
"""Seconds between two writes to disk."""


class TensorBoard(Tracker):
    """Scalars, the config as text and as hyperparameters, pictures. There is no place for the model but its path."""

    title = "TensorBoard"

    def __init__(self, config: TensorBoardConfig) -> None:
        self._config = config
        self.place = config.directory or "tensorboard/ in the run directory"
        self._hyperparameters: dict[str, Any] = {}
        self._writer: SummaryWriter

    def load(self) -> None:
        """Import the writer."""
        import torch.utils.tensorboard  # noqa: F401

    def begin(self, beginning: Beginning, first_step: int) -> None:
        """Open a file in the run's folder; readers forget what an earlier one has from `first_step` on."""
        from torch.utils.tensorboard import SummaryWriter

        folder = event_folder(self._config, beginning)
        self._writer = SummaryWriter(str(folder), purge_step=first_step, flush_secs=FLUSHED)
        self._hyperparameters = {key: _plain(value) for key, value in beginning.config.items()}
        for title, values in (("config", beginning.config), ("run", beginning.tags)):
            rows = "".join(f"| {key} | {_cell(value)} |\n" for key, value in values.items())
            self._writer.add_text(title, f"| key | value |\n|---|---|\n{rows}", first_step)

    def batches(self, records: Sequence[BatchRecord]) -> None:
        """Loss and learning rate of every batch."""
        for record in records:
            self._scalars(batch_figures(record), record.step)

    def epoch(self, record: EpochRecord, step: int) -> None:
        """The epoch's figures."""
        self._scalars(epoch_figures(record), step)

    def end(self, ending: Ending, step: int) -> None:
        """Score, status, pictures, and the row of the table of hyperparameters."""
        from PIL import Image
        from torch.utils.tensorboard.summary import hparams

        step, figures = max(step, 0), final_figures(ending)
        self._scalars(figures, step)
        for picture in ending.pictures:
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"plots/{picture.stem}", pixels, step, dataformats="HWC")
        self._writer.add_text("status", ending.status if ending.cause is None else _said(ending), step)
        if ending.model is not None:
            self._writer.add_text("model", f"`{ending.model}`", step)
        for summary in hparams(self._hyperparameters, figures):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        self._writer.close()

    def _scalars(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)


def event_folder(config: TensorBoardConfig, beginning: Beginning) -> Path:
    """Where a run's event files lie: below its sweep's folder where it belongs to one."""
    if config.directory is None:
        return beginning.directory / "tensorboard"
    above = beginning.directory.parent if beginning.sweep is None else beginning.sweep.parent
    return Path(config.directory) / beginning.directory.relative_to(above)


def _plain(value: Any) -> Any:
    """A value that the table of hyperparameters takes."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _said(ending: Ending) -> str:
    return f"{ending.status}: {ending.cause}"
