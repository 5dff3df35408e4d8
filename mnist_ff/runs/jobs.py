"""jobs.json: the jobs of a sweep, saved before the first one starts; resuming uses it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.config.legacy import identity_fields, with_legacy_keys
from mnist_ff.config.own_parts import PartsFile, in_use
from mnist_ff.config.paths import printed
from mnist_ff.config.schema import Config, DataConfig, DownloadConfig
from mnist_ff.errors import BadRunError, ConfigError, MissingFileError, MissingPartsError
from mnist_ff.files import first_link, write_text
from mnist_ff.runs.directory import WANDBS_OWN, Run
from mnist_ff.runs.find import JOBS
from mnist_ff.runs.places import is_own, seal
from mnist_ff.runs.reading import Fields, check_file, is_taken, json_values, listed, read_bytes, read_json
from mnist_ff.runs.records import Status
from mnist_ff.runs.search_result import SEARCH
from mnist_ff.runs.slurm import SUBMITTED

OWN = {JOBS, SUBMITTED, SEARCH, "multirun.yaml", "search.journal", "report.html"} | {
    f"sweep.{kind}" for kind in ("csv", "json", "md", "png")
}
"""A sweep's own files, in its directory beside its jobs."""
LONGEST_PATH = 4096
LARGEST_JOBS_BYTES = 128 << 20
"""Of a jobs.json that is read; 10,000 jobs take 10 MB."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    number: int
    overrides: tuple[str, ...]
    """The words that make it this job, as Hydra reads them."""
    subdir: str
    """Its directory below the sweep's, with / between parts."""
    config: Config
    """The resolved config, before seed=null and trainer.threads=null or auto are decided."""
    own: bool = True
    """Whether its places were chosen by this user."""

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the resolved config, without its trackers."""
        return digest(self.config)


@dataclass(frozen=True)
class SweepPlan:
    """All jobs of a sweep directory, in order."""

    jobs: tuple[Job, ...]
    overrides: tuple[str, ...] = ()
    """The overrides that the sweep was started with, those of Hydra's keys too; `words` in jobs.json."""
    own: bool = True
    """Whether this user gave them."""
    config_dirs: tuple[str, ...] = ()
    """The user's own config folders, absolute."""
    parts: tuple[PartsFile, ...] = field(default_factory=in_use, compare=False)
    """The files of own parts that its jobs need."""
    started: str | None = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), compare=False)
    """When the sweep was, in ISO format; None where it is older than this."""

    def find(self, subdir: str) -> Job:
        """The job of this directory. Errors: KeyError."""
        for job in self.jobs:
            if job.subdir == subdir:
                return job
        raise KeyError(subdir)


def digest(config: Config) -> str:
    """The SHA-256 of a resolved config, whatever tracks it."""
    return hashlib.sha256(json.dumps(identity_fields(config), sort_keys=True).encode()).hexdigest()


def write_plan(directory: Path, plan: SweepPlan) -> None:
    """Put jobs.json into the sweep's directory, whole. Errors: OSError; ValueError when two jobs share a directory."""
    subdirs = {job.subdir for job in plan.jobs}
    if len(subdirs) < len(plan.jobs):
        raise ValueError("two jobs share a directory")
    jobs = [
        {
            "number": job.number,
            "overrides": list(job.overrides),
            "subdir": job.subdir,
            "digest": job.digest,
            "config": config_to_dict(job.config),
            "places": seal(job.config) if job.own else None,
        }
        for job in plan.jobs
    ]
    # a job a line: small, and still to be read by people
    lines = ",\n".join(json.dumps(job, allow_nan=False) for job in jobs)
    started = {} if plan.started is None else {"started": plan.started}  # first: a list of sweeps looks no further
    head: dict[str, Any] = {
        **started,
        "words": list(plan.overrides),
        "seal": seal(plan.overrides) if plan.own else None,
    }
    if plan.config_dirs:
        head["config_dirs"] = list(plan.config_dirs)
    if plan.parts:
        head["parts"] = [{key: value for key, value in vars(file).items() if value is not None} for file in plan.parts]
    write_text(directory / JOBS, f'{json.dumps(head)[:-1]},\n"jobs": [\n{lines}\n]}}\n')


