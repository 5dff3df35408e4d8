"""logger=tensorboard: event files, written with torch's SummaryWriter."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import S, TrackerConfig, with_absolute
from mnist_ff.runs.reading import check_file, is_file
from mnist_ff.trackers.base import Beginning, Ending, Tracker, final_metrics
from mnist_ff.trackers.heard import Fact, Heard

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FINAL = ("final/test_loss", "final/test_accuracy")
"""What the table of hyperparameters has as results."""
MAX_EVENTS_BYTES = 256 << 20
"""Bytes of an event file that is read."""
FLUSH_INTERVAL_S = 10
"""Seconds between two writes to disk."""


@dataclass(frozen=True)
class TensorBoardConfig(TrackerConfig):
    """TensorBoard's event files."""

    directory: Annotated[str | None, "folder for all runs; null: in the run directory"]

    @property
    def place(self) -> str:
        return str(self.directory)

    @property
    def inside_run(self) -> bool:
        return self.directory is None

    def with_absolute_paths(self: S, path: str) -> S:
        return with_absolute(self, path, "directory")


class TensorBoard(Tracker):
    """Scalars, the config as text and as hyperparameters, pictures. There is no place for the model but its path."""

    title = "TensorBoard"

    def __init__(self, config: TensorBoardConfig) -> None:
        self._config = config
        self.place = config.directory or "tensorboard/ in the run directory"
        self._hyperparameters: dict[str, Any] = {}
        self._there = _Events()
        self._writer: SummaryWriter

    def load(self) -> None:
        """Import the writer."""
        import torch.utils.tensorboard  # noqa: F401

    def begin(self, beginning: Beginning, first_step: int) -> None:
        """Open a file in the run's folder.

        Readers forget what earlier ones have from `first_step` on, or from the first step that these miss; what the
        run's files have of that is written again.
        """
        from torch.utils.tensorboard import SummaryWriter

        folder = event_folder(self._config, beginning)
        self._there = _Events.of(folder)
        purged = min((fact.step for fact in beginning.earlier if self._there.heard.lacking(fact)), default=first_step)
        self._there.forget(purged)
        self._there.wait_for_a_later_name()
        suffix = f".{beginning.identity}"
        self._writer = SummaryWriter(
            str(folder), purge_step=purged, flush_secs=FLUSH_INTERVAL_S, filename_suffix=suffix
        )
        self._hyperparameters = {key: _plain(value) for key, value in beginning.config.items()}
        for title, values in (("config", beginning.config), ("run", beginning.tags)):
            rows = "".join(f"| {key} | {_cell(value)} |\n" for key, value in values.items())
            self._text(title, f"| key | value |\n|---|---|\n{rows}", first_step)
        self.tell([fact for fact in beginning.earlier if fact.step >= purged])

    def tell(self, facts: Sequence[Fact]) -> None:
        """All of them: readers have forgotten what was there."""
        for fact in facts:
            for name, value in fact.metrics.items():
                self._writer.add_scalar(name, value, fact.step)

    def _text(self, title: str, text: str, step: int) -> None:
        """A text, unless it stands there as the last one."""
        if self._there.texts.get(f"{title}/text_summary", (0, ""))[1] != text:
            self._writer.add_text(title, text, step)

    def end(self, ending: Ending, step: int) -> None:
        """Score, status, pictures, and the row of the table of hyperparameters."""
        import numpy as np
        from PIL import Image
        from torch.utils.tensorboard.summary import hparams

        step, metrics = max(step, 0), final_metrics(ending)
        self.tell([Fact(step, metrics)])
        for picture in ending.pictures:
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"plots/{picture.stem}", pixels, step, dataformats="HWC")
        self._text("status", ending.status if ending.cause is None else _said(ending), step)
        if ending.model is not None:
            self._text("model", f"`{ending.model}`", step)
        scored = dict.fromkeys(FINAL, 0.0)  # of these the names count only
        told = self._there.hyperparameters  # readers take the first ones, and no others
        for summary in () if told else hparams(self._hyperparameters, scored):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        self._writer.close()


class _Events:
    """What a folder's event files hold for a reader."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.texts: dict[str, tuple[int, str]] = {}
        """The last text by its tag, with its step."""
        self.hyperparameters = False
        self._newest = ""

    @classmethod
    def of(cls, folder: Path) -> _Events:
        """All files in the order in which readers take them, up to where each was torn. Errors: BadRunError."""
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

        found = cls()
        for path in _event_files(folder):
            found._newest = path.name
            check_file(path, MAX_EVENTS_BYTES)
            for event in LegacyEventFileLoader(str(path)).Load():
                if event.session_log.status == event.session_log.START:
                    found.forget(event.step)
                for value in event.summary.value:
                    found._add(event.step, value)
        return found

    def _add(self, step: int, value: Any) -> None:
        if value.HasField("simple_value"):
            self.heard.add(step, value.tag, value.simple_value)
        elif value.tag.endswith("/text_summary"):
            content = value.tensor.string_val
            self.texts[value.tag] = step, content[0].decode(errors="replace") if content else ""
        elif value.tag == "_hparams_/session_start_info":
            self.hyperparameters = True

    def forget(self, step: int) -> None:
        """What readers do where a file says that it begins at a step. Hyperparameters stand at none, and stay."""
        self.heard.forget(step)
        self.texts = {tag: (at, text) for tag, (at, text) in self.texts.items() if at < step}

    def wait_for_a_later_name(self) -> None:
        """Readers take files by name, which begins with the second that it was made in."""
        until = time.monotonic() + 2
        while f"events.out.tfevents.{int(time.time()):010d}" <= self._newest[:30] and time.monotonic() < until:
            time.sleep(0.05)


def _event_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("events.out.tfevents.*") if is_file(path))


def event_folder(config: TensorBoardConfig, beginning: Beginning) -> Path:
    """Where a run's event files lie: below its sweep's folder where it belongs to one.

    A folder that is not the run's own may hold another one's of the same name; the identity is then part of the name.
    """
    if config.directory is None:
        return beginning.directory / "tensorboard"
    above = beginning.directory.parent if beginning.sweep is None else beginning.sweep.parent
    folder = Path(config.directory) / beginning.directory.relative_to(above)
    owners = {path.suffix for path in _event_files(folder) if re.fullmatch(r"\.[0-9a-f]{16}", path.suffix)}
    taken = owners and f".{beginning.identity}" not in owners
    return folder.with_name(f"{folder.name}-{beginning.identity}") if taken else folder


def _plain(value: Any) -> Any:
    """A value that the table of hyperparameters takes."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _said(ending: Ending) -> str:
    return f"{ending.status}: {ending.cause}"


register(Part("tracker", "tensorboard", TensorBoardConfig, TensorBoard, needs=("tensorboard",)))
