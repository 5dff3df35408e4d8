"""Confidence intervals and significance tests. Standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
"""The 97.5 % points of Student's t distribution for 1 to 30 degrees of freedom."""
Z_975 = 1.959963984540054


def t_975(degrees: float) -> float:
    """The 97.5 % point of Student's t. Fractions of a degree are cut off, which widens the interval a little.

    Above 30 degrees the expansion of Abramowitz and Stegun (1964), 26.7.5, is right to 1e-5.
    """
    whole = max(1, math.floor(degrees))
    if whole <= len(T_975):
        return T_975[whole - 1]
    z = Z_975
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / whole + second / whole**2 + third / whole**3


@dataclass(frozen=True)
class Sample:
    """The mean of n numbers and what is known of its error."""

    n: int
    mean: float
    std: float | None
    """The sample's standard deviation (n - 1 in the denominator); None for one number."""

    @property
    def half(self) -> float | None:
        """Half of the mean's 95 % interval by Student's t; None for one number."""
        return None if self.std is None else t_975(self.n - 1) * self.std / math.sqrt(self.n)


def sample(numbers: Sequence[float]) -> Sample:
    """Mean and spread of at least one number."""
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Sample(len(numbers), statistics.fmean(numbers), std)


def differ(first: Sample, second: Sample, images: int | None) -> bool:
    """Whether two means differ beyond the noise, at the 5 % level: of accuracies over `images`, or of losses for None.

    Both over several seeds: Welch's t test (1947). One of them a single run: nothing is known of its seeds, and
    the error that comes from a finite set of `images` stands in for it, sqrt(p (1 - p) / images). All runs answer
    the same images, so that this is on the careful side. Of a single run's loss no error is known, and any two differ.
    """
    if images is None and (first.std is None or second.std is None):
        return first.mean != second.mean
    errors = [_squared_error(one, images) for one in (first, second)]
    total = sum(errors)
    distance = abs(first.mean - second.mean)
    if total == 0:
        return distance > 0
    if first.std is None or second.std is None:
        return distance > Z_975 * math.sqrt(total)
    parts = sum(error**2 / (one.n - 1) for error, one in zip(errors, (first, second), strict=True))
    return distance > t_975(total**2 / parts) * math.sqrt(total)


def _squared_error(one: Sample, images: int | None) -> float:
    if images is None:
        assert one.std is not None
        return one.std**2 / one.n
    if one.std is not None:  # equal counts are not without error: an accuracy is rounded to a whole image
        return max(one.std**2, 1 / (12 * images**2)) / one.n
    share = min(max(one.mean, 0.5 / images), 1 - 0.5 / images)  # 0 and 1 are not without error
    return share * (1 - share) / images


EXACT_BELOW = 25
"""Images that only one of two networks gets right, from which on chi-squared stands in for the binomial."""


def mcnemar(only_first: int, only_second: int) -> float:
    """The chance of a split at least this uneven among the images that only one of two networks gets right, if both
    were equally good: McNemar's test (1947), two-sided.

    Exact by the binomial below EXACT_BELOW such images, else chi-squared with one degree of freedom and Edwards'
    continuity correction (1948).
    """
    discordant = only_first + only_second
    if discordant < EXACT_BELOW:
        tail = sum(math.comb(discordant, count) for count in range(min(only_first, only_second) + 1))
        return min(1.0, tail / 2 ** (discordant - 1)) if discordant else 1.0
    distance = max(abs(only_first - only_second) - 1, 0)
    return math.erfc(math.sqrt(distance**2 / discordant / 2))
