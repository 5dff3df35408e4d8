"""What tests of commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Command = Callable[..., tuple[int, str, str]]
"""The fixture `mnist_ff`: arguments to (exit code, stdout, stderr)."""

MARKUP = "</script><script>window.pwned=1</script><b>&amp;"
"""A run's name that must stay text."""


def only_run(folder: str = "outputs") -> Path:
    """The single run directory below `folder`."""
    runs = [path for path in Path(folder).iterdir() if path.is_dir() and path.name != "sweeps"]
    assert len(runs) == 1, runs
    return runs[0]
