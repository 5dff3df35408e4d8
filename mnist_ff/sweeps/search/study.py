"""A search: an Optuna study that processes share, one trial a claim and none twice. No Hydra, no torch."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import warnings
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote_plus

from filelock import FileLock

from mnist_ff.config.passwords import holds_password, without_password
from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError, ConfigError, MissingFileError, RunError
from mnist_ff.runs import slurm
from mnist_ff.runs.directory import Run
from mnist_ff.runs.lock import LOCK_TIMEOUT_S, is_locked
from mnist_ff.runs.reading import check_file
from mnist_ff.runs.records import Score
from mnist_ff.runs.search_result import Finding
from mnist_ff.sweeps.search.processes import Process, lives, own_process
from mnist_ff.sweeps.search.space import Choices, Dimension, Integers, Space, check_dimension, grid_of, word_of

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("mnist_ff")

SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("none", "asha", "hyperband")
OBJECTIVES = ("validation_accuracy", "validation_loss")

PASSWORD = "MNIST_FF_STORAGE_PASSWORD"
"""The environment variable with the password of a database storage."""
LARGEST_JOURNAL = 1 << 30
"""Bytes of a journal that is opened; Optuna reads it line by line."""
PIECE = 1 << 16
EXTRA = "hydra/sweeper=optuna: needs optuna, which is not installed: pip install 'mnist-ff[search]'"
KILLED = "its process was killed or its machine failed"
EXPERIMENT, REPEATS, WAITS_FOR, CERTAIN = "experiment", "repeats", "waits_for", "certain"
"""What a trial's record says beside its values: its configuration's SHA-256; the number of the trial with the same one
whose result it has, or waits for; whether its failure would come again."""
UNCLAIMED = 60.0
"""Seconds after which a running trial without an owner is a dead one, where no lock guards a claim."""


@dataclass(frozen=True)
class Pruner:
    """When a trial is hopeless. `max_epochs` is the length of the longest trial, which Hyperband divides."""

    name: str
    min_epochs: int
    factor: int
    max_epochs: int


@dataclass(frozen=True)
class SearchPlan:
    """All that a search is. `fixed` are the words that every trial shares; with the space they tell searches apart."""

    study: str
    storage: str
    """A journal file's path, or an Optuna storage URL."""
    n_trials: int
    """Trials in all: of every process and every resume, those that fail too."""
    objective: str
    sampler: str
    n_startup_trials: int
    """Random trials before tpe and cmaes look at the results."""
    seed: int
    pruner: Pruner
    space: Space
    fixed: tuple[str, ...] = ()

    @property
    def points(self) -> int | None:
        """How many different trials there are; None: no end."""
        if self.sampler != "grid":
            return None
        return math.prod(len(values) for values in grid_of(self.space).values())

    @property
    def trials(self) -> int:
        """n_trials, or the grid's points where these are fewer: what follows would be trained again."""
        return self.n_trials if self.points is None else min(self.n_trials, self.points)


@dataclass(frozen=True)
class Trial:
    """One claimed trial: its number in the study and the word for each key."""

    number: int
    words: Mapping[str, str]

    def overrides(self) -> list[str]:
        """The words of a job."""
        return [f"{key}={word}" for key, word in self.words.items()]


@dataclass(frozen=True)
class StudyLink:
    """Where a job in another process reports to: plain values, to be pickled."""

    storage: str
    study: str


@dataclass(frozen=True)
class Verdict:
    """How a trial's run ended, from its directory."""

    state: Literal["complete", "pruned", "failed", "interrupted"]
    value: float | None = None
    reason: str | None = None
    certain: bool = False
    """Whether a failure would come again: the training diverged, and no machine or disk failed it."""


@dataclass(frozen=True)
class Twin:
    """The trial that had a configuration first, and how it ended; None where it has not yet."""

    number: int
    verdict: Verdict | None


