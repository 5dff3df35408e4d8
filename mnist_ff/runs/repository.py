"""The git state of a folder: commit and changes. No program that the repository names is run."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.runs.find import OUTPUTS

GIT_TIMEOUT_S = 10.0
"""That git may take in all."""
LARGEST_DIFF = 1_000_000
"""Bytes."""
LARGEST_LIST = 20_000_000
"""Bytes of a list of paths."""
NAMED = 20
"""Untracked files that are named."""
KEPT_VARIABLES = ("GIT_CONFIG_", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH")
"""Beginnings of git's variables that do not point to another repository."""
SAFE = ("--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
UNCHANGED = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty")
DIFF = ("diff", *UNCHANGED, "--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short")


class GitError(Exception):
    """Git is not there, takes too long, or says no."""


@dataclass(frozen=True)
class Changes:
    """A working tree beside its last commit."""

    sha: str | None
    """None before the first commit."""
    branch: str | None
    """None for a detached HEAD."""
    tracked: bool
    """Whether a tracked file is another than in the commit."""
    untracked: tuple[str, ...]
    """Files that are neither tracked nor ignored, nor made by a run."""
    diff: bytes
    """Of the tracked files, at most LARGEST_DIFF bytes of whole lines."""
    cut: bool
    """Whether the diff is longer than that."""

    @property
    def dirty(self) -> bool:
        """Whether anything differs from the commit."""
        return self.tracked or bool(self.untracked)

    def described(self, file: str) -> dict[str, Any]:
        """As environment.json has it; `file` is where the diff is kept, if there is one."""
        return {
            "sha": self.sha,
            "branch": self.branch,
            "dirty": self.dirty,
            "diff": file if self.diff else None,
            "diff_cut": self.cut,
            "untracked": len(self.untracked),
            "untracked_files": list(self.untracked[:NAMED]),
        }


def changes_in(folder: Path, own: Path | None = None) -> Changes | None:
    """The state of the repository that `folder` is in, or None outside of a working tree.

    Files below `own`, in outputs/ and in other run directories are not counted. Errors: GitError.
    """
    git = _Git(folder)
    try:
        top = _path(git("rev-parse", "--show-toplevel"))
    except GitError as error:
        if any(words in str(error) for words in ("not a git repository", "must be run in a work tree")):
            return None
        raise
    if not os.path.lexists(top / ".git"):  # core.worktree may name any folder of the machine
        raise GitError(f"{top}: is not the working tree of its own repository")
    git = _Git(top, git.until)
    sha = _commit(git)
    compared = sha or git("hash-object", "-t", "tree", "--stdin").decode().strip()  # the empty tree
    diff, cut = _whole_lines(git(*DIFF, compared, limit=LARGEST_DIFF + 1))
    untracked = tuple(_untracked(git, [folder / OUTPUTS, *([] if own is None else [own])]))
    return Changes(sha, _branch(git), bool(diff) or _a_submodule_is_changed(git), untracked, diff, cut)


def package_state(package: Path) -> dict[str, Any]:
    """The commit of the checkout that the package is used from, and whether it was changed since; else None twice."""
    with suppress(GitError, OSError):
        git = _Git(package)
        top = _path(git("rev-parse", "--show-toplevel"))
        if (top / package.name).samefile(package):  # a repository around an installed package says nothing about it
            status = ("status", "--porcelain", "--ignore-submodules=dirty", "--", f":(top){package.name}", ":(top)conf")
            return {"sha": _commit(git), "dirty": bool(git(*status))}
    return {"sha": None, "dirty": None}


class _Git:
    """Runs git in a folder, as a stranger's repository needs it."""

    def __init__(self, folder: Path, until: float | None = None) -> None:
        self.folder = folder
        self.until = time.monotonic() + GIT_TIMEOUT_S if until is None else until
        self._options: list[str] | None = None

    def __call__(self, *words: str, limit: int = LARGEST_LIST) -> bytes:
        """What git prints, at most `limit` bytes. Errors: GitError."""
        if self._options is None:
            self._options = []  # for the question itself
            self._options = [option for name in self._filters() for option in ("-c", f"{name}=")]
        return self._run(words, limit)

    def _filters(self) -> Iterator[str]:
        """Programs that the repository's own config would have git run on files; those of the user's config stay."""
        try:
            listed = self._run(
                ("config", "-z", "--show-scope", "--name-only", "--get-regexp", r"^filter\."), LARGEST_LIST
            )
        except GitError as error:
            if str(error):  # without one, there is no filter at all
                raise
            return
        words = listed.decode("utf-8", "surrogateescape").split("\0")
        for scope, name in zip(words[::2], words[1::2], strict=False):
            if scope not in ("system", "global", "command"):
                if "=" in name:  # -c would take it for another name
                    raise GitError(f"{name}: a filter that cannot be disabled")
                yield name

    def _run(self, words: Sequence[str], limit: int) -> bytes:
        command = ["git", *SAFE, *(self._options or []), *words]
        try:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the run's alone
            )
        except (OSError, ValueError) as error:
            raise GitError(f"git cannot be run ({error})") from None
        with process:
            timer = threading.Timer(max(0.0, self.until - time.monotonic()), process.kill)
            timer.start()
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                said = process.stdout.read(limit)
                if len(said) == limit:
                    process.kill()
                    return said
                wrong = process.stderr.read(LARGEST_DIFF).decode("utf-8", "replace").strip()
                process.wait()
            finally:
                timer.cancel()
                process.kill()
        if process.returncode:
            late = time.monotonic() >= self.until
            raise GitError(f"git took longer than {GIT_TIMEOUT_S:g} s" if late else (wrong.splitlines() or [""])[0])
        return said


