"""Storages of searches: processes, passwords, locks, torn lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.config.passwords import without_password
from mnist_ff.errors import ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Score
from mnist_ff.runs.tables import EPOCH_COLUMNS
from mnist_ff.sweeps.search.plan import (
    Verdict,
)
from mnist_ff.sweeps.search.processes import lives, own_process
from mnist_ff.sweeps.search.reporter import Reporter, StudyLink
from mnist_ff.sweeps.search.storage import open_storage
from mnist_ff.sweeps.search.study import Search
from mnist_ff.sweeps.search.sweeper import SearchSweep
from tests.support.commands import Command
from tests.support.processes import Forked, Started
from tests.support.search import LR, SPLIT, WORDS, link, plan, run_all, states, worth


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_suggestions_do_not_depend_on_the_process(sampler: str) -> None:
    """A new Search for every trial, as resumes and other processes have it, samples what one Search does."""
    whole = [trial.values for trial in run_all(Search(plan("whole.journal", sampler=sampler, n_trials=12)))]
    pieces = []
    for _ in range(12):
        search = Search(plan("pieces.journal", sampler=sampler, n_trials=12))
        trial = search.claim()
        assert trial is not None
        search.record_result(trial.number, Verdict("complete", worth(trial)))
        pieces.append(trial.values)
    assert pieces == whole


@pytest.mark.parametrize("storage", ["/dev/null/x", "/proc/x/y", "sqlite:////proc/x/y.db"])
def test_unlockable_storage_is_one_line(storage: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR, f"hydra.sweeper.storage={storage}")
    assert code == 2, err
    assert f"error: hydra.sweeper.storage={storage}: cannot be" in err
    assert err.count("\n") == 1
    assert not Path("outputs").exists()


def test_failing_storage_is_named_without_password() -> None:
    with pytest.raises(ConfigError) as caught:
        Search(plan("mysql://me:secret@nowhere/db"))
    assert "hydra.sweeper.storage=mysql://nowhere/db: cannot be opened" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert without_password("/a@b/c") == "/a@b/c"


@pytest.mark.parametrize(
    "storage",
    ["mysql://me:sec,ret@nowhere/db", "postgresql://me:sec@ret@h/db", "'postgresql://h/db?user=me&password=sec=ret'"],
)
def test_a_password_is_refused_before_it_stands_anywhere(storage: str, mnist_ff: Command) -> None:
    for word in (f"hydra.sweeper.storage={storage}", f"++hydra.sweeper.storage={storage}"):
        code, out, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR, word)
        assert code == 2
        assert "set the environment variable MNIST_FF_STORAGE_PASSWORD" in err
        assert "sec" not in out + err.replace("processes", "")
    assert os.listdir() == []


def test_a_password_in_a_preset_is_refused_too(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *WORDS, SPLIT, LR, "hydra.sweeper={storage:'mysql://me:secret@h/db'}")
    assert code == 2
    assert "contains a password" in err
    assert "secret" not in err
    assert os.listdir() == []


def test_environment_password_reaches_only_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    opened = []

    def refuse(url: str, **_: object) -> None:
        opened.append(url)
        raise RuntimeError(f"no way to {url}, not with p@ss")

    monkeypatch.setenv("MNIST_FF_STORAGE_PASSWORD", "p@ss")
    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    with pytest.raises(ConfigError) as caught:
        open_storage("postgresql://me@h/db")
    assert opened == ["postgresql://me:p%40ss@h/db"]
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)


def test_a_torn_last_line_is_cut() -> None:
    search = Search(plan())
    search.claim()
    whole = Path("search.journal").read_bytes()
    Path("search.journal").write_bytes(whole + b'{"op_code":4,"wor')
    again = Search(plan())
    assert again.claim() is not None
    assert states() == ["RUNNING", "RUNNING"]


WORKER = """
import sys, time
from mnist_ff.sweeps.search.plan import Verdict
from mnist_ff.sweeps.search.study import Search
from tests.support.search import plan, worth
search = Search(plan(sys.argv[1], n_trials=int(sys.argv[2]), sampler="random"))
while (trial := search.claim()) is not None:
    print(trial.number, trial.values["optimizer.lr"], flush=True)
    time.sleep(float(sys.argv[3]))
    search.record_result(trial.number, Verdict("complete", worth(trial)))
