"""Names and formats of the files in a run directory. No torch: listing a thousand runs must be quick."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_ff.config import Config, completed, config_from, read_yaml, to_yaml
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.files import remove_leftovers, write_text
from mnist_ff.records import BatchRecord, EpochRecord, Summary

OUTPUTS = Path("outputs")
"""Where runs go, unless hydra.run.dir says another place."""
LAST, BEST = "last", "best"
"""Words that stand for a run in OUTPUTS."""
LEVELS = 4
"""Folders below a sweep's or outputs/ in which a run may lie."""
DATE = re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}")
"""How a run directory's name begins: its local time."""

BATCH_COLUMNS = ("step", "epoch", "batch", "loss", "lr", "samples")
HELD = 1.0
"""Seconds to wait for a directory: one that only looks at it holds it for a moment."""
KILLED_EARLY = "its run was killed before it wrote its config: nothing is lost, remove the directory and train again"
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
AUGMENTED = "augmented.safetensors"
"""Training images as they are and as a step sees them, of a run whose images are changed: `images` (R, C, 28, 28)
uint8, an image a row, itself first."""
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
REPORT = "report.html"
GIT_DIFF = "git.diff"
"""What was changed since the commit that environment.json names."""
NUMBERS = (
    "environment.json",
    GIT_DIFF,
    "batches.csv",
    "epochs.csv",
    "model.safetensors",
    "predictions.safetensors",
    AUGMENTED,
    "evaluation.json",
    REPORT,
    "summary.json",
    "config.yaml",
)
"""The files that starting over writes again."""


def output_directory(key: str, text: str) -> Path:
    """Where the value of hydra.run.dir or hydra.sweep.dir means, as an absolute path.

    An absolute one may be anywhere, since someone wrote it out; a relative one stays below the working folder.
    Errors: ConfigError for what would be another place, or a name that other programs misread.
    """
    if not text:
        raise ConfigError(f"{key}=: is empty; give a folder, or leave it out")
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


def chosen(word: str, say: Callable[[str], None], root: Path = OUTPUTS) -> Path:
    """The path that a word means: itself, or for `last` the newest run in `root`, for `best` the best finished one.

    A directory that is really called so comes first. `say` hears which run was taken, and why.
    Errors: BadRunError where `root` has no such run.
    """
    if not word:
        raise BadRunError(f"an empty word names no run; give a run directory, {LAST} or {BEST}")
    if word not in (LAST, BEST) or Path(word).is_dir():
        return Path(word)
    runs = sorted(runs_below(root), key=began, reverse=True)
    if not runs:
        raise BadRunError(f"{word}: there is no run in {root}/; mnist-ff train makes one, or give a run directory")
    path, why = (runs[0], f"the newest of {len(runs)}") if word == LAST else _best(runs, root)
    say(f"{word} is {path}: {why}")
    return path


def _best(runs: list[Path], root: Path) -> tuple[Path, str]:
    """The best of the finished runs on the data of the newest of them, the newest first in `runs`; and why it is.

    It goes by validation accuracy where all have a validation split, else by test accuracy, as rankings do.
    """
    scored = [entry for entry in map(_final, runs) if entry is not None]
    if not scored:
        raise BadRunError(f"{BEST}: no run in {root}/ has finished; mnist-ff runs shows what there is")
    newest = scored[0]
    same = [entry for entry in scored if (entry.data, entry.images) == (newest.data, newest.images)]
    split = all(entry.validation is not None for entry in same)
    figures = [(entry.validation if split and entry.validation is not None else entry.test, entry) for entry in same]
    accuracy, best = max(figures, key=lambda figure: figure[0])  # of equals the first, which is the newest
    kind = "validation" if split else "test"
    return best.path, f"{accuracy:.2%} {kind} accuracy, the best of {len(same)} finished on {best.data}"


@dataclass(frozen=True)
class _Final:
    """What a finished run scored."""

    path: Path
    data: str
    images: int
    """Test images."""
    test: float
    validation: float | None


def _final(path: Path) -> _Final | None:
    """The final accuracies of a finished run; None for any other: a broken directory is not the one that is meant."""
    run = Run(path)
    try:
        summary = run.summary()
        if summary is None or summary.status != "finished" or summary.score is None:
            return None
        validation = (run.epochs() or [{}])[-1].get("validation_accuracy")
        final = _Final(path, str(summary.data), summary.score.samples, float(summary.score.accuracy), validation)
    except (BadRunError, ValueError, TypeError):
        return None
    good = all(0 <= accuracy <= 1 for accuracy in (final.test, final.validation) if accuracy is not None)
    return final if good else None


def runs_below(path: Path, depth: int = LEVELS) -> Iterator[Path]:
    """Directories with a config.yaml, at any of the first levels: a subdirectory's name may hold a slash."""
    try:
        folders = [entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return
    for folder in folders:
        if (folder / "config.yaml").exists():
            yield folder
        elif depth > 1 and not folder.is_symlink():
            yield from runs_below(folder, depth - 1)


def began(path: Path) -> tuple[float, float]:
    """When a run began, to order runs by: the date in its directory's name, or where that has none (a sweep's job) the
    time of its config.yaml, in seconds since 1970; that time again tells runs of one second apart."""
    try:
        written = (path / "config.yaml").stat().st_mtime
    except OSError:
        written = 0.0
    date = DATE.match(path.resolve().name)
    if date is None:
        return written, written
    try:
        return datetime.strptime(date.group(), "%Y-%m-%d_%H-%M-%S").timestamp(), written
    except (ValueError, OverflowError, OSError):
        return written, written


def shown(path: Path) -> Path:
    """A path as people type it: relative where it lies below the working folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


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
            why = f"; {KILLED_EARLY}" if run.was_only_made() else ""
            raise BadRunError(f"{path}: is not a run directory (it has no config.yaml){why}")
        return run

    def was_only_made(self) -> bool:
        """Whether the directory is empty but for what comes before a config."""
        return all(
            path.name in (".hydra", ".lock", "train.log") or path.name.startswith(".config.yaml.")
            for path in self.path.iterdir()
        )

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    def config(self) -> Config:
        """The resolved config. Errors: BadRunError when it is not one of ours."""
        path = self.file("config.yaml")
        if _is_empty(path):
            raise BadRunError(f"{path}: is empty; {KILLED_EARLY}")
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
