"""Decoded pictures, kept in the cache folder: a thousand photographs take a minute to prepare and a moment to read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mnist_ff.config.schema import FileDataConfig
from mnist_ff.data.cache import METADATA_KEY, read_header
from mnist_ff.data.catalog import cache_root
from mnist_ff.data.formats.checks import checked
from mnist_ff.data.formats.contents import Contents, Found
from mnist_ff.data.formats.folder import Pictures, Reading, list_pictures, names_in, read_folder, title_of
from mnist_ff.errors import ConfigError
from mnist_ff.files import replacing

VERSION = 1
"""Version of how pictures are decoded. Caches of other versions are not used."""


def decoded_folder(root: Path, reading: Reading, config: FileDataConfig) -> Contents:
    """A folder's pictures, from the cache where they are as they were. Errors: OwnDataError."""
    pictures = list_pictures(root, reading)
    place, state = _place(root, reading, config), _state(root, pictures.files, reading)
    kept = None if place is None else _kept(place, state, pictures, root)
    if kept is not None:
        return kept
    contents = checked(read_folder(root, pictures, reading))
    if place is not None:
        header = {"state": state, "sums": dict(contents.sums)}
        with suppress(OSError):  # a cache that cannot be written costs time, not data
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as temporary:
                save_file(dict(contents.arrays), temporary, metadata={METADATA_KEY: json.dumps(header)})
    return contents


def _place(root: Path, reading: Reading, config: FileDataConfig) -> Path | None:
    """One file for each folder and way to read it, so that a changed folder replaces its own; None without a home."""
    words = json.dumps([str(root.absolute()), *map(str, dataclasses.astuple(reading))])
    with suppress(ConfigError):
        return cache_root(config) / f"folder-{hashlib.sha256(words.encode()).hexdigest()[:16]}.safetensors"
    return None


def _state(root: Path, files: Sequence[Path], reading: Reading) -> str:
    """A sum over names, sizes and times: it changes when a file does."""
    digest = hashlib.sha256(f"{VERSION} {reading}".encode())
    for path in files:
        status = path.stat()
        line = f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _kept(place: Path, state: str, pictures: Pictures, root: Path) -> Contents | None:
    """What the cache holds of these files, checked again; None where it holds others, or is damaged."""
    header = read_header(place)
    if header.get("state") != state:
        return None
    try:
        with safe_open(place, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        contents = checked(Found(title_of(root), arrays, names_in(pictures, root), pictures.classes))
    except (SafetensorError, OSError, KeyError, ValueError, ConfigError):
        return None
    return contents if header.get("sums") == contents.sums else None
