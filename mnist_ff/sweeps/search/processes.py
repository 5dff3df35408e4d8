"""Whether the process that wrote a mark to a file is still running. Standard library only."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one with the same number."""

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    start: str


def own_process() -> Process:
    """This one."""
    return Process(
        host=socket.gethostname(),
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        namespace=_namespace(),
        pid=os.getpid(),
        start=_start(os.getpid()),
    )


def lives(process: Process) -> bool | None:
    """Whether a process still runs; None where it cannot be known: on another machine or in another container."""
    own = own_process()
    if process.host != own.host or process.machine != own.machine:
        return None
    if process.boot != own.boot:
        return False if own.machine else None  # without a machine's id two machines may share a name
    if process.namespace != own.namespace:
        return None
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start(process.pid) == process.start


def _start(pid: int) -> str:
    """When a process started, in the system's ticks; empty where the system does not say."""
    stat = _text(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
