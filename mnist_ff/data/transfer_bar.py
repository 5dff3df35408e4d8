"""How far a file is on its way here, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SAID_S = 0.5
"""Seconds of a transfer after which its speed means something."""


@contextmanager
def shown(name: str, length: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr's terminal, gone with the block, and the function that tells it how many bytes are here.

    length: of the file in bytes; None where the server does not say it.
    """
    from rich.console import Console
    from rich.progress import Progress

    from mnist_ff.runs.progress_line import BAR, Pace, ProgressLine, eta

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda total: None
        return
    line = ProgressLine(console, ("file", BAR, "size", "speed", "left"), ("size", "left", BAR, "file", "speed"))
    pace, of = Pace(FIRST_SAID_S), length or 0
    with Progress(line, console=console, transient=True) as progress:
        task = progress.add_task(name, total=length, facts={})

        def here(total: int) -> None:
            measured = pace.mark(total, max(of, total))
            left = measured[1] if measured is not None and length is not None else None
            facts = {"file": name, "size": _size(total, length), "left": eta(left)}
            facts["speed"] = "     - MB/s" if measured is None else f"{measured[0] / 1e6:>6.1f} MB/s"
            progress.update(task, completed=total if length is not None else 0, facts=facts)

        here(0)
        yield here


def _size(total: int, length: int | None) -> str:
    """How much is here, in a width that it keeps: ' 4.2/9.9 MB'."""
    if length is None:
        return f"{total / 1e6:>6.1f} MB"
    whole = f"{length / 1e6:.1f}"
    return f"{total / 1e6:>{len(whole)}.1f}/{whole} MB"
