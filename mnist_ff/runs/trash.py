"""outputs/.trash: runs and sweeps that were deleted, until they are restored or purged.

Each is moved by one rename, after a file beside its new place says where it was: a crash in between loses nothing.
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
"""In a deleted directory's folder: where it was, and when it was deleted."""
CONTENT = "run"
"""The deleted directory, in that folder."""
PLACE = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{8}")
"""The name of such a folder."""
MAX_RECORD_BYTES = 16 << 10
OF_RUNS = ("environment.json", BATCHES, EPOCHS, "summary.json", CHECKPOINT, "train.log")
"""Files of which a run has one; other folders have a config.yaml too."""
TEACHER = re.compile(rb"^  teacher: (\S[^\n]*)\n", re.MULTILINE)
SCANNED_BYTES = 8 << 10


@dataclass(frozen=True)
class Deleted:
    """A directory in the trash."""

    place: Path
    """Its folder in the trash."""
    path: Path
    """Where it goes when it is restored: where it was, unless that is neither in this folder nor in that of the runs,
    as a note that came with a stranger's trash can name any place."""
    deleted: str
    """When it was deleted, in ISO format."""
    noted: Path
    """Where it was as the note says; who restores it by this path gets it there."""

    @property
    def name(self) -> str | None:
        """The run's name, or that of a sweep's jobs."""
        run = next(runs_below(self.content), None) if is_sweep(self.content) else self.content
        return None if run is None else name_of(run)

    @property
    def content(self) -> Path:
        """Where it is now."""
        return self.place / CONTENT


def check_deletable(path: Path, root: Path = OUTPUTS) -> None:
    """Errors: BadRunError for what is no run or sweep directory itself; RunError for one in which a process trains, or
    that a Slurm cluster has."""
    if path.is_symlink():
        raise BadRunError(f"{path}: is a symbolic link, which is not followed; delete the run where it is")
    if not is_folder(path):
        Run.open(path)
    whole = Path(os.path.realpath(path))
    home = os.path.expanduser("~")  # a user may have none
    around = {Path(home).resolve(), Path.cwd().resolve(), root.resolve()}
    if any(place == whole or whole in place.parents for place in around):
        raise BadRunError(f"{path}: holds your home, this folder or all runs; give run or sweep directories")
    if not _is_run_or_sweep(path, whole, root):
        raise BadRunError(f"{path}: is not a run or sweep directory; see mnist-ff runs")
    if any(is_locked(place) for place in _locks_of(path)):
        raise RunError(f"{path}: a process trains in it; stop that first")
    if _waits_in_slurm(path):
        raise RunError(f"{path}: a Slurm cluster still has jobs of it; cancel them first (scancel)")


def _waits_in_slurm(path: Path) -> bool:
    """Errors: RunError where Slurm does not say; BadRunError."""
    if is_sweep(path):
        return bool(still_there(path, list(submitted(path))))
    sweep = sweep_of(path)
    return sweep is not None and bool(still_there(sweep, [path.absolute().relative_to(sweep).as_posix()]))


def _is_run_or_sweep(path: Path, whole: Path, root: Path) -> bool:
    """Whether a run or a sweep made a directory; in outputs/ whatever has a config.yaml, be it broken."""
    if is_sweep(path):
        return True
    if not may_be_run(path):
        return False
    return any(is_file(path / name) for name in OF_RUNS) or root.resolve() in whole.parents


def _locks_of(path: Path) -> Iterator[Path]:
    yield path
    if is_sweep(path):
        yield from (run for run in runs_below(path) if not run.is_symlink())


def warnings_of(path: Path, root: Path = OUTPUTS) -> list[str]:
    """What else a deletion has an effect on: runs that learn from it, and the sweep whose job it is."""
    said = [f"{path} is the teacher of {run}, which cannot be resumed without it" for run in _pupils(path, root)]
    sweep = None if is_sweep(path) else sweep_of(path)
    if sweep is not None and is_file(sweep / JOBS):
        said.append(f"{path} is a job of a sweep, which will list it as not started and trains it again when resumed")
    return said


def _pupils(teacher: Path, root: Path) -> list[Path]:
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
    """Move a run or sweep directory to the trash, and return its place there.

    Errors: as check_deletable(); RunError where it cannot be moved, such as from another file system.
    """
    check_deletable(path, root)
    trash = _trash(root)
    with ExitStack() as held:
        if is_file(path / LOCK):
            held.enter_context(locked(path, "a process trains in it; stop that first"))
        place = None
        try:
            place = _new_place(trash)
            record = {"path": _noted(path, root), "deleted": datetime.now().astimezone().isoformat("T", "seconds")}
            write_text(place / RECORD, json.dumps(record, indent=2) + "\n")
            os.rename(path, place / CONTENT)
            sync_folder(place)
            sync_folder(path.parent)
        except OSError as error:
            if place is not None and not is_taken(place / CONTENT):
                shutil.rmtree(place, ignore_errors=True)
            raise RunError(f"{path}: cannot be moved to {trash} ({error.strerror}); remove it yourself") from None
    return place / CONTENT


