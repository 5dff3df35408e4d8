"""Which runs are one run to their trackers: resumed and moved ones are, copies are not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.runs.directory import Run
from mnist_ff.trackers import identity
from mnist_ff.trackers.identity import IDENTITY, TRACKING, Identity, identify


def known(path: str, first_step: int = 0, *titles: str) -> Identity:
    return identify(Run(Path(path)), titles or ("MLflow",), first_step)


def saved(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path, TRACKING).read_text())
    return found


def write(path: str, **changes: Any) -> None:
    Path(path, TRACKING).write_text(json.dumps({**saved(path), **changes}))


@pytest.fixture(autouse=True)
def run() -> str:
    """The name of a run directory that trackers know."""
    Path("run").mkdir()
    known("run")
    return "run"


def test_a_copy_gets_an_identity_of_its_own() -> None:
    first = known("run").name
    shutil.copytree("run", "copy")
    shutil.copytree("run", "elsewhere/run")
    for place in ("copy", "elsewhere/run"):
        found = known(place)
        assert found.name != first
        assert found.copied == Path("run").absolute()
        assert Path(place, IDENTITY).read_text().strip() == found.name
        assert known(place) == Identity(found.name, {"MLflow": 0}), "once"
    assert known("run") == Identity(first, {"MLflow": 0}), "the original keeps its own"
    assert known("copy").name != known("elsewhere/run").name


def test_a_moved_directory_keeps_its_identity() -> None:
    first = known("run").name
    os.rename("run", "moved")
    assert known("moved") == Identity(first, {"MLflow": 0})
    assert saved("moved")["directory"] == str(Path("moved").absolute())
    shutil.copytree("moved", "run")  # what stands at the old path is now the copy
    assert known("run").copied == Path("moved").absolute()
    os.symlink("moved", "link")
    assert known("link").name == first


def test_restored_directory_keeps_its_tracker_identity() -> None:
    first = known("run").name
    shutil.copytree("run", "disk/run")
    shutil.rmtree("run")
    assert known("disk/run").name == first
    shutil.copytree("disk/run", "kept")
    shutil.rmtree("disk/run")
    shutil.copytree("kept", "disk/run")
    shutil.rmtree("kept")
    assert known("disk/run").name == first


def test_copies_of_a_directory_that_is_gone_differ() -> None:
    for place in ("one", "two", "three"):
        shutil.copytree("run", place)
    shutil.rmtree("run")
    assert len({known(place).name for place in ("one", "two", "three", "one")}) == 3


def test_a_copy_on_another_machine_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_machine", lambda: "here")
    first = known("run").name
    shutil.copytree("run", "copy")
    shutil.rmtree("run")
    monkeypatch.setattr(identity, "_machine", lambda: "there")
    found = known("copy")
    assert found.name != first
    assert found.copied == Path("run").absolute()
    for machine in ("mounts the same disk", ""):
        monkeypatch.setattr(identity, "_machine", lambda machine=machine: machine)
        assert known("copy").name == found.name


def test_an_older_directory_keeps_its_identity() -> None:
    for text in ("0123456789abcdef\n", "0123456789abcdef"):
        Path("run", IDENTITY).write_text(text)
        Path("run", TRACKING).unlink(missing_ok=True)
        assert known("run", 16).name == "0123456789abcdef"
        assert saved("run")["since"] == {"MLflow": 16}


@pytest.mark.parametrize(
    "changes",
    [
        {"directory": "/a\x1b[31m"},
        {"directory": "run"},
        {"directory": "/a\0b"},
        {"directory": 3},
        {"directory": "/" + "a" * 5000},
        {"inode": "1"},
        {"inode": -1},
        {"since": [1]},
        {"since": {"MLflow": -1}},
        {"since": {"MLflow": True}},
        {"machine": None},
        {"more": 1},
    ],
)
def test_a_place_of_others_is_data(changes: dict[str, Any]) -> None:
    first = known("run").name
    write("run", **changes)
    found = known("run", 5)
    assert found.name == first
    assert found.since["MLflow"] in (0, 5)


def test_foreign_tracker_files_are_not_read() -> None:
    first = known("run").name
    for content in (b"\xff\xfe", b"[" * 60_000, b"0" * (1 << 20), b"null", b""):
        Path("run", TRACKING).write_bytes(content)
        assert known("run").name == first
    Path("run", TRACKING).unlink()
    Path("run", IDENTITY).unlink()
    os.mkfifo("run/" + IDENTITY)  # it would be waited for
    os.mkfifo("run/" + TRACKING)
    assert known("run").name != first
    Path("run", IDENTITY).write_text("../../etc\n")
    assert len(known("run").name) == 16


def test_tracker_keeps_its_first_step() -> None:
    assert known("run", 16).since == {"MLflow": 0}
    assert known("run", 32, "MLflow", "wandb").since == {"MLflow": 0, "wandb": 32}
    assert known("run", 48, "wandb").since == {"wandb": 32}
    assert known("run", 64, "MLflow", "wandb").since == {"MLflow": 64, "wandb": 32}, "it was turned off"
    assert known("run", 0, "wandb").since == {"wandb": 0}, "the run began anew"