def read_plan(directory: Path) -> SweepPlan:
    """The jobs of a sweep directory.

    Nothing in the file is trusted: configs are checked, and no subdirectory leads out of the sweep's.
    Errors: BadRunError naming the file.
    """
    path = directory / JOBS
    if not is_taken(path):
        raise BadRunError(f"{directory}: is not a sweep directory (it has no {JOBS})")
    values = read_json(path, LARGEST_JOBS_BYTES)
    try:
        plan = Fields(values)
        read = [_job(Fields(job, "a job"), path) for job in plan.items("jobs")]
        if len({job.subdir for job in read}) < len(read):
            raise ValueError("two jobs share a directory")
        started, overrides = plan.values.get("started"), plan.texts("words")
        own = is_own(overrides, plan.values.get("seal"))
        parts = tuple(parts_file(Fields(one, "parts")) for one in plan.items("parts")) if "parts" in values else ()
        folders = plan.texts("config_dirs") if "config_dirs" in values else ()
        return SweepPlan(tuple(read), overrides, own, folders, parts, started if isinstance(started, str) else None)
    except ConfigError as error:
        raise BadRunError(str(error)) from None
    except ValueError as error:
        raise BadRunError(f"{path}: not a sweep's jobs ({error})") from None


def parts_file(values: Fields) -> PartsFile:
    """A parts file as a run or sweep recorded it: names, of which nothing is looked up. Errors: ValueError."""
    path, sha256, module = values.text("path"), values.text("sha256"), values.values.get("module")
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not os.path.isabs(path) or len(path) > LONGEST_PATH:
        raise ValueError("a path or sum of a parts file is not possible")
    if module is not None and not (isinstance(module, str) and re.fullmatch(r"\w[\w.]{0,200}", module)):
        raise ValueError("the name of a parts file's module is not possible")
    return PartsFile(path, sha256, module)


def check_parts_of(plan: SweepPlan, directory: Path) -> None:
    """See that a sweep's parts files were given, each with the content that it had.

    Errors: MissingPartsError with what to type; ConfigError for another content.
    """
    missing = [file for file in plan.parts if file.sha256 not in {one.sha256 for one in in_use()}]
    if not missing:
        return
    if not in_use():
        paths = ", ".join(printed(file.path) for file in missing)
        text = f"{directory}: its jobs have parts of {paths}, which a resume must be given (copies: each job's parts/)"
        raise MissingPartsError(text, [word for file in missing for word in ("--parts", file.word)])
    given = ", ".join(f"{file.path} ({file.sha256})" for file in in_use())
    raise ConfigError(
        f"{directory}: was started with {printed(missing[0].path)} of SHA-256 {missing[0].sha256}, and --parts gives "
        f"{given}; give that file (copies: each job's parts/), or start a new sweep"
    )


def read_job(directory: Path, subdir: str) -> Job:
    """One job, from its line alone where the file is as write_plan() left it: thousands of jobs each ask for theirs.

    Errors: BadRunError naming the file.
    """
    path = directory / JOBS
    with suppress(ValueError, ConfigError):
        content = read_bytes(path, LARGEST_JOBS_BYTES)
        found = content.index(f'"subdir": {json.dumps(subdir)}, "digest": '.encode())
        line = content[content.rindex(b"\n", 0, found) : content.index(b"\n", found)]
        job = _job(Fields(json_values(path, line.rstrip(b","))), path)
        if job.subdir == subdir:
            return job
    try:
        return read_plan(directory).find(subdir)
    except KeyError:
        raise BadRunError(f"{path}: has no job {subdir}") from None


def _job(values: Fields, path: Path) -> Job:
    """A job from a file. Errors: ValueError, ConfigError."""
    number, subdir = values.values.get("number"), values.values.get("subdir")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"a job's number is {number!r}")
    check_subdir(subdir)
    assert isinstance(subdir, str)
    config = config_from(with_legacy_keys(values.fields("config").values), str(path), unregistered=True)
    job = Job(number, values.texts("overrides"), subdir, config)
    if job.digest != values.text("digest"):
        raise ValueError(f"the config of job {number} differs from the saved one")
    return dataclasses.replace(job, own=is_own(job.config, values.values.get("places")))


