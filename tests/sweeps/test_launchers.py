"""Sweeps in many processes and on a real Slurm: the same numbers, nothing lost with a lost job, and a row for each."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from mnist_ff.runs.directory import Run
from mnist_ff.runs.tables import metric_columns
from mnist_ff.sweeps import multirun
from mnist_ff.sweeps.launchers.base import shared
from mnist_ff.sweeps.launchers.joblib import ended_with
from tests.support.commands import Command
from tests.support.processes import PROMPT_S, wait_for
from tests.support.runs import assert_seconds_add_up

pytestmark = pytest.mark.slow  # three minutes of processes that start, die and wait; .ci/run runs them by name

SMALL = ("data=mnist_5k", "model.hidden=[16]", "trainer.epochs=1", "trainer.plots=false")
ROOT = Path(__file__).resolve().parents[2]
LONG = 1_000_000
"""Epochs that nobody waits for."""


@pytest.fixture(params=["joblib", "submitit_local", "submitit_slurm"])
def launcher(request: pytest.FixtureRequest) -> str:
    """The word that chooses each launcher, with a Slurm where it needs one."""
    if request.param == "submitit_slurm":
        request.getfixturevalue("slurm")
    return f"hydra/launcher={request.param}"


def statuses(sweep: str = "sweep") -> list[str]:
    """How the jobs ended, as the table has it."""
    return [row["status"] for row in table(sweep)]


def table(sweep: str = "sweep") -> list[dict[str, Any]]:
    """The rows by job, in the sweep's order."""
    rows: list[dict[str, Any]] = json.loads(Path(sweep, "sweep.json").read_text())["runs"]
    return sorted(rows, key=lambda row: int(row["run"]))


def scontrol(*words: str) -> None:
    subprocess.run(["scontrol", *words], check=True)


class Sweep:
    """A sweep in a process and process group of its own."""

    def __init__(self, *words: str, resume: str | None = None) -> None:
        new = (*SMALL, "hydra.sweep.dir=sweep", *words)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mnist_ff", "train", "-m", *(new if resume is None else [f"resume={resume}"])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for_training(self, *jobs: str, batches: int = 1) -> None:
        """Until these jobs have written so many batches."""
        files = [Path("sweep", job, "batches.csv") for job in jobs]

        def trains() -> bool:
            assert self.process.poll() is None, self.end()
            return all(file.exists() and file.read_text().count("\n") > batches for file in files)

        wait_for(trains)

    def end(self) -> tuple[int, str]:
        """Exit code and what was said."""
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


