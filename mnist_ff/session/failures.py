"""A failed run: a one-line error and a summary."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mnist_ff.config.own_parts import own_traceback
from mnist_ff.config.schema import Config
from mnist_ff.errors import FULL, BadRunError, DivergedError, LostError, MnistError, RunError, Stopped, first_line
from mnist_ff.runs.directory import Run
from mnist_ff.runs.reading import read_lines
from mnist_ff.runs.records import Status, Summary
from mnist_ff.runs.tables import BATCH_COLUMNS, BATCHES, EPOCHS, epoch_columns
from mnist_ff.session.timing import Timing

log = logging.getLogger("mnist_ff")


@contextmanager
def failures_of_the_machine(run: Run) -> Iterator[None]:
    """A full disk and too little memory in one line each; the files written before are whole."""
    try:
        yield
    except OSError as error:
        if own_traceback(error) and error.errno not in FULL:
            raise
        where = error.filename or run.path
        raise RunError(f"{where}: {error.strerror or error}; files written before are intact") from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise RunError(_no_memory(error)) from error
    except RuntimeError as error:  # as the CPU's allocators report it
        if any(words in str(error) for words in ("not enough memory", "out of memory", "allocate memory")):
            raise RunError(_no_memory(error)) from error
        raise


def _no_memory(error: BaseException) -> str:
    return f"not enough memory ({first_line(error)}); reduce the network or trainer.batch_size"


def write_failure(run: Run, config: Config, error: BaseException, timing: Timing) -> None:
    """Write summary.json for a run that failed; a bug's traceback goes into the log too. Errors: RunError, OSError."""
    own = own_traceback(error)
    bug = not isinstance(error, MnistError)
    if own or bug:
        log.error("failed:\n%s", own or traceback.format_exc())
    run.write_summary(
        Summary(
            status=status_of(error),
            cause=own or "".join(traceback.format_exception(error)) if bug else str(error),
            score=None,
            epochs=_rows_written(run.file(EPOCHS), lambda: epoch_columns(run.path)),
            steps=_rows_written(run.file(BATCHES), lambda: BATCH_COLUMNS),
            parameters=0,
            seed=config.seed or 0,
            name=config.name,
            data=config.data.name,
            data_instead_of=getattr(config.data, "instead_of", None),
            seconds=timing.seconds(),
        )
    )


def status_of(error: BaseException) -> Status:
    """The status of a run that this error ended."""
    statuses: dict[type, Status] = {
        DivergedError: Status.DIVERGED,
        LostError: Status.INTERRUPTED,
        Stopped: Status.INTERRUPTED,
    }
    return statuses.get(type(error), Status.FAILED)


def _rows_written(path: Path, columns: Callable[[], tuple[str, ...]]) -> int:
    """Number of rows of a file; 0 if it is missing or invalid."""
    try:
        return sum(1 for _ in read_lines(path, columns()))
    except BadRunError:
        return 0
