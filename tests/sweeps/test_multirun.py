"""`mnist-ff train -m`: real sweeps in real processes, what they leave, and how they go on."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnist_ff import cli
from mnist_ff.config.compose import Composer
from mnist_ff.config.paths import conf_dir
from mnist_ff.errors import ConfigError
from mnist_ff.runs.jobs import Job
from mnist_ff.runs.signals import Interruption
from mnist_ff.sweeps.job_builder import JobBuilder
from mnist_ff.sweeps.job_run import SweepJob
from mnist_ff.sweeps.launchers.joblib import JoblibLauncher
from mnist_ff.sweeps.launchers.sequential import SequentialLauncher
from mnist_ff.sweeps.worker import Task
from tests.support.commands import Command
from tests.support.processes import COMMAND, PROMPT_S, Forked, Held, Started

SMALL = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "trainer.threads=1")
SIX = ("optimizer=sgd", "optimizer.lr=0.1,1e30,0.2", "seed=0,1", "hydra.sweep.dir=sweep")
"""Six jobs; those with lr 1e30 diverge."""


def table(sweep: str | Path = "sweep") -> list[dict[str, str]]:
    """sweep.csv without the times, in the order of the jobs."""
    with Path(sweep, "sweep.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: int(row["run"]))


def statuses(sweep: str | Path = "sweep") -> list[str]:
    return [row["status"] for row in table(sweep)]


def stamps(sweep: str = "sweep") -> dict[str, int]:
    """When each job's weights were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in Path(sweep).glob("*/model.safetensors")}


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, BaseException]], None]:
    """Make jobs with these seeds raise what they are given, in the middle of training."""
    from mnist_ff.training.learner import Learner

    whole = Learner.fit

    def patch(errors: dict[int, BaseException]) -> None:
        def fit(self: Learner, *given: Any) -> object:
            if self.seed in errors:
                raise errors[self.seed]
            return whole(self, *given)

        monkeypatch.setattr(Learner, "fit", fit)

    return patch


def test_resume_repeats_only_the_failed_jobs(
    mnist_ff: Command, patched: Callable[[dict[int, BaseException]], None]
) -> None:
    class UnpicklableError(Exception):
        def __reduce__(self) -> Iterator[object]:
            raise TypeError("no pickle")

    patched({1: SystemExit(3), 3: KeyboardInterrupt(), 5: UnpicklableError("my own\nkind")})
    code, out, err = mnist_ff("train", "-m", *SMALL, "seed=0,1,2,3,4,5", "hydra.sweep.dir=sweep")
    assert code == 1, err
    assert statuses() == ["finished", "failed"] * 3
    reasons = [row["reason"] for row in table()]
    assert "SystemExit: 3" in reasons[1]
    assert "KeyboardInterrupt" in reasons[3]
    assert "UnpicklableError" in reasons[5]
    for number in (1, 3, 5):
        assert f"failed  {number}  seed={number}" in out
        assert "Traceback" in Path(f"sweep/{number}/train.log").read_text()
    assert "run them again  mnist-ff train -m resume=sweep" in out
    assert "6/6  job 5  seed=5" in out
    assert "epoch 1/1" not in out
    assert err == "6 jobs: checking the values of each ...\n"
    before = stamps()
    patched({})
    code, out, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 0, err
    assert "6 jobs in sweep, 3 of them already finished" in out
    assert statuses() == ["finished"] * 6
    after = stamps()
    assert {job: stamp for job, stamp in after.items() if job in before} == before, "finished jobs are left alone"
    assert len(after) == 6


