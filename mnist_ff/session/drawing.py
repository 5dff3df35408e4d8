"""Draw the plots and the report of a run from its directory. An error here is only a warning."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import title_of
from mnist_ff.errors import RunError
from mnist_ff.files import remove_leftovers
from mnist_ff.runs.directory import HIDDEN, PREDICTIONS, REPORT, Run

log = logging.getLogger("mnist_ff")

PLOTS = "plots"
DRAWN_FROM = ("batches.csv", "model.safetensors", PREDICTIONS, HIDDEN)
"""Files that a run writes at its end. Plots and reports that are older than one of them are outdated."""


def draw(
    run: Run,
    title: str,
    warn: Callable[[str], None],
    stopped: Callable[[], object] = lambda: None,
    names: Sequence[str] | None = None,
) -> None:
    """Draw a run's plots, or those of `names`. No further plot is begun once `stopped` returns a reason."""
    try:
        from mnist_ff.analysis.plots import draw_run

        failures = draw_run(run, title, names, stopped)
    except Exception as error:
        failures = {"all": error}
    for picture, failure in failures.items():
        log.info("no plot %s:\n%s", picture, "".join(traceback.format_exception(failure)))
        warn(f"could not draw {picture} ({failure})")


def write_page(run: Run, warn: Callable[[str], None]) -> None:
    """Write report.html. Everything else is saved before."""
    try:
        from mnist_ff.report.run_page import write_report

        write_report(run)
    except Exception as error:
        log.info("no report:\n%s", "".join(traceback.format_exception(error)))
        warn(f"could not write {REPORT} ({error})")


def left_out(run: Run, config: Config) -> list[str]:
    """The plots and the report that a run which has ended lacks, or that are outdated, as after a kill or a signal.

    Returns names in its directory. Errors: BadRunError if its summary cannot be read.
    """
    if not config.trainer.plots or not os.access(run.path, os.W_OK) or run.summary() is None:
        return []
    names = [*_pictures_of(run), REPORT] if run.file("model.safetensors").exists() else [REPORT]
    return [name for name in names if not _is_current(run, name)]


def complete(
    run: Run,
    config: Config,
    warn: Callable[[str], None],
    page: bool = True,
    stopped: Callable[[], object] = lambda: None,
) -> list[str]:
    """Draw the plots and the report of left_out(). None is begun once `stopped` returns a reason.

    Temporary files of a killed process are removed. Returns the names of new files in the directory.
    Errors: BadRunError if its summary cannot be read; RunError for symbolic links in place of its folders.
    """
    if not os.access(run.path, os.W_OK):
        return []
    for folder in (run.path, run.file(PLOTS)):
        if folder.is_symlink() and folder != run.path:
            raise RunError(f"{folder}: is a symbolic link; a run writes only inside its own directory")
        remove_leftovers(folder)
    names = left_out(run, config)
    pictures = [Path(name).stem for name in names if name != REPORT]
    summary = run.summary()
    if pictures and summary is not None:
        title = title_of(summary.data or config.data.name, summary.data_instead_of)
        draw(run, title if config.name is None else f"{config.name}: {title}", warn, stopped, pictures)
    if page and REPORT in names and stopped() is None:
        write_page(run, warn)
    return [name for name in names if (page or name != REPORT) and _is_current(run, name)]


def _pictures_of(run: Run) -> list[str]:
    from mnist_ff.analysis.plots import drawings_of

    return [f"{PLOTS}/{name}.png" for name in drawings_of(run)]


def _is_current(run: Run, name: str) -> bool:
    """Whether a file exists and shows the run's last state."""
    own = _changed(run, name)
    return own is not None and all(own >= (_changed(run, source) or 0) for source in DRAWN_FROM)


def _changed(run: Run, name: str) -> int | None:
    try:
        return run.file(name).stat().st_mtime_ns
    except OSError:
        return None
