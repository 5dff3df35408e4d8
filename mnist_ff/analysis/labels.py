"""Short, unique labels for the rows of a ranking, for tables, legends and sentences."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_ff.analysis.ranking import Group, Ranking, brief
from mnist_ff.analysis.rows import Row
from mnist_ff.errors import printable

MAX_KEYS = 3
"""A label is made of the values of at most this many keys."""
FEW_GROUPS = 8
"""Up to this many groups, names are shown even if all are the same."""
MAX_PATHS = 5
"""A group of at most this many runs is written with all their paths."""
BRACES = set("{}, '\"\\$*?[]()&;|<>!#~`")
"""Characters that are special to a shell within a brace expansion."""


def group_labels(ranking: Ranking) -> list[str]:
    """A label for each group: its name, else the values of the keys that differ, else its path."""
    by_name = named(ranking)
    labels = [(_names(group) if by_name else None) or _by_values(group.values, ranking) or _place(group)
              for group in ranking.groups]  # fmt: skip
    return numbered(labels, [group.rows[0].path for group in ranking.groups])


def run_labels(ranking: Ranking) -> dict[Path, str]:
    """A label for each run: its group's label, with the seed if the group has several runs. See group_labels()."""
    found: list[tuple[Row, str]] = []
    for group, label in zip(ranking.groups, group_labels(ranking), strict=True):
        several = len(group.rows) > 1
        found += [(row, f"{label} seed={row.values.get('seed')}" if several else label) for row in group.rows]
    known = {row.path for row, _ in found}
    for row in ranking.rows:
        if row.path not in known:
            found.append((row, (row.name if named(ranking) else None) or _by_values(row.values, ranking) or row.label))
    paths = [row.path for row, _ in found]
    return dict(zip(paths, numbered([label for _, label in found], paths), strict=True))


def named(ranking: Ranking) -> bool:
    """Whether labels are the runs' names: not if all settings of a sweep share one name."""
    names = {row.name for group in ranking.groups for row in group.rows}
    told_by_values = len(ranking.groups) > 1 and 0 < len(ranking.varied) <= MAX_KEYS
    return names != {None} and bool(names) and not (len(names) == 1 and told_by_values)


def has_names(ranking: Ranking) -> bool:
    """Whether a table has a column for names: not if many settings all share one name."""
    few = len(ranking.groups) <= FEW_GROUPS
    return named(ranking) or (few and any(row.name for group in ranking.groups for row in group.rows))


def _names(group: Group) -> str | None:
    names = list(dict.fromkeys(row.name for row in group.rows if row.name is not None))
    return None if not names else ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


def _by_values(values: Mapping[str, Any], ranking: Ranking) -> str | None:
    keys = [key for key in ranking.varied if key in values and key != "name"]
    if not keys or len(keys) > MAX_KEYS:
        return None
    return printable(" ".join(f"{key}={brief(values[key])}" for key in keys))


def _place(group: Group) -> str:
    return path_text([row.label for row in group.rows])


def numbered(labels: Sequence[str], order: Sequence[Any]) -> list[str]:
    """The labels, with (1), (2), ... appended to those that occur more than once, counted in the order of `order`."""
    count, taken = Counter(labels), set(labels)
    made = list(labels)
    number: Counter[Hashable] = Counter()
    for index in sorted(range(len(labels)), key=lambda index: str(order[index])):
        label = labels[index]
        if count[label] > 1:
            number[label] += 1
            while (shown := f"{label} ({number[label]})") in taken:
                number[label] += 1
            made[index] = shown
            taken.add(shown)
    return made


def path_text(labels: Sequence[str]) -> str:
    """The paths of a group's runs: "0 1 2", or in a common folder "sweep/{0,1,2}", which a shell expands."""
    if len(labels) == 1:
        return labels[0]
    parents = {os.path.dirname(label) for label in labels}
    names = [os.path.basename(label) for label in labels]
    (parent,) = parents if len(parents) == 1 else ("",)
    if not parent or any(BRACES & set(name) for name in names):
        return " ".join(_some(labels))
    return f"{parent}/{{{','.join(_some(names))}}}"


def _some(names: Sequence[str]) -> Iterable[str]:
    """The names, or the first two and the last of more than MAX_PATHS."""
    return names if len(names) <= MAX_PATHS else (*names[:2], "…", names[-1])
