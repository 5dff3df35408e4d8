"""Confidence intervals of shares."""

from __future__ import annotations

import math


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson interval (1927) of a share, 0 to 1, measured on `count` >= 1 items."""
    z = 1.959963984540054
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return centre - half, centre + half
