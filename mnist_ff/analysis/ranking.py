"""Rows to a ranking: keys that differ, groups over seeds, ranks, differences within noise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnist_ff.analysis.evaluated_on import EvaluatedOn, distinct, titles
from mnist_ff.analysis.rows import GOOD, PRUNED, REPEATED, Row
from mnist_ff.analysis.statistics import Sample, differ, sample
from mnist_ff.config.no_effect import DATA_SOURCE_KEYS, NO_EFFECT
from mnist_ff.runs.records import Score

SEED = "seed"
WITHIN_NOISE = "≈"
SAME_SEED = "="


LOSS = "validation loss"
"""What a search for the smallest loss ranks by."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, and ended in the same way."""

    values: dict[str, Any]
    """The keys that differ in the sweep, without the seed."""
    rows: tuple[Row, ...]
    """All finished, or all pruned."""
    sample: Sample
    """Of what the ranking goes by: accuracies, or losses."""
    test_accuracy: Sample | None
    test_loss: Sample | None
    validation_accuracy: Sample | None
    validation_loss: Sample | None
    seconds: Sample | None
    ece: Sample | None
    brier: Sample | None
    images: int
    """That an accuracy of the ranking is a share of."""
    rank: int | None = None
    """From 1; None for pruned runs, whose figures after fewer epochs do not compare, and for the same seed again."""
    like_the_one_before: bool = False
    """Whether the difference to the group ranked above is not significant."""
    again: bool = False
    """Whether its run has the keys and the seed of one in the group before: it is shown, and is no second sample."""

    @property
    def status(self) -> str:
        """finished or pruned."""
        return self.rows[0].status


