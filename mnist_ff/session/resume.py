"""Resume or repeat a run: find it, read its config, and check what may change."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ff.analysis.console import note
from mnist_ff.config.convert import config_from, config_to_dict, experiment, flat
from mnist_ff.config.keys import known_keys
from mnist_ff.config.legacy import identity_fields
from mnist_ff.config.messages import nearest
from mnist_ff.config.schema import SELECTIONS, Config
from mnist_ff.data.catalog import in_own_place
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.optim.schedule import depends_on_length
from mnist_ff.runs.directory import AUGMENTED, CHECKPOINT, PREDICTIONS, PREVIOUS, Run
from mnist_ff.runs.find import JOBS, run_start, runs_below, sweep_start, sweeps_below
from mnist_ff.runs.jobs import read_plan, state_of
from mnist_ff.runs.numbers import counted
from mnist_ff.runs.places import DATA_PLACES, elsewhere, is_own
from mnist_ff.runs.reading import is_file, is_folder, is_taken
from mnist_ff.runs.records import Status, StopKind, Summary
from mnist_ff.runs.resolve import BEST, LAST, resolve_run
from mnist_ff.runs.search_result import load_search_result
from mnist_ff.runs.tables import BATCH_COLUMNS, read_batches

if TYPE_CHECKING:
    from mnist_ff.config.compose import Composer  # it imports Hydra, which a sweep's worker does without

RESUMABLE_KEYS = {
    "data.mirrors",
    "data.path",
    "data.root",
    "trainer.checkpoint_epochs",
    "trainer.checkpoint_every",
    "trainer.epochs",
    "trainer.evaluate_every",
    "trainer.max_seconds",
    "trainer.plots",
    "trainer.score_train",
    "trainer.sync_every",
    "trainer.target_accuracy",
}
"""Keys that a resume may change: they do not change any step of training."""
RESUMABLE_WITH_WARNING = {"optimizer.lr", "trainer.device", "trainer.threads", "trainer.precision"}
"""Keys that a resume may change with a warning: they change the steps to come. The change is recorded."""


def find_run(word: str, root: Path) -> Run:
    """The run that a word means: a directory, a run's name, `last` or `best`. `last` is the newest unfinished run in
    `root`.

    Errors: BadRunError; ConfigError for a sweep.
    """
    if word != LAST or is_folder(Path(word)):
        path = resolve_run(word, note, root)
        if is_file(path / JOBS):
            raise ConfigError(f"resume={word}: is a sweep; mnist-ff train -m resume={word} resumes its jobs")
        return Run.open(path)
    for path in sorted(runs_below(root), key=run_start, reverse=True):
        run = Run(path)
        with suppress(BadRunError):  # skip broken directories
            run.config()
            summary = run.summary()
            if summary is None or summary.status is Status.INTERRUPTED:
                note(f"last is {run.path}: the newest unfinished run")
                return run
    raise BadRunError(f"resume=last: no run in {root}/ is unfinished")


def find_sweep(word: str, root: Path) -> Path:
    """The sweep that a word means: a directory, a sweep's name, or `last`, the newest unfinished sweep in `root`.

    Errors: BadRunError.
    """
    if word == BEST:
        raise BadRunError(
            "resume=best: is a run: mnist-ff train resume=best trainer.epochs=N trains it further; with -m give "
            "a sweep directory, or last, the newest sweep with unfinished jobs"
        )
    if word != LAST or is_folder(Path(word)):
        return resolve_run(word, note, root, sweeps=True)
    for sweep in sorted(sweeps_below(root), key=sweep_start, reverse=True):
        with suppress(BadRunError, OSError):
            if _is_unfinished(sweep):
                note(f"last is {sweep}: the newest sweep with unfinished jobs")
                return sweep
    raise BadRunError(f"resume=last: no sweep in {root}/ has unfinished jobs")


def _is_unfinished(sweep: Path) -> bool:
    """Whether a resume would run anything: an unfinished job, or more trials of a search."""
    plan, result = read_plan(sweep), load_search_result(sweep)
    if result is not None:
        return sum(result.counts.get(state, 0) for state in ("complete", "pruned", "failed")) < result.n_trials
    return any(state_of(sweep, job) != "finished" for job in plan.jobs)


def recipe(config: Config) -> str:
    """The SHA-256 of the keys that define the experiment, which a resume must not change."""
    values = flat(identity_fields(config))
    kept = {
        key: value
        for key, value in values.items()
        if key not in RESUMABLE_KEYS | RESUMABLE_WITH_WARNING | {"name", "data.fallback"}
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def changed(base: Config, values: Mapping[str, Any]) -> Config:
    """A config with some values changed, by dotted key; trackers and callbacks all at once. Errors: ConfigError."""
    plain = config_to_dict(base)
    for key, value in values.items():
        if key not in known_keys() and key not in SELECTIONS:
            raise ConfigError(f"{key}: no such key{nearest(key, known_keys())}")
        *sections, name = key.split(".")
        place = plain
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return config_from(plain, unregistered=True)


def given_values(composer: Composer, overrides: list[str]) -> dict[str, Any]:
    """The values of KEY=VALUE overrides by dotted key. logger= and callbacks= give the keys of all that are chosen.

    Errors: ConfigError for other groups, several values, + and ~.
    """
    values: dict[str, Any] = {}
    for key in SELECTIONS:
        if any(text.startswith(f"{key}=") for text in overrides):
            chosen = [text for text in overrides if text.startswith((f"{key}=", f"{key}."))]
            values[key] = config_to_dict(composer.run(chosen).config()).get(key, {})
            overrides = [text for text in overrides if text not in chosen]
    for override in composer.check(overrides):
        if override.kind != "CHANGE" or override.values is not None or override.key not in known_keys():
            raise ConfigError(f"{override.text}: only KEY=VALUE is allowed with a saved config")
        values[override.key] = override.value
    return values


def earlier_changes(run: Run) -> dict[str, Any]:
    """The changes of all earlier resumes, merged. Errors: BadRunError."""
    merged: dict[str, Any] = {}
    history = run.environment().get("history")
    if not isinstance(history, list):
        raise BadRunError(f"{run.file('environment.json')}: has no history of resumes")
    for entry in history:
        if not isinstance(entry, dict) or not isinstance(entry.get("changes"), dict):
            raise BadRunError(f"{run.file('environment.json')}: its history is not valid")
        merged |= entry["changes"]
    return merged


def saved_config(run: Run) -> Config:
    """The config that the run was last trained with. Errors: BadRunError."""
    config = run.config()
    if not is_taken(run.file("environment.json")):
        return config
    try:
        return changed(config, earlier_changes(run))
    except BadRunError:
        raise
    except ConfigError as error:
        raise BadRunError(f"{run.file('environment.json')}: its history: {error}") from None


def own_places(run: Run, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Changes of paths and URLs that another user chose, and a warning for each: data comes from this user's cache and
    mirrors, and trackers outside of the run's directory are not contacted.

    Nothing changes for a run that this user started, or for what is `given` on the command line. Errors: BadRunError.
    """
    saved = saved_config(run)
    if is_own_run(run):
        return {}, []
    return foreign_places(saved, given, str(run.path))


