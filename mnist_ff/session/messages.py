"""Messages of a run, on the terminal and in train.log."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console

from mnist_ff.analysis.console import tell
from mnist_ff.errors import RunError, printable
from mnist_ff.files import own_file

log = logging.getLogger("mnist_ff")


class Messages:
    """Writes each message to the terminal and to the log. A terminal that is gone is written to no more."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str, style: str | None = None) -> None:
        """Write one message."""
        log.info(printable(text))
        try:
            tell(self.console, text, style)
        except (OSError, SystemExit) as error:  # rich turns a broken pipe into SystemExit
            log.warning("the terminal is gone (%s); messages go to the log only", error)
            self.console = Console(quiet=True)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self.say(f"warning: {text}", style="yellow")


class _LogFile(logging.handlers.WatchedFileHandler):
    """A log file that is created again if it was removed, follows no link, and never ends a run on a full disk."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open(self.baseFilename, "ab", opener=own_file), self.encoding, line_buffering=True)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say nothing: a full disk is reported where the run's own files are written."""


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Inside the block the package's log goes to this file. Errors: RunError."""
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; make room, or choose another folder with hydra.run.dir=") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        with suppress(OSError):  # the last lines of a full disk
            handler.close()
        log.level, log.propagate = before
