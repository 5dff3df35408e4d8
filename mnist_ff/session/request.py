"""What a run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from mnist_ff.config.schema import Config
from mnist_ff.runs.directory import Run
from mnist_ff.runs.signals import Interruption
from mnist_ff.session.timing import Timing
from mnist_ff.training.callbacks import Callback, Pruning


@dataclass(frozen=True)
class RunRequest:
    """A resolved config, the directory made for it, and who listens."""

    config: Config
    run: Run
    argv: Sequence[str]
    """The command line, for environment.json."""
    timing: Timing
    console: Console
    stopped: Interruption
    changes: Mapping[str, Any] | None = None
    """For a resume, the keys that differ from the run's saved config; None for a new run."""
    pruning: Pruning | None = None
    """For a search's trial, which may end early."""
    draws: bool = True
    """Whether the run makes its pictures and page itself; a sweep makes those of its jobs when all have ended."""
    observers: Sequence[Callback] = ()
    """Callbacks that Python gave."""

    @property
    def is_resume(self) -> bool:
        """Whether an earlier run in the directory is continued."""
        return self.changes is not None
