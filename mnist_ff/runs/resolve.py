"""Resolve `last`, `best` and names to a run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.errors import BadRunError, MissingFileError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import OUTPUTS, run_start, runs_below
from mnist_ff.runs.names import Handles
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.reading import is_folder, is_taken
from mnist_ff.runs.records import Status
from mnist_ff.runs.tables import last_epoch, read_epochs

LAST, BEST = "last", "best"


def resolve_run(word: str, say: Callable[[str], None], root: Path = OUTPUTS, sweeps: bool = False) -> Path:
    """The path of a run given as a word. In this order, the word is:

    - an existing directory;
    - `last`, the newest run in `root`, or `best`, the best finished one;
    - the name of a run, the newest of several; with `sweeps`, a job's name means its sweep;
    - the name of a directory in `root`, or the four hex digits at its end.

    `say` gets a line that says which run was chosen, and why, if there was a choice.
    Errors: BadRunError if `root` has no such run.
    """
    if not word:
        raise BadRunError(f"empty run name; give a run directory, its name, {LAST} or {BEST}")
    if is_folder(Path(word)):
        return Path(word)
    if word not in (LAST, BEST):
        return _named(word, say, root, sweeps)
    runs = sorted(runs_below(root), key=run_start, reverse=True)
    if not runs:
        raise BadRunError(f"{word}: no runs in {root}/; start one with mnist-ff train, or give a run directory")
    path, why = _last(runs, root) if word == LAST else _best(runs, root)
    say(f"{word} is {path}: {why}")
    return path


def _named(word: str, say: Callable[[str], None], root: Path, sweeps: bool) -> Path:
    """The run with this name. The word itself if it is a path: whoever reads it reports the error."""
    handles = Handles.of(root)
    found = handles.find(word, sweeps)
    if found is not None:
        path, count = found
        if count > 1:
            say(f"{word} is {path}: the newest of {count} runs with this name")
        return path
    if is_taken(Path(word)) or "/" in word or word in (".", ".."):
        return Path(word)
    raise BadRunError(handles.unknown(word))


def _last(runs: list[Path], root: Path) -> tuple[Path, str]:
    """The first readable one of `runs`, which are sorted newest first, and the reason as text."""
    for broken, path in enumerate(runs):
        if _is_readable(Run(path)):
            skipped = f" ({broken} newer broken)" if broken else ""
            return path, f"the newest of {len(runs)}{skipped}"
    raise BadRunError(f"{LAST}: every run in {root}/ is broken; see mnist-ff runs")


def _is_readable(run: Run) -> bool:
    """Whether a run's config can be read, and its summary and epochs if they exist."""
    try:
        run.config()
        run.summary()
        for _ in read_epochs(run.path):
            pass
    except MissingFileError:  # no epoch has ended yet
        return True
    except BadRunError:
        return False
    return True


def _best(runs: list[Path], root: Path) -> tuple[Path, str]:
    """The best finished run on the data of the newest finished one, and the reason as text. `runs` are newest first.

    It compares validation accuracy if all these runs have a validation split, else test accuracy, as rankings do.
    """
    scored = [entry for entry in map(_final, runs) if entry is not None]
    if not scored:
        raise BadRunError(f"{BEST}: no run in {root}/ has finished; see mnist-ff runs")
    newest = scored[0]
    same = [entry for entry in scored if (entry.data, entry.images) == (newest.data, newest.images)]
    split = all(entry.validation is not None for entry in same)
    scores = [(entry.validation if split and entry.validation is not None else entry.test, entry) for entry in same]
    accuracy, best = max(scores, key=lambda score: score[0])  # of equal scores, the newest run
    kind = "validation" if split else "test"
    return best.path, f"{percent(accuracy)} {kind} accuracy, the best of {len(same)} finished on {best.data}"


@dataclass(frozen=True)
class _Final:
    """The final accuracies of a finished run."""

    path: Path
    data: str
    images: int
    """Number of test images."""
    test: float
    validation: float | None


def _final(path: Path) -> _Final | None:
    """The final accuracies of a run; None if it is broken or has not finished."""
    run = Run(path)
    try:
        run.config()
        summary = run.summary()
        if summary is None or summary.status is not Status.FINISHED or summary.score is None:
            return None
        _, metrics = last_epoch(run.path)
        final = _Final(
            path, summary.data, summary.score.samples, summary.score.accuracy, metrics.get("validation_accuracy")
        )
    except BadRunError:
        return None
    return final
