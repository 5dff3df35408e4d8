"""Several run directories as one file for others, .zip or .tar.zst: whole or absent, and verified after writing."""

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
"""The time of every file in an archive: equal runs give equal archives, and nobody's clock is told."""
PIECE_BYTES = 1 << 20


def check_archive(place: Path) -> None:
    """Errors: ConfigError for an ending that is none of ours, a module that is not installed, a file in its place."""
    if not place.name.endswith((ZIP, ZSTD)) or place.name in (ZIP, ZSTD):
        raise ConfigError(f"{place}: an archive's name ends with {ZIP} or {ZSTD}, such as runs{ZIP}")
    if place.name.endswith(ZSTD):
        _check_zstd(place)
    try:
        os.lstat(place)
    except FileNotFoundError:
        pass
    except OSError as error:  # too long a name, say
        raise ConfigError(f"{place}: {error.strerror}; choose another name") from None
    else:
        raise ConfigError(f"{place}: already exists; choose another name")
    if not place.parent.is_dir():
        raise ConfigError(f"{place}: folder {place.parent} does not exist")


def _open_zstd(place: Path, mode: str) -> Any:
    """A file of zstd, open to write or read what is packed in it: by Python's own module from 3.14 on, else by the
    package zstandard. Errors: ConfigError where there is neither.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.open(place, mode)
    _check_zstd(place)
    import zstandard

    return zstandard.open(place, mode)


def _check_zstd(place: Path) -> None:
    if sys.version_info < (3, 14) and not _has_zstandard():
        raise ConfigError(
            f"{place}: needs zstandard, which is not installed: pip install 'mnist-ff[zstd]'; or use a name with {ZIP}"
        )


def _has_zstandard() -> bool:
    return importlib.util.find_spec("zstandard") is not None


def write_archive(place: Path, folder: Path) -> dict[str, str]:
    """Pack everything in a folder, with paths below it, and return the SHA-256 of each file by its path.

    What was written is read again and compared before the file gets its name.
    Errors: ConfigError where there is a file already, and for a name that another system reads otherwise; RunError
    where it cannot be written or differs.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    odd = next((name for name in files if "\\" in name or not name.isprintable()), None)
    if odd is not None:  # on another system a backslash leads into another folder
        raise ConfigError(f"{odd!r}: cannot be the name of a file for others; rename it")
    sums = {name: _sum(path.open("rb")) for name, path in files.items()}
    try:
        with _new_file(place) as temporary:
            (_pack_zip if place.name.endswith(ZIP) else _pack_tar)(temporary, files)
            if _read_back(temporary, place.name.endswith(ZIP)) != sums:
                raise RunError(f"{place}: read back with other content; check the disk and try again")
    except FileExistsError:
        raise ConfigError(f"{place}: already exists; choose another name") from None
    except OSError as error:
        raise RunError(f"{place}: {error.strerror or error}") from None
    return sums


@contextmanager
def _new_file(place: Path) -> Iterator[Path]:
    """A temporary file that gets its name at the end, unless another one has got it by then. Errors: OSError."""
    whole = place.with_name(f".{place.name[:80]}.part")
    with replacing(whole) as temporary:
        yield temporary
    try:
        os.link(whole, place)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if is_taken(place):
            raise FileExistsError from None
        os.rename(whole, place)
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


def _read_back(place: Path, zipped: bool) -> dict[str, str]:
    """The SHA-256 of each file in an archive."""
    if zipped:
        with zipfile.ZipFile(place) as archive:
            return {name: _sum(archive.open(name)) for name in archive.namelist()}
    found = {}
    with _open_zstd(place, "rb") as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
        for entry in tar:
            inner = tar.extractfile(entry)
            assert inner is not None
            found[entry.name] = _sum(inner)
    return found


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while piece := source.read(PIECE_BYTES):
        target.write(piece)


def _sum(file: IO[bytes]) -> str:
    total = hashlib.sha256()
    with file:
        while piece := file.read(PIECE_BYTES):
            total.update(piece)
    return total.hexdigest()