def test_diverged_jobs_are_rows(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", "-m", *SMALL, *SIX)
    assert code == 1
    assert statuses() == ["finished", "finished", "diverged", "diverged", "finished", "finished"]
    assert "diverged  2  optimizer.lr=1e+30 seed=0  the loss became" in out
    assert {path.name for path in Path("sweep").glob("sweep.*")} == {"sweep.csv", "sweep.json", "sweep.md", "sweep.png"}
    assert json.loads(Path("sweep/sweep.json").read_text())["groups"][0]["n"] == 2
    code, out, _ = mnist_ff("train", "-m", "resume=sweep")
    assert code == 1, "they diverge again"
    assert statuses().count("diverged") == 2
    code, _, err = mnist_ff("train", "-m", *SMALL, *SIX)
    assert code == 2
    assert "two sweeps never share a directory" in err
    assert "mnist-ff train -m resume=" in err


def test_on_error_stop_starts_no_more(mnist_ff: Command) -> None:
    code, _, _ = mnist_ff("train", "-m", *SMALL, *SIX, "sweep.on_error=stop")
    assert code == 1
    assert statuses() == ["finished", "finished", "diverged", "not started", "not started", "not started"]
    code, _, _ = mnist_ff("train", "-m", "resume=sweep", "sweep.on_error=continue")
    assert code == 1
    assert statuses() == ["finished", "finished", "diverged", "diverged", "finished", "finished"]


def test_a_changed_grid_is_refused(mnist_ff: Command) -> None:
    words = (*SMALL, "seed=0,1")
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=sweep")[0] == 0
    before = {path: path.read_bytes() for path in Path("sweep").rglob("*") if path.is_file()}
    for other, reason in (
        ((*SMALL, "seed=0,1,2"), "3 jobs requested, but this sweep has 2"),
        ((*SMALL, "seed=0,2"), "job 1 would be"),
        ((*words, "hydra.sweep.subdir=x${hydra.job.num}"), "cannot be changed when a sweep is resumed"),
    ):
        code, _, err = mnist_ff("train", "-m", "resume=sweep", *other)
        assert code == 2, other
        assert reason in err
    assert {path: path.read_bytes() for path in before} == before
    code, out, _ = mnist_ff("train", "-m", "resume=sweep", *words)
    assert code == 0, "the same grid is no change"
    assert "2 of them already finished" in out
    code, _, err = mnist_ff("train", "-m", "resume=nowhere")
    assert code == 2
    assert "nowhere: does not exist" in err
    code, _, err = mnist_ff("train", "resume=sweep")
    assert code == 2
    assert "mnist-ff train -m resume=sweep resumes its jobs" in err


def test_resumed_sweep_keeps_its_rows(mnist_ff: Command) -> None:
    words = (*SMALL, "sweep.rows=[{seed:1},{seed:2}]", "sweep.on_error=stop")
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=sweep")[0] == 0
    code, out, err = mnist_ff("train", "-m", "resume=sweep", *words)
    assert code == 0, err
    assert "2 of them already finished" in out
    code, _, err = mnist_ff("train", "-m", "resume=sweep", *SMALL, "sweep.rows=[{seed:1},{seed:3}]")
    assert code == 2
    assert "job 1 would be" in err


@pytest.mark.slow
def test_a_killed_parent_loses_nothing(mnist_ff: Command) -> None:
    """kill -9 in the fourth of six jobs, then a resume: six directories, and the table of a whole sweep."""
    words = (*SMALL, "trainer.epochs=12", "trainer.sync_every=1", "trainer.score_train=0", "seed=range(6)")
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=whole")[0] == 0
    started = Held("sweep/3", 100, "train", "-m", *words, "hydra.sweep.dir=sweep")
    started.process.kill()
    started.end()
    assert len(list(Path("sweep").glob("*/summary.json"))) == 3
    code, out, _ = mnist_ff("compare", "sweep")
    assert code == 0
    assert "3 finished, 1 interrupted, 2 not started" in out
    before = stamps()
    code, out, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 0, err
    assert {path.name for path in Path("sweep").iterdir() if path.is_dir()} == set("012345")
    assert table() == table("whole")
    assert {job: stamp for job, stamp in stamps().items() if job in before} == before
    for job in range(6):
        assert Path(f"sweep/{job}/batches.csv").read_bytes() == Path(f"whole/{job}/batches.csv").read_bytes()
    history = json.loads(Path("sweep/3/environment.json").read_text())["history"]
    assert len(history) == 1, "it went on from its checkpoint"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_whole_sweep(number: signal.Signals, code: int, mnist_ff: Command) -> None:
    words = (*SMALL, "trainer.epochs=1,100000,2", "hydra.sweep.dir=sweep")
    started = Started("train", "-m", *words)
    started.wait_for_rows(40, "sweep/1")
    started.process.send_signal(number)
    found, out, err = started.end(PROMPT_S)
    assert found == code, err
    assert statuses() == ["finished", "interrupted", "not started"]
    assert f"stopped by {number.name}" in table()[1]["reason"]
    assert "run them again  mnist-ff train -m resume=sweep" in out
    assert "Traceback" not in err


def test_a_sweep_of_nothing_is_refused(mnist_ff: Command) -> None:
    for words in (["seed=range(0,0)"], ["hydra.sweeper.params=5"]):
        code, _, err = mnist_ff("train", "-m", *SMALL, *words)
        assert code == 2, words
        assert "Traceback" not in err
    assert not Path("outputs").exists()


def test_a_dry_run_writes_nothing(mnist_ff: Command) -> None:
    words = (*SMALL, "optimizer.lr=0.001,0.002", "seed=0,1")
    code, out, _ = mnist_ff("train", "-m", "dry_run=true", *words)
    assert code == 0
    assert os.listdir() == []
    assert out.count("no comparable run yet") == 4
    assert "duration is unknown" in out
    assert mnist_ff("train", *SMALL)[0] == 0
    before = sorted(Path().rglob("*"))
    code, out, _ = mnist_ff("train", "-m", "dry_run=true", *words)
    assert sorted(Path().rglob("*")) == before
    assert "job 3  optimizer.lr=0.002  seed=1  " in out
    assert "4 jobs, about 0:0" in out
    code, out, _ = mnist_ff("train", "-m", "dry_run=true", *SMALL, "model.hidden=[8],[9]")
    assert "1 of them have no comparable run" in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["dry_run=true"], "is only for sweeps"),
        (["sweep.on_error=stop"], "is only for sweeps"),
        (["sweep=lr"], "is only for sweeps"),
        (["-m", "dry_run=maybe", "seed=0,1"], "must be true or false"),
        (["-m", "sweep.on_error=ignore", "seed=0,1"], "must be one of continue, stop"),
        (["-m", "sweep.rows=3"], "sweep.rows=3: must be a list"),
        (["-m", "sweep.rows=[]"], "sweep.rows=[]: is empty"),
        (["-m", "sweep.rows=[{seed:1},{seed:2}]", "seed=3"], "seed: is set both in sweep.rows and outside it"),
        (["-m", "hydra.sweep.dir=", "seed=0,1"], "hydra.sweep.dir=: is empty"),
        (["-m", "resume="], "resume=: is empty; give a sweep"),
        (["resume="], "resume=: is empty; give a run"),
        (["hydra.run.dir="], "hydra.run.dir=: is empty"),
        (["-m", "sweep.rows=[3]"], "must be a group of keys and values"),
        (["-m", "sweep.rows=[{},{}]"], "jobs 0 and 1 are the same"),
        (["-m", "sweep.rows=[{optimizer.lrr:1}]"], "did you mean optimizer.lr?"),
        (["-m", "sweep.rows=[{optimizer.lr:1},{optimizer.lr:-1}]"], "no job was started"),
        (["-m", "sweep=nonsense"], "sweep=nonsense: must be one of"),
        (["-m", "sweep.rows=[{sweep.on_error:stop,seed:1}]"], "(sweep.rows): applies to the whole sweep"),
        (["-m", "sweep.rows=[{sweep:lr,seed:1}]"], "cannot differ between jobs"),
        (
            ["-m", "hydra.sweeper.params={sweep.on_error:stop}", "seed=0,1"],
            "(hydra.sweeper.params): applies to the whole",
        ),
        (["-m", "sweep.on_error=stop,continue", "seed=0,1"], "(several values): applies to the whole sweep"),
        (["-m", "sweep=lr,seeds"], "(several values): applies to the whole sweep"),
        (["-m", "hydra.sweeper.max_batch_size=2", "seed=0,1"], "max_batch_size"),
        (["-m", "+hydra.sweeper.max_batch_size=2", "seed=0,1"], "checked has no such key"),
        (["-m", "+hydra.launcher.n_job=2", "hydra/launcher=joblib", "seed=0,1"], "joblib has no such key"),
        (["hydra.sweeper.params={seed:'0,1'}"], "is only for sweeps"),
        (["hydra/sweeper=optuna"], "is only for sweeps"),
        (["-m", "seed=0,0"], "jobs 0 and 1 are the same"),
        (
            ["-m", "seed=0,1", "hydra.sweep.subdir=sweep.csv/${hydra.job.num}"],
            "is the name of one of the sweep's files",
        ),
        (["-m", "optimizer.lr=interval(0.001,0.1)"], "add hydra/sweeper=optuna"),
        (["-m", "resume=a", "resume=b"], "resume=: give it only once"),
        (["-m", r"hydra.sweep.dir='a\${b}'", "seed=0,1"], "cannot contain ${"),
        (["-m", "hydra.sweep.subdir=../${hydra.job.num}", "seed=0,1"], "is outside the sweep's directory"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything(words: list[str], reason: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *words)
    assert code == 2, err
    assert reason in err
    assert "Traceback" not in err
    assert os.listdir() == []


def test_advice_that_would_be_refused_is_not_given(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", "hydra.sweeper.max_batch_size=2", "seed=0,1")
    assert code == 2
    assert "use +" not in err


def test_dry_run_refuses_what_a_run_would(mnist_ff: Command) -> None:
    words = (*SMALL, "seed=0,1", "hydra.sweep.dir=sweep")
    assert mnist_ff("train", "-m", *words)[0] == 0
    code, _, err = mnist_ff("train", "-m", "dry_run=true", *words)
    assert code == 2
    assert "two sweeps never share a directory" in err
    code, out, _ = mnist_ff("train", "-m", "dry_run=true", "resume=sweep")
    assert (code, out) == (0, "resume=sweep: all jobs are done\n")


def test_broken_runs_do_not_count_as_finished(mnist_ff: Command) -> None:
    assert mnist_ff("train", "-m", *SMALL, "seed=0,1,2", "hydra.sweep.dir=sweep")[0] == 0
    Path("sweep/0/summary.json").write_text("[")
    code, out, _ = mnist_ff("train", "-m", "resume=sweep")
    assert code == 1
    assert "3 jobs in sweep, 2 of them already finished" in out
    assert "remove them first  rm -r sweep/0\n" in out
    Path("sweep/1/epochs.csv").write_text("epoch\n0,1\n")
    summary = json.loads(Path("sweep/2/summary.json").read_text())
    Path("sweep/2/summary.json").write_text(json.dumps({**summary, "score": {"loss": 0.1}}))
    mnist_ff("compare", "sweep")
    reasons = [row["reason"] for row in table()]
    assert [reason.split(":")[0] for reason in reasons] == [
        "sweep/0/summary.json",
        "sweep/1/epochs.csv",
        "sweep/2/summary.json",
    ]
    for job in "012":
        shutil.rmtree(f"sweep/{job}")
    assert mnist_ff("train", "-m", "resume=sweep")[0] == 0


def test_resume_fetches_data_before_starting_jobs(
    mnist_ff: Command, real_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs may run where there is no network."""
    words = ["trainer.epochs=1", "model.hidden=[8]", "trainer.plots=false", f"data.root={tmp_path}/cache", "seed=0,1"]
    words += ["data.mirrors=[nowhere]", "trainer.batch_size=6000"]
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=sweep")[0] == 0
    Path("sweep/1/summary.json").unlink()
    shutil.rmtree(tmp_path / "cache")
    before = stamps()
    monkeypatch.delenv("MNIST_FF_MIRROR")
    code, _, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 1
    assert "data=mnist: the jobs need it" in err
    assert stamps() == before
    monkeypatch.setenv("MNIST_FF_MIRROR", str(real_mnist))
    assert mnist_ff("train", "-m", "resume=sweep")[0] == 0
    assert list((tmp_path / "cache").iterdir())


def test_search_stays_on_its_data(
    mnist_ff: Command, real_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["trainer.epochs=1", "model.hidden=[8]", "trainer.plots=false", f"data.root={tmp_path}/cache"]
    words += ["data.mirrors=[nowhere]", "data.validation_split=0.2", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1"]
    words += ["hydra.sweeper.pruner=none", "optimizer.lr=interval(0.001,0.01)"]
    more = "hydra.sweeper.n_trials=2"
    monkeypatch.delenv("MNIST_FF_MIRROR")
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=subset")[0] == 0
    monkeypatch.setenv("MNIST_FF_MIRROR", str(real_mnist))
    code, _, err = mnist_ff("train", "-m", "resume=subset", more)
    assert code == 0, err
    assert all("instead_of: mnist" in path.read_text() for path in Path("subset").glob("[01]/config.yaml"))
    assert len(list(Path("subset").glob("[01]/config.yaml"))) == 2

    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=whole")[0] == 0
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.delenv("MNIST_FF_MIRROR")
    code, _, err = mnist_ff("train", "-m", "resume=whole", more)
    assert code == 1
    assert "data=mnist: the jobs need it" in err


def test_rows_pair_values_and_cross_the_rest(mnist_ff: Command) -> None:
    rows = "sweep.rows=[{optimizer:sgd,optimizer.lr:0.1},{optimizer:adam,optimizer.lr:0.01},{}]"
    code, out, err = mnist_ff("train", "-m", "dry_run=true", *SMALL[:1], "model.hidden=[8]", rows, "seed=0,1")
    assert code == 0, err
    lines = [line.split("  no ")[0] for line in out.splitlines()[:6]]
    assert lines == [
        "job 0  optimizer.name=sgd  optimizer.lr=0.1  seed=0",
        "job 1  optimizer.name=sgd  optimizer.lr=0.1  seed=1",
        "job 2  optimizer.name=adam  optimizer.lr=0.01  seed=0",
        "job 3  optimizer.name=adam  optimizer.lr=0.01  seed=1",
        "job 4  optimizer.name=rmsprop  optimizer.lr=0.001  seed=0",
        "job 5  optimizer.name=rmsprop  optimizer.lr=0.001  seed=1",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["data=mnist_5k", "optimizer.lr=1e-3", "seed=null", "model.hidden=[3,4]", "name='a: b, c=1'"],
        ["optimizer=sgd", "optimizer.lr=0.1", "optimizer.momentum=0.9", "optimizer.nesterov=true", "data.root=there"],
        ["sweep=lr", "trainer.epochs=3", "trainer.sync_every=null", "model.hidden=[]", "name=1e3"],
        ["data.validation_split=0.1", "data.root=${oc.env:HOME}/x", "name=null", "trainer.plots=False"],
    ],
)
def test_job_config_equals_hydras_composition(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")  # a bare machine's environment may have none
    maker, _ = job_builder()
    assert maker.job(7, words) == maker.by_hydra(7, words)


def test_hydra_composes_each_choice_once() -> None:
    """A thousand jobs start in seconds: it takes 50 ms to answer."""
    maker, asked = job_builder()
    for number in range(100):
        option = ("adam", "sgd")[number % 2]
        maker.job(number, ["data=mnist_5k", f"optimizer={option}", f"optimizer.lr={0.001 * (number + 1)}"])
    assert len(asked) == 2
    with pytest.raises(ConfigError, match=r"seed=-1: must be at least 0.*\n.*in the job .*seed=-1; no job"):
        maker.job(100, ["data=mnist_5k", "optimizer=adam", "seed=-1"])


def job_builder() -> tuple[JobBuilder, list[list[str]]]:
    """A JobBuilder, and what it asks of Hydra."""
    composer, asked = Composer(), []
    composed = composer.sweep(["seed=0,1"])
    loader: Any = composer._loader
    load = loader.load_sweep_config
    loader.load_sweep_config = lambda *given: (asked.append(given[1]), load(*given))[1]
    return JobBuilder(composer, composed), asked


def test_a_jobs_words_do_not_hold_all_rows(mnist_ff: Command) -> None:
    assert mnist_ff("train", "-m", *SMALL, "sweep.rows=[{seed:1},{seed:2}]", "hydra.sweep.dir=sweep")[0] == 0
    jobs = json.loads(Path("sweep/jobs.json").read_text())["jobs"]
    assert [job["overrides"][0] for job in jobs] == ["seed=1", "seed=2"]
    assert all(len(job["overrides"]) == 1 + len(SMALL) for job in jobs)


PRESETS = sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml"))
JOBS = {"lr": 7, "seeds": 10, "dropout": 24, "architecture": 5, "optimizers": 10}


@pytest.mark.parametrize("name", JOBS)
def test_presets_compose(name: str, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", "-m", "dry_run=true", f"sweep={name}")
    assert code == 0, err
    assert out.count("\njob ") + 1 == JOBS[name]
    text = (conf_dir() / "sweep" / f"{name}.yaml").read_text()
    assert f"#   mnist-ff train -m sweep={name}\n" in text


def test_a_preset_runs_with_keys_of_ones_own(mnist_ff: Command) -> None:
    words = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false")
    code, out, err = mnist_ff("train", "-m", "sweep=lr", "optimizer.lr=0.01,0.001", *words, "hydra.sweep.dir=sweep")
    assert code == 0, err
    assert "Ranked by validation accuracy." in out
    assert len(table()) == 2
    assert "sweep" not in Path("sweep/0/config.yaml").read_text()


def test_simultaneous_sweeps_never_share_a_directory() -> None:
    """Composed in one process as fast as it goes: names alone must keep them apart."""
    found = {Composer().sweep(["seed=0,1"]).directory for _ in range(20)}
    assert len(found) >= 19, "of 65,536 names a second; the one chance in 300 of a double is refused, not shared"


def started_together(count: int) -> None:
    both = [Started("train", "-m", *SMALL, "seed=0,1") for _ in range(count)]
    assert [started.end()[0] for started in both] == [0] * count
    sweeps = list(Path("outputs/sweeps").iterdir())
    assert len(sweeps) == count
    assert all(statuses(sweep) == ["finished", "finished"] for sweep in sweeps)


def test_two_sweeps_started_together_have_their_own_directories() -> None:
    started_together(2)


@pytest.mark.slow
@pytest.mark.parametrize("repeat", range(20))
def test_sweeps_started_together_twenty_times(repeat: int) -> None:
    started_together(2)


def test_one_process_at_a_time_runs_a_sweep(mnist_ff: Command) -> None:
    started = Started("train", "-m", *SMALL, "trainer.epochs=100000", "seed=0,1", "hydra.sweep.dir=sweep")
    started.wait_for_rows(20, "sweep")
    code, _, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 1
    assert "another process is running this sweep" in err
    code, out, _ = mnist_ff("compare", "sweep")
    assert "1 running, 1 not started" in out
    started.process.send_signal(signal.SIGTERM)
    assert started.end()[0] == 143


@pytest.mark.parametrize("name", ["日本 é a=b,c[d]", "it's", "x\\y $x"])
def test_sweep_directories_of_every_kind(name: str, mnist_ff: Command) -> None:
    from mnist_ff.config.overrides import quoted

    code, _, err = mnist_ff("train", "-m", *SMALL, "seed=0", f"hydra.sweep.dir={quoted(name)}")
    assert code == 0, err
    assert statuses(name) == ["finished"]
    assert mnist_ff("train", "-m", f"resume={name}")[0] == 0


WORKER = """
import pickle
from pathlib import Path
from types import SimpleNamespace
result = pickle.loads(Path("pickled").read_bytes())()
assert pickle.loads(pickle.dumps(result)) == result
print(result.status)
"""


@pytest.mark.slow
def test_job_can_be_pickled_to_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is plain data: the sweep's directory and the job's place in it."""

    def launch(self: SequentialLauncher, job: SweepJob, jobs: Sequence[Job], *rest: object) -> None:
        Path("pickled").write_bytes(pickle.dumps(Task(job, jobs[1].subdir, 1)))

    monkeypatch.setattr(SequentialLauncher, "launch", launch)
    assert cli.main(["train", "-m", *SMALL, "seed=4,5", "hydra.sweep.dir=sweep"]) == 1, "no job has run"
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True)
    assert done.stdout == "finished\n", done.stderr[-2000:]
    assert json.loads(Path("sweep/1/summary.json").read_text())["seed"] == 5


def test_a_launcher_that_breaks_is_a_warning(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: SequentialLauncher, *given: object) -> None:
        raise RuntimeError("a worker was lost")

    monkeypatch.setattr(SequentialLauncher, "launch", broken)
    code, out, _ = mnist_ff("train", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=sweep")
    assert code == 1
    assert "warning: the launcher ended with RuntimeError: a worker was lost" in out
    assert "2 not started" in out


def test_sweep_without_scores_has_all_its_files(mnist_ff: Command) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e30,1e35", "hydra.sweep.dir=sweep")
    code, out, _ = mnist_ff("train", "-m", *SMALL, *words)
    assert code == 1
    assert "2 diverged" in out
    names = {path.name for path in Path("sweep").iterdir() if path.is_file()}
    assert names >= {"sweep.csv", "sweep.json", "sweep.md", "sweep.png", "report.html"}


def test_a_terminal_that_lacks_letters_gets_the_table() -> None:
    words = ["train", "-m", *SMALL, "name='日本','b'", "seed=0,1", "hydra.sweep.dir=sweep"]
    ascii_only = "import sys\nsys.stdout.reconfigure(encoding='ascii')\nsys.stderr.reconfigure(encoding='ascii')\n"
    forked = Forked(ascii_only + COMMAND, *words)
    out, err = forked.communicate()
    assert forked.returncode == 0, err
    assert "Traceback" not in err
    assert "4 finished" in out
    assert "name=??" in out
    assert Path("sweep/sweep.csv").exists()


def test_no_job_starts_between_ctrl_c_and_stop_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that heard Ctrl-C itself may end before the sweep's stop file is written."""
    pytest.importorskip("joblib")
    stopped, started = Interruption(), list[str]()

    class Process:
        exitcode = 0

        def __init__(self, target: object, args: tuple[Task, ...], name: str) -> None:
            self._task = args[0]

        def start(self) -> None:
            started.append(self._task.subdir)
            stopped._on_signal(signal.SIGINT, None)

        def join(self) -> None:
            pass

    context = SimpleNamespace(Process=Process, set_forkserver_preload=lambda modules: None)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: context)
    job = SweepJob(tmp_path, (), stop_on_error=False, parent=0)
    jobs: list[Any] = [SimpleNamespace(subdir=name) for name in "012"]
    JoblibLauncher({"n_jobs": 1}).launch(job, jobs, [1, 1, 1], lambda line: None, stopped)
    assert started == ["0"]
