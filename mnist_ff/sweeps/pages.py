"""An answer to files and to the terminal: sweep.csv, sweep.json, sweep.md, the ranked table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.files import write_text
from mnist_ff.records import Score
from mnist_ff.sweeps.statistics import Sample
from mnist_ff.sweeps.summarise import WITHIN_NOISE, Answer, Group, brief, text

FIGURES = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss")


@dataclass(frozen=True)
class Page:
    """A table as plain text cells: ranked groups, then the rows that did not finish."""

    columns: list[str]
    ranked: list[list[str]]
    bad: list[list[str]]
    """Status, reason, varied keys, path."""


def page(answer: Answer) -> Page:
    """The ranked table's cells; columns that no group has are left out."""
    figures = [name for name in FIGURES if any(getattr(group, name) for group in answer.groups)]
    seeds = any(group.accuracy.n > 1 for group in answer.groups)
    columns = ["rank", *answer.varied, *(["n"] if seeds else [])]
    for name in figures:
        columns += _titles(name, seeds)
    columns += ["seconds", "path"]
    ranked = [_cells(place + 1, group, answer, figures, seeds) for place, group in enumerate(answer.groups)]
    bad = [
        [row.status, row.reason or "", _named(row.values, answer.keys), row.label]
        for row in sorted(answer.bad, key=lambda row: row.status)
    ]
    return Page(columns, ranked, bad)


def _titles(name: str, seeds: bool) -> list[str]:
    words = name.replace("_", " ")
    return [words, "std"] if seeds and name.endswith("accuracy") else [words]


def _cells(rank: int, group: Group, answer: Answer, figures: Sequence[str], seeds: bool) -> list[str]:
    mark = f" {WITHIN_NOISE}" if group.like_the_one_before else ""
    cells = [f"{rank}{mark}", *(brief(group.values[key]) if key in group.values else "-" for key in answer.varied)]
    cells += [str(group.accuracy.n)] if seeds else []
    for name in figures:
        found: Sample | None = getattr(group, name)
        if name.endswith("accuracy"):
            cells += _accuracy(found, seeds)
        else:
            cells.append("-" if found is None else f"{found.mean:.4f}")
    cells.append("-" if group.seconds is None else f"{group.seconds.mean:.1f}")
    labels = [row.label for row in group.rows]
    cells.append(labels[0] if len(labels) == 1 else _shortened(labels))
    return cells


def _accuracy(found: Sample | None, seeds: bool) -> list[str]:
    if found is None:
        return ["-"] * (2 if seeds else 1)
    mean = f"{100 * found.mean:.2f} %"
    if not seeds:
        return [mean]
    if found.std is None or found.half is None:
        return [mean, "-"]
    return [f"{100 * found.mean:.2f} ± {100 * found.half:.2f} %", f"{100 * found.std:.2f}"]


def _shortened(labels: Sequence[str]) -> str:
    """0 1 2 as they are, many as the first two and the last."""
    return " ".join(labels) if len(labels) <= 5 else f"{labels[0]} {labels[1]} … {labels[-1]}"


def _named(values: dict[str, Any], keys: Sequence[str]) -> str:
    return " ".join(f"{key}={brief(values[key])}" for key in keys if key in values)


def legend(answer: Answer) -> list[str]:
    """What must be known to read the table, in sentences."""
    said = [f"Ranked by {answer.ranked_by}."]
    if any(group.accuracy.n > 1 for group in answer.groups):
        said.append(
            "Runs that differ only in their seed are one row: mean ± half its 95 % interval (t), std over seeds."
        )
    if any(group.like_the_one_before for group in answer.groups):
        said.append(f"{WITHIN_NOISE}: not told apart from the row above; the difference lies within the noise.")
    return said


def counted(answer: Answer) -> str:
    """5 finished, 1 failed."""
    return ", ".join(f"{count} {status}" for status, count in answer.counts.items()) or "no runs"


def write_files(answer: Answer, directory: Path, drawn: bool) -> None:
    """Write sweep.csv, sweep.json and sweep.md, whole; the page shows sweep.png if it was drawn. Errors: OSError."""
    write_text(directory / "sweep.csv", to_csv(answer))
    write_text(directory / "sweep.json", json.dumps(to_json(answer), indent=1, allow_nan=False) + "\n")
    write_text(directory / "sweep.md", to_markdown(answer, directory.resolve().name, drawn))