def require_optuna() -> None:
    """Errors: ConfigError that names the extra."""
    try:
        import optuna
    except ImportError:
        raise ConfigError(EXTRA) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def check_plan(plan: SearchPlan) -> None:
    """Compare the plan's parts with each other. Errors: ConfigError naming the key."""
    _check_objective(plan.objective)
    for name, value, allowed in (
        ("sampler", plan.sampler, SAMPLERS),
        ("pruner", plan.pruner.name, PRUNERS),
    ):
        if value not in allowed:
            raise ConfigError(f"hydra.sweeper.{name}={value}: must be one of {', '.join(allowed)}")
    for name, number, least in (
        ("n_trials", plan.n_trials, 1),
        ("n_startup_trials", plan.n_startup_trials, 1),
        ("min_epochs", plan.pruner.min_epochs, 1),
        ("factor", plan.pruner.factor, 2),
    ):
        if number < least:
            raise ConfigError(f"hydra.sweeper.{name}={number}: must be at least {least}")
    if not plan.space:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to search; give a key several values, "
            "such as optimizer.lr=tag(log,interval(1e-4,1e-2))"
        )
    for key, dimension in plan.space.items():
        check_dimension(key, dimension)
    if plan.sampler == "grid":
        grid_of(plan.space)
    numbers = [key for key, dimension in plan.space.items() if not isinstance(dimension, Choices)]
    if plan.sampler == "cmaes" and not numbers:
        raise ConfigError("hydra.sweeper.sampler=cmaes: no key has an interval or a range of numbers; use tpe")


def _check_objective(objective: str) -> None:
    if objective.startswith("test"):
        raise ConfigError(
            f"hydra.sweeper.objective={objective}: a search on the test images overfits them, and its "
            f"best score would be biased; use {' or '.join(OBJECTIVES)}"
        )
    if objective not in OBJECTIVES:
        raise ConfigError(f"hydra.sweeper.objective={objective}: must be one of {', '.join(OBJECTIVES)}")


def check_searchable(config: Config) -> None:
    """A search is judged by held-out training images. Errors: ConfigError."""
    if config.data.validation_split == 0:
        raise ConfigError(
            "data.validation_split=0: a search needs held-out training images, because searching on the test images "
            "would bias the score; set data.validation_split, such as 0.1666"
        )


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
        self._lock = _claims_lock(plan.storage)
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
        words = {key: word_of(part, _suggest(trial, key, part)) for key, part in self.plan.space.items()}
        return Trial(number, words)

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
        self.settle(number, Verdict("interrupted", reason=f"trial {twin.number} has the same configuration"))

    def repeat(self, number: int, twin: Twin) -> None:
        """Give a trial the result of the one with its configuration."""
        assert twin.verdict is not None
        self._storage.set_trial_user_attr(self._id(number), REPEATS, twin.number)
        self.settle(number, twin.verdict)

    def settle(self, number: int, verdict: Verdict) -> None:
        """Tell the study how a trial ended. An interrupted one waits again, to go on where it was."""
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
        """Settle the running trials whose process is dead, and say what became of each.

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
            lasts = directory is not None and (is_locked(directory, LOCK_TIMEOUT_S) or slurm.is_there(directory))
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
        self.settle(trial.number, verdict)
        return [f"trial {trial.number} was left running by a process that no longer exists: {verdict.state}"]

    def _owner_lives(self, trial: optuna.trial.FrozenTrial) -> bool | None:
        try:
            owner = Process(**trial.user_attrs["owner"])
        except (KeyError, TypeError):  # within a claim, or not one of ours
            guarded = not isinstance(self._lock, nullcontext)
            age = (datetime.now() - (trial.datetime_start or datetime.min)).total_seconds()
            return not guarded and age < UNCLAIMED
        return lives(owner)

    def failed(self) -> set[int]:
        """The numbers of the trials that failed."""
        import optuna

        states = (optuna.trial.TrialState.FAIL,)
        return {trial.number for trial in self._storage.get_all_trials(self._study_id, deepcopy=False, states=states)}

    def answer(self) -> Finding:
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
        return Finding(
            study=self.plan.study,
            storage=without_password(self.plan.storage),
            objective=self.plan.objective,
            n_trials=self._trials,
            counts=counts,
            best_trial=None if best is None else best.number,
            best_value=None if best is None else best.value,
            best_words={} if best is None else {k: word_of(self.plan.space[k], v) for k, v in best.params.items()},
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


class reporter:  # noqa: N801 (it is called as a function is)
    """A function of (whole epochs done, validation score) that reports to the trial and answers why to stop, or None.

    A storage that fails is a warning: the run goes on without pruning. Used as a context it closes its connection.
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

    def __enter__(self) -> reporter:
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


def verdict_of(directory: Path, objective: str) -> Verdict:
    """How the run in `directory` ended, from its files alone; without a summary it was killed."""
    run = Run(directory)
    try:
        summary = run.summary()
        if summary is None:
            return Verdict("failed", reason=KILLED)
        if summary.status in ("diverged", "failed", "interrupted"):
            reason = (summary.cause or summary.status).strip().splitlines()[-1]
            state: Literal["interrupted", "failed"] = "interrupted" if summary.status == "interrupted" else "failed"
            return Verdict(state, reason=reason, certain=summary.status == "diverged")
        value = run.epochs()[-1][objective]
    except (BadRunError, IndexError, KeyError) as error:
        return Verdict("failed", reason=f"its run directory is not readable ({error})")
    if not math.isfinite(value):
        return Verdict("failed", reason=f"its {objective} is {value}")
    return Verdict("pruned" if summary.status == "pruned" else "complete", value, summary.cause)


