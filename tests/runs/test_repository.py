"""The git state of a run, from real repositories; nothing that a repository names is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.runs import repository
from mnist_ff.runs.repository import LARGEST_DIFF, Changes, GitError, changes_in, package_state
from tests.support.commands import Command

WORDS = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false"]

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def git_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No config of the machine's or of the user's, nor a repository around the test's folder."""
    for name, value in (
        ("GIT_CONFIG_GLOBAL", os.devnull),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CEILING_DIRECTORIES", str(tmp_path.parent)),
        *((f"GIT_{who}_{what}", f"{what.lower()}@x") for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")),
    ):
        monkeypatch.setenv(name, value)


def git(*words: str, folder: Path | str = ".") -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_repository(folder: Path | str = ".") -> Path:
    """A repository with one commit of parts.py and data.bin, outputs/ ignored."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    git("init", "-q", "-b", "trunk", folder=place)
    (place / "parts.py").write_text("rate = 1\n")
    (place / "data.bin").write_bytes(bytes(range(256)))
    (place / ".gitignore").write_text("ignored/\n")
    git("add", ".", folder=place)
    git("commit", "-q", "-m", "first", folder=place)
    return place


def changes(folder: Path | str = ".") -> Changes:
    found = changes_in(Path(folder).absolute())
    assert found is not None
    return found


def conditions(run: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(run, "environment.json").read_text())
    return loaded


def test_a_run_records_commit_and_changes(mnist_ff: Command) -> None:
    make_repository()
    sha = git("rev-parse", "HEAD")
    assert mnist_ff("train", *WORDS, "hydra.run.dir=a")[0] == 0
    clean = conditions("a")["git"]
    assert (clean["sha"], clean["branch"], clean["dirty"], clean["diff"]) == (sha, "trunk", False, None)
    assert not Path("a/git.diff").exists()
    Path("parts.py").write_bytes(b"rate = 2  # caf\xe9\n")
    Path("new.py").write_text("")
    assert mnist_ff("train", *WORDS, "hydra.run.dir=outputs/b")[0] == 0
    state = conditions("outputs/b")["git"]
    assert (state["sha"], state["dirty"], state["diff"]) == (sha, True, "git.diff")
    assert (state["untracked"], state["untracked_files"]) == (1, ["new.py"]), "the other run is no change"
    git("checkout", "parts.py")
    git("apply", "outputs/b/git.diff")
    assert Path("parts.py").read_bytes() == b"rate = 2  # caf\xe9\n"


def test_a_resume_records_its_own_state(mnist_ff: Command) -> None:
    make_repository()
    Path("parts.py").write_text("rate = 2\n")
    assert mnist_ff("train", *WORDS, "hydra.run.dir=a")[0] == 0
    first = Path("a/git.diff").read_bytes()
    git("commit", "-aqm", "second")
    Path("parts.py").write_text("rate = 3\n")
    assert mnist_ff("train", "resume=a", "trainer.epochs=2")[0] == 0
    history = conditions("a")["history"]
    assert history[0]["git"]["sha"] == git("rev-parse", "HEAD") != conditions("a")["git"]["sha"]
    assert history[0]["git"]["diff"] == "git.1.diff"
    assert b"+rate = 3" in Path("a/git.1.diff").read_bytes()
    assert Path("a/git.diff").read_bytes() == first


def test_outside_of_a_working_tree_there_is_none(tmp_path: Path) -> None:
    assert changes_in(tmp_path) is None
    git("init", "-q", "--bare", "bare")
    assert changes_in(tmp_path / "bare") is None
    make_repository("tree")
    assert changes_in(tmp_path / "tree" / ".git") is None


def test_before_the_first_commit() -> None:
    git("init", "-q", "-b", "trunk")
    assert (changes().sha, changes().branch, changes().dirty) == (None, "trunk", False)
    Path("parts.py").write_text("rate = 1\n")
    assert (changes().dirty, changes().untracked) == (True, ("parts.py",))
    git("add", ".")
    assert b"+rate = 1" in changes().diff


def test_git_subfolder_worktree_and_detached_head() -> None:
    make_repository("main")
    Path("main/below").mkdir()
    Path("main/parts.py").write_text("rate = 2\n")
    assert b"+rate = 2" in changes("main/below").diff
    git("worktree", "add", "-q", "../other", "--detach", folder="main")
    found = changes("other")
    assert (found.sha, found.branch, found.dirty) == (git("rev-parse", "HEAD", folder="main"), None, False)


def test_staged_deleted_and_ignored_files() -> None:
    make_repository()
    Path("ignored").mkdir()
    Path("ignored/x").write_text("")
    assert not changes().dirty
    git("rm", "-q", "--cached", "data.bin")
    Path("parts.py").unlink()
    found = changes()
    assert b"deleted file" in found.diff
    assert found.untracked == ("data.bin",)
    assert found.tracked


def test_a_changed_submodule_is_a_change() -> None:
    make_repository("inner")
    make_repository("outer")
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", "../inner", "sub", folder="outer")
    git("commit", "-qm", "submodule", folder="outer")
    assert not changes("outer").dirty
    Path("outer/sub/parts.py").write_text("rate = 9\n")
    assert changes("outer").dirty


def test_a_large_diff_is_cut_and_says_so(mnist_ff: Command) -> None:
    make_repository()
    Path("parts.py").write_text("x = 12345678\n" * 300_000)
    assert mnist_ff("train", *WORDS, "hydra.run.dir=a")[0] == 0
    content = Path("a/git.diff").read_bytes()
    assert LARGEST_DIFF - 100 < len(content) <= LARGEST_DIFF
    assert content.endswith(b"\n")
    assert conditions("a")["git"]["diff_cut"] is True
    assert "git.diff holds the first" in Path("a/train.log").read_text()


HOSTILE = {
    "fsmonitor": [("core.fsmonitor", "{program}")],
    "external diff": [("diff.external", "{program}")],
    "diff driver": [("diff.evil.command", "{program}")],
    "textconv": [("diff.evil.textconv", "{program}")],
    "clean filter": [("filter.evil.clean", "{program}"), ("filter.evil.required", "true")],
    "process filter": [("filter.evil.process", "{program}")],
}


@pytest.mark.parametrize("settings", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_program_of_the_repository_is_run(settings: list[tuple[str, str]], tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("program", "post-index-change", "reference-transaction"):
        program = hooks / name
        program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\ncat\n")
        program.chmod(0o755)
    place = make_repository("tree")
    (place / ".gitattributes").write_text("parts.py diff=evil filter=evil\n")
    git("add", ".", folder=place)
    git("commit", "-qm", "attributes", folder=place)
    for key, value in settings:
        git("config", key, value.format(program=f"{hooks}/program", folder=hooks), folder=place)
    (place / "parts.py").write_text("rate = 2\n")
    assert b"+rate = 2" in changes(place).diff
    assert not (tmp_path / "ran").exists()


def test_a_filter_that_cannot_be_switched_off(tmp_path: Path) -> None:
    place = make_repository("tree")
    git("config", "filter.a=b.clean", f"touch '{tmp_path}/ran'", folder=place)
    with pytest.raises(GitError, match="cannot be disabled"):
        changes(place)


def test_git_looks_only_at_the_repository(tmp_path: Path) -> None:
    place = make_repository("tree")
    (tmp_path / "private").mkdir()
    git("config", "core.worktree", str(tmp_path / "private"), folder=place)
    with pytest.raises(GitError, match="is not the working tree"):
        changes(place)


def test_empty_submodule_is_skipped() -> None:
    place = make_repository("tree")
    sha = git("rev-parse", "HEAD", folder=place).strip()
    git("update-index", "--add", "--cacheinfo", f"160000,{sha},sub", folder=place)
    git("commit", "-qm", "a submodule", folder=place)
    Path("tree/sub/.git").mkdir(parents=True)
    assert not changes(place).tracked


def test_variables_of_another_repository_are_not_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_repository("other")
    make_repository("tree")
    Path("tree/parts.py").write_text("rate = 2\n")
    for name, value in (
        ("GIT_DIR", f"{tmp_path}/other/.git"),
        ("GIT_WORK_TREE", f"{tmp_path}/other"),
        ("GIT_INDEX_FILE", f"{tmp_path}/nothing"),
        ("GIT_EXTERNAL_DIFF", "false"),
        ("GIT_DIFF_OPTS", "-u0"),
    ):
        monkeypatch.setenv(name, value)
    assert b"+rate = 2" in changes("tree").diff


@pytest.mark.parametrize("program", ["exec sleep 60", "echo wrong >&2; exit 128", None], ids=["slow", "no", "missing"])
def test_hanging_git_costs_no_run(program: str | None, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository("tree")
    Path("bin").mkdir()
    if program is not None:
        Path("bin/git").write_text(f"#!/bin/sh\n{program}\n")
        Path("bin/git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{Path('bin').absolute()}{os.pathsep}{os.environ['PATH']}")
    else:
        monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    monkeypatch.setattr(repository, "GIT_TIMEOUT_S", 0.3)
    monkeypatch.chdir("tree")
    began = time.monotonic()
    assert mnist_ff("train", *WORDS, "hydra.run.dir=a")[0] == 0
    assert time.monotonic() - began < 30
    assert conditions("a")["git"] is None
    assert "no git state: " in Path("a/train.log").read_text()


def test_the_package_names_its_own_checkout(mnist_ff: Command, tmp_path: Path) -> None:
    place = make_repository("checkout")
    (place / "mnist_ff").mkdir()
    (place / "mnist_ff" / "__init__.py").write_text("")
    git("add", ".", folder=place)
    git("commit", "-qm", "package", folder=place)
    sha = git("rev-parse", "HEAD", folder=place)
    assert package_state(place / "mnist_ff") == {"sha": sha, "dirty": False}
    (place / "mnist_ff" / "__init__.py").write_text("x = 1")
    assert package_state(place / "mnist_ff") == {"sha": sha, "dirty": True}
    installed = place / "env" / "site-packages" / "mnist_ff"
    installed.mkdir(parents=True)
    assert package_state(installed) == {"sha": None, "dirty": None}
    assert mnist_ff("train", *WORDS, "hydra.run.dir=a")[0] == 0
    assert conditions("a")["git"] is None, "the working folder is in no repository"
    assert conditions("a")["package"]["version"] == conditions("a")["versions"]["mnist-ff"]