def workers_of(sweep: Path) -> dict[str, int]:
    """The process that trains in each of the sweep's directories, by its lock."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            open_files = [os.readlink(file) for file in (process / "fd").iterdir()]
        except OSError:  # it has just ended
            continue
        for name in open_files:
            path = Path(name)
            if path.name == ".lock" and path.parent.parent == sweep:
                found[path.parent.name] = int(process.name)
    return found


def test_failed_jobs_do_not_end_the_others(launcher: str, mnist_ff: Command) -> None:
    words = ("optimizer=sgd", "optimizer.lr=0.01,1e30", "seed=0,1,2", "hydra.sweep.dir=sweep", launcher)
    code, out, _ = mnist_ff("train", "-m", *SMALL, *words)
    assert code == 1
    assert statuses() == ["finished"] * 3 + ["diverged"] * 3
    for job in ("3", "4", "5"):
        assert re.search(rf"diverged +{job} +optimizer.lr=1e\+30 seed=. +the loss became nan", out), out
    assert "3 finished" in out
    assert "resume=sweep" in out


def test_on_error_stop_starts_no_more(launcher: str, mnist_ff: Command) -> None:
    one_at_a_time = "hydra.launcher.n_jobs=1" if "joblib" in launcher else "hydra.launcher.array_parallelism=1"
    words = ("optimizer=sgd", "optimizer.lr=0.01,1e30,0.02,0.03", "sweep.on_error=stop", "hydra.sweep.dir=sweep")
    code, out, _ = mnist_ff("train", "-m", *SMALL, *words, launcher, one_at_a_time)
    assert code == 1
    assert statuses()[:2] == ["finished", "diverged"], out
    assert statuses()[3] == "not started", out


def test_jobs_measure_metrics_and_tell_callbacks(launcher: str, mnist_ff: Command) -> None:
    diary = Path("diary.txt").absolute()
    parts = Path(__file__).parents[1] / "parts" / "own.py"
    chosen = (f"--parts={parts}", "metrics=[largest_logit,weight_norms]", "callbacks=[diary]")
    words = (*SMALL, "trainer.epochs=2", launcher, *chosen, f"callbacks.diary.path={diary}", "hydra.sweep.dir=sweep")
    code, _, err = mnist_ff("train", "-m", *words, "seed=0,1")
    assert code == 0, err
    heard = sorted(line.partition(":")[0] for line in diary.read_text().splitlines())
    assert heard == ["epoch 1", "epoch 1", "epoch 2", "epoch 2"]
    for job in "01":
        columns = metric_columns(Path("sweep", job))
        assert columns[0] == "largest_logit"
        assert len(columns) > 1
        assert all(row.keys() >= set(columns) for row in Run(Path("sweep", job)).epochs())


def test_joblib_gives_the_same_bytes_as_sequential(mnist_ff: Command) -> None:
    words = (*SMALL, "trainer.epochs=2", "trainer.threads=1", "seed=0,1", "optimizer=rmsprop,adam")
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=serial")[0] == 0
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=sweep", "hydra/launcher=joblib")[0] == 0
    for job in "0123":
        for name in (
            "config.yaml",
            "batches.csv",
            "model.safetensors",
            "predictions.safetensors",
            ".hydra/config.yaml",
        ):
            one, other = (Path(sweep, job, name).read_bytes() for sweep in ("serial", "sweep"))
            assert one == other, f"{job}/{name}"
        one, other = (without_seconds(Path(sweep, job, "epochs.csv")) for sweep in ("serial", "sweep"))
        assert one == other
        for sweep in ("serial", "sweep"):
            assert_seconds_add_up(json.loads(Path(sweep, job, "summary.json").read_text())["seconds"])
    assert load_file("sweep/0/model.safetensors").keys()


def without_seconds(path: Path) -> list[str]:
    return [line.rpartition(",")[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("cores", "at_once", "asked", "jobs", "threads"),
    [
        (2, None, [None] * 6, 2, 1),
        (8, None, [None] * 3, 3, 2),
        (8, None, [None], 1, 8),
        (8, None, [2] * 6, 4, 2),
        (8, None, [None, 4, 2], 2, 4),
        (2, None, [16], 1, 2),
        (2, 4, [None] * 6, 4, 1),
        (8, 4, [None] * 6, 4, 2),
        (8, 2, [8] * 6, 2, 4),
    ],
)
def test_jobs_times_threads_stay_within_the_cores(
    cores: int, at_once: int | None, asked: list[int | None], jobs: int, threads: int
) -> None:
    assert shared(cores, at_once, asked) == (jobs, threads)


def test_threads_of_jobs_are_printed_and_recorded(mnist_ff: Command) -> None:
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", "hydra.sweep.dir=sweep")
    _, out, _ = mnist_ff("train", "-m", *SMALL, *words)
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert out.count("for each job") == 1
    assert f"trainer.threads={threads} for each job, at most 2 at a time" in out
    assert {Run(Path("sweep", job)).config().trainer.threads for job in "01"} == {threads}


def test_requested_threads_are_not_announced(mnist_ff: Command) -> None:
    words = ("hydra/launcher=joblib", "trainer.threads=1", "seed=0,1", "hydra.sweep.dir=sweep")
    assert "for each job" not in mnist_ff("train", "-m", *SMALL, *words)[1]


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_without_its_extra_a_launcher_says_which_one(
    name: str, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multirun.importlib.util, "find_spec", lambda name: None)
    code, out, err = mnist_ff("train", "-m", *SMALL, f"hydra/launcher={name}", "seed=0,1")
    extra = "parallel" if name == "joblib" else "slurm"
    assert code == 2
    assert err.count("\n") == 1
    assert f"pip install 'mnist-ff[{extra}]'" in err
    assert out == ""
    assert not Path("outputs").exists()


def test_without_sbatch_slurm_is_refused_at_once(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multirun.shutil, "which", lambda name: None)
    code, _, err = mnist_ff("train", "-m", *SMALL, "hydra/launcher=submitit_slurm", "seed=0,1")
    assert (code, err.count("\n")) == (2, 1)
    assert "sbatch not found" in err


@pytest.mark.parametrize(
    ("launcher", "word"),
    [
        ("joblib", "n_jobs=0"),
        ("joblib", "n_jobs=two"),
        ("joblib", "njobs=2"),
        ("joblib", "_target_=os.system"),
        ("submitit_local", "cpus_per_task=0"),
        ("submitit_local", "timeout_min=soon"),
        ("submitit_local", "signal_delay_s=3600"),
        ("submitit_local", "max_num_timeout=-1"),
    ],
)
def test_wrong_launcher_keys_write_nothing(launcher: str, word: str, mnist_ff: Command) -> None:
    words = (f"hydra/launcher={launcher}", f"hydra.launcher.{word}", "seed=0,1")
    code, out, err = mnist_ff("train", "-m", *SMALL, *words)
    assert (code, out) == (2, "")
    assert word.partition("=")[0] in err
    assert err.count("\n") <= 2
    assert not Path("outputs").exists()


def test_a_launcher_without_a_sweep_is_refused(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *SMALL, "hydra/launcher=joblib")
    assert (code, err.count("\n")) == (2, 1)
    assert "train -m" in err


def test_how_a_process_ended_is_said() -> None:
    assert "SIGKILL" in ended_with(-9)
    assert "SIGSEGV" in ended_with(-11)
    assert "exit code 3" in ended_with(3)


@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
def test_killed_job_is_a_row(name: str) -> None:
    sweep = Sweep(f"hydra/launcher={name}", f"trainer.epochs={LONG},1,2")
    sweep.wait_for_training("0")
    os.kill(workers_of(Path("sweep").absolute())["0"], signal.SIGKILL)
    code, out = sweep.end()
    assert code == 1
    assert statuses() == ["interrupted", "finished", "finished"]
    assert "its process was killed" in out
    assert "its process was killed" in table()[0]["reason"]


@pytest.mark.parametrize("to_the_group", [True, False], ids=["ctrl_c", "parent_alone"])
@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
def test_ctrl_c_ends_all_jobs_resumably(name: str, to_the_group: bool) -> None:
    sweep = Sweep(f"hydra/launcher={name}", f"trainer.epochs=1,{LONG},{LONG + 1},2")
    sweep.wait_for_training("0", "1", "2")
    workers = workers_of(Path("sweep").absolute())
    if to_the_group:
        os.killpg(sweep.process.pid, signal.SIGINT)
    else:
        sweep.process.send_signal(signal.SIGINT)
    wait_for(lambda: workers_of(Path("sweep").absolute()) == {}, PROMPT_S)
    code, out = sweep.end()
    assert code == 130
    assert statuses() == ["finished", "interrupted", "interrupted", "not started"]
    assert "Traceback" not in out
    assert not any(Path("/proc", str(pid)).exists() for pid in workers.values())
    assert [Run(Path("sweep", job)).file("checkpoint.pt").exists() for job in "12"] == [True, True]


def test_jobs_end_with_the_process_that_launched_them() -> None:
    sweep = Sweep("hydra/launcher=joblib", f"trainer.epochs={LONG},{LONG + 1}")
    sweep.wait_for_training("0", "1")
    sweep.process.kill()
    sweep.end()
    wait_for(lambda: workers_of(Path("sweep").absolute()) == {}, PROMPT_S)
    assert [Run(Path("sweep", job)).summary().cause for job in "01"] == ["stopped by SIGTERM"] * 2  # type: ignore[union-attr]


def test_slurm_killed_and_cancelled_jobs_are_rows(slurm: Path) -> None:
    sweep = Sweep("hydra/launcher=submitit_slurm", f"trainer.epochs={LONG},{LONG + 1},1,2,{LONG + 2}")
    sweep.wait_for_training("0", "1")
    (number,) = {line.split("_")[0] for line in squeue("%i").splitlines()}
    os.kill(workers_of(Path("sweep").absolute())["0"], signal.SIGKILL)
    subprocess.run(["scancel", f"{number}_1", f"{number}_4"], check=True)
    code, out = sweep.end()
    assert code == 1
    assert statuses() == ["interrupted", "interrupted", "finished", "finished", "interrupted"]
    killed, cancelled, _, _, never = [row["reason"] for row in table()]
    assert killed == f"its job {number}_0 ended in Slurm as FAILED; its log: .submitit/{number}_0/{number}_0_0_log.err"
    assert cancelled in ("stopped by SIGTERM", f"cancelled in Slurm (job {number}_1)")
    assert never == f"cancelled in Slurm before it started (job {number}_4)"
    assert "2 finished" in out
    assert "3 interrupted" in out


def squeue(format: str) -> str:
    words = ["squeue", "--noheader", "--array", f"--format={format}"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_resume_leaves_alone_what_slurm_still_has(slurm: Path, mnist_ff: Command) -> None:
    """One job runs, one waits for its turn, one was cancelled: only that is begun anew."""
    sweep = Sweep("hydra/launcher=submitit_slurm", "hydra.launcher.array_parallelism=1", "trainer.epochs=300,2,1")
    sweep.wait_for_training("0")
    before = squeue("%i").split()
    number = before[0].split("_")[0]
    scontrol("hold", f"{number}_1")
    scontrol("suspend", f"{number}_0")  # or they might end before the resume looks
    assert json.loads(Path("sweep/slurm.json").read_text()) == {job: f"{number}_{job}" for job in "012"}
    os.killpg(sweep.process.pid, signal.SIGINT)
    assert sweep.end()[0] == 130
    assert not Path("sweep/.stop").exists(), "the jobs keep running"
    subprocess.run(["scancel", f"{number}_2"], check=True)
    code, out, err = mnist_ff("train", "-m", "resume=sweep", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    assert f"2 jobs still in Slurm (as {number}) are left alone" in out, err
    assert statuses()[2] == "finished"
    assert code == 1, "the others are not finished"
    scontrol("resume", f"{number}_0")
    scontrol("release", f"{number}_1")
    code, out, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 0, err
    assert re.search(rf"[12] jobs? still in Slurm \(as {number}\) are waited for", out), out
    assert statuses() == ["finished"] * 3
    assert set(json.loads(Path("sweep/slurm.json").read_text()).values()) == {f"{number}_{job}" for job in "012"}
    assert Run(Path("sweep/0")).environment()["history"] == []


def test_ctrl_c_during_submission_leaves_jobs_to_slurm(
    slurm: Path, mnist_ff: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch takes its time, and gets the terminal's signal too."""
    slow = tmp_path / "bin" / "sbatch"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/bash\ntouch {tmp_path}/asked\nsleep 2\nexec {shutil.which("sbatch")} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    sweep = Sweep("hydra/launcher=submitit_slurm", "seed=0,1")
    wait_for((tmp_path / "asked").exists)
    os.killpg(sweep.process.pid, signal.SIGINT)
    code, out = sweep.end()
    assert code == 130
    assert "left: 2 jobs keep running in Slurm" in out
    assert not Path("sweep/.stop").exists()
    wait_for(lambda: squeue("%i") == "")
    assert mnist_ff("compare", "sweep")[0] == 0
    assert statuses() == ["finished", "finished"]


