"""Download source files from mirrors, verify them, decode them with torchvision.

torchvision's own download() checks MD5 only, has no timeout and goes back from https to http, so the bytes are
brought here by us, from its addresses, and only its decoder reads them.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import struct
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mnist_ff.config.paths import expanded
from mnist_ff.data.catalog import DataSet, SourceFile, owner_of
from mnist_ff.data.idx_format import content
from mnist_ff.errors import DataError
from mnist_ff.files import remove_leftovers
from mnist_ff.runs.records import CLASSES

if TYPE_CHECKING:
    import torch

SILENCE_TIMEOUT_S = 30.0
"""A server that sends nothing for so long is given up."""
CHUNK_BYTES = 1 << 16
STAGING = ".staging"
LEFT = re.compile(rf"[a-z0-9_]{{8}}({re.escape(STAGING)})?")
"""How a staging folder's name ends; those of earlier versions have no suffix."""


def fetch(data_set: DataSet, mirrors: Sequence[str], scratch: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All images and labels of a data set as uint8 tensors, and the SHA-256 of each of its files.

    The tensors are `train_images` (N, 28, 28), `train_labels` (N,), `test_images`, `test_labels`; bytes travel
    through a temporary folder inside `scratch`.
    Errors: DataError listing each mirror with its reason.
    """
    _sweep(data_set, scratch)
    with tempfile.TemporaryDirectory(prefix=f".{data_set.name}.", suffix=STAGING, dir=scratch) as folder:
        root = Path(folder)
        raw = root / data_set.torchvision_class / "raw"
        raw.mkdir(parents=True)
        reasons: list[str] = []
        for mirror in [*mirrors, *_own_mirrors(data_set)]:
            try:
                sums = {file.name: _fetch_file(data_set, mirror, file, raw) for file in data_set.files}
                return _decode(data_set, root), sums
            except DataError as error:
                reasons.append(str(error))
    listed = "\n".join(f"  {reason}" for reason in reasons)
    names = " ".join(file.name for file in data_set.files)
    raise DataError(
        f"{data_set.title} could not be downloaded from any of {len(reasons)} sources:\n{listed}\n"
        f"To install it by hand, put {names} in a folder and set MNIST_FF_MIRROR to that folder."
    )


def _sweep(data_set: DataSet, scratch: Path) -> None:
    """Remove what killed downloads of this data set left. One process fetches it at a time, so that none is at work."""
    remove_leftovers(scratch, f".{data_set.name}.safetensors.*.tmp")
    for folder in scratch.glob(f".{data_set.name}.*"):
        made_here = LEFT.fullmatch(folder.name.removeprefix(f".{data_set.name}."))
        if made_here and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _own_mirrors(data_set: DataSet) -> list[str]:
    from torchvision import datasets

    torchvision_class = getattr(datasets, data_set.torchvision_class)
    if isinstance(torchvision_class.resources, dict):  # QMNIST's, by part and with whole URLs
        url = torchvision_class.resources["train"][0][0]
        return [url.rsplit("/", 1)[0] + "/"]
    return list(torchvision_class.mirrors)


def _fetch_file(data_set: DataSet, mirror: str, file: SourceFile, raw: Path) -> str:
    """Bring one file, check it, leave its decompressed form in `raw`, and return its SHA-256."""
    place = mirror if mirror.endswith("/") else f"{mirror}/"
    packed = raw / file.name
    try:
        with _opened(place, file.name) as source:
            digest = _copy(source, packed, limit=file.size + (1 << 20))
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"{place}{file.name}: {_reason(error)}") from None
    try:
        content = _unpack(packed, raw / file.name.removesuffix(".gz"), file)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        wrong = _otherwise(digest, file.sha256)
        raise DataError(f"{place}{file.name}: {error if wrong is None else f'{wrong}: {error}'}") from None
    owner = owner_of(content) or data_set.name
    if owner != data_set.name:
        raise DataError(f"{place}{file.name}: is the file of {owner}")
    wrong = _otherwise(digest, file.sha256) or _otherwise(content, file.content_sha256)
    if wrong is not None:
        raise DataError(f"{place}{file.name}: {wrong}")
    packed.unlink()
    return digest


def _otherwise(found: str, known: str | None) -> str | None:
    """What is wrong with a file of this SHA-256 where another one is known."""
    if known is None or found == known:
        return None
    return f"wrong content (SHA-256 {found[:12]}..., not {known[:12]}...)"


def _reason(error: Exception) -> str:
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
def _opened(place: str, name: str) -> Iterator[IO[bytes]]:
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


def _copy(source: IO[bytes], target: Path, limit: int) -> str:
    """Copy at most `limit` bytes and return their SHA-256."""
    digest, total = hashlib.sha256(), 0
    expected = getattr(source, "length", None)
    with target.open("wb") as file:
        while block := source.read(CHUNK_BYTES):
            total += len(block)
            if total > limit:
                raise ValueError(f"longer than {limit} bytes")
            digest.update(block)
            file.write(block)
    if total == 0:
        raise ValueError("is empty")
    if expected is not None and total < expected:
        raise ValueError(f"ended after {total} of {expected} bytes")
    return digest.hexdigest()


def _unpack(packed: Path, target: Path, file: SourceFile) -> str:
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


def _decode(data_set: DataSet, root: Path) -> dict[str, torch.Tensor]:
    import torch
    from torchvision import datasets

    torchvision_class = getattr(datasets, data_set.torchvision_class)
    tensors: dict[str, torch.Tensor] = {}
    for part, train in (("train", True), ("test", False)):
        decoded = torchvision_class(os.fspath(root), train=train, download=False)
        labels = decoded.targets
        labels = labels[:, 0] if labels.ndim == 2 else labels  # QMNIST: the class is the first of eight columns
        if int(labels.min()) < 0 or int(labels.max()) >= CLASSES:
            raise DataError(f"{data_set.title}: a {part} label is {int(labels.max())}, not from 0 to {CLASSES - 1}")
        tensors[f"{part}_images"] = decoded.data.contiguous()
        tensors[f"{part}_labels"] = labels.to(torch.uint8).contiguous()
    return tensors
