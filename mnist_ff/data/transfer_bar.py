"""The progress bar of a download on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

MIN_SECONDS = 0.5
"""Seconds after which speed and time left are shown."""


@contextmanager
def shown(name: str, length: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr if that is a terminal, removed after the block.

    Yields a function that takes the number of bytes received so far. length: of the file in bytes, None if unknown.
    """
    from rich.console import Console
    from rich.progress import Progress

    from mnist_ff.runs.progress_line import BAR, Pace, ProgressLine, eta

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda total: None
        return
    line = ProgressLine(console, ("file", BAR, "size", "speed", "left"), ("size", "left", BAR, "file", "speed"))
    pace, of = Pace(MIN_SECONDS), length or 0
    with Progress(line, console=console, transient=True) as progress:
        task = progress.add_task(name, total=length, facts={})

        def show_total(total: int) -> None:
            measured = pace.mark(total, max(of, total))
            left = measured[1] if measured is not None and length is not None else None
            facts = {"file": name, "size": _size(total, length), "left": eta(left)}
            facts["speed"] = "     - MB/s" if measured is None else f"{measured[0] / 1e6:>6.1f} MB/s"
            progress.update(task, completed=total if length is not None else 0, facts=facts)

        show_total(0)
        yield show_total


def _size(total: int, length: int | None) -> str:
    """The bytes received so far in a fixed width: ' 4.2/9.9 MB'."""
    if length is None:
        return f"{total / 1e6:>6.1f} MB"
    whole = f"{length / 1e6:.1f}"
    return f"{total / 1e6:>{len(whole)}.1f}/{whole} MB"