print("done", flush=True)
"""


def worker(storage: str, n_trials: int, seconds: float) -> Forked:
    return Forked(WORKER, storage, str(n_trials), str(seconds))


def lines_of(process: Forked) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    *lines, last = out.splitlines()
    assert last == "done"
    return lines


@pytest.mark.parametrize("storage", ["search.journal", "sqlite:///search.db"])
def test_processes_share_a_storage_without_losing_trials(storage: str) -> None:
    processes = [worker(storage, 24, 0.02) for _ in range(3)]
    found = [lines_of(process) for process in processes]
    numbers = sorted(int(line.split()[0]) for lines in found for line in lines)
    assert numbers == list(range(24))
    assert len({line.split()[1] for lines in found for line in lines}) == 24, "no two draw the same numbers"
    assert sum(bool(lines) for lines in found) > 1, "more than one took part"
    assert states(storage) == ["COMPLETE"] * 24


def test_only_dead_processes_trials_are_failed() -> None:
    dying, living = worker("search.journal", 6, 60), worker("search.journal", 6, 60)
    try:
        owned = [int(process.first_line().split()[0]) for process in (dying, living)]
        os.kill(dying.pid, signal.SIGKILL)
        dying.communicate()
        search = Search(plan(sampler="random"))
        (said,) = search.recover()
        assert said == f"trial {owned[0]} was left running by a process that no longer exists: failed"
        assert search.recover() == []
        found = run_all(search)
        assert len(found) == 4
        assert sorted([*owned, *(trial.number for trial in found)]) == list(range(6)), "six in all"
        counts = search.result().counts
        assert counts == {"complete": 4, "pruned": 0, "failed": 1, "running": 1, "waiting": 0}
    finally:
        for process in (dying, living):
            process.kill()
            process.communicate()
    assert len(search.recover()) == 1


def test_ended_trial_of_a_killed_process_counts(tmp_path: Path) -> None:
    process = worker("search.journal", 2, 60)
    process.first_line()
    search = Search(plan(sampler="random", n_trials=2))
    directory = tmp_path / "run"
    ended_run(directory, "finished", 0.75)
    search.started(0, directory)
    process.kill()
    process.communicate()
    assert search.recover() == ["trial 0 was left running by a process that no longer exists: complete"]
    assert search.result().best_value == 0.75


@pytest.mark.slow
def test_ended_run_is_settled_by_its_own_sweep(tmp_path: Path) -> None:
    """A job that was left in Slurm and ends as the sweep is resumed would else stay running for ever."""
    search = Search(plan(sampler="random", n_trials=3))
    for number, status in enumerate(("finished", "interrupted", "interrupted")):
        assert search.claim() is not None
        ended_run(tmp_path / str(number), status, 0.75)
        search.started(number, tmp_path / str(number))
    with Run(tmp_path / "0").locked(), Run(tmp_path / "1").locked():
        assert search.recover() == []
        assert search.recover(own=tmp_path, left=[0, 2]) == []
        assert search.recover(own=tmp_path, left=[2]) == [
            "trial 0 was left running by a process that no longer exists: complete"
        ]
    assert states() == ["COMPLETE", "RUNNING", "RUNNING"]


def ended_run(directory: Path, status: str, accuracy: float) -> None:
    """What a run's end leaves, as far as a search reads it."""
    from mnist_ff.runs.directory import Run
    from mnist_ff.runs.records import Summary

    run = Run.create(directory)
    cells = {"epoch": "0", "validation_loss": "0.5", "validation_accuracy": f"{accuracy}"}
    row = ",".join(cells.get(column, "1") for column in EPOCH_COLUMNS)
    run.file("epochs.csv").write_text(",".join(EPOCH_COLUMNS) + "\n" + row + "\n")
    run.write_summary(Summary(status, "why", Score(0.5, 0.7, 7, 10), 1, 1, 1, 0, None, "mnist_5k", None))


