"""Downloadable data sets: read from the cache, or downloaded once by one process."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mnist_ff.config.paths import expanded
from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data import catalog
from mnist_ff.data.cache import METADATA_KEY, read_header
from mnist_ff.data.catalog import SourceFile
from mnist_ff.data.fetch import fetch
from mnist_ff.errors import DataError
from mnist_ff.files import write_bytes
from mnist_ff.runs.start_up import waiting_for

LOCK_WAIT_S = 0.3
"""Seconds to wait for another process before a message says so."""
TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
"""The tensors of a data set, in the order of its digest."""


class UnavailableError(DataError):
    """No mirror had the data set."""


def downloaded(config: DownloadConfig) -> dict[str, torch.Tensor]:
    """The four uint8 tensors of a downloadable data set, which is cached. Errors: DataError."""
    path = catalog.cache_file(config)
    files = catalog.data_set(config.name).files
    cached = _cached(path, files)
    if cached is not None:
        return cached
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{config.name}.lock"), config):
            return _cached(path, files) or _fetch_to(path, config)
    except OSError as error:
        raise DataError(f"{path.parent}: {error.strerror or error}; choose another folder with data.root=") from None


@contextmanager
def _locked(path: Path, config: DownloadConfig) -> Iterator[None]:
    """Lock a data set's files for the block, with a message if another process holds the lock. Errors: OSError."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_WAIT_S)
    except Timeout:
        waiting_for(f"{config.cached_as}: another process is downloading it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch_to(path: Path, config: DownloadConfig) -> dict[str, torch.Tensor]:
    front = os.environ.get("MNIST_FF_MIRROR")
    mirrors = [*([expanded("MNIST_FF_MIRROR", front)] if front else []), *config.mirrors]
    described = catalog.data_set(config.name)
    files = described.files if described.archive is None else described.archive(config).files
    size = sum(file.size for file in files) / 1e6
    waiting_for(f"{config.cached_as}: not in {path.parent} yet; downloading it once ({size:,.0f} MB unpacked)")
    try:
        tensors, sums = fetch(config, mirrors, path.parent)
    except DataError as error:
        raise UnavailableError(str(error)) from None
    header = {"sources": sums, "content": _digest(tensors), "name": config.cached_as}
    write_bytes(path, save(tensors, metadata={METADATA_KEY: json.dumps(header)}))
    return tensors


def _cached(path: Path, files: tuple[SourceFile, ...]) -> dict[str, torch.Tensor] | None:
    """The tensors in the cache. None if there is no cache or its content does not match its header."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _read_cache(path, files, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)
def _read_cache(path: Path, files: tuple[SourceFile, ...], changed: int, size: int) -> dict[str, torch.Tensor] | None:
    # `changed` and `size` are part of the cache's key: a second job reuses the tensors of an unchanged file
    header = read_header(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    good = header.get("name") == path.stem and header.get("content") == _digest(tensors)
    return tensors if good and _from_known_files(header, files) else None


def _from_known_files(header: dict[str, Any], files: tuple[SourceFile, ...]) -> bool:
    """Whether a cache was decoded from files with the known SHA-256."""
    sums = header.get("sources")
    return isinstance(sums, dict) and all(file.sha256 in (None, sums.get(file.name)) for file in files)


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """The SHA-256 of the four tensors in the order of TENSORS."""
    digest = hashlib.sha256()
    for name in TENSORS:
        digest.update(tensors[name].numpy().data)  # without a copy of 47 MB
    return digest.hexdigest()
