"""Processes that keep cores busy, for `mnist-ff bench --busy`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mnist_ff.engine.spinning import without_ours

SPIN = """
import os, sys, threading
def end_with_parent():
    os.read(0, 1)  # nothing ever comes; it returns when the other end is closed, however that process ended
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
sys.stdout.write("spinning\\n")
sys.stdout.flush()
while True:
    pass
"""


@contextmanager
def busy(count: int) -> Iterator[list[int]]:
    """Inside the block so many processes spin, each on whatever core it gets. Yields their numbers.

    They end with the block, and with this process in whatever way that ends, SIGKILL too: each listens at a pipe that
    closes then. A session of their own keeps Ctrl-C from them, which would print a traceback each.
    """
    with ExitStack() as stack:
        spinning = [stack.enter_context(_spinning()) for _ in range(count)]
        for process in spinning:
            assert process.stdout is not None
            process.stdout.readline()  # it spins now
        yield [process.pid for process in spinning]


@contextmanager
def _spinning() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SPIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=without_ours(os.environ),
        start_new_session=True,
    )
    with process:  # closes the pipes and waits
        try:
            yield process
        finally:
            process.kill()
