"""Pack runs into an archive for others: copies without private data of this machine, each with its report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.analysis.ranking import Ranking, rank_rows
from mnist_ff.analysis.rows import collect
from mnist_ff.errors import FULL, BadRunError, ConfigError, RunError
from mnist_ff.report.run_page import write_report
from mnist_ff.report.sweep_page import write_sweep_report
from mnist_ff.runs.archive import check_archive, write_archive
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.find import holds_runs, is_sweep, runs_below, sweep_of
from mnist_ff.runs.lock import is_locked
from mnist_ff.runs.portable import copy_portable, private_paths
from mnist_ff.runs.reading import is_file
from mnist_ff.runs.search_result import read_search_result

TEXT_SUFFIXES = (".yaml", ".json", ".csv", ".html", ".py", ".md", ".txt")


@dataclass(frozen=True)
class Packed:
    """A written archive."""

    place: Path
    folders: tuple[str, ...]
    """Its top-level directories, one for each run or sweep."""
    files: int
    """The number of files in it."""
    warnings: tuple[str, ...]


def pack(place: Path, paths: Sequence[Path]) -> Packed:
    """Write runs and sweeps to one archive, each in a folder of the same name; a job of a sweep in SWEEP-JOB.

    Errors: ConfigError for the archive's name and for two directories with the same name; BadRunError; RunError for a
    run that is training, or if the archive cannot be written.
    """
    check_archive(place)
    for path in paths:
        if not holds_runs(path):
            Run.open(path)
        if any(is_locked(run) for run in [path, *runs_below(path)]):
            raise RunError(f"{path}: a process trains in it; archive it when that has ended")
    names = [_name_of(path) for path in paths]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ConfigError(f"{repeated}: is the name of two of the directories; archive them one by one")
    with tempfile.TemporaryDirectory(prefix="mnist-ff-archive-") as made:
        stage = Path(made).resolve()
        try:
            for path, name in zip(paths, names, strict=True):
                copy_portable(path, stage / name)
                _write_pages(path, stage / name)
            sums = write_archive(place, stage)
        except OSError as error:
            where = error.filename2 or error.filename or place  # of a copy that failed, the copy
            remedy = f"; make room in {stage.parent}, or set TMPDIR to another folder" if error.errno in FULL else ""
            raise RunError(f"{where}: {error.strerror}{remedy}") from None
        return Packed(place, tuple(names), len(sums), tuple(_warnings(stage)))


def _name_of(path: Path) -> str:
    """The name of a run's or sweep's folder in the archive. Jobs are numbered alike in all sweeps."""
    whole = Path(os.path.abspath(path))
    sweep = sweep_of(whole)
    return whole.name if sweep is None else "-".join(whole.relative_to(sweep.parent).parts)


def _write_pages(source: Path, copy: Path) -> None:
    """Draw the reports of the copies again, if the originals have one."""
    if is_sweep(source):
        for run in runs_below(copy):
            _write_page(source / run.relative_to(copy), run, copy.parent)
        if is_file(source / REPORT):
            write_sweep_report(_ranking(copy), copy)
            _remove_stage(copy / REPORT, copy.parent)
    else:
        _write_page(source, copy, copy.parent)


def _ranking(sweep: Path) -> Ranking:
    found = read_search_result(sweep)
    return rank_rows(collect([sweep]), smallest_loss=found is not None and found.smallest_loss)


def _write_page(source: Path, copy: Path, stage: Path) -> None:
    if is_file(source / REPORT):
        try:
            write_report(Run(copy))
        except BadRunError:  # the sweep's table gives the reason
            return
        _remove_stage(copy / REPORT, stage)


def _remove_stage(page: Path, stage: Path) -> None:
    """Remove the path of the temporary folder from a report."""
    page.write_text(page.read_text("utf-8").replace(f"{stage}/", ""), encoding="utf-8")


def _warnings(stage: Path) -> list[str]:
    """Warnings of files that still contain a path of this machine, such as a user's own parts file."""
    said = []
    for path in sorted(stage.rglob("*")):
        if path.suffix in TEXT_SUFFIXES and path.is_file():
            text = path.read_text("utf-8", errors="replace")
            said += [f"{path.relative_to(stage)} names {one}" for one in private_paths() if one in text]
    return said
