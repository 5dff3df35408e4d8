"""Replace the names in `trainer.teacher=NAME,...` by the paths of the runs, before the config is composed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mnist_ff.analysis.console import note
from mnist_ff.config.overrides import key_of, quoted, without_quotes
from mnist_ff.config.paths import expanded
from mnist_ff.errors import BadRunError
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.resolve import resolve_run

KEY = "trainer.teacher"
ITEM = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^'",()\[\]{}$]+?)\s*(?:,|$)""")
"""One of the values of a sweep, with quotes or without any character that is special to Hydra."""
CHOICE = re.compile(r"choice\((.*)\)")


def with_teacher(overrides: Sequence[str], root: Path = OUTPUTS) -> list[str]:
    """The overrides, with a teacher's name, `last` or `best` replaced by the path of that run; of a sweep over several
    teachers each of them.

    Interpolations, other values of Hydra's grammar and names of no run are kept as they are.
    """
    return [_resolved(text, root) if key_of(text).lstrip("+") == KEY else text for text in overrides]


def _resolved(override: str, root: Path) -> str:
    key, _, value = override.partition("=")
    chosen = CHOICE.fullmatch(value)
    items = _items(value if chosen is None else chosen[1])
    paths = ",".join(_path(item, root) for item in items)
    if not items or paths == ",".join(items):
        return override
    return f"{key}={paths}" if chosen is None else f"{key}=choice({paths})"


def _items(value: str) -> list[str]:
    """The values that a text with commas lists; none where it is no such list."""
    found = list(ITEM.finditer(value))
    is_whole = "".join(item[0] for item in found) == value and not value.endswith(",")
    return [item[1] for item in found] if is_whole else []


def _path(item: str, root: Path) -> str:
    """The path of the run that a value names, in quotes; the value itself where it is a path, or names no run."""
    word = without_quotes(item)
    if word in ("", "null") or re.search(r"[(\[{$]", word):
        return item
    try:
        path = resolve_run(expanded(KEY, word), note, root)
    except BadRunError:  # the checks of the config report it later
        return item
    return item if str(path) == word else quoted(str(path))
