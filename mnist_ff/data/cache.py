"""Header of a cache file: image counts and source hashes. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

METADATA_KEY = "mnist_ff"


def read_header(path: Path) -> dict[str, Any]:
    """The name, content and source sums of a cache file; empty where there is no readable one."""
    try:
        with safe_open(path, "np") as file:
            header = json.loads((file.metadata() or {})[METADATA_KEY])
    except (SafetensorError, OSError, KeyError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def source_sums(path: Path) -> dict[str, str]:
    """The SHA-256 of each file that a cache file was decoded from."""
    sums = read_header(path).get("sources", {})
    return sums if isinstance(sums, dict) else {}


def read_counts(path: Path) -> tuple[int, int] | None:
    """Training and test labels in a cache file, or None where it is not readable."""
    try:
        with safe_open(path, "np") as file:
            train, test = (file.get_slice(f"{part}_labels").get_shape()[0] for part in ("train", "test"))
    except (SafetensorError, OSError):
        return None
    return train, test
