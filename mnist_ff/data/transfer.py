"""Copy one file from a mirror, a URL or a folder, with size limits and checksums."""

from __future__ import annotations

import gzip
import hashlib
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from mnist_ff.config.paths import expanded
from mnist_ff.data.catalog import SourceFile
from mnist_ff.data.idx_format import content
from mnist_ff.data.transfer_bar import shown

READ_TIMEOUT_S = 30.0
"""Seconds without data after which a download fails."""
CHUNK_BYTES = 1 << 16
"""Bytes that are read at once."""


def otherwise(found: str, known: str | None) -> str | None:
    """A message if a file's SHA-256 is not the known one, else None."""
    if known is None or found == known:
        return None
    return f"wrong content (SHA-256 {found[:12]}..., not {known[:12]}...)"


def reason(error: Exception) -> str:
    """Why a source failed, as text after its name."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error) or type(error).__name__


class _SameSchemeOrSafer(urllib.request.HTTPRedirectHandler):
    """Refuses a redirect from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError("redirected from https to an insecure address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def opened(place: str, name: str) -> Iterator[IO[bytes]]:
    """Open a file of a mirror, which is a URL or a folder. Errors: OSError, ValueError, HTTPException."""
    if "://" not in place:
        with (Path(expanded("data.mirrors", place)) / name).open("rb") as file:
            yield file
        return
    if not place.startswith(("http://", "https://", "file://")):
        raise ValueError("only http, https and file URLs are supported")
    opener = urllib.request.build_opener(_SameSchemeOrSafer)
    request = urllib.request.Request(place + name, headers={"User-Agent": "mnist-ff"})
    with opener.open(request, timeout=READ_TIMEOUT_S) as answer:
        yield answer


def copy(source: IO[bytes], target: Path, limit: int) -> str:
    """Copy at most `limit` bytes, with a progress bar for a download. Returns their SHA-256.

    Errors: OSError, ValueError.
    """
    digest, total = hashlib.sha256(), 0
    expected = getattr(source, "length", None)
    bar = shown(target.name, expected) if hasattr(source, "length") else nullcontext(None)  # none for a folder
    with bar as show_total, target.open("wb") as file:
        while block := source.read(CHUNK_BYTES):
            total += len(block)
            if show_total is not None:
                show_total(total)
            if total > limit:
                raise ValueError(f"longer than {limit} bytes")
            digest.update(block)
            file.write(block)
    if total == 0:
        raise ValueError("is empty")
    if expected is not None and total < expected:
        raise ValueError(f"ended after {total} of {expected} bytes")
    return digest.hexdigest()


def unpack(packed: Path, target: Path, file: SourceFile) -> str:
    """Decompress an IDX file, up to its known size. Returns the SHA-256 of its content. Errors: OSError, ValueError."""
    digest = hashlib.sha256()
    dimensions = len(file.shape)
    with gzip.open(packed, "rb") as source, target.open("wb") as out:
        header = source.read(4 * (1 + dimensions))
        words = struct.unpack(f">{1 + dimensions}I", header) if len(header) == 4 * (1 + dimensions) else ()
        if words != (file.magic, *file.shape):
            raise ValueError(f"its IDX header is not for {'x'.join(map(str, file.shape))} items")
        out.write(header)
        digest.update(header)
        for block in content(source, file.size - len(header)):
            out.write(block)
            digest.update(block)
    return digest.hexdigest()
