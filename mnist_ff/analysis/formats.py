"""A ranking as a table of text cells, and as sweep.csv, sweep.json and sweep.md."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ff.analysis.labels import group_labels, has_names, named, path_text
from mnist_ff.analysis.ranking import SAME_SEED, WITHIN_NOISE, Group, Ranking, brief, rank_rows, ranked_rows, text
from mnist_ff.analysis.ranking_json import to_json
from mnist_ff.analysis.rows import Row, with_calibration
from mnist_ff.analysis.statistics import Sample
from mnist_ff.errors import printable
from mnist_ff.files import write_text
from mnist_ff.runs.numbers import MISSING, loss_text, percent_cell
from mnist_ff.runs.search_result import SearchResult
from mnist_ff.runs.search_result import lines as finding_lines

METRICS = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss")
CALIBRATION = {"ece": "ECE (%)", "brier": "Brier score"}
"""Calibration metrics on the test images, and the heads of their columns."""


@dataclass(frozen=True)
class Table:
    """A ranking as text cells, with units in the column heads."""

    columns: list[str]
    ranked: list[list[str]]
    spare: list[str]
    """Columns that a narrow terminal leaves out, first ones first."""
    bad: list[list[str]]
    """Status, reason, keys and path of each run that did not finish."""
    keys: tuple[str, ...] = ()
    """The columns of keys that differ between the runs."""


def table_of(ranking: Ranking, labels: Sequence[str] = ()) -> Table:
    """The cells of a ranking's table, without columns that are empty for all groups. `labels`, one for each group, are
    given if they must be unique among several tables."""
    columns = _columns(ranking)
    names = list(columns)
    bad = [
        [row.status, row.reason or "", _named(row.values, ranking.keys), row.label]
        for row in sorted(ranking.bad, key=lambda row: row.status)
    ]
    found = labels or group_labels(ranking)
    ranked = [
        [cell(group, label) for cell in columns.values()] for group, label in zip(ranking.groups, found, strict=True)
    ]
    return Table(names, _printable(ranked), _spare(names, ranking), _printable(bad), tuple(ranking.varied))


Cell = Callable[[Group, str], str]
"""A function from a group and its label to the text of a cell."""


def _columns(ranking: Ranking) -> dict[str, Cell]:
    """The columns by name, from left to right."""
    seeds = any(group.sample.n > 1 for group in ranking.groups)
    found: dict[str, Cell] = {"rank": lambda group, _: _rank(group)}
    if has_names(ranking):
        told = named(ranking)
        found["name"] = lambda group, label: label if told and _has_name(group) else group.rows[0].name or MISSING
    for key in varied_columns(ranking):
        found[key] = lambda group, _, key=key: brief(group.values[key]) if key in group.values else MISSING  # type: ignore[misc]
    if seeds:
        found["n"] = lambda group, _: MISSING if group.again else str(group.sample.n)
    for name in METRICS:
        if any(getattr(group, name) for group in ranking.groups):
            found |= _metric_columns(name, seeds and _is_spread(name, ranking))
    for name, head in CALIBRATION.items():
        if any(getattr(group, name) for group in ranking.groups):
            found[head] = lambda group, _, name=name: _mean_of(name, getattr(group, name))  # type: ignore[misc]
    found["seconds"] = lambda group, _: MISSING if group.seconds is None else f"{group.seconds.mean:.1f}"
    found["status"] = lambda group, _: group.status
    found["path"] = lambda group, _: path_text([row.label for row in group.rows])
    return found


def _has_name(group: Group) -> bool:
    return any(row.name is not None for row in group.rows)


def varied_columns(ranking: Ranking) -> list[str]:
    """The keys with a column of their own: all varied ones but `name`, which has one already."""
    return [key for key in ranking.varied if not (key == "name" and has_names(ranking))]


def _rank(group: Group) -> str:
    mark = f" {WITHIN_NOISE}" if group.like_the_one_before else ""
    return SAME_SEED if group.again else MISSING if group.rank is None else f"{group.rank}{mark}"


def _printable(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[printable(cell) for cell in row] for row in rows]


def _is_spread(name: str, ranking: Ranking) -> bool:
    """Whether a metric is shown with its interval and its standard deviation over seeds."""
    return name.endswith("accuracy") or name.replace("_", " ") == ranking.ranked_by


def _metric_columns(name: str, spread: bool) -> dict[str, Cell]:
    """A column for the mean. With `spread`, it has half the interval too, and the std gets a column."""
    title = metric_title(name)
    if not spread:
        return {title: lambda group, _: _mean_of(name, getattr(group, name))}
    return {
        title: lambda group, _: score_cell(name, getattr(group, name)),
        _std_title(title): lambda group, _: _number(name, _std(getattr(group, name))),
    }


def metric_title(name: str) -> str:
    """The head of a metric's column, with its unit: "test accuracy (%)"."""
    return f"{name.replace('_', ' ')} (%)" if name.replace(" ", "_").endswith("accuracy") else name.replace("_", " ")