def to_csv(answer: Answer) -> str:
    """One line a run, the best first. Cells that a spreadsheet would take for a formula begin with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = [f"{part}_{what}" for part in ("validation", "test") for what in ("accuracy", "loss")]
    writer.writerow(["rank", "run", "status", *answer.keys, *figures, "epochs", "seconds", "reason"])
    for rank, row in _ranked_rows(answer):
        scores: list[Any] = []
        for score in (row.validation, row.test):
            scores += ["", ""] if score is None else [repr(score.accuracy), repr(score.loss)]
        values = [text(row.values[key]) if key in row.values else "" for key in answer.keys]
        seconds = "" if row.seconds is None else repr(row.seconds)
        cells = [rank or "", row.label, row.status, *values, *scores, row.epochs, seconds, row.reason or ""]
        writer.writerow([_defused(cell) for cell in cells])
    return out.getvalue()


def _defused(cell: Any) -> Any:
    risky = isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{cell}" if risky and not _is_number(cell) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _ranked_rows(answer: Answer) -> list[tuple[int | None, Any]]:
    places = answer.places
    ranked = [(places.get(row.path), row) for row in answer.rows]
    return sorted(ranked, key=lambda pair: pair[0] or len(ranked) + 1)


def to_json(answer: Answer) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "ranked_by": answer.ranked_by,
        "keys": list(answer.keys),
        "counts": answer.counts,
        "common": answer.common,
        "groups": [_group_json(place + 1, group) for place, group in enumerate(answer.groups)],
        "runs": [
            {
                "run": row.label,
                "rank": rank,
                "status": row.status,
                "reason": row.reason,
                "values": {key: row.values[key] for key in answer.keys if key in row.values},
                "validation": _score_json(row.validation),
                "test": _score_json(row.test),
                "epochs": row.epochs,
                "seconds": row.seconds,
            }
            for rank, row in _ranked_rows(answer)
        ],
    }


def _group_json(rank: int, group: Group) -> dict[str, Any]:
    figures = {name: getattr(group, name) for name in (*FIGURES, "seconds")}
    return {
        "rank": rank,
        "within_noise_of_the_one_before": group.like_the_one_before,
        "values": group.values,
        "n": group.accuracy.n,
        **{name: None if found is None else _sample_json(found) for name, found in figures.items()},
        "runs": [row.label for row in group.rows],
    }


def _sample_json(found: Sample) -> dict[str, Any]:
    interval = None if found.half is None else [found.mean - found.half, found.mean + found.half]
    return {"mean": found.mean, "std": found.std, "interval_95": interval, "n": found.n}


def _score_json(score: Score | None) -> dict[str, Any] | None:
    return None if score is None else {"accuracy": score.accuracy, "loss": score.loss, "samples": score.samples}


def to_markdown(answer: Answer, title: str, drawn: bool) -> str:
    """The ranked table, those that did not finish, what all runs share."""
    made = page(answer)
    lines = [f"# {_escaped(title)}", "", f"{len(answer.rows)} runs: {counted(answer)}. {' '.join(legend(answer))}", ""]
    if made.ranked:
        lines += [*_markdown_table(made.columns, made.ranked), ""]
    lines += ["![sweep](sweep.png)", ""] if drawn else []
    if made.bad:
        lines += ["## Not finished", ""]
        lines += [*_markdown_table(["status", "reason", "keys", "path"], made.bad), ""]
    shared = ", ".join(f"{key}={text(value)}" for key, value in answer.common.items())
    return "\n".join([*lines, f"All runs: {_escaped(shared)}", ""])


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    right: Callable[[str], str] = lambda name: "---" if name in ("path", "status", "reason", "keys") else "---:"  # noqa: E731
    head = [f"| {' | '.join(columns)} |", f"|{'|'.join(map(right, columns))}|"]
    return head + [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]


def _escaped(cell: str) -> str:
    """A text that neither Markdown nor the HTML that it is turned into takes for more than letters."""
    cell = "".join(letter if letter.isprintable() else " " for letter in cell)
    cell = cell.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\|`*[]!" else letter for letter in cell)
