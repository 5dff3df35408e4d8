"""Cache files: image counts and source hashes in their headers, and rows of numbers decoded once. No torch."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from mnist_ff.files import write_bytes

if TYPE_CHECKING:
    import numpy as np

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


def kept_rows(path: Path, source: str) -> np.ndarray | None:
    """The rows that keep_rows() wrote of this source, or None where there are none of it, or they are damaged."""
    header = read_header(path)
    if header.get("source") != source:
        return None
    try:
        with safe_open(path, "np") as file:
            rows: np.ndarray = file.get_tensor("rows")
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return rows if hashlib.sha256(rows.data).hexdigest() == header.get("content") else None


def keep_rows(path: Path, source: str, rows: np.ndarray) -> None:
    """Keep rows with the SHA-256 of the file that they were decoded from, if the folder can be written."""
    from safetensors.numpy import save

    header = {"source": source, "content": hashlib.sha256(rows.data).hexdigest()}
    with suppress(OSError):  # a cache that cannot be written costs time, not data
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save({"rows": rows}, metadata={METADATA_KEY: json.dumps(header)}))
