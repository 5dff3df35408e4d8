"""A ranking as JSON values, for sweep.json and compare --json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mnist_ff.analysis.labels import group_labels
from mnist_ff.analysis.ranking import Group, Ranking, ranked_rows
from mnist_ff.analysis.rows import Row
from mnist_ff.analysis.statistics import Sample
from mnist_ff.runs.records import Score
from mnist_ff.runs.search_result import SearchResult

CALIBRATION = ("ece", "brier")
SAMPLES = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss", "seconds", *CALIBRATION)


def to_json(ranking: Ranking, search_result: SearchResult | None = None) -> dict[str, Any]:
    """The whole ranking. `ece` and `brier` are null of rows without them; with_calibration() adds them to a row."""
    labels = group_labels(ranking)
    tables = _table_of_each_run(ranking)
    groups = [
        {**_group_json(group), "label": label, "table": tables[group.rows[0].path]}
        for group, label in zip(ranking.groups, labels, strict=True)
    ]
    return {
        **({} if search_result is None else {"search": asdict(search_result)}),
        "ranked_by": ranking.ranked_by,
        **({} if ranking.order_key is None else {"sorted_by": ranking.order_key}),
        "keys": list(ranking.keys),
        "ignored_keys": list(ranking.ignored),
        "counts": ranking.counts,
        "common": ranking.common,
        "tables": [_table_json(table) for table in ranking.tables],
        "groups": groups,
        "runs": [
            {**_run_json(row, rank, ranking.keys), "table": tables.get(row.path)} for rank, row in ranked_rows(ranking)
        ],
    }


def _table_of_each_run(ranking: Ranking) -> dict[Any, int]:
    """The index in `tables` of each run's table, by the run's path."""
    return {row.path: number for number, table in enumerate(ranking.tables) for row in table.rows}


def _table_json(table: Ranking) -> dict[str, Any]:
    images = table.evaluated_on
    return {
        "title": table.title,
        "test_images": None if images is None else {**asdict(images), "keys": dict(images.keys)},
        "ranked_by": table.ranked_by,
        "keys": list(table.keys),
        "counts": table.counts,
    }


def _run_json(row: Row, rank: int | None, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "run": row.label,
        "name": row.name,
        "rank": rank,
        "status": row.status,
        "reason": row.reason,
        "values": {key: row.values[key] for key in keys if key in row.values},
        "validation": _score_json(row.validation),
        "test": _score_json(row.test),
        "epochs": row.epochs,
        "seconds": row.seconds,
        **{name: getattr(row, name) for name in CALIBRATION},
    }


def _group_json(group: Group) -> dict[str, Any]:
    samples = {name: getattr(group, name) for name in SAMPLES}
    return {
        "rank": group.rank,
        "status": group.status,
        "same_seed_again": group.again,
        "within_noise_of_the_one_before": group.like_the_one_before,
        "values": group.values,
        "n": group.sample.n,
        **{name: None if found is None else sample_json(found) for name, found in samples.items()},
        "runs": [row.label for row in group.rows],
    }


def sample_json(found: Sample) -> dict[str, Any]:
    """A mean with its standard deviation, interval and number of runs."""
    interval = None if found.half is None else [found.mean - found.half, found.mean + found.half]
    return {"mean": found.mean, "std": found.std, "interval_95": interval, "n": found.n}


def _score_json(score: Score | None) -> dict[str, Any] | None:
    return None if score is None else {"accuracy": score.accuracy, "loss": score.loss, "samples": score.samples}
