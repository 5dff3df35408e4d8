"""Names and formats of the files in a run directory. No torch: listing a thousand runs must be quick."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_ff.config import Config, completed, config_from, read_yaml, to_yaml
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.files import remove_leftovers, write_text
from mnist_ff.records import BatchRecord, EpochRecord, Summary

BATCH_COLUMNS = ("step", "epoch", "batch", "loss", "lr", "samples")
HELD = 1.0
"""Seconds to wait for a directory: one that only looks at it holds it for a moment."""
LONGEST_NAME = 255
"""Bytes in a file's name, as Linux and macOS have it."""
EPOCH_COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "train_eval_loss",
    "train_eval_accuracy",
    "test_loss",
    "test_accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
)
NUMBERS = (
    "environment.json",
    "batches.csv",
    "epochs.csv",
    "model.safetensors",
    "predictions.safetensors",
    "augmented.safetensors",
    "evaluation.json",
    "summary.json",
    "config.yaml",
)
"""The files that starting over writes again."""


def output_directory(key: str, text: str) -> Path:
    """Where the value of hydra.run.dir or hydra.sweep.dir means, as an absolute path.

    An absolute one may be anywhere, since someone wrote it out; a relative one stays below the working folder.
    Errors: ConfigError for what would be another place, or a name that other programs misread.
    """
    path = Path(text)
    if ".." in path.parts:
        raise ConfigError(f"{key}={text}: leads out of the working folder; write the absolute path if that is meant")
    if any(part.startswith("-") for part in path.parts):
        raise ConfigError(f"{key}={text}: a name in it begins with -, which commands take for an option")
    if not text.isprintable():
        raise ConfigError(f"{key}={text!r}: holds a character that cannot be printed")
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > LONGEST_NAME:
        raise ConfigError(f"{key}: a name in it has {longest} bytes; folders have at most {LONGEST_NAME}")
    return path.absolute()


def batch_row(record: BatchRecord) -> str:
    """A line of batches.csv. Nine digits bring a float32 loss back exactly."""
    loss, lr = f"{record.loss:.9g}", f"{record.lr:.9g}"
    return f"{record.step},{record.epoch},{record.batch},{loss},{lr},{record.samples}\n"


def epoch_row(record: EpochRecord) -> str:
    """A line of epochs.csv; the columns of an absent score are empty."""
    figures = [f"{record.train_loss:.9g}", f"{record.train_accuracy:.9g}"]
    for score in (record.train, record.test, record.validation):
        figures += ["", ""] if score is None else [f"{score.loss:.9g}", f"{score.accuracy:.9g}"]
    return f"{record.epoch},{','.join(figures)},{record.seconds:.4f}\n"


def shown(path: Path) -> Path:
    """A path as people type it: relative where it lies below the working folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


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
            return config_from(completed(values) if isinstance(values, dict) else {}, where=str(path))
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
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadRunError(f"{path}: not a run's summary ({error})") from None

    def start_over(self) -> None:
        """Remove what a run left that ended before its first checkpoint, so that it can be made again.

        The log stays. Errors: RunError.
        """
        try:
            for name in NUMBERS:  # config.yaml last: it is what claims the directory
                self.file(name).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{error.filename}: {error.strerror}") from None
        remove_leftovers(self.path)

    def cut(self, steps: int, epochs: int) -> None:
        """Cut batches.csv and epochs.csv to what a checkpoint knows: later rows and a torn last line go.

        Errors: BadRunError when rows that the checkpoint knows are missing.
        """
        texts: dict[Path, str] = {}
        for name, columns, count in (("batches.csv", BATCH_COLUMNS, steps), ("epochs.csv", EPOCH_COLUMNS, epochs)):
            path = self.file(name)
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise BadRunError(f"{path}: not readable ({error})") from None
            lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
            numbers = [line.split(",", 1)[0] for line in lines[1 : count + 1]]
            if lines[:1] != [",".join(columns) + "\n"] or numbers != [str(number) for number in range(count)]:
                raise BadRunError(f"{path}: its rows are not those of a run's first {count} {name.split('.')[0]}")
            texts[path] = "".join(lines[: count + 1])
        for path, text in texts.items():
            write_text(path, text)

    def sync_numbers(self) -> None:
        """See that the rows so far survive a power cut, before a checkpoint says that they are there."""
        for name in ("batches.csv", "epochs.csv"):
            with self.file(name).open("rb") as file:
                os.fsync(file.fileno())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process. Errors: RunError when another one trains in it."""
        lock = FileLock(self.file(".lock"))
        try:
            lock.acquire(timeout=HELD)
        except Timeout:
            raise RunError(f"{self.path}: another process is training in it") from None
        except OSError as error:
            raise RunError(f"{self.path}: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    def environment(self) -> dict[str, Any]:
        """environment.json. Errors: BadRunError when it is not one of ours."""
        path = self.file("environment.json")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadRunError(f"{path}: not readable ({error})") from None
        if not isinstance(values, dict):
            raise BadRunError(f"{path}: is not a run's environment")
        return values

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