def _environment() -> dict[str, str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(KEPT_VARIABLES)
    }
    # an empty list of protocols: a partial clone must not fetch what it lacks
    return {**own, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}


def _path(said: bytes) -> Path:
    return Path(os.fsdecode(said.removesuffix(b"\n")))


def _commit(git: _Git) -> str | None:
    """The commit of HEAD, None before the first."""
    try:
        return git("rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode("ascii").strip()
    except GitError as error:
        if str(error):
            raise
        return None


def _branch(git: _Git) -> str | None:
    with suppress(GitError):
        return git("symbolic-ref", "--quiet", "--short", "HEAD").decode("utf-8", "backslashreplace").strip()
    return None


def _whole_lines(diff: bytes) -> tuple[bytes, bool]:
    if len(diff) <= LARGEST_DIFF:
        return diff, False
    return diff[: diff.rfind(b"\n", 0, LARGEST_DIFF) + 1] or diff[:LARGEST_DIFF], True


def _untracked(git: _Git, aside: Sequence[Path]) -> Iterator[str]:
    listed = git("ls-files", "-z", "--others", "--exclude-standard")
    top, left_out = os.path.realpath(git.folder), [os.path.realpath(folder) for folder in aside]
    made: dict[Path, bool] = {Path("."): False}
    for name in filter(None, listed.split(b"\0")):
        path = Path(os.fsdecode(name))
        whole = os.path.join(top, path)
        if not any(whole.startswith(os.path.join(folder, "")) for folder in left_out) and not any(
            _made_by_a_run(git.folder, folder, made) for folder in path.parents
        ):
            yield name.decode("utf-8", "backslashreplace")


def _made_by_a_run(top: Path, folder: Path, known: dict[Path, bool]) -> bool:
    """Whether a folder is a run's or a sweep's."""
    if folder not in known:
        pairs = (("config.yaml", "environment.json"), ("jobs.json", "multirun.yaml"))
        known[folder] = any(all((top / folder / name).is_file() for name in pair) for pair in pairs)
    return known[folder]


def _a_submodule_is_changed(git: _Git) -> bool:
    """Asked in each submodule itself: the outer repository's git would run what its config names."""
    staged = git("ls-files", "-z", "--stage").split(b"\0")
    for entry in staged:
        if entry.startswith(b"160000 "):
            folder = git.folder / os.fsdecode(entry.partition(b"\t")[2])
            if (folder / ".git").exists():
                inner = _Git(folder, git.until)
                if not _path(inner("rev-parse", "--show-toplevel")).samefile(folder):
                    continue  # its .git is none: git has found the outer repository again
                if inner("status", "--porcelain", "--ignore-submodules=dirty") or _a_submodule_is_changed(inner):
                    return True
    return False
