"""batches.csv and epochs.csv: their columns, a row as it is written, and reading them back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mnist_ff.errors import BadRunError
from mnist_ff.files import replacing
from mnist_ff.runs.reading import opened, parse_row, read_lines, read_rows
from mnist_ff.runs.records import BatchRecord, EpochRecord

BATCHES, EPOCHS = "batches.csv", "epochs.csv"
BATCH_COLUMNS = ("step", "epoch", "batch", "loss", "lr", "samples")
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
COPY_BYTES = 1 << 20


def batch_row(record: BatchRecord) -> str:
    """A line of batches.csv. Nine digits bring a float32 loss back exactly."""
    loss, lr = f"{record.loss:.9g}", f"{record.lr:.9g}"
    return f"{record.step},{record.epoch},{record.batch},{loss},{lr},{record.samples}\n"


def epoch_row(record: EpochRecord) -> str:
    """A line of epochs.csv; the columns of an absent score are empty."""
    cells = [f"{record.train_loss:.9g}", f"{record.train_accuracy:.9g}"]
    for score in (record.train, record.test, record.validation):
        cells += ["", ""] if score is None else [f"{score.loss:.9g}", f"{score.accuracy:.9g}"]
    return f"{record.epoch},{','.join(cells)},{record.seconds:.4f}\n"


def read_batches(folder: Path) -> Iterator[list[float | None]]:
    """The rows of batches.csv, as BATCH_COLUMNS; a torn last line is left out. Errors: BadRunError."""
    return read_rows(folder / BATCHES, BATCH_COLUMNS)


def read_epochs(folder: Path) -> Iterator[list[float | None]]:
    """The rows of epochs.csv, as EPOCH_COLUMNS, None where a cell is empty; a torn last line is left out.

    Errors: BadRunError.
    """
    return read_rows(folder / EPOCHS, EPOCH_COLUMNS)


def by_column(row: list[float | None]) -> dict[str, float]:
    """A row of epochs.csv by column; an empty cell has no key."""
    return {column: cell for column, cell in zip(EPOCH_COLUMNS, row, strict=True) if cell is not None}


def last_epoch(folder: Path) -> tuple[int, dict[str, float]]:
    """How many epochs epochs.csv has, and the last one's metrics by column; only that row is parsed.

    Errors: BadRunError.
    """
    count, last = 0, b""
    for line in read_lines(folder / EPOCHS, EPOCH_COLUMNS):
        if line.strip() and line.endswith(b"\n"):
            count, last = count + 1, line
    return count, by_column(parse_row(folder / EPOCHS, last, EPOCH_COLUMNS)) if count else {}


def truncate(folder: Path, steps: int, epochs: int) -> None:
    """Cut batches.csv and epochs.csv to what a checkpoint knows: later rows and a torn last line go.

    Errors: BadRunError when rows that the checkpoint knows are missing.
    """
    tables = ((BATCHES, BATCH_COLUMNS, steps), (EPOCHS, EPOCH_COLUMNS, epochs))
    sizes = [(folder / name, _size_of(folder / name, columns, count)) for name, columns, count in tables]
    for path, size in sizes:
        with opened(path) as file, replacing(path) as temporary, temporary.open("wb") as kept:
            while size:
                piece = file.read(min(size, COPY_BYTES))
                if not piece:
                    raise BadRunError(f"{path}: was truncated while it was being read")
                size -= kept.write(piece)


def _size_of(path: Path, columns: tuple[str, ...], count: int) -> int:
    """The bytes of a table's head and its first `count` rows. Errors: BadRunError where they are others."""
    size = len(",".join(columns)) + 1
    lines = read_lines(path, columns)
    for number in range(count):
        line = next(lines, b"")
        if line.partition(b",")[0] != b"%d" % number or not line.endswith(b"\n"):
            raise BadRunError(f"{path}: its rows are not the first {count} {path.stem} of a run")
        size += len(line)
    return size
