"""outputs/.trash: deleted runs and sweeps, until they are restored or purged.

Each has a folder of its own there. A record of its path is written first, then it is moved by one rename, so that a
crash in between loses nothing.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mnist_ff.errors import BadRunError, RunError
from mnist_ff.files import sync_folder, write_text
from mnist_ff.runs.directory import CHECKPOINT, Run
from mnist_ff.runs.find import JOBS, OUTPUTS, is_sweep, may_be_run, runs_below, sweep_of
from mnist_ff.runs.lock import LOCK, is_locked, locked
from mnist_ff.runs.names import ending_of, name_of
from mnist_ff.runs.reading import Fields, is_file, is_folder, is_taken, listed, read_object
from mnist_ff.runs.slurm import still_there, submitted
from mnist_ff.runs.tables import BATCHES, EPOCHS

TRASH = ".trash"
RECORD = "trash.json"
"""The file with a directory's original path and the time of its deletion."""
CONTENT = "run"
"""The name of the deleted directory in its folder."""
FOLDER_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{8}")
"""The name of a deleted directory's folder in the trash."""
MAX_RECORD_BYTES = 16 << 10
RUN_FILES = ("environment.json", BATCHES, EPOCHS, "summary.json", CHECKPOINT, "train.log")
"""A run has at least one of these files. A config.yaml alone is no proof: other programs have such files too."""
TEACHER = re.compile(rb"^  teacher: (\S[^\n]*)\n", re.MULTILINE)
SCANNED_BYTES = 8 << 10
"""Bytes of a config.yaml that are searched for the teacher."""


@dataclass(frozen=True)
class Deleted:
    """A directory in the trash."""

    folder: Path
    """Its folder in the trash."""
    path: Path
    """Where `restore` puts it: the original path if that is in the current folder or the folder of runs, else a path in
    the latter. The record in a stranger's trash could name any path."""
    deleted: str
    """When it was deleted, in ISO format."""
    original: Path
    """The original path according to the record. A user who names exactly this path gets the directory there."""

    @property
    def name(self) -> str | None:
        """The run's name, or the name of a sweep's jobs."""
        run = next(runs_below(self.content), None) if is_sweep(self.content) else self.content
        return None if run is None else name_of(run)

    @property
    def content(self) -> Path:
        """The deleted directory in the trash."""
        return self.folder / CONTENT


def check_deletable(path: Path, root: Path = OUTPUTS) -> None:
    """Check that a directory may be deleted.

    Errors: BadRunError if it is not a run or sweep directory; RunError if a process trains in it or a Slurm cluster has
    jobs of it.
    """
    if path.is_symlink():
        raise BadRunError(f"{path}: is a symbolic link, which is not followed; delete the run where it is")
    if not is_folder(path):
        Run.open(path)
    whole = Path(os.path.realpath(path))
    home = os.path.expanduser("~")  # stays "~" for a user without a home
    protected = {Path(home).resolve(), Path.cwd().resolve(), root.resolve()}
    if any(folder == whole or whole in folder.parents for folder in protected):
        raise BadRunError(f"{path}: holds your home, this folder or all runs; give run or sweep directories")
    if not _is_run_or_sweep(path, whole, root):
        raise BadRunError(f"{path}: is not a run or sweep directory; see mnist-ff runs")
    if any(is_locked(folder) for folder in _locked_folders(path)):
        raise RunError(f"{path}: a process trains in it; stop that first")
    if _waits_in_slurm(path):
        raise RunError(f"{path}: a Slurm cluster still has jobs of it; cancel them first (scancel)")


def _waits_in_slurm(path: Path) -> bool:
    """Whether a Slurm cluster has jobs of it. Errors: RunError if Slurm does not answer; BadRunError."""
    if is_sweep(path):
        return bool(still_there(path, list(submitted(path))))
    sweep = sweep_of(path)
    return sweep is not None and bool(still_there(sweep, [path.absolute().relative_to(sweep).as_posix()]))


def _is_run_or_sweep(path: Path, whole: Path, root: Path) -> bool:
    """Whether it is a sweep, or a run with one of RUN_FILES. In `root`, a config.yaml is enough, so that broken runs
    can be deleted."""
    if is_sweep(path):
        return True
    if not may_be_run(path):
        return False
    return any(is_file(path / name) for name in RUN_FILES) or root.resolve() in whole.parents


def _locked_folders(path: Path) -> Iterator[Path]:
    """The folders that training locks: the run, or the sweep and its jobs."""
    yield path
    if is_sweep(path):
        yield from (run for run in runs_below(path) if not run.is_symlink())


def warnings_of(path: Path, root: Path = OUTPUTS) -> list[str]:
    """Warnings for other runs that a deletion affects: students of this teacher, and the sweep whose job it is."""
    said = [f"{path} is the teacher of {run}, which cannot be resumed without it" for run in _students(path, root)]
    sweep = None if is_sweep(path) else sweep_of(path)
    if sweep is not None and is_file(sweep / JOBS):
        said.append(f"{path} is a job of a sweep, which will list it as not started and trains it again when resumed")
    return said


def _students(teacher: Path, root: Path) -> list[Path]:
    """The runs in `root` that are distilled from this run, or from one in this directory."""
    whole = Path(os.path.realpath(teacher))
    found = []
    for run in runs_below(root):
        if not run.is_symlink() and whole not in Path(os.path.realpath(run)).parents:
            named = _teacher_of(run)
            if named is not None and whole in (Path(named), *Path(named).parents):
                found.append(run)
    return found


