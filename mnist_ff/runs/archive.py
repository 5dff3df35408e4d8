"""Write run directories to one archive, .zip or .tar.zst. It is complete or absent, and verified after writing."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mnist_ff.errors import ConfigError, RunError
from mnist_ff.files import replacing
from mnist_ff.runs.reading import is_taken

ZIP, ZSTD = ".zip", ".tar.zst"
EPOCH_1980 = (1980, 1, 1, 0, 0, 0)
"""Modification time of every file in an archive, so that equal runs give equal archives."""
CHUNK_BYTES = 1 << 20
"""Bytes that are read at a time."""


def check_archive(target: Path) -> None:
    """Check the path of a new archive.

    Errors: ConfigError for an unknown suffix, a missing module, a missing folder, or a file that exists.
    """
    if not target.name.endswith((ZIP, ZSTD)) or target.name in (ZIP, ZSTD):
        raise ConfigError(f"{target}: an archive's name ends with {ZIP} or {ZSTD}, such as runs{ZIP}")
    if target.name.endswith(ZSTD):
        _check_zstd(target)
    try:
        os.lstat(target)
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name that is too long
        raise ConfigError(f"{target}: {error.strerror}; choose another name") from None
    else:
        raise ConfigError(f"{target}: already exists; choose another name")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: folder {target.parent} does not exist")


def _open_zstd(target: Path, mode: str) -> Any:
    """Open a zstd file for reading or writing, with Python's module from 3.14 on, else with the package zstandard.

    Errors: ConfigError if zstandard is needed and not installed.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.open(target, mode)
    _check_zstd(target)
    import zstandard

    return zstandard.open(target, mode)


def _check_zstd(target: Path) -> None:
    if sys.version_info < (3, 14) and not _has_zstandard():
        raise ConfigError(
            f"{target}: needs zstandard, which is not installed: pip install 'mnist-ff[zstd]'; or use a name with {ZIP}"
        )


def _has_zstandard() -> bool:
    return importlib.util.find_spec("zstandard") is not None


def write_archive(target: Path, folder: Path) -> dict[str, str]:
    """Pack all files of a folder, with relative paths, and return the SHA-256 of each file by its path.

    The archive is read back and compared before it gets its name.
    Errors: ConfigError if the archive exists, or for a file name that is not portable; RunError if it cannot be written
    or differs when read back.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    odd = next((name for name in files if "\\" in name or not name.isprintable()), None)
    if odd is not None:  # Windows reads a backslash as a folder separator
        raise ConfigError(f"{odd!r}: this name does not work on every system; rename the file")
    sums = {name: _sum(path.open("rb")) for name, path in files.items()}
    try:
        with _new_file(target) as temporary:
            (_pack_zip if target.name.endswith(ZIP) else _pack_tar)(temporary, files)
            if _read_back(temporary, target.name.endswith(ZIP)) != sums:
                raise RunError(f"{target}: read back with other content; check the disk and try again")
    except FileExistsError:
        raise ConfigError(f"{target}: already exists; choose another name") from None
    except OSError as error:
        raise RunError(f"{target}: {error.strerror or error}") from None
    return sums


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """A temporary file that is renamed to `target` at the end.

    Errors: FileExistsError if `target` exists by then; OSError.
    """
    whole = target.with_name(f".{target.name[:80]}.part")
    with replacing(whole) as temporary:
        yield temporary
    try:
        os.link(whole, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if is_taken(target):
            raise FileExistsError from None
        os.rename(whole, target)
    finally:
        whole.unlink(missing_ok=True)


def _pack_zip(target: Path, files: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, EPOCH_1980)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as inner:
                _copy(source, inner)


def _pack_tar(target: Path, files: Mapping[str, Path]) -> None:
    with _open_zstd(target, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as source:
                archive.addfile(entry, source)


def _read_back(target: Path, zipped: bool) -> dict[str, str]:
    """The SHA-256 of each file in an archive."""
    if zipped:
        with zipfile.ZipFile(target) as archive:
            return {name: _sum(archive.open(name)) for name in archive.namelist()}
    found = {}
    with _open_zstd(target, "rb") as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
        for entry in tar:
            inner = tar.extractfile(entry)
            assert inner is not None
            found[entry.name] = _sum(inner)
    return found


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while piece := source.read(CHUNK_BYTES):
        target.write(piece)


def _sum(file: IO[bytes]) -> str:
    total = hashlib.sha256()
    with file:
        while piece := file.read(CHUNK_BYTES):
            total.update(piece)
    return total.hexdigest()
