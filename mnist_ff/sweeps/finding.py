"""What a search has found so far: a file of its sweep directory, to be shown without Optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnist_ff.files import write_text
from mnist_ff.tables import printable

SEARCH = "search.json"
SHOWN = 20
"""Repeated trials that a line names."""
LARGEST = 16 << 20
"""Bytes of a search.json that is read."""


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
class Finding:
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


def write_finding(directory: Path, finding: Finding) -> None:
    """Put search.json into the sweep's directory, whole. Errors: OSError."""
    write_text(directory / SEARCH, json.dumps(asdict(finding), indent=1, allow_nan=False) + "\n")


def read_finding(directory: Path) -> Finding | None:
    """What the search in this sweep directory found; None where there is none, or none of ours."""
    path = directory / SEARCH
    try:
        if path.stat().st_size > LARGEST:
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
        return Finding(
            study=_text(values["study"]),
            storage=_text(values["storage"]),
            objective=_text(values["objective"]),
            n_trials=int(values["n_trials"]),
            counts={_text(name): int(count) for name, count in values["counts"].items()},
            best_trial=None if values["best_trial"] is None else int(values["best_trial"]),
            best_value=None if values["best_value"] is None else _number(values["best_value"]),
            best_words={_text(key): _text(word) for key, word in values["best_words"].items()},
            importance={_text(key): _number(share) for key, share in values["importance"].items()},
            grid=None if values.get("grid") is None else int(values["grid"]),
            refused=tuple(map(_refused, values.get("refused", ()))),
            repeated=tuple(map(_repeated, values.get("repeated", ()))),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def _refused(values: Any) -> Refused:
    return Refused(_trial(values["number"]), tuple(map(_text, values["words"])), _text(values["reason"]))


def _repeated(values: Any) -> Repeated:
    words = tuple(map(_text, values["words"]))
    return Repeated(_trial(values["number"]), words, _trial(values["of"]), _number(values["value"]))


def _trial(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"a trial's number is {number!r}")
    return number


def _text(value: Any) -> str:
    """A text of one line that a terminal shows as it is."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return printable(value)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def further(finding: Finding) -> tuple[str, int | None] | None:
    """What a next call would do, and the n_trials to give it, None for the search's own; None: nothing is left."""
    counts = finding.counts
    if counts.get("waiting", 0):
        return "go on with the search", None
    if counts.get("running", 0):
        return None
    most = 2 * finding.n_trials if finding.grid is None else min(2 * finding.n_trials, finding.grid)
    return ("search further", most) if most > finding.n_trials else None


def lines(finding: Finding) -> list[str]:
    """The finding for people, a fact a line."""
    counted = ", ".join(f"{count} {name}" for name, count in finding.counts.items() if count)
    said = [f"study {finding.study} in {finding.storage}: {finding.n_trials} trials in all, {counted}"]
    if finding.best_trial is not None and finding.best_value is not None:
        words = " ".join(f"{key}={word}" for key, word in finding.best_words.items())
        what = finding.objective.replace("_", " ")
        said.append(f"best trial {finding.best_trial}: {what} {finding.best_value:.4f}  {words}")
    if finding.repeated:
        pairs = ", ".join(f"{trial.number} as {trial.of}" for trial in finding.repeated[:SHOWN])
        more = f" and {len(finding.repeated) - SHOWN} more" if len(finding.repeated) > SHOWN else ""
        said.append(f"trials that were not trained again, and the ones with their configuration: {pairs}{more}")
    if finding.importance:
        shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in finding.importance.items())
        said.append(f"importance (PED-ANOVA): {shares}")
    return said
