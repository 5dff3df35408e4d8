"""What the process imports from which joblib's jobs are forked; multiprocessing imports this module there.

Elsewhere its import does nothing.
"""

from __future__ import annotations

import importlib

from mnist_ff.runs.start_up import begin, importing
from mnist_ff.sweeps.fork_server import heard_again, is_here

MODULES = ("mnist_ff.session.session", "mnist_ff.session.environment")
"""The first imports all that a job needs, PyTorch above all; what the second finds once is the same in all jobs."""


def load() -> None:
    """Import it."""
    begin()
    with heard_again(), importing():
        _, environment = map(importlib.import_module, MODULES)
        environment.versions()
        environment.package()


if is_here():
    load()
