"""batches.csv and epochs.csv: their columns, a row as it is written, and reading them back.

epochs.csv has a column for each value of the chosen metrics after those of EPOCH_COLUMNS: NAME, or NAME/KEY.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mnist_ff.errors import BadRunError
from mnist_ff.files import replacing
from mnist_ff.runs.reading import MAX_TABLE_BYTES, first_line_of, lines_of, opened, parse_row, read_lines, read_rows
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
NAME = "[a-z][a-z0-9_]{0,99}"
"""A metric's name."""
KEY = "[A-Za-z0-9_.-]{1,100}"
"""A key of a metric that has several values."""
METRIC_COLUMN = re.compile(f"{NAME}(/{KEY})?")
MOST_METRIC_COLUMNS = 1_000
MAX_HEAD_BYTES = 210 * MOST_METRIC_COLUMNS


def batch_row(record: BatchRecord) -> str:
    """A line of batches.csv. Nine digits bring a float32 loss back exactly."""
    loss, lr = f"{record.loss:.9g}", f"{record.lr:.9g}"
    return f"{record.step},{record.epoch},{record.batch},{loss},{lr},{record.samples}\n"


def epoch_row(record: EpochRecord, metrics: Sequence[str] = ()) -> str:
    """A line of epochs.csv with columns for these metrics; those of an absent score are empty, and of a metric that is
    not finite."""
    cells = [f"{record.train_loss:.9g}", f"{record.train_accuracy:.9g}"]
    for score in (record.train, record.test, record.validation):
        cells += ["", ""] if score is None else [f"{score.loss:.9g}", f"{score.accuracy:.9g}"]
    measured = [record.metrics.get(name, math.nan) for name in metrics]
    cells += [f"{record.seconds:.4f}", *(f"{value:.9g}" if math.isfinite(value) else "" for value in measured)]
    return f"{record.epoch},{','.join(cells)}\n"


def with_columns(table: str, metrics: Sequence[str]) -> str:
    """The text of epochs.csv with columns for these metrics, which the rows so far do not have."""
    head, *rows = table.splitlines()
    return "\n".join([",".join([head, *metrics]), *(row + "," * len(metrics) for row in rows), ""])


def read_batches(folder: Path) -> Iterator[list[float | None]]:
    """The rows of batches.csv, as BATCH_COLUMNS; a torn last line is left out. Errors: BadRunError."""
    return read_rows(folder / BATCHES, BATCH_COLUMNS)


def metric_columns(folder: Path) -> tuple[str, ...]:
    """The metrics that epochs.csv has columns for. Errors: BadRunError where its columns are others than a run's."""
    path = folder / EPOCHS
    return _metrics_in(path, first_line_of(path, MAX_HEAD_BYTES))


def _metrics_in(path: Path, head: str) -> tuple[str, ...]:
    """Read the first line of the file in the same way."""
    columns = tuple(head.split(","))
    known, metrics = columns[: len(EPOCH_COLUMNS)], columns[len(EPOCH_COLUMNS) :]
    fit = len(metrics) <= MOST_METRIC_COLUMNS and all(map(METRIC_COLUMN.fullmatch, metrics))
    if known != EPOCH_COLUMNS or not fit or len(set(columns)) < len(columns):
        raise BadRunError(f"{path}: its columns are not {','.join(EPOCH_COLUMNS)} and metrics")
    return metrics


def epoch_columns(folder: Path) -> tuple[str, ...]:
    """All columns of epochs.csv. Errors: as metric_columns()."""
    return (*EPOCH_COLUMNS, *metric_columns(folder))


def read_epochs(folder: Path) -> Iterator[Mapping[str, float | None]]:
    """The rows of epochs.csv by column, None where a cell is empty; a torn last line is left out.

    Errors: BadRunError, also for a metric that is not finite.
    """
    columns = epoch_columns(folder)
    for row in read_rows(folder / EPOCHS, columns):
        yield _by_column(folder, columns, row)


def _by_column(folder: Path, columns: Sequence[str], row: Sequence[float | None]) -> dict[str, float | None]:
    if not all(cell is None or math.isfinite(cell) for cell in row[len(EPOCH_COLUMNS) :]):
        raise BadRunError(f"{folder / EPOCHS}: a metric is not finite")
    return dict(zip(columns, row, strict=True))


def without_gaps(row: Mapping[str, float | None]) -> dict[str, float]:
    """A row without its empty cells."""
    return {column: cell for column, cell in row.items() if cell is not None}


def last_epoch(folder: Path) -> tuple[int, dict[str, float]]:
    """How many epochs epochs.csv has, and the last one's metrics by column; only that row is parsed.

    Errors: BadRunError.
    """
    count, last, path = 0, b"", folder / EPOCHS
    with opened(path, MAX_TABLE_BYTES) as file:
        head = file.readline(MAX_HEAD_BYTES).rstrip(b"\r\n").decode("utf-8", "replace")
        columns = (*EPOCH_COLUMNS, *_metrics_in(path, head))
        for line in lines_of(path, file, len(columns)):
            if line.strip() and line.endswith(b"\n"):
                count, last = count + 1, line
    if not count:
        return 0, {}
    return count, without_gaps(_by_column(folder, columns, parse_row(path, last, columns)))


def truncate(folder: Path, steps: int, epochs: int) -> None:
    """Cut batches.csv and epochs.csv to what a checkpoint knows: later rows and a torn last line go.

    Errors: BadRunError when rows that the checkpoint knows are missing.
    """
    tables = ((BATCHES, BATCH_COLUMNS, steps), (EPOCHS, epoch_columns(folder), epochs))
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