def _std_title(title: str) -> str:
    return f"{title.split()[0]} std{' (%)' if title.endswith('(%)') else ''}"


def _std(found: Sample | None) -> float | None:
    return None if found is None else found.std


def _number(name: str, value: float | None) -> str:
    return percent_cell(value) if name.endswith("accuracy") or name == "ece" else loss_text(value)


def _mean_of(name: str, found: Sample | None) -> str:
    return _number(name, None if found is None else found.mean)


def score_cell(name: str, found: Sample | None) -> str:
    """A mean with half its 95 % interval, without a unit: 98.47 ± 0.12."""
    mean = _mean_of(name, found)
    return mean if found is None or found.half is None else f"{mean} ± {_number(name, found.half)}"


def _spare(columns: Sequence[str], ranking: Ranking) -> list[str]:
    """The columns to leave out when there is no room, first ones first. Rank, name, path and the ranking score stay."""
    score = metric_title(ranking.ranked_by.replace(" ", "_"))
    stay = {"rank", "name", "path", score}
    heads = [*CALIBRATION.values(), "validation loss", "test loss", "status"]
    heads += [_std_title(name) for name in ("test accuracy (%)", "validation accuracy (%)", "validation loss")]
    heads += ["seconds", "validation accuracy (%)", "test accuracy (%)", "n", *reversed(ranking.varied)]
    return [head for head in heads if head in columns and head not in stay]


def _named(values: dict[str, Any], keys: Sequence[str]) -> str:
    return " ".join(f"{key}={brief(values[key])}" for key in keys if key in values)


def legend(ranking: Ranking) -> list[str]:
    """Sentences that explain the table."""
    said = [f"Ranked by {ranking.ranked_by}."]
    if ranking.order_key is not None:
        said = [f"Sorted by {ranking.order_key}; ranks are by {ranking.ranked_by}."]
    if ranking.ignored:
        said.append(f"Left out, as they change no result: {', '.join(ranking.ignored)}.")
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
    """The number of runs by status: "5 finished, 1 failed"."""
    said = [f"{count} {status}" for status, count in ranking.counts.items()] or ["no runs"]
    return ", ".join([*said, *([f"{len(ranking.again)} the same seed again"] if ranking.again else [])])


def write_files(ranking: Ranking, directory: Path, drawn: bool, search_result: SearchResult | None = None) -> None:
    """Write sweep.csv, sweep.json and sweep.md, with the result of a search. sweep.md shows sweep.png if `drawn`.
    Errors: OSError."""
    write_text(directory / "sweep.csv", to_csv(ranking))
    by_loss = search_result is not None and search_result.smallest_loss
    calibrated = rank_rows([with_calibration(row) for row in ranking.rows], by_loss)
    values = to_json(calibrated, search_result)
    write_text(directory / "sweep.json", json.dumps(values, indent=1, allow_nan=False) + "\n")
    write_text(directory / "sweep.md", to_markdown(ranking, directory.resolve().name, drawn, search_result))