def check_subdir(subdir: Any) -> None:
    """Check that a job's directory is inside the sweep's, with a plain name. Errors: ValueError."""
    if not isinstance(subdir, str) or not subdir or not subdir.isprintable() or "\\" in subdir:
        raise ValueError(f"{subdir!r} is not a directory name")
    parts = PurePosixPath(subdir).parts
    if PurePosixPath(subdir).is_absolute() or ".." in parts or not parts or parts[0].startswith("."):
        raise ValueError(f"{subdir!r} is outside the sweep's directory")
    if parts[0] in OWN:
        raise ValueError(f"{subdir!r} is the name of one of the sweep's files")


State = Literal["finished", "begun", "new"]


def state_of(directory: Path, job: Job) -> State:
    """How far a job is, from its run directory: finished with this config, begun in some way, or nothing there.

    Errors: BadRunError when its directory holds a different experiment or an invalid file.
    """
    run = Run(directory / job.subdir)
    state = _state(run, job)
    if state == "finished":
        return state
    link = _link_on_the_way(directory, job.subdir) or first_link(run.path, known=WANDBS_OWN)
    if link is not None:
        raise BadRunError(f"{link}: is a symbolic link; a sweep writes only inside its own directory")
    return state


def link_among_own_files(directory: Path) -> Path | None:
    """The first of a sweep's own files that is a link. Optuna's lock of its journal is one, and leads nowhere."""
    for path in sorted(listed(directory)):
        own = path.name in OWN or path.name.startswith((".", "search.journal"))
        if own and path.name != "search.journal.lock" and os.path.islink(path):
            return path
    return None


def _link_on_the_way(directory: Path, subdir: str) -> Path | None:
    parts = PurePosixPath(subdir).parts
    places = (directory.joinpath(*parts[: count + 1]) for count in range(len(parts)))
    return next((place for place in places if os.path.islink(place)), None)


def _state(run: Run, job: Job) -> State:
    try:
        size = check_file(run.file("config.yaml"))
    except MissingFileError:
        return "new"
    if size == 0:  # claimed, and killed before anything else
        return "begun"
    if not same_experiment(job.config, run.config()):
        raise BadRunError(f"{run.path}: holds a different experiment than job {job.number} of the sweep")
    summary = run.summary()
    return "finished" if summary is not None and summary.status in (Status.FINISHED, Status.PRUNED) else "begun"


def same_experiment(planned: Config, found: Config) -> bool:
    """Whether a run's config is a job's, with what was open there decided: seed, threads and the place of the data."""
    seed = found.seed if planned.seed is None else planned.seed
    threads = planned.trainer.fixed_threads or found.trainer.threads
    resolved = dataclasses.replace(
        planned,
        seed=seed,
        data=_from_the_same_place(planned.data, found.data),
        trainer=dataclasses.replace(planned.trainer, threads=threads),
        logger=found.logger,
        callbacks=found.callbacks,
    )
    return resolved == found


def _from_the_same_place(planned: DataConfig, found: DataConfig) -> DataConfig:
    data = dataclasses.replace(planned, root=found.root)
    if isinstance(data, DownloadConfig) and isinstance(found, DownloadConfig):
        return dataclasses.replace(data, mirrors=found.mirrors)
    return data


def check_same_grid(saved: SweepPlan, asked: Sequence[Job]) -> None:
    """Refuse other jobs than the saved ones. Errors: ConfigError with the first difference."""
    for old, new in zip(saved.jobs, asked, strict=False):
        if old.digest != new.digest:
            raise ConfigError(
                f"resume=: job {new.number} would be {_named(new)}, but this sweep's is {_named(old)}; "
                "the jobs of a sweep cannot be changed: leave out the keys, or start a new sweep"
            )
    if len(saved.jobs) != len(asked):
        raise ConfigError(
            f"resume=: {len(asked)} jobs requested, but this sweep has {len(saved.jobs)}; "
            "the jobs of a sweep cannot be changed: leave out the keys, or start a new sweep"
        )


def _named(job: Job) -> str:
    return " ".join(job.overrides) or "the defaults"
