"""The errors that users can see, as a tree. Each has the exit code of the command."""

import errno
import os
from contextlib import suppress
from unicodedata import category

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the signal's number, as shells have it."""

MISSED_TARGET = 3
"""Exit code of `mnist-ff train --require-target` if trainer.target_accuracy was not reached."""


class Stopped(BaseException):
    """A signal ends the command: the second one a run, the first one a sweep. Carries the exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class MnistError(Exception):
    """An expected failure: one line that says what, where and how to fix it."""

    exit_code = 1


class ConfigError(MnistError):
    """Bad input: a wrong key, value, option, path or argument."""

    exit_code = 2


class BadRunError(ConfigError):
    """A path was given as a run directory and is not a readable one."""


class MissingFileError(BadRunError):
    """A run has no such file."""


class MissingPartsError(BadRunError):
    """A run has own parts whose files were not given; `flags` are the words that give them."""

    def __init__(self, text: str, flags: list[str]) -> None:
        super().__init__(text)
        self.flags = flags


class DataError(MnistError):
    """A data set cannot be downloaded, or its content is wrong."""


class OwnDataError(DataError):
    """The user's own files do not make a data set: bad input."""

    exit_code = 2


class RunError(MnistError):
    """A run failed."""


class LostError(RunError):
    """The training process ended without reporting why."""


class PartError(RunError):
    """A user's own part made something that it must not."""


class DivergedError(RunError):
    """A loss was not finite."""


BAD_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
NO_MEMORY = ("cannot allocate memory", "failed to map segment", "not enough memory", "out of memory")
LONGEST_PATH = 200
"""Letters of a path that a message quotes."""


def of_the_machine(error: BaseException) -> tuple[str, int] | None:
    """One line and the exit code for an error that is the machine's, None for one that may be a bug."""
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or any(words in text.lower() for words in NO_MEMORY):
        return f"not enough memory ({text or 'MemoryError'}); see ulimit -v, or what else runs here", 1
    if not isinstance(error, OSError):
        return None
    what = error.strerror or text
    lost = error.filename is None and error.errno in (errno.ENOENT, errno.ESTALE)
    folderless = lost and what != os.strerror(error.errno or 0)  # tempfile found no folder to write to
    if error.filename is None:
        where = "the working folder" if lost and not folderless else ""
    else:
        where = str(error.filename)
        where = where if len(where) <= LONGEST_PATH else f"{where[:LONGEST_PATH]}..."
    if error.errno in BAD_NAME:
        return f"{where}: {what}; give another path", 2
    if error.errno in FULL:
        remedy = "; make room, or choose another place"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "; raise ulimit -n"
    elif lost:
        remedy = "; set TMPDIR to one" if folderless else "; it was removed: change to another folder"
    else:
        remedy = ""
    return f"{where}{': ' if where else ''}{what}{remedy}", 1


def keep_partial(error: BaseException, partial: object) -> None:
    """Set the attribute `partial` of an exception to the partial result, if its class allows new attributes."""
    with suppress(AttributeError, TypeError):
        error.partial = partial  # type: ignore[attr-defined]


def first_line(error: BaseException) -> str:
    """An error's first line, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def type_name(value: object) -> str:
    """A value's type for a message: None, or such as a Linear."""
    return "None" if value is None else f"a {type(value).__name__}"


def printable(text: str) -> str:
    """A text of one line in which a terminal finds no command: what cannot be printed is a space.

    Spaces of other widths stay, so that a path that has one can be copied.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or category(letter) == "Zs" else " " for letter in text)
