"""Run and sweep directories are found by one walk, whatever lies between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_ff.analysis.run_list import found_in
from mnist_ff.errors import BadRunError
from mnist_ff.runs.find import runs_and_sweeps, runs_below, sweeps_below

RUNS = ("a", "deep/er/run", "sweeps/grid/0", "sweeps/grid/part/1", "both", "sweeps/old/0", "x/y/late/0")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Runs, some of them jobs of sweeps, and what is neither."""
    folder = tmp_path / "outputs"
    for name in RUNS:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.yaml").touch()
    for name in ("sweeps/grid/jobs.json", "sweeps/old/multirun.yaml", "both/jobs.json", "x/y/late/jobs.json"):
        (folder / name).touch()
    for name in (".trash/run", ".trash/sweep"):
        (folder / name).mkdir(parents=True)
    (folder / ".trash" / "run" / "config.yaml").touch()
    (folder / ".trash" / "sweep" / "jobs.json").touch()
    (folder / "notes.txt").touch()
    (folder / "circle").symlink_to("circle")
    (folder / "again").symlink_to("a")
    (folder / "way").symlink_to("sweeps")
    return folder


def names(folder: Path, paths: list[Path]) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_one_walk_finds_what_each_search_finds(outputs: Path) -> None:
    """A link is followed to a run, and to a folder of sweeps, but not to a folder of runs."""
    found = list(runs_and_sweeps(outputs))
    sweeps = ["sweeps/grid", "sweeps/old", "way/grid", "way/old"]
    assert names(outputs, sweeps_below(outputs)) == sweeps
    assert names(outputs, list(runs_below(outputs))) == sorted([*RUNS, "again"])
    assert names(outputs, [path for path, sweep in found if sweep]) == sweeps
    apart = [name for name in RUNS if not name.startswith("sweeps/")]
    assert names(outputs, [path for path, sweep in found if not sweep]) == sorted([*apart, "again"])
    assert len(found_in(outputs, jobs=True)) == len(RUNS) + 1
    assert len(found_in(outputs, jobs=False)) == len(found)


def test_a_folder_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        assert [*runs_below(folder), *sweeps_below(folder), *runs_and_sweeps(folder)] == []

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("mnist_ff.runs.find.os.scandir", refuse)
    assert sweeps_below(tmp_path) == []
    for find in (runs_below, runs_and_sweeps):
        with pytest.raises(BadRunError, match="cannot be listed"):
            list(find(tmp_path))