@dataclass(frozen=True)
class Ranking:
    """What a sweep found."""

    keys: tuple[str, ...]
    """The keys that differ between its runs, the seed among them where it does."""
    ranked_by: str
    """validation accuracy, test accuracy or validation loss."""
    groups: tuple[Group, ...]
    """The best first, pruned ones last; after each the runs that are its seeds again."""
    rows: tuple[Row, ...]
    """Every run, in the sweep's order."""
    common: dict[str, Any]
    """The values that all runs share."""
    ignored: tuple[str, ...] = ()
    """Keys that differ and are left out because they do not change results."""
    order_key: str | None = None
    """The key by which the groups are sorted; None if by rank."""
    title: str | None = None
    """A heading for the runs' test images; None if there are several sets, or none."""
    evaluated_on: EvaluatedOn | None = None
    """The runs' test images; None if there are several sets, or none."""
    parts: tuple[Ranking, ...] = ()
    """If runs were evaluated on different test images, a ranking for each set. `groups` has all their groups."""

    @property
    def tables(self) -> tuple[Ranking, ...]:
        """The rankings to show, one for each set of test images."""
        return self.parts or (self,)

    @property
    def by_loss(self) -> bool:
        """Whether the smallest figure is the best."""
        return self.ranked_by == LOSS

    @property
    def ranked(self) -> tuple[Group, ...]:
        """The groups that finished."""
        return tuple(group for group in self.groups if group.rank is not None)

    @property
    def pruned(self) -> tuple[Group, ...]:
        """The groups that were pruned."""
        return tuple(group for group in self.groups if group.status == PRUNED and not group.again)

    @property
    def again(self) -> tuple[Group, ...]:
        """The runs that are the same seed again, a group each."""
        return tuple(group for group in self.groups if group.again)

    @property
    def bad(self) -> tuple[Row, ...]:
        """The rows that did not finish."""
        return tuple(row for row in self.rows if row.status not in (*GOOD, REPEATED))

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status."""
        return dict(Counter(row.status for row in self.rows))

    @property
    def places(self) -> dict[Path, tuple[int, int | None]]:
        """The place in the table, from 0, and the rank of each scored run's group."""
        return {row.path: (place, group.rank) for place, group in enumerate(self.groups) for row in group.rows}

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that differ, without the seed."""
        return tuple(key for key in self.keys if key != SEED)


def rank_rows(rows: Sequence[Row], smallest_loss: bool = False) -> Ranking:
    """Group runs over their seeds and rank the groups: by validation accuracy if every scored run has it, else by test
    accuracy. With `smallest_loss`, for a search that minimised it, by validation loss.

    Runs on different test images are ranked separately.
    """
    sets = distinct(row.evaluated_on for row in rows)
    if len(sets) < 2:
        return _ranking(rows, sets, smallest_loss)
    members = [[row for row in rows if _belongs(row, sets) == one] for one in sets]
    parts = [_ranking(found, [one], smallest_loss) for found, one in zip(members, sets, strict=True)]
    parts = [replace(part, title=title) for part, title in zip(parts, titles(sets), strict=True)]
    keys, common, ignored = _differing(rows)
    groups = tuple(group for part in parts for group in part.groups)
    return Ranking(tuple(keys), parts[0].ranked_by, groups, tuple(rows), common, ignored, parts=tuple(parts))


def _belongs(row: Row, sets: Sequence[EvaluatedOn]) -> EvaluatedOn:
    """The test images of a run. For a run without a score, those of other runs on its data set, else the first set."""
    if row.evaluated_on is not None:
        return row.evaluated_on
    name = str(row.values.get("data.name"))
    return next((one for one in sets if one.data == name), sets[0])


def _differing(rows: Sequence[Row]) -> tuple[list[str], dict[str, Any], tuple[str, ...]]:
    """The keys that differ, the values that all runs share, and the keys that differ but are ignored: those that do not
    change results, unless a sweep varies them."""
    asked = frozenset().union(*(row.asked for row in rows))
    keys, common = differing([row.values for row in rows])
    ignored = tuple(key for key in keys if key in NO_EFFECT and key not in asked)
    return [key for key in keys if key not in ignored], common, tuple(key for key in ignored if key != "name")


def _ranking(rows: Sequence[Row], sets: Sequence[EvaluatedOn], smallest_loss: bool) -> Ranking:
    """The ranking of runs on the same test images. `sets` has at most one element."""
    keys, common, ignored = _differing(rows)
    scored = [row for row in rows if row.status in GOOD and row.watched is not None]
    by_validation = bool(scored) and all(row.validation is not None for row in scored)
    by_loss = by_validation and smallest_loss
    watched = _validation if by_validation else _test
    scored = [row for row in scored if watched(row) is not None]
    members: dict[tuple[str, str], dict[Any, list[Row]]] = {}
    for row in scored:
        label = json.dumps({key: row.values.get(key) for key in keys if key != SEED}, default=str)
        same = members.setdefault((row.status, label), {})
        same.setdefault(row.values.get(SEED), []).append(row)
    groups, again = [], {}
    for found in members.values():  # the same seed again is no second sample
        group = _group([rows[0] for rows in found.values()], keys, watched, by_loss)
        groups.append(group)
        others = [row for rows in found.values() for row in rows[1:]]
        again[group.rows[0].path] = [replace(_group([row], keys, watched, by_loss), again=True) for row in others]
    groups.sort(key=lambda group: (group.status == PRUNED, group.sample.mean if by_loss else -group.sample.mean))
    placed = [each for group in _ranked(groups, by_loss) for each in (group, *again[group.rows[0].path])]
    ranked_by = LOSS if by_loss else "validation accuracy" if by_validation else "test accuracy"
    title = sets[0].title if sets else None
    images = sets[0] if sets else None
    return replace(
        Ranking(tuple(keys), ranked_by, tuple(placed), tuple(rows), common, ignored), title=title, evaluated_on=images
    )


def differing(configs: Sequence[Mapping[str, Any]]) -> tuple[list[str], dict[str, Any]]:
    """The dotted keys whose values differ, in the config's order with the seed last, and the values that are shared.

    Left out are keys that only some have and that follow from the choice of their group, as sgd's momentum of 0 does.
    """
    seen: dict[str, dict[str, Any]] = {}
    for values in configs:
        for key, value in values.items():
            seen.setdefault(key, {})[text(value)] = value
    keys = [key for key, values in seen.items() if len(values) > 1 and key not in DATA_SOURCE_KEYS]
    keys = [key for key in keys if not _follows(key, keys, configs)]
    read = [values for values in configs if values]
    shared = [key for key, values in seen.items() if len(values) == 1 and all(key in config for config in read)]
    common = {key: next(iter(seen[key].values())) for key in shared if key not in DATA_SOURCE_KEYS}
    return sorted(keys, key=lambda key: key == SEED), common


def _follows(key: str, keys: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether only some have a key, and its value is told by the name of its group, which differs too."""
    name = f"{key.rpartition('.')[0]}.name"
    if name == key or name not in keys or all(key in values for values in configs if values):
        return False
    told: dict[str, str] = {}
    return all(
        told.setdefault(values[name], text(values[key])) == text(values[key]) for values in configs if key in values
    )


