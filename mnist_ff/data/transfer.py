"""Bring one file from a mirror: by network or from a folder, with limits and sums."""

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

SILENCE_TIMEOUT_S = 30.0
"""A server that sends nothing for so long is given up."""
CHUNK_BYTES = 1 << 16


def otherwise(found: str, known: str | None) -> str | None:
    """What is wrong with a file of this SHA-256 where another one is known."""
    if known is None or found == known:
        return None
    return f"wrong content (SHA-256 {found[:12]}..., not {known[:12]}...)"


def reason(error: Exception) -> str:
    """Why a source gave nothing, in words that follow its name."""
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
    """A file of a mirror, which is a URL or a folder. Errors: OSError, ValueError, HTTPException."""
    if "://" not in place:
        with (Path(expanded("data.mirrors", place)) / name).open("rb") as file:
            yield file
        return
    if not place.startswith(("http://", "https://", "file://")):
        raise ValueError("only http, https and file URLs are supported")
    opener = urllib.request.build_opener(_SameSchemeOrSafer)
    request = urllib.request.Request(place + name, headers={"User-Agent": "mnist-ff"})
    with opener.open(request, timeout=SILENCE_TIMEOUT_S) as answer:
        yield answer


def copy(source: IO[bytes], target: Path, limit: int) -> str:
    """Copy at most `limit` bytes and return their SHA-256; a terminal shows how far a download is."""
    digest, total = hashlib.sha256(), 0
    expected = getattr(source, "length", None)
    bar = shown(target.name, expected) if hasattr(source, "length") else nullcontext(None)  # a mirror's folder is quick
    with bar as here, target.open("wb") as file:
        while block := source.read(CHUNK_BYTES):
            total += len(block)
            if here is not None:
                here(total)
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
    """Decompress an IDX file, never past the size that it must have; return the content's SHA-256."""
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