def is_own_run(run: Run) -> bool:
    """Whether this user started the run and chose its paths and URLs. Errors: BadRunError."""
    return is_own(saved_config(run), _place_seal(run))


def foreign_places(
    saved: Config, given: Mapping[str, Any], where: str, remedy: str = "give data.path=PATH on the command line"
) -> tuple[dict[str, Any], list[str]]:
    """This user's values of a config's paths and URLs that differ and are not `given`, by dotted key, and warnings.

    Trackers that write into the run's directory are kept. All other trackers are left out, and so are callbacks, which
    may write anywhere. Errors: ConfigError with the remedy for data files whose path is not given.
    """
    before, own = config_to_dict(saved), in_own_place(saved.data)
    now = config_to_dict(dataclasses.replace(saved, data=own))["data"]
    keys = [key for key in now if now[key] != before["data"][key] and f"data.{key}" not in given]
    if "path" in keys:
        raise ConfigError(
            f"{where}: its data.path={before['data']['path']} is not read, as somebody else may have chosen it; "
            f"{remedy}"
        )
    values: dict[str, Any] = {f"data.{key}": now[key] for key in keys}
    said = [f"{where}: its data.{key} is ignored; set data.{key}=... on the command line to use one" for key in keys]
    left = {} if "logger" in given else elsewhere(saved.logger)
    for name, place in left.items():
        said.append(f"{where}: its {name} ({place}) is not contacted; set logger={name} on the command line to use it")
    if left:
        values["logger"] = {name: keys for name, keys in before["logger"].items() if name not in left}
    if "callbacks" in before and "callbacks" not in given:
        chosen = ",".join(before["callbacks"])
        said.append(f"{where}: its callbacks are not used; set callbacks=[{chosen}] on the command line to use them")
        values["callbacks"] = {}
    return values, said


def places_of(config: Config) -> dict[str, Any]:
    """A config's paths and URLs by dotted key: those of the data, and all keys of trackers and callbacks."""
    plain = config_to_dict(config)
    data = {f"data.{key}": plain["data"][key] for key in DATA_PLACES if key in plain["data"]}
    return {**data, **{key: plain.get(key, {}) for key in SELECTIONS}}