def _teacher_of(run: Path) -> str | None:
    path = run / "config.yaml"
    if not is_file(path):
        return None
    try:
        with path.open("rb") as file:
            found = TEACHER.search(file.read(SCANNED_BYTES))
    except OSError:
        return None
    word = "null" if found is None else found[1].decode("utf-8", "replace").strip("'\"")
    return None if word == "null" else word


def move_to_trash(path: Path, root: Path = OUTPUTS) -> Path:
    """Move a run or sweep directory to the trash, and return its path there.

    Errors: as check_deletable(); RunError if it cannot be moved, such as from another file system.
    """
    check_deletable(path, root)
    trash = _trash(root)
    with ExitStack() as held:
        if is_file(path / LOCK):
            held.enter_context(locked(path, "a process trains in it; stop that first"))
        folder = None
        try:
            folder = _new_folder(trash)
            record = {"path": _recorded(path, root), "deleted": datetime.now().astimezone().isoformat("T", "seconds")}
            write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
            os.rename(path, folder / CONTENT)
            sync_folder(folder)
            sync_folder(path.parent)
        except OSError as error:
            if folder is not None and not is_taken(folder / CONTENT):
                shutil.rmtree(folder, ignore_errors=True)
            raise RunError(f"{path}: cannot be moved to {trash} ({error.strerror}); remove it yourself") from None
    return folder / CONTENT


def _recorded(path: Path, root: Path) -> str:
    """The path for the record: relative to `root` if it lies there, so that the whole folder can be moved."""
    whole, top = os.path.abspath(path), os.path.abspath(root)
    return os.path.relpath(whole, top) if Path(top) in Path(whole).parents else whole


def _restore_path(recorded: str, root: Path) -> Path:
    """Where to restore a directory with this recorded path: always in `root` or the current folder."""
    path = Path(os.path.normpath(root / recorded))
    here = (Path(os.path.abspath(root)), Path.cwd())
    inside = any(top in Path(os.path.abspath(path)).parents for top in here)
    return path if inside and TRASH not in path.parts else root / (path.name or "restored")


def _trash(root: Path) -> Path:
    """The path of the trash. Errors: BadRunError if it exists and is not a folder."""
    trash = root / TRASH
    if trash.is_symlink() or (is_taken(trash) and not is_folder(trash)):
        raise BadRunError(f"{trash}: is not a folder; move it away")
    return trash


def _new_folder(trash: Path) -> Path:
    trash.mkdir(parents=True, exist_ok=True)
    while True:
        folder = trash / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(4)}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def in_trash(root: Path = OUTPUTS) -> list[Deleted]:
    """The directories in the trash, last deleted first."""
    trash = _trash(root)
    if not is_folder(trash):
        return []
    found = []
    for folder in listed(trash):
        if folder.is_symlink() or not is_folder(folder / CONTENT) or (folder / CONTENT).is_symlink():
            continue
        try:
            fields = Fields(read_object(folder / RECORD, MAX_RECORD_BYTES))
            recorded = fields.text("path")
            original = Path(os.path.normpath(root / recorded))
            found.append(Deleted(folder, _restore_path(recorded, root), fields.text("deleted"), original))
        except (BadRunError, ValueError):
            found.append(Deleted(folder, root / folder.name, "", root / folder.name))
    return sorted(found, key=lambda one: (one.deleted, one.folder.name), reverse=True)


def find_deleted(word: str, root: Path = OUTPUTS) -> Deleted:
    """The last directory that was deleted from this path or that has this name. Errors: BadRunError."""
    deleted, whole = in_trash(root), os.path.abspath(word)
    for one in deleted:
        if os.path.abspath(one.original) == whole and TRASH not in one.original.parts:
            return replace(one, path=Path(word))
    tests = (
        lambda one: one.name == word,
        lambda one: word in (one.path.name, one.folder.name, ending_of(one.path)),
    )
    for fits in tests:
        for one in deleted:
            if fits(one):
                return one
    raise BadRunError(f"{word}: is not in {root / TRASH}; mnist-ff runs restore lists its content")


def restore(deleted: Deleted) -> Path:
    """Move a directory back to its path. Errors: RunError if that exists, or if it cannot be moved."""
    path = deleted.path
    if is_taken(path):
        raise RunError(f"{path}: already exists; move it away first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.rename(deleted.content, path)
        sync_folder(path.parent)
        shutil.rmtree(deleted.folder, ignore_errors=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be restored ({error.strerror})") from None
    return path


def purge(deleted: Sequence[Deleted], root: Path = OUTPUTS) -> list[str]:
    """Remove these directories for good, and the remains of interrupted deletions. Symbolic links are not followed.

    Returns the names of what is left in the trash because `mnist-ff runs delete` did not put it there.

    Errors: RunError if something cannot be removed.
    """
    trash = _trash(root)
    if not is_folder(trash):
        return []
    try:
        for one in deleted:
            shutil.rmtree(one.folder)
        for folder in listed(trash):
            _remove_if_empty(folder)
        left = sorted(path.name for path in listed(trash))
        if not left:
            trash.rmdir()
    except OSError as error:
        raise RunError(f"{error.filename or trash}: {error.strerror}") from None
    return left


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder of the trash without a deleted directory, left by an interrupted deletion."""
    ours = FOLDER_NAME.fullmatch(folder.name) and is_folder(folder) and not folder.is_symlink()
    if ours and not is_taken(folder / CONTENT):
        (folder / RECORD).unlink(missing_ok=True)
        with suppress(OSError):  # the directory has been moved here since, or something else is in the folder
            folder.rmdir()


def bytes_in(folder: Path) -> int:
    """The size of all files in a folder, in bytes. Symbolic links are not followed."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:  # removed meanwhile
                continue
    return total
