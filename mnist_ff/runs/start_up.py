"""Start-up of a command's process: imports without garbage collection, and a line that says what it waits for.

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
"""Whether begin() was called: this process runs one command."""


_shown = False
"""Whether a line of going_on() is on the terminal."""
_line = ""
"""The last line of going_on()."""


def begin() -> None:
    """Call this at the start of a process that runs one command. Disables garbage collection until keep_imports().

    Imports create many objects and no garbage; collections would take a tenth of their time.
    """
    global _began
    _began = True
    gc.disable()
    _open_streams()


def _open_streams() -> None:
    """Replace closed standard streams (`>&-`) by the null device.

    Otherwise the next file opened would get the stream's descriptor, and libraries would print into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (for as long as the process)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def keep_imports() -> None:
    """Enable garbage collection again, and freeze the objects that exist so far: no collection looks at them, not even
    the one at exit, which takes longer than the rest of a short command.

    With a user's own parts nothing is frozen, as their modules may hold objects that a collection closes. Without
    begin() this does nothing.
    """
    if not _began:
        return
    own_parts = sys.modules.get("mnist_ff.config.own_parts")  # not imported: there are none
    if own_parts is None or not own_parts.in_use():
        gc.freeze()
    gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Import large modules in this block: it disables garbage collection, then calls keep_imports().

    If nothing new was imported, as in a sweep's second job, nothing is frozen: it could be garbage of earlier jobs.
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
    """Show on stderr, if it is a terminal, what the command is doing. Code that prints calls erase() first."""
    global _shown, _line
    if not (_shown or _can_erase()):
        return
    line = f"{printable(text)} ..."[: _columns() - 1]
    if not _shown or line != _line:  # writing the same line again would flicker
        _write(f"\r\x1b[K{line}" if _shown else line)
        _shown, _line = True, line


def erase() -> None:
    """Erase the line of going_on(), if there is one."""
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
    """Print a line to stderr that says what the command waits for."""
    erase()
    _write(f"{printable(text)} ...\n")


def _write(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # the terminal may be gone
        sys.stderr.write(text)
        sys.stderr.flush()


def waiting_for_torch(what: str) -> None:
    """Print that `what` waits for the import of PyTorch, which takes seconds, unless it is imported already."""
    if "torch" not in sys.modules:
        waiting_for(f"{what}: loading PyTorch")