def _place_seal(run: Run) -> Any:
    """The seal of the run's paths and URLs, from its start or its last resume."""
    if not is_taken(run.file("environment.json")):
        return None
    environment = run.environment()
    return [environment, *environment["history"]][-1].get("places")


def resumed_config(run: Run, values: Mapping[str, Any]) -> tuple[Config, dict[str, Any], list[str]]:
    """The config to resume with, the changes to record, and the warnings.

    Errors: ConfigError for a change that a resume cannot make.
    """
    saved = saved_config(run)
    config = changed(saved, values)
    old, new = flat(experiment(saved)), flat(experiment(config))
    changes = {key: new[key] for key in new if new[key] != old[key]}
    for key in changes:
        if key not in RESUMABLE_KEYS | RESUMABLE_WITH_WARNING:
            raise ConfigError(
                f"{key}={new[key]}: the run was trained with {old[key]}, which a resume cannot change\n"
                f"mnist-ff train --config-of {run.path} {key}=... starts a new run"
            )
    for key in SELECTIONS:  # a resume may change them; all their keys are recorded
        if getattr(config, key) != getattr(saved, key):
            changes[key] = config_to_dict(config).get(key, {})
    epochs = config.trainer.epochs
    warnings = [f"{key} changes from {old[key]} to {new[key]}" for key in changes if key in RESUMABLE_WITH_WARNING]
    if "trainer.epochs" in changes and depends_on_length(config.schedule):
        warnings.append(
            f"trainer.epochs changes from {old['trainer.epochs']} to {epochs}: the remaining batches follow "
            f"schedule={config.schedule.name} over {counted(epochs, 'epoch')}; earlier ones followed another schedule"
        )
    if "trainer.epochs" in changes:
        _check_epochs(run, epochs)
    return config, changes, warnings


def _check_epochs(run: Run, epochs: int) -> None:
    """Check that an ended run has not begun more epochs. Errors: ConfigError; RunError for a link in its directory."""
    summary = run.summary()
    if summary is None:
        return
    run.check_no_links()  # before anything is read through one
    last = next(iter(deque(read_batches(run.path), maxlen=1)), None)
    begun = summary.epochs if last is None else max(summary.epochs, int(last[BATCH_COLUMNS.index("epoch")] or 0) + 1)
    if epochs < begun:
        state = f"has finished {counted(begun, 'epoch')}" if begun == summary.epochs else f"is already in epoch {begun}"
        raise ConfigError(f"trainer.epochs={epochs}: {run.path} {state}; give {begun} or more")


def is_done(run: Run, config: Config) -> bool:
    """Whether nothing is left to train, and no file is missing that needs the network."""
    summary = run.summary()
    if summary is None or summary.status is not Status.FINISHED:
        return False
    kept = ["model.safetensors", PREDICTIONS, *([] if config.augment.name == "none" else [AUGMENTED])]
    if not all(run.file(name).exists() for name in kept) and any(
        run.file(name).exists() for name in (CHECKPOINT, PREVIOUS)
    ):
        return False
    return summary.epochs >= config.trainer.epochs or (summary.stopped_early and _is_enough(run, config, summary))


def _is_enough(run: Run, config: Config, summary: Summary) -> bool:
    """Whether the reason that ended a run before its last epoch would end it again at once."""
    stop, limit, target = summary.stop, config.trainer.max_seconds, config.trainer.target_accuracy
    if stop is not None and stop.kind is StopKind.TIME_LIMIT:
        return limit is not None and (summary.trained_seconds or 0.0) >= limit
    if stop is not None and stop.kind is StopKind.TARGET:
        last = run.epochs()[-1:]
        accuracies = [row.get("validation_accuracy", row.get("test_accuracy", 0.0)) for row in last]
        return target is not None and all(accuracy >= target for accuracy in accuracies)
    return True


def why_done(run: Run, config: Config) -> tuple[str, str]:
    """Why a run that is_done() has nothing left to train, and how to train further ("" if that is impossible)."""
    summary = run.summary()
    trainer, stop = config.trainer, None if summary is None else summary.stop
    if summary is None or summary.epochs >= trainer.epochs or stop is None:
        return (
            f"has finished its {counted(trainer.epochs, 'epoch')}",
            f"trainer.epochs={trainer.epochs + 1} or more continues training",
        )
    if stop.kind is StopKind.TIME_LIMIT:
        return (
            f"has trained for {summary.trained_seconds or 0.0:.1f} s",
            "a larger trainer.max_seconds, or null, trains on",
        )
    if stop.kind is StopKind.TARGET:
        return "has reached its target", "a higher trainer.target_accuracy, or null, trains on"
    return "stopped early", ""
