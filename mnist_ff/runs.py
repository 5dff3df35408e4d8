"""Names and formats of the files in a run directory. No torch: listing a thousand runs must be quick."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.config import Config, config_from, read_yaml, to_yaml
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.files import write_text
from mnist_ff.records import BatchRecord, EpochRecord, Summary

BATCH_COLUMNS = ("step", "epoch", "batch", "loss", "lr", "samples")
EPOCH_COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
)


def batch_row(record: BatchRecord) -> str:
    """A line of batches.csv. Nine digits bring a float32 loss back exactly."""
    loss, lr = f"{record.loss:.9g}", f"{record.lr:.9g}"
    return f"{record.step},{record.epoch},{record.batch},{loss},{lr},{record.samples}\n"


def epoch_row(record: EpochRecord) -> str:
    """A line of epochs.csv; the columns of an absent score are empty."""
    figures = [f"{record.train_loss:.9g}", f"{record.train_accuracy:.9g}"]
    for score in (record.test, record.validation):
        figures += ["", ""] if score is None else [f"{score.loss:.9g}", f"{score.accuracy:.9g}"]
    return f"{record.epoch},{','.join(figures)},{record.seconds:.4f}\n"


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Run:
        """Claim a directory for a new run; Hydra may have made it and its .hydra already.

        Errors: RunError when another run lives there or the folder cannot be made.
        """
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.file("config.yaml").touch(exist_ok=False)
        except FileExistsError:
            raise RunError(f"{path}: there is already something here; two runs never share a directory") from None
        except OSError as error:
            raise RunError(f"{path}: {error.strerror}; choose another place with hydra.run.dir=FOLDER") from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run directory with a readable config.

        Errors: BadRunError naming what is missing.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            what = "is not a directory" if run.path.exists() else "does not exist"
            raise BadRunError(f"{path}: {what}; give a run directory, such as one in outputs/")
        if not run.file("config.yaml").is_file():
            raise BadRunError(f"{path}: is not a run directory (it has no config.yaml)")
        return run

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    def config(self) -> Config:
        """The resolved config. Errors: BadRunError when it is not one of ours."""
        path = self.file("config.yaml")
        try:
            values = read_yaml(path)
            return config_from(values if isinstance(values, dict) else {}, where=str(path))
        except ConfigError as error:
            raise BadRunError(str(error)) from None

    def write_config(self, config: Config) -> None:
        """Write config.yaml, once."""
        write_text(self.file("config.yaml"), to_yaml(config))

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file whole. Errors: RunError when it cannot be written, ValueError for NaN (JSON has none)."""
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        try:
            write_text(self.file(name), text)
        except OSError as error:
            raise RunError(f"{self.file(name)}: {error.strerror}") from None

    def write_summary(self, summary: Summary) -> None:
        """Write summary.json: the run has ended."""
        self.write_json("summary.json", dataclasses.asdict(summary))

    def summary(self) -> Summary | None:
        """How the run ended, or None while it has not. Errors: BadRunError when the file is not one of ours."""
        path = self.file("summary.json")
        if not path.is_file():
            return None
        try:
            return Summary.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadRunError(f"{path}: not a run's summary ({error})") from None

    def losses(self) -> list[float]:
        """Every batch's loss, in order."""
        return [float(row["loss"]) for row in self._rows("batches.csv", BATCH_COLUMNS)]

    def epochs(self) -> list[dict[str, float]]:
        """Every epoch's figures by column, in order; an empty cell has no key."""
        rows = self._rows("epochs.csv", EPOCH_COLUMNS)
        return [{column: float(cell) for column, cell in row.items() if cell != ""} for row in rows]

    def _rows(self, name: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
        path = self.file(name)
        try:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                if tuple(reader.fieldnames or ()) != columns:
                    raise BadRunError(f"{path}: its columns are not {','.join(columns)}")
                yield from reader
        except (OSError, UnicodeDecodeError) as error:
            raise BadRunError(f"{path}: not readable ({error})") from None