def _test(row: Row) -> Score | None:
    return row.test


def _validation(row: Row) -> Score | None:
    return row.validation


def _group(rows: list[Row], keys: Sequence[str], watched: Callable[[Row], Score | None], by_loss: bool) -> Group:
    scores = [score for score in map(watched, rows) if score is not None]
    return Group(
        values={key: rows[0].values[key] for key in keys if key != SEED and key in rows[0].values},
        rows=tuple(rows),
        sample=sample([score.loss if by_loss else score.accuracy for score in scores]),
        test_accuracy=_sample_of([row.test.accuracy for row in rows if row.test]),
        test_loss=_sample_of([row.test.loss for row in rows if row.test]),
        validation_accuracy=_sample_of([row.validation.accuracy for row in rows if row.validation]),
        validation_loss=_sample_of([row.validation.loss for row in rows if row.validation]),
        seconds=_sample_of([row.seconds for row in rows if row.seconds is not None]),
        ece=_sample_of([row.ece for row in rows if row.ece is not None]),
        brier=_sample_of([row.brier for row in rows if row.brier is not None]),
        images=min(score.samples for score in scores),
    )


def _sample_of(numbers: list[float]) -> Sample | None:
    return sample(numbers) if numbers else None


def _ranked(groups: Sequence[Group], by_loss: bool) -> list[Group]:
    """The groups with their ranks, and the mark of those that are not told apart from the one before."""
    marked: list[Group] = []
    for group in groups:
        if group.status == PRUNED:
            marked.append(group)
            continue
        before = marked[-1] if marked else None
        alike = before is not None and not _told_apart(before, group, by_loss)
        marked.append(replace(group, rank=len(marked) + 1, like_the_one_before=alike))
    return marked


def _told_apart(first: Group, second: Group, by_loss: bool) -> bool:
    images = None if by_loss else min(first.images, second.images)
    return differ(first.sample, second.sample, images)


def sorted_by(ranking: Ranking, key: str) -> Ranking:
    """The same answer with its groups in the order of one column: a varied key, accuracy, loss or seconds.

    Ranks stay, and pruned groups come last. Errors: KeyError.
    """
    columns: dict[str, Callable[[Group], Sample | None]] = {
        "validation_accuracy": lambda group: group.validation_accuracy,
        "test_accuracy": lambda group: group.test_accuracy,
        "validation_loss": lambda group: group.validation_loss,
        "test_loss": lambda group: group.test_loss,
        "seconds": lambda group: group.seconds,
        "ece": lambda group: group.ece,
        "brier": lambda group: group.brier,
    }
    if key in columns:
        column, sign = columns[key], -1 if key.endswith("accuracy") else 1

        def value(group: Group) -> Any:
            found = column(group)
            return found is None, 0.0 if found is None else sign * found.mean

    elif key in ranking.varied:

        def value(group: Group) -> Any:
            return order(group.rows[0].values.get(key))

    else:
        raise KeyError(", ".join([*ranking.varied, *columns]))

    def in_order(groups: Sequence[Group]) -> tuple[Group, ...]:
        return tuple(sorted(groups, key=lambda group: (group.rank is None, value(group))))

    parts = tuple(replace(part, groups=in_order(part.groups), order_key=key) for part in ranking.parts)
    groups = tuple(group for part in parts for group in part.groups) if parts else in_order(ranking.groups)
    return replace(ranking, groups=groups, order_key=key, parts=parts)


def ranked_rows(ranking: Ranking) -> list[tuple[int | None, Row]]:
    """Every run with its rank, in the order of the table. Runs that did not finish come last."""
    places, last = ranking.places, (len(ranking.groups), None)
    rows = sorted(ranking.rows, key=lambda row: places.get(row.path, last)[0])
    return [(places.get(row.path, last)[1], row) for row in rows]


def order(value: Any) -> tuple[int, float, str]:
    """A key to sort any config values by: numbers by size, then lists by their numbers, all else by its text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, float(value), ""
    if isinstance(value, list | tuple):
        return 1, 0.0, ",".join(f"{text(item):>20}" for item in value)
    return (1, 0.0, text(value)) if value is not None else (2, 0.0, "")


def brief(value: Any) -> str:
    """A config value for tables and pictures: floats to four digits, as a search draws them with sixteen."""
    return f"{value:.4g}" if isinstance(value, float) else text(value)


def text(value: Any) -> str:
    """A config value as people type it: [500,300], 1e-05, true, null."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text, value))}]"
    return str(value)
