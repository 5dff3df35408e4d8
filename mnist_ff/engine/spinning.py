"""How long OpenMP's threads spin while they wait for each other, which is settled before torch is imported. No torch.

A step has dozens of parallel parts, and the threads wait for each other at the end of each. libgomp's spin for
milliseconds by default. Where another process needs the core of one of them, every wait then lasts a time slice. With a
shorter spin they sleep instead. What costs nothing on a quiet machine is still too long on a busy one: see waits.py,
which makes it shorter while a training runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SETTINGS = {"GOMP_SPINCOUNT": "30000", "KMP_BLOCKTIME": "1"}
"""libgomp (PyTorch for Linux): turns of its loop; the least that costs nothing on a quiet machine. libomp (macOS) and
Intel's: milliseconds."""
POLICY = "OMP_WAIT_POLICY"
"""The user's own choice for every library; the other two would go before it."""
UNKNOWN = "unknown"
_noted: dict[str, str | None] = {}
"""The variables as they were when torch was imported; empty where that was before this module could see it."""
_ours: set[str] = set()
"""The variables that are set now and were not by the user."""


@contextmanager
def settled() -> Iterator[None]:
    """Inside the block the variables that the user did not set have our values, also for the processes it starts.

    They are read as torch is imported, so the import belongs into the block. Where torch is there already only the
    processes it starts are changed.
    """
    ours = {} if POLICY in os.environ else {name: v for name, v in SETTINGS.items() if name not in os.environ}
    os.environ.update(ours)
    _ours.update(ours)
    early = "torch" not in sys.modules
    if early:
        _noted.update((name, os.environ.get(name)) for name in (*SETTINGS, POLICY))
    try:
        yield
    finally:
        for name, value in ours.items():
            _ours.discard(name)
            if os.environ.get(name) == value:
                del os.environ[name]
        if early and "torch" not in sys.modules:
            _noted.clear()


def chosen_by_user() -> bool:
    """Whether the user has said how libgomp's threads are to wait."""
    ours = SETTINGS["GOMP_SPINCOUNT"]  # a process that one of ours started has it from there
    return POLICY in os.environ or os.environ.get("GOMP_SPINCOUNT", ours) != ours


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a process that is not ours, started inside the block: those that the user set."""
    return {name: value for name, value in environment.items() if name not in _ours}


def in_force() -> dict[str, str | None]:
    """The variables as OpenMP read them, None for one that was not set.

    "unknown" is one that may have been set too late: torch was imported before mnist-ff, and the process was not
    started with it.
    """
    if _noted:
        return dict(_noted)
    started = _environment_at_start()
    now = {name: None if name in _ours else os.environ.get(name) for name in (*SETTINGS, POLICY)}  # too late for torch
    return {name: value if value == started.get(name) else UNKNOWN for name, value in now.items()}


def _environment_at_start() -> dict[str, str]:
    """This process's first environment, where the system tells."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)
