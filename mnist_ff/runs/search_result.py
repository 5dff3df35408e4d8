"""search.json: the result of a search so far, readable without Optuna."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mnist_ff.errors import BadRunError, MissingFileError, printable
from mnist_ff.files import write_text
from mnist_ff.runs.numbers import loss_text, percent
from mnist_ff.runs.reading import Fields, read_json

SEARCH = "search.json"
MAX_REPEATED_SHOWN = 20
"""Repeated trials that a line names."""


@dataclass(frozen=True)
class Refused:
    """A trial that could be no job: its values are impossible together."""

    number: int
    words: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Repeated:
    """A trial that was not trained, as an earlier one had its configuration."""

    number: int
    words: tuple[str, ...]
    of: int
    """The number of the trial that has been trained."""
    value: float
    """That one's."""


@dataclass(frozen=True)
class SearchResult:
    """What a study knows: its best trial, what mattered, and how many trials ended how."""

    study: str
    storage: str
    """Without a password."""
    objective: str
    n_trials: int
    counts: Mapping[str, int]
    """complete, pruned, failed, running and waiting trials."""
    best_trial: int | None
    best_value: float | None
    best_words: Mapping[str, str]
    importance: Mapping[str, float]
    """Share of each key in the spread of the objective (PED-ANOVA, Watanabe et al. 2023); empty below two results."""
    grid: int | None = None
    """How many different trials there are, where sampler=grid goes through them; None: no end."""
    refused: tuple[Refused, ...] = ()
    """The trials of this sweep's directory that failed before they had a run."""
    repeated: tuple[Repeated, ...] = ()
    """The trials of this sweep's directory that have an earlier one's result, and no run."""

    @property
    def smallest_loss(self) -> bool:
        """Whether the search looks for that, and not for the largest accuracy."""
        return self.objective == "validation_loss"


def write_search_result(directory: Path, result: SearchResult) -> None:
    """Put search.json into the sweep's directory, whole. Errors: OSError."""
    write_text(directory / SEARCH, json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")


def read_search_result(directory: Path) -> SearchResult | None:
    """The result of the search in this sweep directory; None if there is none, or an invalid one."""
    try:
        return load_search_result(directory)
    except BadRunError:
        return None


def load_search_result(directory: Path) -> SearchResult | None:
    """The same, None only where there is none. Errors: BadRunError naming the file and the field."""
    path = directory / SEARCH
    try:
        return _search_result(Fields(read_json(path)))
    except MissingFileError:
        return None
    except ValueError as error:
        raise BadRunError(f"{path}: not a search result ({error})") from None


def _search_result(values: Fields) -> SearchResult:
    counts, words, importance = (values.fields(key) for key in ("counts", "best_words", "importance"))
    younger = {"grid": None, "refused": [], "repeated": [], **values.values}
    return SearchResult(
        study=printable(values.text("study")),
        storage=printable(values.text("storage")),
        objective=printable(values.text("objective")),
        n_trials=values.whole("n_trials"),
        counts={printable(name): counts.whole(name) for name in counts.values},
        best_trial=values.whole_or_null("best_trial"),
        best_value=None if values.values.get("best_value", "") is None else values.number("best_value"),
        best_words={printable(key): printable(words.text(key)) for key in words.values},
        importance={printable(key): importance.number(key) for key in importance.values},
        grid=Fields(younger).whole_or_null("grid"),
        refused=tuple(_refused(Fields(trial, "a refused trial")) for trial in Fields(younger).items("refused")),
        repeated=tuple(_repeated(Fields(trial, "a repeated trial")) for trial in Fields(younger).items("repeated")),
    )


def _refused(values: Fields) -> Refused:
    words = tuple(map(printable, values.texts("words")))
    return Refused(values.whole("number"), words, printable(values.text("reason")))


def _repeated(values: Fields) -> Repeated:
    words = tuple(map(printable, values.texts("words")))
    return Repeated(values.whole("number"), words, values.whole("of"), values.number("value"))


def further(result: SearchResult) -> tuple[str, int | None] | None:
    """What a next call would do, and the n_trials to give it, None for the search's own; None: nothing is left."""
    counts = result.counts
    if counts.get("waiting", 0):
        return "continue the search", None
    if counts.get("running", 0):
        return None
    most = 2 * result.n_trials if result.grid is None else min(2 * result.n_trials, result.grid)
    return ("search further", most) if most > result.n_trials else None


def lines(result: SearchResult) -> list[str]:
    """The result for people, a fact a line."""
    counted = ", ".join(f"{count} {name}" for name, count in result.counts.items() if count)
    said = [f"study {result.study} in {result.storage}: {result.n_trials} trials in total, {counted}"]
    if result.best_trial is not None and result.best_value is not None:
        words = " ".join(f"{key}={word}" for key, word in result.best_words.items())
        what = result.objective.replace("_", " ")
        value = percent(result.best_value) if what.endswith("accuracy") else loss_text(result.best_value)
        said.append(f"best trial {result.best_trial}: {what} {value}  {words}")
    if result.repeated:
        pairs = ", ".join(f"{trial.number} as {trial.of}" for trial in result.repeated[:MAX_REPEATED_SHOWN])
        more = (
            f" and {len(result.repeated) - MAX_REPEATED_SHOWN} more"
            if len(result.repeated) > MAX_REPEATED_SHOWN
            else ""
        )
        said.append(f"repeated trials, with the trial that has the result: {pairs}{more}")
    if result.importance:
        shares = ", ".join(f"{key} {percent(share, 0)}" for key, share in result.importance.items())
        said.append(f"importance (PED-ANOVA): {shares}")
    return said