def check_no_password(storage: str) -> None:
    """A password in a URL would stand in the shell's history, in ps, and in files of the sweep. Errors: ConfigError."""
    if holds_password(storage):
        raise ConfigError(
            f"hydra.sweeper.storage={without_password(storage)}: contains a password, which would be visible in "
            f"files and process lists; remove it from the URL and set the environment variable {PASSWORD}"
        )


def _with_password(url: str) -> str:
    """A database's URL with the password of the environment, if there is one."""
    password = os.environ.get(PASSWORD)
    if password is None or url.startswith("sqlite"):
        return url
    from sqlalchemy import make_url

    return make_url(url).set(password=password).render_as_string(hide_password=False)


def open_storage(storage: str) -> optuna.storages.BaseStorage:
    """The storage behind a journal file's path or an Optuna URL. Errors: ConfigError, without the URL's password."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    try:
        if "://" not in storage:
            _mend(Path(storage))
            return optuna.storages.JournalStorage(JournalFileBackend(storage))
        patient = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
        opened = optuna.storages.RDBStorage(_with_password(storage), engine_kwargs=patient)
        weakref.finalize(opened, opened.engine.dispose)  # for one that nobody closes
        return opened
    except Exception as error:  # SQLAlchemy's and the drivers' own families
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace(storage, without_password(storage))
        password = os.environ.get(PASSWORD)
        for secret in (password, quote_plus(password)) if password else ():
            reason = reason.replace(secret, "...")
        raise ConfigError(f"hydra.sweeper.storage={without_password(storage)}: cannot be opened ({reason})") from None


def close_storage(storage: optuna.storages.BaseStorage) -> None:
    """Close a storage's connections: a database's, as a journal is opened for each access alone."""
    storage.remove_session()
    engine = getattr(storage, "engine", None)
    if engine is not None:
        engine.dispose()


@contextmanager
def storage_failures(storage: str) -> Iterator[None]:
    """A storage or a disk that fails within the block is one line. Errors: RunError."""
    import optuna

    try:
        yield
    except OSError as error:
        raise RunError(f"{error.filename or without_password(storage)}: {error.strerror or error}") from error
    except (optuna.exceptions.StorageInternalError, json.JSONDecodeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise RunError(f"{without_password(storage)}: the study can no longer be read or written ({first})") from error


def _mend(path: Path) -> None:
    """Cut a last line that a power cut tore: with another one behind it Optuna could not read the journal again."""
    from optuna.storages.journal import JournalFileSymlinkLock

    try:
        check_file(path, LARGEST_JOURNAL)
    except MissingFileError:
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            if end == 0:
                return
            while end > 0:  # from its end on: a journal may be long
                start = max(0, end - PIECE)
                file.seek(start)
                place = file.read(end - start).rfind(b"\n") + 1
                if place:
                    file.truncate(start + place)
                    return
                end = start
            file.truncate(0)
    finally:
        lock.release()


def _claims_lock(storage: str) -> AbstractContextManager[Any]:
    """Held while trials are counted and claimed, where the storage is a file; a database server has none.

    Without it a race can leave a waiting record too many behind, which is never run.
    """
    if "://" not in storage:
        return _FileClaims(storage, storage)
    if storage.startswith("sqlite:///") and ":memory:" not in storage:
        return _FileClaims(storage, storage.removeprefix("sqlite:///").split("?")[0])
    return nullcontext()


class _FileClaims:
    """A lock beside a storage's file. Errors: ConfigError where there can be none."""

    def __init__(self, storage: str, file: str) -> None:
        self._storage, self._lock = storage, FileLock(f"{file}.claims")

    def __enter__(self) -> None:
        try:
            self._lock.acquire()
        except OSError as error:
            raise ConfigError(
                f"hydra.sweeper.storage={self._storage}: cannot be locked ({self._lock.lock_file}: {error.strerror})"
            ) from None

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def _direction(objective: str) -> Literal["maximize", "minimize"]:
    return "maximize" if objective == "validation_accuracy" else "minimize"


def _suggest(trial: optuna.trial.Trial, key: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(key, dimension.words)
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