def _noted(path: Path, root: Path) -> str:
    """Where a directory was: below `root` where it was there, so that both can be moved together."""
    whole, top = os.path.abspath(path), os.path.abspath(root)
    return os.path.relpath(whole, top) if Path(top) in Path(whole).parents else whole


def _place_of(noted: str, root: Path) -> Path:
    """Where to restore what was noted so: below `root` or this folder, whoever wrote the note."""
    path = Path(os.path.normpath(root / noted))
    here = (Path(os.path.abspath(root)), Path.cwd())
    inside = any(top in Path(os.path.abspath(path)).parents for top in here)
    return path if inside and TRASH not in path.parts else root / (path.name or "restored")


def _trash(root: Path) -> Path:
    """The folder itself. Errors: BadRunError where something else is in its place."""
    trash = root / TRASH
    if trash.is_symlink() or (is_taken(trash) and not is_folder(trash)):
        raise BadRunError(f"{trash}: is not a folder; move it away")
    return trash


def _new_place(trash: Path) -> Path:
    trash.mkdir(parents=True, exist_ok=True)
    while True:
        place = trash / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(4)}"
        try:
            place.mkdir()
        except FileExistsError:
            continue
        return place


def in_trash(root: Path = OUTPUTS) -> list[Deleted]:
    """What is in the trash, deleted last first."""
    trash = _trash(root)
    if not is_folder(trash):
        return []
    found = []
    for place in listed(trash):
        if place.is_symlink() or not is_folder(place / CONTENT) or (place / CONTENT).is_symlink():
            continue
        try:
            fields = Fields(read_object(place / RECORD, MAX_RECORD_BYTES))
            noted = fields.text("path")
            where = Path(os.path.normpath(root / noted))
            found.append(Deleted(place, _place_of(noted, root), fields.text("deleted"), where))
        except (BadRunError, ValueError):
            found.append(Deleted(place, root / place.name, "", root / place.name))
    return sorted(found, key=lambda one: (one.deleted, one.place.name), reverse=True)


def find_deleted(word: str, root: Path = OUTPUTS) -> Deleted:
    """What was deleted from this path, or is called so; the last of several. Errors: BadRunError."""
    deleted, whole = in_trash(root), os.path.abspath(word)
    for one in deleted:
        if os.path.abspath(one.noted) == whole and TRASH not in one.noted.parts:
            return replace(one, path=Path(word))
    tests = (
        lambda one: one.name == word,
        lambda one: word in (one.path.name, one.place.name, ending_of(one.path)),
    )
    for fits in tests:
        for one in deleted:
            if fits(one):
                return one
    raise BadRunError(f"{word}: is not in {root / TRASH}; mnist-ff runs restore lists what is")


def restore(deleted: Deleted) -> Path:
    """Move a directory back to where it was. Errors: RunError where something else stands there, or it cannot be."""
    path = deleted.path
    if is_taken(path):
        raise RunError(f"{path}: already exists; move it away first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.rename(deleted.content, path)
        sync_folder(path.parent)
        shutil.rmtree(deleted.place, ignore_errors=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be restored ({error.strerror})") from None
    return path


def purge(deleted: Sequence[Deleted], root: Path = OUTPUTS) -> list[str]:
    """Remove these for good, and what crashes left in the trash. No link is followed. Returns the names of what stays
    there: nobody deleted it with `mnist-ff runs delete`, such as a run that was moved there by hand.

    Errors: RunError where something cannot be removed.
    """
    trash = _trash(root)
    if not is_folder(trash):
        return []
    try:
        for one in deleted:
            shutil.rmtree(one.place)
        for place in listed(trash):
            _remove_remainder(place)
        left = sorted(path.name for path in listed(trash))
        if not left:
            trash.rmdir()
    except OSError as error:
        raise RunError(f"{error.filename or trash}: {error.strerror}") from None
    return left


def _remove_remainder(place: Path) -> None:
    """Remove a new place whose run did not come, unless it comes now."""
    if PLACE.fullmatch(place.name) and is_folder(place) and not place.is_symlink() and not is_taken(place / CONTENT):
        (place / RECORD).unlink(missing_ok=True)
        with suppress(OSError):  # it came, or something else lies there
            place.rmdir()


def bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder; no link is followed."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # gone meanwhile
                continue
    return total
