"""A trial's reports to its study, epoch by epoch, from whatever process trains it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from mnist_ff.runs.records import Score
from mnist_ff.sweeps.search.plan import Pruner
from mnist_ff.sweeps.search.samplers import build_pruner
from mnist_ff.sweeps.search.storage import close_storage, open_storage, require_optuna

log = logging.getLogger("mnist_ff")


@dataclass(frozen=True)
class StudyLink:
    """Where a job in another process reports to: plain values, to be pickled."""

    storage: str
    study: str


class Reporter:
    """A function of (whole epochs done, validation score) that reports to the trial and answers why to stop, or None.

    A storage that fails is a warning: the run continues without pruning. A context manager: closes its connection.
    """

    def __init__(self, link: StudyLink, number: int) -> None:
        self._link, self._number = link, number
        self._opened: _Reports | None = None

    def __call__(self, epoch: int, score: Score) -> str | None:
        try:
            if self._opened is None:
                self._opened = _Reports(self._link, self._number)
            return self._opened.reason_to_stop(epoch, score)
        except Exception as error:  # whatever Optuna, SQLAlchemy or a driver has to say
            log.warning("trial %d: epoch %d could not be reported (%s)", self._number, epoch, error)
            return None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class _Reports:
    """One trial's reports, over one connection to the storage."""

    def __init__(self, link: StudyLink, number: int) -> None:
        require_optuna()
        self._storage = open_storage(link.storage)
        try:
            self._open(link, number)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        close_storage(self._storage)

    def _open(self, link: StudyLink, number: int) -> None:
        import optuna

        study_id = self._storage.get_study_id_from_name(link.study)
        kept = self._storage.get_study_user_attrs(study_id)
        self._objective = str(json.loads(kept["search"])["objective"])
        self._pruner = Pruner(**kept["pruner"])
        self._study = optuna.load_study(study_name=link.study, storage=self._storage, pruner=build_pruner(self._pruner))
        self._study.get_trials(deepcopy=False)  # a database's cache must have met a trial before it changes it
        self._trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def reason_to_stop(self, epoch: int, score: Score) -> str | None:
        value = score.accuracy if self._objective == "validation_accuracy" else score.loss
        self._storage.set_trial_intermediate_value(self._trial_id, epoch, value)
        if not self._study.pruner.prune(self._study, self._storage.get_trial(self._trial_id)):
            return None
        what, place = self._objective.replace("_", " "), f"not among the best 1/{self._pruner.factor}"
        return f"{self._pruner.name}: {what} {value:.4f} after epoch {epoch} is {place}"
