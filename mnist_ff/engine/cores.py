"""The cores that this process may use. No torch."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files of control groups, version 2 and 1, that hold a container's microseconds of processor time and their period."""
CONTROL_GROUPS = Path("/sys/fs/cgroup")


def cores_here() -> int:
    """How many, by affinity and by a container's quota; at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota() -> float | None:
    """The processor time that a container may take, in cores; None where nothing limits it."""
    for names in QUOTAS:
        try:
            words = " ".join((CONTROL_GROUPS / name).read_text(encoding="ascii") for name in names).split()
            microseconds, period = map(int, words)
        except (OSError, ValueError):  # "max" for no limit
            continue
        if microseconds > 0 and period > 0:
            return microseconds / period
    return None


def waited_for_cores() -> float | None:
    """Seconds that this process's threads were ready to run while other programs had their cores; None if unknown."""
    total, known = 0, False
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError, ValueError, IndexError):  # one that has just ended
                total += int((thread / "schedstat").read_text(encoding="ascii").split()[1])
                known = True
    return total / 1e9 if known else None
