"""The tests' own Slurm: it runs jobs, requeues them, and leaves no process behind."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import slurm_cluster
from tests.support.processes import wait_for


def answer(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def processes_of(folder: Path) -> list[str]:
    """The commands of every process that was started with this cluster in its environment: daemons, steps and jobs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if f"SLURM_CONF={folder}/".encode() in (process / "environ").read_bytes():
                found.append((process / "comm").read_text().strip())
    return found


def test_slurm_job_is_requeued_under_its_number(slurm: Path, tmp_path: Path) -> None:
    assert answer("srun", "--ntasks=1", "echo", "hello") == "hello"
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\necho begun ${SLURM_RESTART_COUNT:-0} >> begun\nsleep 60\n")
    job = answer("sbatch", "--parsable", "--requeue", "--output=job.out", "--open-mode=append", str(script))
    begun = tmp_path / "begun"
    wait_for(begun.exists)
    answer("scontrol", "requeue", job)
    wait_for(lambda: begun.read_text() == "begun 0\nbegun 1\n")
    answer("scancel", job)
    wait_for(lambda: "JobState=CANCELLED" in answer("scontrol", "show", "job", job))


@pytest.mark.slurm
def test_slurm_cluster_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    with slurm_cluster.slurm_cluster() as folder:
        answer("sbatch", "--wrap=trap '' TERM CONT; echo $$ > deaf; while true; do sleep 1; done")
        wait_for(lambda: (tmp_path / "deaf").exists() and (tmp_path / "deaf").read_text() != "")
        assert {"slurmctld", "slurmd", "munged", "slurmstepd", "sleep"} <= set(processes_of(folder))
    assert processes_of(folder) == []
    assert not Path("/proc", (tmp_path / "deaf").read_text().strip()).exists()
    assert not folder.exists()


def test_why_there_is_no_cluster_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_cluster, "PROGRAMS", ("munged-is-not-here",))
    assert slurm_cluster.unavailable() == "no Slurm: munged-is-not-here not installed (Debian: slurm-wlm munge)"


@pytest.mark.slurm
def test_failing_daemon_is_named_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_cluster, "SLURM_CONF", slurm_cluster.SLURM_CONF + "NoSuchKey=1\n")
    with pytest.raises(slurm_cluster.ClusterError, match=r"(?s)^slurmctld did not start.*NoSuchKey"):
        slurm_cluster.slurm_cluster().__enter__()
