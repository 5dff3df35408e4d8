"""A zip file with the IDX files of several data sets: fetched once, checked, and kept beside the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path

from mnist_ff.data.catalog import Archive
from mnist_ff.data.transfer import copy, opened, reason, unpack
from mnist_ff.errors import DataError

MOST_BYTES = 1 << 30
"""Of an archive; EMNIST's has 562 MB."""
SLACK_BYTES = 1 << 20
"""A compressed file may be that much longer than its content."""


def fetch_archive(archive: Archive, md5: str, place: str, raw: Path, scratch: Path) -> str:
    """Leave the archive's IDX files of one data set in `raw`, and return the archive's SHA-256.

    The archive is kept in `scratch`, as the other data sets in it need it too. Errors: DataError naming the source.
    """
    kept, source = scratch / archive.kept_as, f"{place}{archive.name}"
    if not _is(kept, md5):
        fresh = raw / archive.name
        try:
            with opened(place, archive.name) as stream:
                copy(stream, fresh, limit=MOST_BYTES)
        except (OSError, HTTPException, ValueError) as error:
            raise DataError(f"{source}: {reason(error)}") from None
        found = _sum(fresh, "md5")
        if found != md5:
            raise DataError(f"{source}: wrong content (MD5 {found[:12]}..., not {md5[:12]}...)")
        os.replace(fresh, kept)
    try:
        with zipfile.ZipFile(kept) as opened_archive:
            for file in archive.files:
                _extract(opened_archive, f"{archive.folder}{file.name}", raw / file.name)
                unpack(raw / file.name, raw / file.name.removesuffix(".gz"), file)
                (raw / file.name).unlink()
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{source}: {error}") from None
    return _sum(kept, "sha256")


def _is(path: Path, md5: str) -> bool:
    return path.is_file() and not path.is_symlink() and _sum(path, "md5") == md5


def _sum(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """One member, never past the size that it declares. Errors: KeyError, ValueError, BadZipFile."""
    info = archive.getinfo(member)
    if info.file_size > MOST_BYTES:
        raise ValueError(f"{member} is longer than {MOST_BYTES} bytes")
    with archive.open(info) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
