"""Delete, restore, label and archive runs: the actions of `mnist-ff runs`."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_ff.analysis.console import ask, note, tell, tell_rows, warning
from mnist_ff.analysis.run_filter import NO_FILTER, Filter, select
from mnist_ff.analysis.run_list import Entry
from mnist_ff.analysis.run_table import show
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import OUTPUTS, holds_runs, is_sweep
from mnist_ff.runs.labels import update_labels
from mnist_ff.runs.names import Handles
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.portable import LEFT_OUT
from mnist_ff.runs.reading import is_folder
from mnist_ff.runs.resolve import BEST, LAST, resolve_run
from mnist_ff.runs.trash import (
    TRASH,
    bytes_in,
    check_deletable,
    find_deleted,
    in_trash,
    move_to_trash,
    purge,
    restore,
    warnings_of,
)
from mnist_ff.session.archive import pack

Json = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Runs and sweeps, chosen by name or by a filter."""

    words: Sequence[str] = ()
    """Names, paths, `last` or `best`."""
    filter: Filter = NO_FILTER
    jobs: bool = False
    """Whether the filter takes single jobs of sweeps instead of whole sweeps."""

    def paths(self, action: str) -> list[Path]:
        """The paths, each once. Errors: ConfigError without names and filter, or with both; BadRunError."""
        if bool(self.words) is not self.filter.is_empty:
            why = "takes runs, or flags such as --status failed that choose some"
            raise ConfigError(f"runs {action}: {why}{', not both' if self.words else ''}")
        resolve = resolve_unique if action == "delete" else resolve_one
        found = [resolve(word) for word in self.words] if self.words else self._fitting(action == "archive")
        return list({os.path.abspath(path): path for path in reversed(found)}.values())[::-1]

    def _fitting(self, part_of_sweep: bool) -> list[Path]:
        """The runs that match the filter, and the sweeps of which all jobs match. Of other sweeps the jobs that match,
        with `part_of_sweep`, else nothing."""
        selected = select(OUTPUTS, self.filter, jobs=self.jobs)
        paths = {entry: [entry.path] for entry in selected.entries}
        becomes = "only these are taken" if part_of_sweep else "so it is left alone; --all takes jobs"
        for entry, rows in selected.partial.items():
            note(f"{entry.path}: {len(rows)} of its {len(entry.rows)} jobs fit, {becomes}")
            paths[entry] = [row.path for row in rows] if part_of_sweep else []
        return [path for found in paths.values() for path in found]


def resolve_one(word: str) -> Path:
    """The path of the run or sweep that a word names; of several the newest, which is said. Errors: BadRunError."""
    return resolve_run(word, note, sweeps=True)


def resolve_unique(word: str) -> Path:
    """The same for `delete`: a name must be unique.

    Errors: BadRunError.
    """
    if word and word not in (LAST, BEST) and not is_folder(Path(word)):
        found = Handles.of(OUTPUTS).find(word, sweeps=True)
        if found is not None and found[1] > 1:
            pattern = shlex.quote(glob.escape(word))
            raise BadRunError(
                f"{word}: is the name of {found[1]} runs; give paths, or --name {pattern} for all of them"
            )
    return resolve_one(word)


def delete(chosen: Selection, yes: bool, console: Console) -> Json:
    """List the selection, ask for confirmation, and move it to the trash.

    Errors: ConfigError, BadRunError, RunError.
    """
    paths, kept = chosen.paths("delete"), []
    for path in list(paths):
        try:
            check_deletable(path)
        except (BadRunError, RunError) as error:
            if chosen.words:
                raise ConfigError(str(error)) from None
            kept.append({"path": str(path), "reason": str(error)})
            paths.remove(path)
            warning(f"{error}")
    deleted: list[Json] = []
    if not paths:
        note("No run to delete.")
        return {"deleted": deleted, "kept": kept}
    show([Entry(path, sweep=is_sweep(path)) for path in paths], 0, console)
    for text in (text for path in paths for text in warnings_of(path)):
        warning(text)
    size, counted = sum(bytes_in(path) for path in paths), _counted(paths)
    if not yes and not ask(f"Move {counted} ({_megabytes(size)}) to {OUTPUTS / TRASH}?"):
        note("Nothing was deleted.")
        return {"deleted": deleted, "kept": [*kept, *({"path": str(path), "reason": "no"} for path in paths)]}
    for path in paths:
        deleted.append({"path": str(path), "trash": str(move_to_trash(path))})
    tell(console, f"moved to {OUTPUTS / TRASH}: {counted}")
    tell(console, f"bring back  mnist-ff runs restore {shlex.quote(str(paths[0]))}")
    tell(console, "empty it    mnist-ff runs delete --purge")
    return {"deleted": deleted, "kept": kept}


