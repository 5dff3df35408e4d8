"""CMA-ES (Hansen 2016) for Optuna, from package cmaes. It needs the extra search, and is imported when it is asked for.

Optuna's own sampler keeps its state as a pickle in the study, and unpickles what stands there: a sweep directory from
elsewhere could run anything. This one keeps only each trial's generation and tells the results to a new CMA again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cmaes import CMA
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

GENERATION = "mnist_ff:generation"

Numeric = FloatDistribution | IntDistribution


class CmaSampler(BaseSampler):
    """Numbers by CMA-ES in the unit cube, after some random trials; other values at random."""

    def __init__(self, n_startup_trials: int, seed: int) -> None:
        self._n_startup_trials = n_startup_trials
        self._seed = seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The numeric keys that every finished trial has."""
        space = intersection_search_space(study.get_trials(deepcopy=False))
        return {key: part for key, part in sorted(space.items()) if isinstance(part, Numeric) and not part.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the present generation; nothing, so random values, while there are too few results."""
        space = {
            key: part for key, part in search_space.items() if isinstance(part, FloatDistribution | IntDistribution)
        }
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not space or len(trials) < self._n_startup_trials:
            return {}
        optimizer = self._told(space, trials, study.direction)
        # public in every Optuna: how samplers keep what they know of a trial
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, optimizer.generation)
        point = optimizer.ask()
        return {key: _from_unit(part, float(x)) for (key, part), x in zip(space.items(), point, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _told(self, space: Mapping[str, Numeric], trials: Sequence[FrozenTrial], direction: StudyDirection) -> CMA:
        """A CMA that has heard every whole generation so far."""
        size = len(space)
        optimizer = CMA(mean=np.full(size, 0.5), sigma=1 / 6, bounds=np.tile([0.0, 1.0], (size, 1)), seed=self._seed)
        sign = 1.0 if direction is StudyDirection.MINIMIZE else -1.0
        while True:
            generation = [trial for trial in trials if trial.system_attrs.get(GENERATION) == optimizer.generation]
            if len(generation) < optimizer.population_size:
                return optimizer
            told = generation[: optimizer.population_size]
            optimizer.tell([(_to_unit(space, trial), sign * float(trial.value or 0.0)) for trial in told])


def _edges(part: Numeric) -> tuple[float, float]:
    """The interval that is spread over [0, 1]; a whole number or step owns the half on each side of it."""
    half = 0.0 if part.step is None else part.step / 2
    low, high = part.low - half, part.high + half
    return (float(np.log(low)), float(np.log(high))) if part.log else (low, high)


def _to_unit(space: Mapping[str, Numeric], trial: FrozenTrial) -> np.ndarray:
    point = []
    for key, part in space.items():
        low, high = _edges(part)
        value = float(trial.params[key])
        point.append(((np.log(value) if part.log else value) - low) / (high - low))
    return np.asarray(point)


def _from_unit(part: Numeric, x: float) -> float | int:
    low, high = _edges(part)
    value = low + (high - low) * x
    value = float(np.exp(value)) if part.log else value
    if part.step is not None:
        value = part.low + round((value - part.low) / part.step) * part.step
    value = min(max(value, part.low), part.high)
    return int(value) if isinstance(part, IntDistribution) else value
