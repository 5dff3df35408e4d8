"""OpenMP's threads: how long they spin, which is settled before torch is imported and recorded honestly."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_ff.engine import spinning
from mnist_ff.engine.spinning import SETTINGS, in_force, settled, without_ours
from mnist_ff.sweeps.job_run import SweepJob
from mnist_ff.sweeps.worker import Task

SEEN_BY_TORCH = """
import os, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            print(*(os.environ.get(variable) for variable in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Finder())
"""
"""Says what torch would find in the environment, and ends where it is imported."""


def seen_by_torch(code: str, *words: str, **variables: str) -> str:
    others = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, spinning.POLICY)}
    command = [sys.executable, "-c", SEEN_BY_TORCH + code, *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**others, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


COMMAND = "from mnist_ff import cli; cli.main(['train', 'data=mnist_5k'])"


@pytest.mark.parametrize("code", [COMMAND, "import mnist_ff; mnist_ff.train"])
def test_the_spin_is_set_before_torch_is_imported(code: str) -> None:
    assert seen_by_torch(code) == " ".join(SETTINGS.values())


def test_a_worker_of_its_own_sets_it_too(tmp_path: Path) -> None:
    task = Task(SweepJob(tmp_path, (), False, 0), "0", 1)
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    found = seen_by_torch("import pickle; pickle.load(open(sys.argv[1], 'rb'))()", str(tmp_path / "task"))
    assert found == " ".join(SETTINGS.values())


@pytest.mark.parametrize(
    ("variables", "seen"),
    [({"GOMP_SPINCOUNT": "7"}, f"7 {SETTINGS['KMP_BLOCKTIME']}"), ({"OMP_WAIT_POLICY": "active"}, "None None")],
)
def test_a_users_own_spin_is_left(variables: dict[str, str], seen: str) -> None:
    assert seen_by_torch(COMMAND, **variables) == seen


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process that imported torch before mnist-ff and was started with none of the variables."""
    for name in (*SETTINGS, spinning.POLICY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(spinning, "_noted", {})
    monkeypatch.setattr(spinning, "_environment_at_start", dict)
    return monkeypatch


def test_what_is_set_too_late_is_not_recorded_as_in_force(late: pytest.MonkeyPatch) -> None:
    unset = dict.fromkeys((*SETTINGS, spinning.POLICY))
    assert in_force() == unset
    with settled():
        assert os.environ["GOMP_SPINCOUNT"] == SETTINGS["GOMP_SPINCOUNT"]  # for processes that it starts
        assert in_force() == unset
        assert not SETTINGS.keys() & without_ours(os.environ).keys()
    assert not SETTINGS.keys() & os.environ.keys()
    late.setenv("GOMP_SPINCOUNT", "5")
    assert in_force() == {**unset, "GOMP_SPINCOUNT": "unknown"}
    with settled():
        assert os.environ["GOMP_SPINCOUNT"] == without_ours(os.environ)["GOMP_SPINCOUNT"] == "5"
    late.setattr(spinning, "_environment_at_start", lambda: {"GOMP_SPINCOUNT": "5"})
    assert in_force()["GOMP_SPINCOUNT"] == "5"


def test_what_torch_found_is_recorded(late: pytest.MonkeyPatch) -> None:
    late.delitem(sys.modules, "torch")
    with settled():
        sys.modules["torch"] = sys  # stands for the import
    expected = {**SETTINGS, "OMP_WAIT_POLICY": None}
    assert in_force() == expected
    assert not SETTINGS.keys() & os.environ.keys()
    with settled():
        assert in_force() == expected


def test_a_command_that_imports_no_torch_leaves_no_record(late: pytest.MonkeyPatch) -> None:
    late.delitem(sys.modules, "torch")
    with settled():
        pass
    assert spinning._noted == {}
