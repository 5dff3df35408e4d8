"""What a run recorded of its data in environment.json: numbers of images and sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_ff.runs.directory import Run
from mnist_ff.runs.reading import is_taken

MOST_IMAGES = 1 << 40


def recorded_images(run: Run, part: str) -> int | None:
    """Images of `train`, `validation` or `test`; None where the run does not say. Errors: BadRunError."""
    images = _data(run).get("images")
    count = images.get(part) if isinstance(images, dict) else None
    return count if type(count) is int and 0 <= count <= MOST_IMAGES else None


def changed_parts(run: Run, sums: Mapping[str, str]) -> list[str]:
    """Which parts of the data are not what the run was trained with, by their SHA-256; none where either is not known.

    Errors: BadRunError.
    """
    before = _data(run).get("sha256")
    if not isinstance(before, dict) or not before:
        return []
    return [name for name, digest in sums.items() if before.get(name) != digest]


def _data(run: Run) -> dict[str, Any]:
    if not is_taken(run.file("environment.json")):
        return {}
    found = run.environment().get("data")
    return found if isinstance(found, dict) else {}