def test_search_continues_trials_left_in_slurm(slurm: Path, mnist_ff: Command) -> None:
    words = ("hydra/launcher=submitit_slurm", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3")
    words += ("hydra.sweeper.n_jobs=2", "hydra.sweeper.pruner=none", "data.validation_split=0.2")
    sweep = Sweep(*words, "optimizer.lr=interval(0.001,0.01)", "trainer.epochs=150")
    sweep.wait_for_training("0", "1")
    numbers = ",".join(json.loads(Path("sweep/slurm.json").read_text()).values())
    scontrol("suspend", numbers)  # or they might end before the resume looks
    os.killpg(sweep.process.pid, signal.SIGINT)
    assert sweep.end()[0] == 130
    counts = json.loads(Path("sweep/search.json").read_text())["counts"]
    assert (counts["running"], counts["waiting"]) == (2, 1)
    resumed = Sweep(resume="sweep")
    assert resumed.process.stdout
    early = next(line for line in resumed.process.stdout if "jobs still in" in line)
    scontrol("resume", numbers)
    assert re.match(r"2 jobs still in Slurm \(as .*\) are waited for", early)
    code, out = resumed.end()
    assert code == 0, out
    counts = json.loads(Path("sweep/search.json").read_text())["counts"]
    assert (counts["complete"], counts["failed"]) == (3, 0)
    assert [Run(Path("sweep", job)).environment()["history"] for job in "012"] == [[]] * 3, "none began twice"


def test_silent_slurm_causes_no_second_submission(mnist_ff: Command, tmp_path: Path) -> None:
    from mnist_ff.runs.slurm import note_submitted

    assert mnist_ff("train", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=sweep")[0] == 0
    (tmp_path / "sweep" / "1" / "summary.json").unlink()
    note_submitted(tmp_path / "sweep", {"0": "7_0", "1": "7_1"})
    os.environ["PATH"], path = "", os.environ["PATH"]
    try:
        code, _, err = mnist_ff("train", "-m", "resume=sweep")
    finally:
        os.environ["PATH"] = path
    assert code == 1
    assert "1 of its jobs were left in Slurm, which does not report" in err


@pytest.mark.parametrize("name", ["submitit_local", "submitit_slurm"])
def test_time_limit_requeues_the_job(name: str, request: pytest.FixtureRequest) -> None:
    """timeout_min=1 is the shortest there is; the signal comes some seconds after the start."""
    if name == "submitit_slurm":
        request.getfixturevalue("slurm")
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=50")
    sweep = Sweep(f"hydra/launcher={name}", *limit, f"trainer.epochs={LONG}")
    sweep.wait_for_training("0")
    environment = Run(Path("sweep/0"))
    wait_for(lambda: environment.environment()["history"], 100)
    (resumed,) = environment.environment()["history"]
    assert (resumed["epoch"], resumed["batch"]) > (0, 0)
    if name == "submitit_slurm":
        subprocess.run(["scancel", *squeue("%i").split()], check=True)
    else:
        sweep.process.send_signal(signal.SIGINT)
    out = sweep.end()[1]
    assert "job 0 was stopped by SIGUSR2; it continues after requeueing" in out
    assert statuses() == ["interrupted"]


RAISING = """
import importlib.util, sys

class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("no pickle")

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "mnist_ff.training.learner":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader.exec_module = patched(spec.loader.exec_module)
        return spec

def patched(exec_module):
    def patch(module):
        exec_module(module)
        whole = module.Learner.fit
        def fit(self, *given):
            if self.seed == 1:
                sys.exit(3)
            if self.seed == 2:
                raise Unpicklable("my own kind")
            return whole(self, *given)
        module.Learner.fit = fit
    return patch

sys.meta_path.insert(0, Finder())
"""


def test_sys_exit_and_unpicklable_results_end_one_job(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in the middle of training, in the jobs' own processes: Python runs sitecustomize.py in each."""
    (tmp_path / "raising").mkdir()
    (tmp_path / "raising" / "sitecustomize.py").write_text(RAISING)
    path = os.pathsep.join([str(tmp_path / "raising"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    code, out = Sweep(launcher, "seed=0,1,2,3").end()
    assert code == 1
    assert statuses() == ["finished", "failed", "failed", "finished"], out
    assert "SystemExit: 3" in table()[1]["reason"]
    assert "my own kind" in table()[2]["reason"]


def test_a_search_runs_its_trials_side_by_side(mnist_ff: Command) -> None:
    words = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "data.validation_split=0.2")
    words += ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "optimizer.lr=interval(0.001,0.01)")
    code, out, err = mnist_ff("train", "-m", *SMALL, *words, "trainer.epochs=2", "hydra.sweep.dir=sweep")
    assert code == 0, err
    counts = json.loads(Path("sweep/search.json").read_text())["counts"]
    assert counts["complete"] + counts["pruned"] == 4
    assert counts["complete"] >= 1
    assert "at most 2 at a time" in out
    assert {row["status"] for row in table()} <= {"finished", "pruned"}


def test_resumed_search_keeps_threads_per_job(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """On eight cores: one trial at a time has all, however many jobs the sweep has by then."""
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    words = ("hydra/sweeper=optuna", "data.validation_split=0.2", "optimizer.lr=interval(0.001,0.01)")
    words += ("hydra/launcher=joblib", "hydra.launcher.n_jobs=3", "hydra.sweep.dir=sweep")
    code, out, err = mnist_ff("train", "-m", *SMALL, *words, "hydra.sweeper.n_trials=2")
    assert code == 0, err
    said = "trainer.threads=8 for each job, at most 1 at a time"
    assert said in out
    assert "hydra.launcher.n_jobs=3: only 1 are launched together (hydra.sweeper.n_jobs)" in out
    assert said in mnist_ff("train", "-m", "resume=sweep", "hydra.sweeper.n_trials=3")[1]
    assert {Run(Path("sweep", job)).config().trainer.threads for job in "012"} == {8}


def test_slurm_sweep_can_be_left_running(slurm: Path, mnist_ff: Command) -> None:
    sweep = Sweep("hydra/launcher=submitit_slurm", "trainer.epochs=100,101")
    sweep.wait_for_training("0", "1")
    os.killpg(sweep.process.pid, signal.SIGINT)
    code, out = sweep.end()
    assert code == 130
    assert "left: 2 jobs keep running in Slurm" in out
    assert statuses() == ["running", "running"]
    wait_for(lambda: squeue("%i") == "")
    assert mnist_ff("compare", "sweep")[0] == 0
    assert statuses() == ["finished", "finished"]


def test_slurms_refusal_is_quoted(slurm: Path, mnist_ff: Command) -> None:
    """The test's cluster has no GPU, so the key's way to sbatch ends in sbatch's own refusal."""
    words = ("hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=1", "seed=0,1", "hydra.sweep.dir=sweep")
    code, out, err = mnist_ff("train", "-m", *SMALL, *words)
    assert code == 1
    assert "gres" in err.lower() or "gres" in out.lower(), out + err
    assert "Traceback" not in out + err
    assert statuses() == ["not started", "not started"]


@pytest.mark.parametrize("name", ["submitit_local", "submitit_slurm"])
def test_a_requeued_job_goes_on_from_its_checkpoint(
    name: str, mnist_ff: Command, request: pytest.FixtureRequest
) -> None:
    if name == "submitit_slurm":
        request.getfixturevalue("slurm")
    words = ("trainer.epochs=60", "trainer.threads=1", "seed=0,1")
    sweep = Sweep(f"hydra/launcher={name}", *words)
    sweep.wait_for_training("0", batches=50)
    if name == "submitit_slurm":
        (number,) = {line.split("_")[0] for line in squeue("%i").splitlines()}
        subprocess.run(["scancel", "--signal=USR2", f"{number}_0"], check=True)
    else:
        os.kill(workers_of(Path("sweep").absolute())["0"], signal.SIGUSR2)
    code, out = sweep.end()
    assert code == 0, out
    assert statuses() == ["finished", "finished"]
    assert "job 0 was stopped by SIGUSR2; it continues after requeueing" in out
    (resumed,) = Run(Path("sweep/0")).environment()["history"]
    assert 0 < resumed["epoch"] < 60
    assert Run(Path("sweep/1")).environment()["history"] == []
    assert mnist_ff("train", "-m", *SMALL, *words, "hydra.sweep.dir=whole")[0] == 0
    for job in "01":
        assert Path("sweep", job, "batches.csv").read_bytes() == Path("whole", job, "batches.csv").read_bytes()
