"""Read runs in Python: `mnist_ff.open_run()` and `mnist_ff.runs()`. torch is imported only for models."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from mnist_ff.analysis.console import note, warning
from mnist_ff.analysis.rows import Row, read_row
from mnist_ff.analysis.run_filter import Filter, Order, select
from mnist_ff.config.convert import experiment, flat
from mnist_ff.config.own_parts import loaded, with_variable
from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError, ConfigError, type_name
from mnist_ff.runs.directory import MAX_PREDICTIONS_BYTES, PREDICTIONS, Run
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.predictions import read_probabilities
from mnist_ff.runs.reading import is_folder, why_no_folder
from mnist_ff.runs.records import Summary
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.tables import BATCH_COLUMNS, BATCHES, EPOCHS, epoch_columns, read_batches, read_epochs
from mnist_ff.runs.tensors import INTEGER_TYPES, Wanted, read_tensors

Tables: TypeAlias = Literal["auto", "pandas", "numpy"]
"""Type of the tables: pandas DataFrames, structured NumPy arrays, or "auto": DataFrames if pandas is installed."""
INTEGER_COLUMNS = ("step", "epoch", "batch", "samples")
MAX_INTEGER = 1 << 53
"""Larger integers are not exact in float64."""


class OpenedRun:
    """A run directory. Each attribute is read from its file on access.

    Tables are pandas DataFrames or structured NumPy arrays, with the same columns. Access to a broken file raises
    BadRunError.
    """

    def __init__(self, run: Run, tables: Tables = "auto") -> None:
        self.run = run
        """The `Run` that mnist_ff.train() returns and resumes."""
        self._with_pandas = _with_pandas(tables)

    def __repr__(self) -> str:
        score = "" if self._row.watched is None else f", {percent(self._row.watched.accuracy)}"
        return f"OpenedRun({str(self.path)!r}, {self.status}{score})"

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.run.path

    @property
    def status(self) -> str:
        """finished, pruned, interrupted, diverged, failed, running, not started or broken, as in `mnist-ff runs`."""
        return self._row.status

    @property
    def reason(self) -> str | None:
        """Why the run did not finish, in one line; None if it did."""
        return self._row.reason

    @functools.cached_property
    def _row(self) -> Row:
        return read_row(self.path)

    @property
    def name(self) -> str | None:
        """The run's name, or None. Errors: BadRunError."""
        return self.config.name

    @functools.cached_property
    def config(self) -> Config:
        """The resolved config, such as `run.config.optimizer.lr`. Errors: BadRunError."""
        return self.run.config()

    @property
    def values(self) -> dict[str, Any]:
        """The config by dotted key, such as `run.values["optimizer.lr"]`. Errors: BadRunError."""
        return flat(experiment(self.config))

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, indexed by label. Errors: BadRunError."""
        return self.run.data_spec().classes

    @property
    def summary(self) -> Summary | None:
        """Status, cause, score and seconds of a run that has ended, else None. Errors: BadRunError."""
        return self.run.summary()

    @property
    def batches(self) -> Any:
        """A row for each batch: step, epoch, batch (all counted from 0), loss, lr, samples. Errors: BadRunError."""
        rows: list[Mapping[str, float | None]] = [
            dict(zip(BATCH_COLUMNS, row, strict=True)) for row in read_batches(self.path)
        ]
        return self._table(BATCHES, BATCH_COLUMNS, rows)

    @property
    def epochs(self) -> Any:
        """A row for each epoch: epoch (counted from 0), losses, accuracies, seconds, metrics; NaN for values that were
        not measured. Errors: BadRunError."""
        return self._table(EPOCHS, epoch_columns(self.path), list(read_epochs(self.path)))

    @property
    def predictions(self) -> Any:
        """A row for each test image, in the data set's order: label, predicted, and the probability of each class.

        In a DataFrame the probabilities are columns p0, p1, ...; in an array one field `probabilities`, (N, C).
        Errors: BadRunError for a run without predictions, or broken ones.
        """
        saved = read_probabilities(self.run)
        path, count = self.run.file(PREDICTIONS), len(saved.labels)
        answers = read_tensors(path, MAX_PREDICTIONS_BYTES, {"answers": Wanted(INTEGER_TYPES, (count,))})["answers"]
        predicted = answers.astype(np.int64)
        if not (predicted.min() >= 0 and predicted.max() < saved.probabilities.shape[1]):
            raise BadRunError(f"{path}: it refers to classes that do not exist")
        if self._with_pandas:
            columns = {f"p{label}": column for label, column in enumerate(saved.probabilities.T)}
            return _frame({"label": saved.labels, "predicted": predicted, **columns})
        shape = (saved.probabilities.shape[1],)
        kinds = [("label", np.int64), ("predicted", np.int64), ("probabilities", np.float32, shape)]
        table = np.empty(count, dtype=kinds)
        table["label"], table["predicted"], table["probabilities"] = saved.labels, predicted, saved.probabilities
        return table

    def model(
        self,
        module: Any = None,
        parts: str | Path | Iterable[str | Path] = (),
        device: Any = "cpu",
    ) -> Any:
        """The trained network, a torch.nn.Module in evaluation mode: from images, float32 in [0, 1], to logits.

        module: for a run of mnist_ff.train(model=...), the same module; the run's weights are loaded into it in place.
        parts: for a run with a model of your own, the files given to --parts.
        Errors: BadRunError for a run without final weights, or broken ones; ConfigError.
        """
        from mnist_ff.training.trained_model import trained_model

        with loaded(with_variable(_paths(parts))):  # the config is read again, now that its model is registered
            return trained_model(self.run, self.run.config(), module, warning, device)

    def _table(self, name: str, columns: Iterable[str], rows: list[Mapping[str, float | None]]) -> Any:
        """A table of these rows. Errors: BadRunError for other values in a column of integers."""
        found = {column: _column(self.run.file(name), column, [row[column] for row in rows]) for column in columns}
        if self._with_pandas:
            return _frame(found)
        table = np.empty(len(rows), dtype=[(column, values.dtype) for column, values in found.items()])
        for column, values in found.items():
            table[column] = values
        return table


def open_run(run: str | Path | Run | OpenedRun, folder: str | Path = OUTPUTS, tables: Tables = "auto") -> OpenedRun:
    """Open a run directory to read its config, records, predictions and model.

    run: a path, a name, 'last' or 'best', as on the command line, where the chosen run is printed to stderr; or the
    result of mnist_ff.train(). folder: where names are searched.
    tables: 'pandas', 'numpy', or 'auto' for pandas if it is installed.
    Errors: BadRunError if it is not a run; ConfigError.
    """
    if isinstance(run, OpenedRun):
        run = run.run
    if not isinstance(run, str | Path | Run):
        raise ConfigError(f"run: is {type_name(run)}; give a path, a name, 'last' or 'best'")
    found = run if isinstance(run, Run) else Run.open(resolve_run(str(run), note, _folder(folder)))
    return OpenedRun(found, tables)


def runs(
    folder: str | Path = OUTPUTS,
    *,
    status: str | Iterable[str] = (),
    data: str | None = None,
    name: str | None = None,
    where: str | Iterable[str] = (),
    since: str | None = None,
    tags: str | Iterable[str] = (),
    sort: str = "began",
    reverse: bool = False,
    limit: int | None = None,
    tables: Tables = "auto",
) -> list[OpenedRun]:
    """The runs in a folder and the jobs of its sweeps, newest first. The arguments are the options of `mnist-ff runs`.

    status: one or several, such as 'finished'. name: a pattern such as 'small*'. where: one or several conditions, such
    as 'optimizer.lr=0.01' or ['score>0.98', 'data=mnist']. since: '2d', '12h' or a date. sort: a key or score, such as
    'score'. Broken directories are included, with the status 'broken'.
    Errors: ConfigError for an invalid filter; BadRunError if `folder` is not a folder.
    """
    path = _folder(folder)
    if path != OUTPUTS and not is_folder(path):
        raise BadRunError(f"{path}: {why_no_folder(path)}; give a folder of runs, such as {OUTPUTS}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"limit={limit!r}: must be at least 1, or None")
    _check_texts(data=data, name=name, since=since, sort=sort)
    try:
        chosen = Filter.of(_texts("status", status), data, name, _texts("where", where), since, _texts("tags", tags))
        found = select(path, chosen, Order(sort, reverse, limit), jobs=True)
    except ConfigError as error:
        raise type(error)(str(error).removeprefix("--")) from None  # arguments have no dashes
    return [OpenedRun(Run(entry.path), tables) for entry in found.entries]


def _column(path: Path, column: str, cells: list[float | None]) -> NDArray[Any]:
    """A column's values, NaN for empty cells. Errors: BadRunError."""
    values = np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    if column not in INTEGER_COLUMNS:
        return values
    if not all(cell is not None and abs(cell) < MAX_INTEGER and cell == int(cell) for cell in cells):
        raise BadRunError(f"{path}: {column} is not an integer everywhere")
    return values.astype(np.int64)


