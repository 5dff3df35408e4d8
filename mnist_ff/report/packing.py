"""Arrays as base64 of little-endian bytes, for a page's script."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def packed(values: ArrayLike, kind: str) -> str:
    """The bytes of `values` as base64. `kind` is numpy's name of a type, such as <f2, <f4, i1 or u1."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=np.dtype(kind)).tobytes()).decode("ascii")


def rounded(values: ArrayLike, digits: int = 4) -> list[Any]:
    """Numbers for JSON, short; what is not finite becomes null."""
    return [round(float(value), digits) if np.isfinite(value) else None for value in np.asarray(values).ravel()]
