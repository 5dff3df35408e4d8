"""An Optuna study that processes share: one trial a claim, and none twice."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mnist_ff.config.passwords import without_password
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.runs import slurm
from mnist_ff.runs.lock import LOCK_TIMEOUT_S, is_locked
from mnist_ff.runs.search_result import SearchResult
from mnist_ff.sweeps.search.plan import KILLED, SearchPlan, Trial, Twin, Verdict, check_plan, verdict_of
from mnist_ff.sweeps.search.processes import Process, lives, own_process
from mnist_ff.sweeps.search.samplers import build_pruner, build_sampler, suggest
from mnist_ff.sweeps.search.space import override_value
from mnist_ff.sweeps.search.storage import claims_lock, close_storage, open_storage, require_optuna

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("mnist_ff")

EXPERIMENT, REPEATS, WAITS_FOR, CERTAIN = "experiment", "repeats", "waits_for", "certain"
"""User attributes of a trial: the SHA-256 of its configuration; the number of the trial with the same configuration
whose result it repeats, or waits for; whether its failure would occur again."""
UNCLAIMED_S = 60.0
"""Seconds after which a running trial without an owner is a dead one, where no lock guards a claim."""


class Search:
    """An open study; it lives as long as its connection to the storage.

    A trial is one record of the storage with a dense number. It is made waiting, and whoever turns it to running owns
    it: every Optuna storage does that turn for one process only. Only numbers below n_trials, and within a grid, are
    ever run, so there are never more, however many processes count at the same time.
    """

    def __init__(self, plan: SearchPlan) -> None:
        """Open the study, or make it. Errors: ConfigError for another search's study or a storage that fails."""
        require_optuna()
        check_plan(plan)
        import optuna

        self.plan = plan
        self._trials = plan.trials
        self._lock = claims_lock(plan.storage)
        with self._lock:
            self._storage = open_storage(plan.storage)
            try:
                optuna.create_study(
                    study_name=plan.study,
                    storage=self._storage,
                    direction=_direction(plan.objective),
                    load_if_exists=True,
                )
                self._study_id = self._storage.get_study_id_from_name(plan.study)
                self._check_same_search()
                ended = self._ended()
                self._trials = max(self._trials, ended)  # another sampler may have gone further than a grid does
                self._storage.set_study_user_attr(self._study_id, "pruner", asdict(plan.pruner))
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the storage; one that is used again opens them again."""
        close_storage(self._storage)

    def _check_same_search(self) -> None:
        own = {
            "objective": self.plan.objective,
            "space": {key: [type(part).__name__, asdict(part)] for key, part in self.plan.space.items()},
            "fixed": sorted(self.plan.fixed),
        }
        text = json.dumps(own, sort_keys=True)
        there = self._storage.get_study_user_attrs(self._study_id).get("search")
        if there is None:
            self._storage.set_study_user_attr(self._study_id, "search", text)
        elif there != text:
            raise ConfigError(
                f"hydra.sweeper.study_name={self.plan.study}: {without_password(self.plan.storage)} has a study of "
                "that name with a different space, objective or fixed values; choose another name"
            )

    def _ended(self) -> int:
        """How many trials have ended. Errors: ConfigError when they are more than n_trials."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        ended = sum(trial.state.is_finished() for trial in trials)
        if ended > self.plan.n_trials:
            raise ConfigError(
                f"hydra.sweeper.n_trials={self.plan.n_trials}: study {self.plan.study} has {ended} trials that have "
                "already ended; n_trials counts all of them"
            )
        return ended

    def claim(self) -> Trial | None:
        """A trial for this process to run, or None when all have been given out."""
        import optuna

        with self._lock:
            trial_id = self._claimed()
            if trial_id is None:
                return None
            self._storage.set_trial_user_attr(trial_id, "owner", asdict(own_process()))
        number = self._storage.get_trial(trial_id).number
        study = self._study(build_sampler(self.plan, number))
        trial = optuna.trial.Trial(study, trial_id)
        values = {key: override_value(part, suggest(trial, key, part)) for key, part in self.plan.space.items()}
        return Trial(number, values)

    def _study(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        """The study as it stands now: a Study keeps the trials that it has seen, so each question has its own."""
        import optuna

        study = optuna.load_study(
            study_name=self.plan.study, storage=self._storage, sampler=sampler, pruner=build_pruner(self.plan.pruner)
        )
        study.get_trials(deepcopy=False)  # a database's cache must have met a trial before it changes it
        return study

    def _claimed(self) -> int | None:
        """The id of a trial that this process turned from waiting to running."""
        import optuna

        while True:
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
            for trial in trials[: self._trials]:
                ready = trial.state is optuna.trial.TrialState.WAITING and not _waits(trial, trials)
                if ready and self._turned(trial._trial_id):
                    return trial._trial_id
            if len(trials) >= self._trials:
                return None
            waiting = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)
            self._storage.create_new_trial(self._study_id, template_trial=waiting)

    def _turned(self, trial_id: int) -> bool:
        import optuna

        try:
            return self._storage.set_trial_state_values(trial_id, optuna.trial.TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:  # another process was quicker, and has even finished it
            return False

    def started(self, number: int, directory: Path) -> None:
        """Note where a trial's run lives, so that another process can find how it ended."""
        self._storage.set_trial_user_attr(self._id(number), "directory", str(directory.absolute()))

    def twin(self, number: int, experiment: str) -> Twin | None:
        """The trial that had this configuration first, by its SHA-256; None: trial `number` has, and is noted for it.

        A trial that failed for a reason that may not come again is nobody's twin.
        """
        with self._lock:
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
            own = trials[number]
            for trial in trials:
                if trial.number == number or not _has(trial, experiment, own):
                    continue
                verdict = _verdict_again(trial)
                if trial.state.is_finished() and verdict is not None:
                    return Twin(trial.number, verdict)
                if trial.state.name == "RUNNING" or (trial.state.name == "WAITING" and trial.number < self._trials):
                    return Twin(trial.number, None)
            for key, value in ((WAITS_FOR, None), (EXPERIMENT, experiment)):
                self._storage.set_trial_user_attr(own._trial_id, key, value)
        return None

    def postpone(self, number: int, twin: Twin) -> None:
        """Let a trial wait for the result of another one with its configuration: nobody claims it before that."""
        self._storage.set_trial_user_attr(self._id(number), WAITS_FOR, twin.number)
        self.record_result(number, Verdict("interrupted", reason=f"trial {twin.number} has the same configuration"))

    def repeat(self, number: int, twin: Twin) -> None:
        """Give a trial the result of the one with its configuration."""
        assert twin.verdict is not None
        self._storage.set_trial_user_attr(self._id(number), REPEATS, twin.number)
        self.record_result(number, twin.verdict)

    def record_result(self, number: int, verdict: Verdict) -> None:
        """Tell the study how a trial ended. An interrupted one is queued again, to be resumed."""
        import optuna

        states = {
            "complete": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        trial_id = self._id(number)
        try:
            if verdict.reason is not None:
                self._storage.set_trial_user_attr(trial_id, "reason", verdict.reason)
            if verdict.certain:
                self._storage.set_trial_user_attr(trial_id, CERTAIN, True)
            if verdict.state == "interrupted":
                self._storage.set_trial_state_values(trial_id, optuna.trial.TrialState.WAITING)
            else:
                values = None if verdict.value is None else [verdict.value]
                self._storage.set_trial_state_values(trial_id, states[verdict.state], values)
        except optuna.exceptions.UpdateFinishedTrialError:
            log.warning("trial %d had already ended", number)

    def recover(self, own: Path | None = None, left: Collection[int] = ()) -> list[str]:
        """Record the result of running trials whose process is dead, and describe each.

        A trial whose run has ended counts with its result; any other is a failed trial. `own` is a sweep directory
        that no other launcher works in: its trials are dead whatever their owner, but for the numbers in `left`.
        A process on another machine cannot be seen from here: its trials stay as they are, and are named.
        """
        said: list[str] = []
        with self._lock:
            for trial in self._running():
                if trial.number not in left:
                    said += self._recover_one(trial, own)
        return said

    def _running(self) -> Sequence[optuna.trial.FrozenTrial]:
        import optuna

        return self._storage.get_all_trials(self._study_id, deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))

    def _recover_one(self, trial: optuna.trial.FrozenTrial, own: Path | None) -> list[str]:
        place = trial.user_attrs.get("directory")
        directory = None if place is None else Path(str(place))
        ours = own is not None and directory is not None and directory.is_relative_to(own.absolute())
        try:
            lasts = directory is not None and (is_locked(directory, LOCK_TIMEOUT_S) or slurm.is_in_slurm(directory))
        except (RunError, BadRunError):
            return [f"trial {trial.number} may be in Slurm, which does not report its state; it is left as it is"]
        verdict = Verdict("failed", reason=KILLED)
        if directory is not None:
            verdict = verdict_of(directory, self.plan.objective)
        if lasts and not (ours and verdict.state in ("complete", "pruned")):  # a process lasts longer than its run
            return []
        alive = False if ours else self._owner_lives(trial)
        if alive is None:
            return [f"trial {trial.number} may be running on {_host_of(trial)}; it is left as it is"]
        if alive:
            return []
        self.record_result(trial.number, verdict)
        return [f"trial {trial.number} was left running by a process that no longer exists: {verdict.state}"]

    def _owner_lives(self, trial: optuna.trial.FrozenTrial) -> bool | None:
        try:
            owner = Process(**trial.user_attrs["owner"])
        except (KeyError, TypeError):  # within a claim, or not written by mnist-ff
            guarded = not isinstance(self._lock, nullcontext)
            age = (datetime.now() - (trial.datetime_start or datetime.min)).total_seconds()
            return not guarded and age < UNCLAIMED_S
        return lives(owner)

    def failed(self) -> set[int]:
        """The numbers of the trials that failed."""
        import optuna

        states = (optuna.trial.TrialState.FAIL,)
        return {trial.number for trial in self._storage.get_all_trials(self._study_id, deepcopy=False, states=states)}

    def _shown(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """A trial's values as they stand in overrides."""
        return {key: override_value(self.plan.space[key], value) for key, value in parameters.items()}

    def result(self) -> SearchResult:
        """The best trial so far, what mattered, and the counts."""
        import optuna

        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)[: self._trials]
        names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING"}
        counts = {name: sum(trial.state.name == state for trial in trials) for name, state in names.items()}
        counts["waiting"] = self._trials - sum(counts.values())
        complete = [trial for trial in trials if trial.state is optuna.trial.TrialState.COMPLETE]
        sign = 1 if _direction(self.plan.objective) == "minimize" else -1
        trained = [trial for trial in complete if trial.user_attrs.get(REPEATS) is None]
        best = min(trained, key=lambda trial: (sign * float(trial.value or 0.0), trial.number), default=None)
        return SearchResult(
            study=self.plan.study,
            storage=without_password(self.plan.storage),
            objective=self.plan.objective,
            n_trials=self._trials,
            counts=counts,
            best_trial=None if best is None else best.number,
            best_value=None if best is None else best.value,
            best_words={}
            if best is None
            else {k: override_value(self.plan.space[k], v) for k, v in best.params.items()},
            importance=self._importance(len(complete)),
            grid=self.plan.points,
        )

    def _importance(self, complete: int) -> dict[str, float]:
        import optuna

        if complete < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(self._study())
        return {key: round(float(share), 4) for key, share in found.items() if math.isfinite(share)}

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _direction(objective: str) -> Literal["maximize", "minimize"]:
    return "maximize" if objective == "validation_accuracy" else "minimize"


def _waits(trial: optuna.trial.FrozenTrial, trials: Sequence[optuna.trial.FrozenTrial]) -> bool:
    """Whether a trial waits for another one's result that is not there yet."""
    number = trial.user_attrs.get(WAITS_FOR)
    return number is not None and number < len(trials) and not trials[number].state.is_finished()


def _has(trial: optuna.trial.FrozenTrial, experiment: str, own: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial had a configuration before `own`. Studies of before this was noted have the values alone."""
    if trial.user_attrs.get(REPEATS) is not None or trial.user_attrs.get(WAITS_FOR) is not None:
        return False
    noted = trial.user_attrs.get(EXPERIMENT)
    return noted == experiment if noted is not None else trial.state.is_finished() and trial.params == own.params


def _verdict_again(trial: optuna.trial.FrozenTrial) -> Verdict | None:
    """How training a finished trial's configuration again would end; None: nobody knows."""
    state, reason = trial.state.name, trial.user_attrs.get("reason")
    if state in ("COMPLETE", "PRUNED") and trial.value is not None:
        return Verdict("complete" if state == "COMPLETE" else "pruned", trial.value, reason)
    if state == "FAIL" and trial.user_attrs.get(CERTAIN) is True:
        return Verdict("failed", reason=reason, certain=True)
    return None


def _host_of(trial: optuna.trial.FrozenTrial) -> str:
    owner = trial.user_attrs.get("owner")
    return str(owner.get("host")) if isinstance(owner, dict) else "another machine"
