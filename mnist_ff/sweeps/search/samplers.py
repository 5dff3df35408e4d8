"""Optuna's samplers and pruners by name, and the suggestion for one key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mnist_ff.sweeps.search.plan import Pruner, SearchPlan
from mnist_ff.sweeps.search.space import Choices, Dimension, Integers, grid_of

if TYPE_CHECKING:
    import optuna


def suggest(trial: optuna.trial.Trial, key: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(key, dimension.values)
    if isinstance(dimension, Integers):
        return trial.suggest_int(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def build_sampler(plan: SearchPlan, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial. Its seed is a function of the plan's and of the trial's number, so that a trial is the
    same in whatever process it is sampled, and no two processes draw the same numbers."""
    import optuna

    seed = int.from_bytes(hashlib.sha256(f"{plan.seed}/{number}".encode()).digest()[:4], "big")
    if plan.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if plan.sampler == "grid":
        return optuna.samplers.GridSampler(grid_of(plan.space), seed=plan.seed)
    if plan.sampler == "cmaes":
        from mnist_ff.sweeps.search.cmaes import CmaSampler

        return CmaSampler(plan.n_startup_trials, seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=plan.n_startup_trials)


def build_pruner(pruner: Pruner) -> optuna.pruners.BasePruner:
    """asha: successive halving without waiting for others (Li et al. 2020); hyperband: several of them side by side."""
    import optuna

    if pruner.name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=pruner.min_epochs, reduction_factor=pruner.factor)
    if pruner.name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=pruner.min_epochs,
            max_resource=max(pruner.max_epochs, pruner.min_epochs),
            reduction_factor=pruner.factor,
        )
    return optuna.pruners.NopPruner()
