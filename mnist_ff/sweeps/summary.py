"""The end of a sweep: its files, ranked table, failures, and the command that runs these again."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mnist_ff.analysis.console import tell
from mnist_ff.analysis.formats import write_files
from mnist_ff.analysis.ranked_table import show_tables
from mnist_ff.analysis.ranking import Ranking, rank_rows
from mnist_ff.analysis.rows import Row, collect
from mnist_ff.config.options import options
from mnist_ff.config.own_parts import flags
from mnist_ff.config.paths import display_path
from mnist_ff.errors import BadRunError
from mnist_ff.files import remove_leftovers
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.jobs import read_plan
from mnist_ff.runs.records import Status
from mnist_ff.runs.search_result import SearchResult, further, lines, read_search_result
from mnist_ff.sweeps.again import best_lines
from mnist_ff.sweeps.pictures import draw_jobs

BAR_FROM = 200
"""Number of runs from which reading them shows a progress bar."""
MAX_LABELS = 10
"""Maximum number of jobs that a line names."""


def ranking_of(rows: list[Row], search_result: SearchResult | None) -> Ranking:
    """Rank the runs; those of a search by its objective."""
    return rank_rows(rows, smallest_loss=search_result is not None and search_result.smallest_loss)


def conclude(directory: Path, console: Console, is_interrupted: bool = False) -> int:
    """Write the sweep's files, print its table and what failed, then draw plots and reports of its jobs and its own.

    is_interrupted: a signal ended the sweep; plots and reports are left to mnist-ff report.
    Returns 1 if any job did not end well, else 0; or the exit code of a signal while plots are drawn.
    """
    rows = collect_shown([directory], console)
    search_result = read_search_result(directory)
    ranking = ranking_of(rows, search_result)
    save(ranking, directory, console, search_result, picture=not is_interrupted)
    show(ranking, console, search_result)
    tell(console, f"paths are relative to  {display_path(directory)}")
    _warn_of_chance(rows, console)
    _print_next_command(ranking, directory, console, search_result)
    signalled = 0 if is_interrupted else draw_jobs(rows, lambda text: tell(console, text), console)
    if is_interrupted or signalled:
        tell(console, f"plots and reports  mnist-ff report {shlex.quote(str(display_path(directory)))}")
    elif save_report(ranking, directory, console):
        tell(console, f"report         {shlex.quote(str(display_path(directory / REPORT)))}")
    for line in best_lines(ranking, directory):
        tell(console, line)
    return signalled or (1 if ranking.bad else 0)


def _warn_of_chance(rows: list[Row], console: Console) -> None:
    """Warn of jobs that learned nothing, in one line."""
    labels = [row.label for row in rows if row.not_learning is not None]
    if labels:
        shown = " ".join(labels[:MAX_LABELS]) + (" ..." if len(labels) > MAX_LABELS else "")
        which = f"{len(labels)} of {len(rows)} jobs ended with a loss at chance level or above its start: {shown}"
        tell(console, f"warning: {which} (the likely key is in their train.log)", style="yellow")


def missed_targets(directory: Path) -> list[str]:
    """The finished jobs of a sweep that did not reach trainer.target_accuracy. Errors: BadRunError."""
    missed = []
    for job in read_plan(directory).jobs:
        with suppress(BadRunError):  # the table gives the reason
            summary = Run(directory / job.subdir).summary()
            if summary is not None and summary.status is Status.FINISHED and summary.target_reached is False:
                missed.append(job.subdir)
    return missed


def _print_next_command(
    ranking: Ranking, directory: Path, console: Console, search_result: SearchResult | None = None
) -> None:
    """Print the command that runs failed jobs again, or that continues a search."""
    again = f"mnist-ff train -m resume={shlex.quote(str(display_path(directory)))}{flags()}"
    if search_result is not None:
        folders = (
            f" {shlex.join(options().flags)}" if options().folders else ""
        )  # a search makes new jobs, which need these files
        more = further(search_result)
        if more is not None:
            what, trials = more
            more_trials = f" hydra.sweeper.n_trials={trials}" if trials else ""
            tell(console, f"{what}  {again}{more_trials}{folders}")
    elif ranking.bad:
        broken = [str(display_path(row.path)) for row in ranking.bad if row.status == "broken"]
        if broken:
            tell(console, f"resume skips broken jobs; remove them first  rm -r {shlex.join(broken)}")
        tell(console, f"run them again  {again}")


def collect_shown(paths: list[Path], console: Console) -> list[Row]:
    """collect(), with a progress bar on a terminal if there are many runs."""
    if not console.is_terminal:
        return collect(paths)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("reading runs", visible=False)

        def step(done: int, of: int) -> None:
            if done % 50 == 0 or done == of:
                progress.update(task, completed=done, total=of, visible=of >= BAR_FROM)

        return collect(paths, step)


def save(
    ranking: Ranking, directory: Path, console: Console, search_result: SearchResult | None = None, picture: bool = True
) -> None:
    """Write the sweep's tables and its plot. An error is only a warning: the runs are safe."""
    remove_leftovers(directory)
    drawn = picture and _draw(ranking, directory, console, search_result)
    try:
        write_files(ranking, directory, drawn, search_result)
    except OSError as error:
        tell(console, f"warning: {error.filename or directory}: {error.strerror}", style="yellow")
    except UnicodeError as error:  # a directory's name is not valid UTF-8
        tell(console, f"warning: could not write the sweep's tables ({error})", style="yellow")


def _draw(ranking: Ranking, directory: Path, console: Console, search_result: SearchResult | None) -> bool:
    try:
        from mnist_ff.analysis.sweep_plot import draw_sweep

        found = None if search_result is None else search_result.importance
        draw_sweep(ranking, directory / "sweep.png", directory.resolve().name, found)
    except Exception as error:
        tell(console, f"warning: could not draw the sweep's plot ({error})", style="yellow")
        return False
    return True


def save_report(ranking: Ranking, directory: Path, console: Console) -> bool:
    """Write the sweep's report and return whether that succeeded. An error is only a warning."""
    try:
        from mnist_ff.report.sweep_page import write_sweep_report

        write_sweep_report(ranking, directory)
    except Exception as error:
        tell(console, f"warning: could not write the sweep's report.html ({error})", style="yellow")
        return False
    return True


def show(ranking: Ranking, console: Console, search_result: SearchResult | None = None) -> None:
    """Print the ranked tables, the runs that did not finish with reasons, and the results of a search."""
    show_tables(console, ranking)
    for line in [] if search_result is None else lines(search_result):
        tell(console, line)
