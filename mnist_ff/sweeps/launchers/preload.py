"""What the process imports from which joblib's jobs are forked; multiprocessing imports this module there.

That process is started with Ctrl-C blocked, by which this module knows it: elsewhere its import does nothing.
"""

from __future__ import annotations

import importlib
import signal

from mnist_ff.runs.start_up import begin, importing

MODULES = ("mnist_ff.session.session", "mnist_ff.session.environment")
"""The first imports all that a job needs, PyTorch above all; what the second finds once is the same in all jobs."""


def is_blocked() -> bool:
    """Whether Ctrl-C is blocked in this process."""
    return hasattr(signal, "pthread_sigmask") and signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def load() -> None:
    """Import it, and forget a Ctrl-C of the meantime, which is the launching process's alone."""
    begin()
    with importing():
        _, environment = map(importlib.import_module, MODULES)
        environment.versions()
        environment.package()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # drops one that waits
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # each job's own


if is_blocked():
    load()
