"""How long `mnist-ff serve` takes with many runs: python -m tests.benchmarks.serve_benchmark [RUNS]."""

from __future__ import annotations

import functools
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mnist_ff.serve.listing import Listing
from mnist_ff.serve.query import PAGE, Query, answer
from tests.support.many_runs import make_run, make_runs


def main(count: int = 10_000) -> None:
    """Print seconds until the first page and the whole list, of looks, of questions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed(f"{count:,} directories are made", lambda: make_runs(folder, count))
        listing = Listing(folder)
        scan = threading.Thread(target=listing.scan)
        began, worked = time.perf_counter(), time.process_time()
        scan.start()
        while len(listing.entries) < min(PAGE, count):
            time.sleep(0.005)
        say("first page", began, worked)
        scan.join()
        say("whole list", began, worked)
        timed("a look without news", listing.scan)
        make_run(folder / "new", count)
        timed("a look with a new run", listing.scan)
        for query in (Query(), Query(sort="test"), Query(words="run 99"), Query(words="optimizer.lr>0.002", page=7)):
            timed(f"{query.words or query.sort}", functools.partial(answer, listing, query))
    print(f"memory                     {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")
    print(f"torch imported             {'torch' in sys.modules!s:>8}")


def timed(what: str, work: Callable[[], object]) -> None:
    """Print how long it takes, on the clock and on the processor, which others may share."""
    began, worked = time.perf_counter(), time.process_time()
    work()
    say(what, began, worked)


def say(what: str, began: float, worked: float) -> None:
    """Print the seconds since then, on the clock and on the processor."""
    print(f"{what:<26} {time.perf_counter() - began:8.3f} s, processor {time.process_time() - worked:8.3f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
