"""Start-up of a command's own process: imports without looking for garbage, and a line that says what is waited for.

Standard library only.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mnist_ff.errors import printable

_began = False
"""Whether this is a command's own process, which imports nearly all that it will ever hold before it does anything."""


_shown = False
"""Whether a line of going_on() stands on the terminal."""
_line = ""
"""The last one."""


def begin() -> None:
    """At the start of a process that runs one command: no collection until keep_imports().

    An import makes very many objects and no garbage; looking for some takes a tenth of its time.
    """
    global _began
    _began = True
    gc.disable()
    _open_streams()


def _open_streams() -> None:
    """Give a process that was started with a closed stream, as >&- does, one that leads nowhere.

    Else the next file that is opened would have the stream's number, and get what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (for as long as the process)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def keep_imports() -> None:
    """What is needed is imported: from now on garbage is collected, but not looked for among what is there.

    Nor is it at the end of the process, where that takes longer than all else of a short command. With a user's own
    parts only the first holds: their modules may hold what a collection closes. In a process that is not the
    command's own, nothing is changed.
    """
    if not _began:
        return
    own_parts = sys.modules.get("mnist_ff.config.own_parts")  # not imported: there are none
    if own_parts is None or not own_parts.in_use():
        gc.freeze()
    gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Inside the block something large is imported, which stays; see keep_imports().

    Where all of it is there already, as for a sweep's second job, nothing more is kept: what earlier jobs left behind
    would be among it.
    """
    before = len(sys.modules)
    if _began:
        gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) != before:
            keep_imports()
        elif _began:
            gc.enable()


def going_on(text: str) -> None:
    """Let a line on a terminal's stderr say what goes on, until something is printed: whoever prints calls erase()."""
    global _shown, _line
    if not (_shown or _can_erase()):
        return
    line = f"{printable(text)} ..."[: _columns() - 1]
    if not _shown or line != _line:  # one that is written again flickers
        _write(f"\r\x1b[K{line}" if _shown else line)
        _shown, _line = True, line


def erase() -> None:
    """Take away the line of going_on(), if there is one."""
    global _shown
    if _shown:
        _shown = False
        _write("\r\x1b[K")


def _can_erase() -> bool:
    try:
        return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    except (OSError, ValueError, AttributeError):
        return False


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def waiting_for(text: str) -> None:
    """Say what is waited for, in one line on stderr, where it is in no program's way."""
    erase()
    _write(f"{printable(text)} ...\n")


def _write(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # a terminal that is gone keeps nobody from working
        sys.stderr.write(text)
        sys.stderr.flush()


def waiting_for_torch(what: str) -> None:
    """Say what waits until PyTorch is imported, which takes a second or more, unless it is."""
    if "torch" not in sys.modules:
        waiting_for(f"{what}: loading PyTorch")