def _frame(columns: Mapping[str, NDArray[Any]]) -> Any:
    import pandas  # type: ignore[import-untyped]

    return pandas.DataFrame(dict(columns))


def _with_pandas(tables: str) -> bool:
    """Whether tables are DataFrames. Errors: ConfigError."""
    if tables not in get_args(Tables):
        raise ConfigError(f"tables={tables!r}: must be 'auto', 'pandas' or 'numpy'")
    there = importlib.util.find_spec("pandas") is not None
    if tables == "pandas" and not there:
        raise ConfigError("tables='pandas': needs pandas, which is not installed: pip install pandas; or use 'numpy'")
    return there and tables != "numpy"


def _folder(folder: Any) -> Path:
    if not isinstance(folder, str | Path) or not str(folder):
        raise ConfigError(f"folder: is {type_name(folder)}; give a path, such as {str(OUTPUTS)!r}")
    return Path(folder)


def _check_texts(**given: Any) -> None:
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{name}: is {type_name(value)}; give a text")


def _texts(name: str, given: Any) -> list[str]:
    """An argument that is one text or several, as a list. Errors: ConfigError."""
    found = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else None
    if found is None or not all(isinstance(text, str) for text in found):
        raise ConfigError(f"{name}: is {type_name(given)}; give a text, or a list of texts")
    return found


def _paths(given: Any) -> list[str]:
    found = [given] if isinstance(given, str | Path) else list(given) if isinstance(given, Iterable) else None
    if found is None or not all(isinstance(path, str | Path) for path in found):
        raise ConfigError(f"parts: is {type_name(given)}; give a path, or a list of paths")
    return [str(path) for path in found]
