"""A ranking as files and on the terminal: sweep.csv, sweep.json, sweep.md, the ranked table."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnist_ff.analysis.ranking import SAME_SEED, WITHIN_NOISE, Group, Ranking, brief, text
from mnist_ff.analysis.rows import Row
from mnist_ff.analysis.statistics import Sample
from mnist_ff.errors import printable
from mnist_ff.files import write_text
from mnist_ff.runs.records import Score
from mnist_ff.runs.search_result import SearchResult
from mnist_ff.runs.search_result import lines as finding_lines

METRICS = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss")


@dataclass(frozen=True)
class Table:
    """A table as plain text cells: ranked groups, then the rows that did not finish."""

    columns: list[str]
    ranked: list[list[str]]
    bad: list[list[str]]
    """Status, reason, varied keys, path."""


def table_of(ranking: Ranking) -> Table:
    """The ranked table's cells; columns that no group has are left out."""
    metrics = [name for name in METRICS if any(getattr(group, name) for group in ranking.groups)]
    seeds = any(group.sample.n > 1 for group in ranking.groups)
    columns = ["rank", *ranking.varied, *(["n"] if seeds else [])]
    for name in metrics:
        columns += _titles(name, seeds and _is_spread(name, ranking))
    columns += ["seconds", "status", "path"]
    ranked = [_cells(group, ranking, metrics, seeds) for group in ranking.groups]
    bad = [
        [row.status, row.reason or "", _named(row.values, ranking.keys), row.label]
        for row in sorted(ranking.bad, key=lambda row: row.status)
    ]
    return Table(columns, _printable(ranked), _printable(bad))


def _printable(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[printable(cell) for cell in row] for row in rows]


def _is_spread(name: str, ranking: Ranking) -> bool:
    """Whether a figure is shown with its interval and its spread over seeds."""
    return name.endswith("accuracy") or name.replace("_", " ") == ranking.ranked_by


def _titles(name: str, spread: bool) -> list[str]:
    words = name.replace("_", " ")
    return [words, "std"] if spread else [words]


def _cells(group: Group, ranking: Ranking, metrics: Sequence[str], seeds: bool) -> list[str]:
    mark = f" {WITHIN_NOISE}" if group.like_the_one_before else ""
    rank = SAME_SEED if group.again else "-" if group.rank is None else f"{group.rank}{mark}"
    cells = [rank, *(brief(group.values[key]) if key in group.values else "-" for key in ranking.varied)]
    cells += ["-" if group.again else str(group.sample.n)] if seeds else []
    for name in metrics:
        found: Sample | None = getattr(group, name)
        form = (100.0, ".2f", " %") if name.endswith("accuracy") else (1.0, ".4f", "")
        cells += _metric_cells(found, form, seeds and _is_spread(name, ranking))
    cells += ["-" if group.seconds is None else f"{group.seconds.mean:.1f}", group.status]
    labels = [row.label for row in group.rows]
    cells.append(labels[0] if len(labels) == 1 else _shortened(labels))
    return cells


def _metric_cells(found: Sample | None, form: tuple[float, str, str], spread: bool) -> list[str]:
    """A mean, and with `spread` half its interval and its std; `form` is the factor, format and unit."""
    factor, digits, unit = form
    if found is None:
        return ["-"] * (2 if spread else 1)
    mean = f"{factor * found.mean:{digits}}"
    if not spread:
        return [f"{mean}{unit}"]
    if found.std is None or found.half is None:
        return [f"{mean}{unit}", "-"]
    return [f"{mean} ± {factor * found.half:{digits}}{unit}", f"{factor * found.std:{digits}}"]


def _shortened(labels: Sequence[str]) -> str:
    """0 1 2 as they are, many as the first two and the last."""
    return " ".join(labels) if len(labels) <= 5 else f"{labels[0]} {labels[1]} … {labels[-1]}"


def _named(values: dict[str, Any], keys: Sequence[str]) -> str:
    return " ".join(f"{key}={brief(values[key])}" for key in keys if key in values)


def legend(ranking: Ranking) -> list[str]:
    """What must be known to read the table, in sentences."""
    said = [f"Ranked by {ranking.ranked_by}."]
    if ranking.order_key is not None:
        said = [f"Sorted by {ranking.order_key}; ranks are by {ranking.ranked_by}."]
    if ranking.pruned:
        said.append("Pruned runs are not ranked: they trained for fewer epochs.")
    if any(group.sample.n > 1 for group in ranking.groups):
        said.append(
            "Runs that differ only in their seed are one row: mean ± half its 95 % interval (t), std over seeds."
        )
    if any(group.like_the_one_before for group in ranking.groups):
        said.append(f"{WITHIN_NOISE}: not significantly different from the row above.")
    if ranking.again:
        said.append(f"{SAME_SEED}: same seed and keys as another run; not counted in n, mean and std.")
    if ranking.by_loss and any(group.sample.n == 1 for group in ranking.ranked):
        said.append("The loss of a single run has no known interval.")
    return said


def counted(ranking: Ranking) -> str:
    """5 finished, 1 failed."""
    said = [f"{count} {status}" for status, count in ranking.counts.items()] or ["no runs"]
    return ", ".join([*said, *([f"{len(ranking.again)} the same seed again"] if ranking.again else [])])


