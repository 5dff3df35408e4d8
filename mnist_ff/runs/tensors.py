"""Read safetensors files of a run; types, shapes and sizes are checked first. No torch."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mnist_ff.errors import BadRunError
from mnist_ff.runs.reading import opened

LARGEST_HEADER = 4 << 20
"""Bytes of a file's header; a tensor takes a hundred."""
FLOAT_TYPES = ("F32", "F64", "F16")
INTEGER_TYPES = ("I64", "I32", "I16", "I8", "U8")


@dataclass(frozen=True)
class Wanted:
    """What a tensor must be. A length of None is any."""

    kinds: tuple[str, ...]
    shape: tuple[int | None, ...]

    def fits(self, kind: str, shape: Sequence[int]) -> bool:
        """Whether a tensor of this kind and shape is one."""
        same = len(shape) == len(self.shape) and all(
            own is None or own == length for own, length in zip(self.shape, shape, strict=True)
        )
        return kind in self.kinds and same

    def __str__(self) -> str:
        return " x ".join("N" if length is None else str(length) for length in self.shape)


@contextmanager
def opened_tensors(path: Path, limit: int | None = None) -> Iterator[Any]:
    """A safetensors file of at most `limit` bytes, to ask for slices. Errors: BadRunError, also of what is asked for;
    MissingFileError."""
    with opened(path, limit) as file:
        head = file.read(8)
    if len(head) < 8 or struct.unpack("<Q", head)[0] > LARGEST_HEADER:
        raise BadRunError(f"{path}: not readable (no safetensors header)")
    try:
        with safe_open(path, framework="numpy") as saved:
            yield saved
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadRunError(f"{path}: not readable ({first})") from None


def check_tensors(saved: Any, wanted: Mapping[str, Wanted]) -> None:
    """See that a file has these tensors. Errors: ValueError naming the first that it has not so."""
    names = set(saved.keys())
    for name, asked in wanted.items():
        if name not in names:
            raise ValueError(f"{name} is missing")
        part = saved.get_slice(name)
        kind, shape = part.get_dtype(), part.get_shape()
        if not asked.fits(kind, shape):
            raise ValueError(f"{name} is {kind} of shape {' x '.join(map(str, shape))}, expected {asked}")


def read_tensors(path: Path, limit: int, wanted: Mapping[str, Wanted]) -> dict[str, NDArray[Any]]:
    """These tensors of a file of at most `limit` bytes. Errors: BadRunError, MissingFileError."""
    with opened_tensors(path, limit) as saved:
        check_tensors(saved, wanted)
        return {name: np.asarray(saved.get_tensor(name)) for name in wanted}
