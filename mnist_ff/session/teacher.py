"""Replace the name in `trainer.teacher=NAME` by the path of the run, before the config is composed."""

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


def with_teacher(overrides: Sequence[str], root: Path = OUTPUTS) -> list[str]:
    """The overrides, with a teacher's name, `last` or `best` replaced by the path of that run.

    Several values, interpolations and names of no run are kept as they are.
    """
    return [_resolved(text, root) if key_of(text).lstrip("+") == KEY else text for text in overrides]


def _resolved(override: str, root: Path) -> str:
    key, _, value = override.partition("=")
    word = without_quotes(value)
    if word in ("", "null") or re.search(r"[,(\[{$]", word):
        return override
    try:
        path = resolve_run(expanded(KEY, word), note, root)
    except BadRunError:  # the checks of the config report it later
        return override
    return override if str(path) == word else f"{key}={quoted(str(path))}"