def write_files(ranking: Ranking, directory: Path, drawn: bool, search_result: SearchResult | None = None) -> None:
    """Write sweep.csv, sweep.json and sweep.md, whole, with what a search found; the page shows sweep.png if it was
    drawn. Errors: OSError."""
    write_text(directory / "sweep.csv", to_csv(ranking))
    write_text(directory / "sweep.json", json.dumps(to_json(ranking, search_result), indent=1, allow_nan=False) + "\n")
    write_text(directory / "sweep.md", to_markdown(ranking, directory.resolve().name, drawn, search_result))


def to_csv(ranking: Ranking) -> str:
    """One line a run, the best first. Cells that a spreadsheet would take for a formula begin with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = [f"{part}_{what}" for part in ("validation", "test") for what in ("accuracy", "loss")]
    writer.writerow(["rank", "run", "status", *ranking.keys, *metrics, "epochs", "seconds", "reason"])
    for rank, row in _ranked_rows(ranking):
        scores: list[Any] = []
        for score in (row.validation, row.test):
            scores += ["", ""] if score is None else [repr(score.accuracy), repr(score.loss)]
        values = [text(row.values[key]) if key in row.values else "" for key in ranking.keys]
        seconds = "" if row.seconds is None else repr(row.seconds)
        cells = [rank or "", row.label, row.status, *values, *scores, row.epochs, seconds, row.reason or ""]
        writer.writerow([_defused(cell) for cell in cells])
    return out.getvalue()


def _defused(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    cell = printable(cell)
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") and not _is_number(cell) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _ranked_rows(ranking: Ranking) -> list[tuple[int | None, Row]]:
    """Every run with its rank, in the order of the table; those that did not finish are last."""
    places, last = ranking.places, (len(ranking.groups), None)
    rows = sorted(ranking.rows, key=lambda row: places.get(row.path, last)[0])
    return [(places.get(row.path, last)[1], row) for row in rows]


def to_json(ranking: Ranking, search_result: SearchResult | None = None) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        **({} if search_result is None else {"search": asdict(search_result)}),
        "ranked_by": ranking.ranked_by,
        **({} if ranking.order_key is None else {"sorted_by": ranking.order_key}),
        "keys": list(ranking.keys),
        "counts": ranking.counts,
        "common": ranking.common,
        "groups": [_group_json(group) for group in ranking.groups],
        "runs": [
            {
                "run": row.label,
                "rank": rank,
                "status": row.status,
                "reason": row.reason,
                "values": {key: row.values[key] for key in ranking.keys if key in row.values},
                "validation": _score_json(row.validation),
                "test": _score_json(row.test),
                "epochs": row.epochs,
                "seconds": row.seconds,
            }
            for rank, row in _ranked_rows(ranking)
        ],
    }


def _group_json(group: Group) -> dict[str, Any]:
    metrics = {name: getattr(group, name) for name in (*METRICS, "seconds")}
    return {
        "rank": group.rank,
        "status": group.status,
        "same_seed_again": group.again,
        "within_noise_of_the_one_before": group.like_the_one_before,
        "values": group.values,
        "n": group.sample.n,
        **{name: None if found is None else _sample_json(found) for name, found in metrics.items()},
        "runs": [row.label for row in group.rows],
    }


def _sample_json(found: Sample) -> dict[str, Any]:
    interval = None if found.half is None else [found.mean - found.half, found.mean + found.half]
    return {"mean": found.mean, "std": found.std, "interval_95": interval, "n": found.n}


def _score_json(score: Score | None) -> dict[str, Any] | None:
    return None if score is None else {"accuracy": score.accuracy, "loss": score.loss, "samples": score.samples}


def to_markdown(ranking: Ranking, title: str, drawn: bool, search_result: SearchResult | None = None) -> str:
    """What a search found, the ranked table, those that did not finish, what all runs share."""
    made = table_of(ranking)
    lines = [
        f"# {_escaped(title)}",
        "",
        f"{len(ranking.rows)} runs: {counted(ranking)}. {' '.join(legend(ranking))}",
        "",
    ]
    if search_result is not None:
        lines += [*(f"- {_escaped(line)}" for line in finding_lines(search_result)), ""]
    if made.ranked:
        lines += [*_markdown_table(made.columns, made.ranked), ""]
    lines += ["![sweep](sweep.png)", ""] if drawn else []
    if made.bad:
        lines += ["## Not finished", ""]
        lines += [*_markdown_table(["status", "reason", "keys", "path"], made.bad), ""]
    shared = ", ".join(f"{key}={text(value)}" for key, value in ranking.common.items())
    return "\n".join([*lines, f"All runs: {_escaped(shared)}", ""])


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    right: Callable[[str], str] = lambda name: "---" if name in ("path", "status", "reason", "keys") else "---:"  # noqa: E731
    head = [f"| {' | '.join(columns)} |", f"|{'|'.join(map(right, columns))}|"]
    return head + [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]


MARKDOWN_SIGNS = re.compile(r"[\\\\|`*\[\]!~$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What Markdown takes for more than letters: its own signs, and what GitHub makes links of."""


def _escaped(cell: str) -> str:
    """A text that neither Markdown nor the HTML that it is turned into takes for more than letters."""
    cell = MARKDOWN_SIGNS.sub(r"\\\g<0>", printable(cell))
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
