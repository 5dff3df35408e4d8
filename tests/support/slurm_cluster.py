"""A real Slurm of one node, this machine, for tests: munged, slurmctld and slurmd on the loopback.

Needs root and Debian's packages slurm-wlm and munge. It installs nothing and writes only to a temporary folder:
the daemons have their own key, socket, ports and state. For a person:

    python tests/slurm_cluster.py

prints what to export in another terminal, and ends the cluster at Ctrl-C.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "scancel", "squeue")

START = 60.0
"""Seconds until the node must be idle."""
STOP = 20.0
"""Seconds that a daemon, or the jobs together, may take to end."""

# No cgroups, no database, no limits on memory: only cores are given out. A requeued job waits for cred_expire seconds.
SLURM_CONF = """\
ClusterName=mnist_ff_tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
JobRequeue=1
ReturnToService=2
MpiDefault=none
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class ClusterError(Exception):
    """A daemon did not start; the message holds the end of its log."""


def unavailable() -> str | None:
    """Why this machine cannot run the cluster, or None."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"no Slurm: {', '.join(missing)} not installed (Debian: slurm-wlm munge)"
    if os.geteuid() != 0:
        return "no Slurm: its daemons need root"
    return None


@contextmanager
def slurm_cluster() -> Iterator[Path]:
    """Run the cluster inside the block, with SLURM_CONF exported; yields its folder with slurm.conf and the logs.

    The node's cores are those that this process may use. At the end all jobs are cancelled and exactly the started
    processes are stopped. Errors: ClusterError when something does not start within a minute.
    """
    reason = unavailable()
    if reason is not None:
        raise ClusterError(reason)
    before = os.environ.get("SLURM_CONF")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)  # munged wants its socket within everyone's reach
        os.environ["SLURM_CONF"] = str(_configure(folder))
        stack.callback(_restore, before)
        stack.enter_context(_munged(folder))
        daemons = [(name, stack.enter_context(_daemon(folder, name, "-D"))) for name in ("slurmctld", "slurmd")]
        _wait(_is_idle, folder, *daemons)
        stack.callback(_cancel_all)
        yield folder


def _configure(folder: Path) -> Path:
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    controller_port, node_port = _free_ports(2)
    text = SLURM_CONF.format(
        host=socket.gethostname().split(".")[0],
        cpus=len(os.sched_getaffinity(0)),
        folder=folder,
        controller_port=controller_port,
        node_port=node_port,
    )
    path = folder / "slurm.conf"
    path.write_text(text, encoding="utf-8")
    return path


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop("SLURM_CONF", None)
    else:
        os.environ["SLURM_CONF"] = before


@contextmanager
def _munged(folder: Path) -> Iterator[None]:
    own = folder / "munge"
    files = [f"--{word}={own / word.split('-')[0]}" for word in ("socket", "key-file", "pid-file", "seed-file")]
    with _daemon(folder, "munged", "--foreground", "--num-threads=2", *files) as process:
        _wait((own / "socket").exists, folder, ("munged", process))
        yield


@contextmanager
def _daemon(folder: Path, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in the foreground of a session of its own, so that a terminal's Ctrl-C is ours alone."""
    program = _program(name)
    assert program is not None
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(
            [program, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP)


def _is_idle() -> bool:
    return _answer("sinfo", "--noheader", "--format=%T") == "idle"


def _wait(ready: Callable[[], bool], folder: Path, *daemons: tuple[str, subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START
    while not ready():
        ended = [name for name, process in daemons if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise ClusterError("\n".join(_tail(folder, name) for name in ended or [name for name, _ in daemons]))
        time.sleep(0.1)


def _tail(folder: Path, name: str) -> str:
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob(f"{name}.*")) if path.suffix != ".pid"]
    lines = "\n".join(texts).splitlines()
    return "\n".join([f"{name} did not start; the end of its log:", *lines[-10:]])


def _cancel_all() -> None:
    """Cancel every job, and wait until the last process of each is gone: they are slurmd's, and must not outlive it."""
    deadline = time.monotonic() + STOP
    while time.monotonic() < deadline:
        jobs = _answer("squeue", "--noheader", "--format=%A")
        if not jobs:
            return
        _answer("scancel", "--signal=KILL", "--full", *jobs.split())
        _answer("scancel", *jobs.split())
        time.sleep(0.2)


def _answer(*words: str) -> str:
    """What one of Slurm's commands prints; nothing when it fails or takes long."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main() -> int:
    """Run the cluster until Ctrl-C. Returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with slurm_cluster() as folder:
            print(
                f"export SLURM_CONF={folder}/slurm.conf\nCtrl-C ends the cluster; its logs are in {folder}", flush=True
            )
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