def to_csv(ranking: Ranking) -> str:
    """A line for each run, best first. Cells that a spreadsheet would read as formulas get a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = [f"{part}_{what}" for part in ("validation", "test") for what in ("accuracy", "loss")]
    name = ["name"] if len({row.name for row in ranking.rows}) > 1 and "name" not in ranking.keys else []
    more = _more_columns(ranking)
    writer.writerow(["rank", "run", "status", *name, *ranking.keys, *metrics, "epochs", "seconds", "reason", *more])
    for rank, row in ranked_rows(ranking):
        scores: list[Any] = []
        for score in (row.validation, row.test):
            scores += ["", ""] if score is None else [repr(score.accuracy), repr(score.loss)]
        values = [text(row.values[key]) if key in row.values else "" for key in ranking.keys]
        seconds = "" if row.seconds is None else repr(row.seconds)
        values = [*([row.name or ""] if name else []), *values]
        cells = [rank or "", row.label, row.status, *values, *scores, row.epochs, seconds, row.reason or ""]
        cells += [cell(row) for cell in more.values()]
        writer.writerow([defused(cell) for cell in cells])
    return out.getvalue()


def _more_columns(ranking: Ranking) -> dict[str, Callable[[Row], str]]:
    """Columns at the end: calibration if it is known, and the test images if there are several sets."""
    found: dict[str, Callable[[Row], str]] = {}
    if any(row.ece is not None for row in ranking.rows):
        found["ece"] = lambda row: "" if row.ece is None else repr(row.ece)
        found["brier"] = lambda row: "" if row.brier is None else repr(row.brier)
    if ranking.parts:
        titles = {row.path: part.title or "" for part in ranking.parts for row in part.rows}
        found["test_images"] = lambda row: titles.get(row.path, "")
    return found


def defused(cell: Any) -> Any:
    """A cell with a leading apostrophe if a spreadsheet would read it as a formula."""
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


def to_markdown(ranking: Ranking, title: str, drawn: bool, search_result: SearchResult | None = None) -> str:
    """The result of a search, the ranked tables, the runs that did not finish, and the values that all runs share."""
    lines = [f"# {_escaped(title)}", "", f"{len(ranking.rows)} runs: {counted(ranking)}.", ""]
    if search_result is not None:
        lines += [*(f"- {_escaped(line)}" for line in finding_lines(search_result)), ""]
    for table in ranking.tables:
        lines += [f"## {_escaped(table.title or '')}", ""] if ranking.parts else []
        made = table_of(table)
        lines += [" ".join(legend(table)), ""]
        lines += [*_markdown_table(made.columns, made.ranked), ""] if made.ranked else []
    lines += ["![sweep](sweep.png)", ""] if drawn else []
    bad = table_of(ranking).bad
    if bad:
        lines += ["## Not finished", ""]
        lines += [*_markdown_table(["status", "reason", "keys", "path"], bad), ""]
    shared = ", ".join(f"{key}={text(value)}" for key, value in ranking.common.items())
    return "\n".join([*lines, f"All runs: {_escaped(shared)}", ""])


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    right: Callable[[str], str] = lambda name: "---" if name in ("name", "path", "status", "reason", "keys") else "---:"  # noqa: E731
    head = [f"| {' | '.join(columns)} |", f"|{'|'.join(map(right, columns))}|"]
    return head + [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]


MARKDOWN_SIGNS = re.compile(r"[\\\\|`*\[\]!~$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Characters that are special in Markdown, and those of which GitHub makes links."""


def _escaped(cell: str) -> str:
    """A text with the special characters of Markdown and HTML escaped."""
    cell = MARKDOWN_SIGNS.sub(r"\\\g<0>", printable(cell))
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