def test_what_is_known_of_other_processes() -> None:
    own = own_process()
    assert lives(own) is True
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert lives(replace(own, pid=gone.pid)) is False
    assert lives(replace(own, start="1")) is False, "another process has its number now"
    assert lives(replace(own, host="elsewhere")) is None
    assert lives(replace(own, namespace="pid:[1]")) is None
    assert lives(replace(own, boot="before")) is (False if own.machine else None)


def test_trial_of_another_machine_is_kept() -> None:
    search = Search(plan())
    trial = search.claim()
    assert trial is not None
    text = Path("search.journal").read_text()
    Path("search.journal").write_text(text.replace(f'"host":"{own_process().host}"', '"host":"far"'))
    search = Search(plan())
    assert search.recover() == ["trial 0 may be running on far; it is left as it is"]
    assert states() == ["RUNNING"]
    search.started(0, Path("own/0"))
    assert search.recover(own=Path("own")) == ["trial 0 was left running by a process that no longer exists: failed"]


REPORTER = """
import pickle, sys
from mnist_ff.runs.records import Score, StopKind, StopReason
from mnist_ff.sweeps.search.reporter import Reporter
report = Reporter(pickle.loads(bytes.fromhex(sys.argv[1])), int(sys.argv[2]))
print(report(1, Score(0.5, float(sys.argv[3]), 1, 1)))
"""


@pytest.mark.parametrize("storage", ["search.journal", "sqlite:///search.db"])
def test_a_trial_is_pruned_from_another_process(storage: str) -> None:
    import pickle

    search = Search(plan(storage))
    where = StudyLink(search.plan.storage, "test")
    said = []
    for quality in ("0.9", "0.1"):
        trial = search.claim()
        assert trial is not None
        words = [pickle.dumps(where).hex(), str(trial.number), quality]
        process = Forked(REPORTER, *words)
        out, err = process.communicate()
        assert process.returncode == 0, err
        said.append(out.strip())
    assert said == ["None", "asha: validation accuracy 0.1000 after epoch 1 is not among the best 1/3"]


def test_a_storage_that_goes_away_stops_no_run(caplog: pytest.LogCaptureFixture) -> None:
    search = Search(plan())
    trial = search.claim()
    assert trial is not None
    report = Reporter(link(), trial.number)
    search.record_result(trial.number, Verdict("failed"))
    assert report(1, Score(0.5, 0.1, 1, 10)) is None
    assert "could not be reported" in caplog.text


@pytest.mark.slow
def test_two_searches_share_a_storage() -> None:
    words = (*WORDS, SPLIT, LR, "trainer.epochs=1", "hydra.sweeper.n_trials=7", "hydra.sweeper.storage=shared.journal")
    pair = [Started("train", "-m", *words, f"hydra.sweep.dir={place}") for place in "ab"]
    for started in pair:
        code, _, err = started.end()
        assert code == 0, err
    runs = [int(path.name) for place in "ab" for path in Path(place).iterdir() if path.is_dir()]
    assert sorted(runs) == list(range(7))
    assert set(states("shared.journal", "mnist-ff")) <= {"COMPLETE", "PRUNED"}
    assert len(states("shared.journal", "mnist-ff")) == 7


@pytest.mark.parametrize("storage", [(), ("hydra.sweeper.storage=sqlite:///q.db",)], ids=["journal", "sqlite"])
def test_storage_lost_in_a_search_is_one_line(
    storage: tuple[str, ...], mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SearchSweep.launch

    def launch(self: SearchSweep, *given: Any) -> None:
        whole(self, *given)
        for path in (Path("s/search.journal"), Path("q.db")):
            path.unlink(missing_ok=True)

    monkeypatch.setattr(SearchSweep, "launch", launch)
    words = ("data=mnist_5k", "model.hidden=[4]", "trainer.epochs=1", "hydra.sweeper.pruner=none", "hydra.sweep.dir=s")
    code, out, err = mnist_ff("train", "-m", "hydra/sweeper=optuna", *words, "trainer.plots=false", SPLIT, LR, *storage)
    assert code == 1
    assert "Traceback" not in err
    assert ("q.db: the study can no longer be read" if storage else "search.journal: No such file") in err
    assert "1 finished" in out
    assert {path.name for path in Path("s").glob("sweep.*")} == {"sweep.csv", "sweep.json", "sweep.md", "sweep.png"}
