"""Plans and trials of searches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnist_ff.sweeps.search.plan import (
    Pruner,
    SearchPlan,
    Trial,
    Verdict,
)
from mnist_ff.sweeps.search.reporter import StudyLink
from mnist_ff.sweeps.search.space import Choices, Floats, Integers, Space
from mnist_ff.sweeps.search.storage import open_storage
from mnist_ff.sweeps.search.study import Search

SPACE: Space = {
    "optimizer.lr": Floats(1e-4, 1e-1, log=True),
    "model.dropout": Floats(0.0, 0.6),
    "trainer.batch_size": Integers(32, 256, step=32),
    "optimizer": Choices(("adam", "sgd")),
}


COUNTABLE: Space = {"trainer.batch_size": Integers(10, 30, step=10), "optimizer": Choices(("adam", "sgd"))}


def plan(where: Path | str = "search.journal", **changes: Any) -> SearchPlan:
    plain = SearchPlan(
        study="test",
        storage=str(where if "://" in str(where) else Path(where).absolute()),
        n_trials=6,
        objective="validation_accuracy",
        sampler="tpe",
        n_startup_trials=3,
        seed=0,
        pruner=Pruner("asha", min_epochs=1, factor=3, max_epochs=9),
        space=SPACE,
    )
    return replace(plain, **changes)


def link() -> StudyLink:
    return StudyLink(str(Path("search.journal").absolute()), "test")


def worth(trial: Trial) -> float:
    """A function of the words with its best near lr 0.01 and no dropout."""
    import math

    return 1.0 - 0.1 * abs(math.log10(float(trial.values["optimizer.lr"])) + 2) - float(trial.values["model.dropout"])


def run_all(search: Search, value: Callable[[Trial], float] = worth) -> list[Trial]:
    found = []
    while (trial := search.claim()) is not None:
        search.record_result(trial.number, Verdict("complete", value(trial)))
        found.append(trial)
    return found


def states(where: str = "search.journal", study: str = "test") -> list[str]:

    storage = open_storage(where if "://" in where else str(Path(where).absolute()))
    return [trial.state.name for trial in storage.get_all_trials(storage.get_study_id_from_name(study))]


WORDS = ("hydra/sweeper=optuna", "data=mnist_5k", "model.hidden=[16]", "trainer.epochs=3", "trainer.plots=false")


SPLIT = "data.validation_split=0.2"


LR = "optimizer.lr=tag(log,interval(1e-5,1e-1))"


def sweep_dir() -> Path:
    (found,) = Path("outputs/sweeps").iterdir()
    return found


def runs_in(directory: Path) -> int:
    return sum(path.is_dir() for path in directory.iterdir())


TWO_POINTS = (
    "hydra/sweeper=optuna", "data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", SPLIT,
    "optimizer.lr=0.001,0.01",
)  # fmt: skip
