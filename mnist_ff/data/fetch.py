"""Download source files from mirrors, verify them, decode them with torchvision.

torchvision's own download() checks MD5 only, has no timeout and goes back from https to http, so the bytes are
brought here by us, from its addresses, and only its decoder reads them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data.archive import fetch_archive
from mnist_ff.data.catalog import Archive, DataDescription, DataSet, SourceFile, description, owner_of
from mnist_ff.data.catalog import data_set as data_set_of
from mnist_ff.data.transfer import copy, opened, otherwise, reason, unpack
from mnist_ff.errors import DataError
from mnist_ff.files import remove_leftovers

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"
STAGING = ".staging"
LEFT = re.compile(rf"[a-z0-9_]{{8}}({re.escape(STAGING)})?")
"""How a staging folder's name ends; those of earlier versions have no suffix."""


def fetch(config: DownloadConfig, mirrors: Sequence[str], scratch: Path) -> tuple[Tensors, dict[str, str]]:
    """All images and labels of a data set as uint8 tensors, and the SHA-256 of each of its files.

    The tensors are `train_images` (N, 28, 28), `train_labels` (N,), `test_images`, `test_labels`; bytes travel
    through a temporary folder inside `scratch`.
    Errors: DataError listing each mirror with its reason.
    """
    data_set, described = data_set_of(config.name), description(config)
    archive = None if data_set.archive is None else data_set.archive(config)
    _sweep(data_set, scratch)
    with tempfile.TemporaryDirectory(prefix=f".{data_set.name}.", suffix=STAGING, dir=scratch) as folder:
        root = Path(folder)
        raw = root / data_set.torchvision_class / "raw"
        raw.mkdir(parents=True)
        reasons: list[str] = []
        for mirror in [*mirrors, *_own_mirrors(data_set)]:
            place = mirror if mirror.endswith("/") else f"{mirror}/"
            try:
                if archive is None:
                    sums = {file.name: _fetch_file(data_set, place, file, raw) for file in data_set.files}
                else:
                    sums = {archive.name: fetch_archive(archive, _md5(data_set), place, raw, scratch)}
                return _decode(data_set, described, root, archive), sums
            except DataError as error:
                reasons.append(str(error))
    listed = "\n".join(f"  {reason}" for reason in reasons)
    names = " ".join(file.name for file in data_set.files) if archive is None else archive.name
    raise DataError(
        f"{described.title} could not be downloaded from any of {len(reasons)} sources:\n{listed}\n"
        f"To install it by hand, put {names} in a folder and set MNIST_FF_MIRROR to that folder."
    )


def _sweep(data_set: DataSet, scratch: Path) -> None:
    """Remove what killed downloads of this data set left. One process fetches it at a time, so that none is at work."""
    remove_leftovers(scratch, f".{data_set.name}*.safetensors.*.tmp")
    for folder in scratch.glob(f".{data_set.name}.*"):
        made_here = LEFT.fullmatch(folder.name.removeprefix(f".{data_set.name}."))
        if made_here and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _own_mirrors(data_set: DataSet) -> list[str]:
    from torchvision import datasets

    torchvision_class = getattr(datasets, data_set.torchvision_class)
    if data_set.archive is not None:
        return [str(torchvision_class.url).rsplit("/", 1)[0] + "/"]
    if isinstance(torchvision_class.resources, dict):  # QMNIST's, by part and with whole URLs
        url = torchvision_class.resources["train"][0][0]
        return [url.rsplit("/", 1)[0] + "/"]
    return list(torchvision_class.mirrors)


def _md5(data_set: DataSet) -> str:
    """Of an archive, as torchvision knows it."""
    from torchvision import datasets

    return str(getattr(datasets, data_set.torchvision_class).md5)


def _fetch_file(data_set: DataSet, place: str, file: SourceFile, raw: Path) -> str:
    """Bring one file, check it, leave its decompressed form in `raw`, and return its SHA-256."""
    packed = raw / file.name
    try:
        with opened(place, file.name) as source:
            digest = copy(source, packed, limit=file.size + (1 << 20))
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"{place}{file.name}: {reason(error)}") from None
    try:
        content = unpack(packed, raw / file.name.removesuffix(".gz"), file)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        wrong = otherwise(digest, file.sha256)
        raise DataError(f"{place}{file.name}: {error if wrong is None else f'{wrong}: {error}'}") from None
    owner = owner_of(content) or data_set.name
    if owner != data_set.name:
        raise DataError(f"{place}{file.name}: is the file of {owner}")
    wrong = otherwise(digest, file.sha256) or otherwise(content, file.content_sha256)
    if wrong is not None:
        raise DataError(f"{place}{file.name}: {wrong}")
    packed.unlink()
    return digest


def _decode(data_set: DataSet, described: DataDescription, root: Path, archive: Archive | None) -> Tensors:
    import torch
    from torchvision import datasets

    torchvision_class = getattr(datasets, data_set.torchvision_class)
    split = {} if archive is None else {"split": archive.split}
    classes = len(described.spec.classes)
    tensors: dict[str, torch.Tensor] = {}
    for part, train in (("train", True), ("test", False)):
        decoded = torchvision_class(os.fspath(root), train=train, download=False, **split)
        images, labels = decoded.data, decoded.targets
        labels = labels[:, 0] if labels.ndim == 2 else labels  # QMNIST: the class is the first of eight columns
        if archive is not None:  # EMNIST's images are stored by columns
            images, labels = images.transpose(1, 2), labels.long() - archive.first_label
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            wrong = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
            raise DataError(f"{described.title}: a {part} label is {wrong}, not from 0 to {classes - 1}")
        tensors[f"{part}_images"] = images.contiguous()
        tensors[f"{part}_labels"] = labels.to(torch.uint8).contiguous()
    return tensors
