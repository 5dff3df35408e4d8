"""What a ranking goes by, as sweep.png draws it: accuracies in percent, with intervals and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnist_ff.analysis.ranking import Group, Ranking
from mnist_ff.analysis.rows import Row
from mnist_ff.runs.records import Score

if TYPE_CHECKING:
    from matplotlib.colors import Normalize

COLORS = "viridis"


def axis_label(ranking: Ranking) -> str:
    """What the ranking goes by, with its unit as it is drawn."""
    return ranking.ranked_by if ranking.by_loss else f"{ranking.ranked_by} (%)"


def means_of(groups: Sequence[Group], ranking: Ranking) -> np.ndarray:
    """What the ranking goes by, accuracies in percent."""
    return np.array([scale_of(ranking) * group.sample.mean for group in groups])


def scale_of(ranking: Ranking) -> float:
    return 1.0 if ranking.by_loss else 100.0


def best_of(means: np.ndarray, ranking: Ranking) -> int:
    return int(np.nanargmin(means) if ranking.by_loss else np.nanargmax(means))


def half_intervals(groups: Sequence[Group], ranking: Ranking) -> np.ndarray:
    return np.array([scale_of(ranking) * _half(group, ranking) for group in groups])


def _half(group: Group, ranking: Ranking) -> float:
    """Half of the 95 % interval: over seeds by Student's t; of one run's accuracy over the images it was scored on."""
    if group.sample.half is not None:
        return group.sample.half
    if ranking.by_loss:
        return 0.0
    share, n = group.sample.mean, group.images
    low, high = Score(0.0, share, round(share * n), n).interval()
    return (high - low) / 2


def interval_text(groups: Sequence[Group], ranking: Ranking) -> str:
    if all(group.sample.n > 1 for group in groups) or ranking.by_loss:
        return "95 % interval over seeds (t)"
    return "95 % interval (one run: over its images)"


def scores_of(rows: Sequence[Row], ranking: Ranking) -> list[float]:
    by_validation = ranking.ranked_by.startswith("validation")
    found = [row.validation if by_validation else row.test for row in rows]
    return [
        scale_of(ranking) * (score.loss if ranking.by_loss else score.accuracy) for score in found if score is not None
    ]


@dataclass(frozen=True)
class Colors:
    """Colours for means, the best the brightest."""

    worst: float
    best: float
    cut: bool
    """Whether some are worse than the worst that has a colour of its own."""

    @property
    def map(self) -> str:
        """matplotlib's name."""
        return COLORS if self.best >= self.worst else f"{COLORS}_r"

    @property
    def norm(self) -> Normalize:
        """From means to 0 to 1."""
        from matplotlib.colors import Normalize

        return Normalize(min(self.worst, self.best), max(self.worst, self.best), clip=True)

    @property
    def extend(self) -> str:
        """The end of a colour bar that continues beyond its limit."""
        return "neither" if not self.cut else "min" if self.best >= self.worst else "max"

    def goodness(self, mean: float) -> float:
        """From 0 for the worst to 1 for the best."""
        return float(np.clip((mean - self.worst) / (self.best - self.worst or 1e-9), 0, 1))


def colors_of(means: np.ndarray, ranking: Ranking) -> Colors:
    """Colours that end where means get bad: a few that learned nothing must not make all others look alike."""
    sign = -1.0 if ranking.by_loss else 1.0
    found = np.sort(sign * means[np.isfinite(means)])
    middle, best = float(np.median(found)), float(found[-1])
    floor = best - 4 * max(best - middle, 0.0005 * scale_of(ranking))
    return Colors(sign * max(float(found[0]), floor), sign * best, bool(found[0] < floor))
