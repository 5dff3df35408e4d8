"""Import PyTorch after a command has checked its arguments, so that --help and errors do not wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mnist_ff.runs.signals import ending_at_once
from mnist_ff.runs.start_up import going_on, importing


@contextmanager
def importing_torch(command: str) -> Iterator[None]:
    """Import PyTorch and modules that need it in this block, after a line on the terminal that says so."""
    going_on(f"{command}: loading PyTorch")
    with ending_at_once(), importing():
        yield
    going_on(f"{command}: working")