def _counted(paths: Sequence[Path]) -> str:
    sweeps = sum(map(is_sweep, paths))
    words = [(len(paths) - sweeps, "run"), (sweeps, "sweep")]
    return " and ".join(counted(count, word) for count, word in words if count)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def empty_trash(yes: bool, console: Console) -> Json:
    """List the trash, ask for confirmation, and remove its contents for good. Errors: ConfigError, RunError."""
    found = in_trash()
    list_trash(console)
    size = sum(bytes_in(one.folder) for one in found)
    if found and not yes and not ask(f"Remove {len(found)} from {OUTPUTS / TRASH} for good ({_megabytes(size)})?"):
        note("Nothing was removed.")
        return {"purged": 0}
    left = purge(found)
    if found:
        tell(console, f"removed for good: {len(found)}")
    if left:
        names = f"{', '.join(left[:3])}{', ...' if len(left) > 3 else ''}"
        note(f"{OUTPUTS / TRASH} still holds {names}, which mnist-ff did not put there; move it out or remove it")
    return {"purged": len(found)}


def list_trash(console: Console) -> Json:
    """List the trash, the last deleted first."""
    found = in_trash()
    if not found:
        note(f"No deleted run is in {OUTPUTS / TRASH}.")
    else:
        entries = [Entry(one.content, sweep=is_sweep(one.content)) for one in found]
        rows = [
            (one.deleted[:16].replace("T", " "), entry.status, entry.name or "", str(one.original))
            for one, entry in zip(found, entries, strict=True)
        ]
        tell_rows(console, ("deleted", "status", "name", "path"), rows, ("status", "name", "path"), ("deleted",))
    return {"trash": [{"path": str(one.original), "deleted": one.deleted, "trash": str(one.content)} for one in found]}


def bring_back(words: Sequence[str], console: Console) -> Json:
    """Restore deleted runs to their former places. Errors: BadRunError, RunError."""
    found = [find_deleted(word) for word in words]
    restored = [str(restore(one)) for one in dict.fromkeys(found)]
    for path, one in zip(restored, dict.fromkeys(found), strict=True):
        tell(console, f"restored {path}")
        if os.path.abspath(path) != os.path.abspath(one.original):
            note(f"{path} was {one.original}, which is outside of this folder; give that path to restore a run there")
    return {"restored": restored}


def label(words: Sequence[str], console: Console, tag: str, remove: bool = False) -> Json:
    """Add a tag to runs, or remove it. Errors: BadRunError, ConfigError, RunError."""
    try:
        paths = [_labelled(word) for word in words]
    except BadRunError as error:
        raise BadRunError(f"{error}; the last word, {tag}, is the tag" if len(words) > 1 else str(error)) from None
    done = [update_labels(path, remove=(tag,)) if remove else update_labels(path, add=(tag,)) for path in paths]
    for path, labels in zip(paths, done, strict=True):
        tell(console, f"{path}  {','.join(labels.tags) or '(no tags)'}")
    return {"runs": [_labels_json(path) for path in paths]}


def annotate(word: str, text: str, console: Console) -> Json:
    """Set a run's note. An empty text removes it. Errors: BadRunError, ConfigError, RunError."""
    path = _labelled(word)
    labels = update_labels(path, note=text)
    tell(console, f"{path}  {labels.note or '(no note)'}")
    return {"runs": [_labels_json(path)]}


def _labelled(word: str) -> Path:
    path = resolve_one(word)
    if not is_sweep(path) and not (is_folder(path) and holds_runs(path)):
        Run.open(path)
    return path


def _labels_json(path: Path) -> Json:
    labels = Entry(path).labels
    return {"path": str(path), "tags": list(labels.tags), "note": labels.note}


def archive(place: Path, chosen: Selection, console: Console) -> Json:
    """Pack runs into one file for others. Errors: ConfigError, BadRunError, RunError."""
    paths = chosen.paths("archive")
    if not paths:
        raise ConfigError(f"{place}: not written, since no run fits; mnist-ff runs with these flags lists what does")
    packed = pack(place, paths)
    for text in packed.warnings:
        warning(text)
    size = place.stat().st_size
    count = len(packed.folders)
    what = f"{count} {'directory' if count == 1 else 'directories'}, {counted(packed.files, 'file')}"
    tell(console, f"written to {place}: {what}, {_megabytes(size)}")
    tell(console, f"left out   {LEFT_OUT}")
    values = {"archive": str(place), "folders": list(packed.folders), "files": packed.files, "bytes": size}
    return {**values, "left_out": LEFT_OUT, "warnings": list(packed.warnings)}
