"""What a run recorded of its data in environment.json, beside the data as it is now."""

from __future__ import annotations

from collections.abc import Mapping

from mnist_ff.runs.directory import Run
from mnist_ff.runs.reading import is_taken


def changed_parts(run: Run, sums: Mapping[str, str]) -> list[str]:
    """Which parts of the data are not what the run was trained with, by their SHA-256; none where either is not known.

    Errors: BadRunError.
    """
    if not is_taken(run.file("environment.json")):
        return []
    data = run.environment().get("data")
    before = data.get("sha256") if isinstance(data, dict) else None
    if not isinstance(before, dict) or not before:
        return []
    return [name for name, digest in sums.items() if before.get(name) != digest]
