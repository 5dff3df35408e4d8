"""Names and formats of the files in a run directory. No torch, so that listing runs is quick."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mnist_ff.config.convert import config_to_dict, flat
from mnist_ff.config.registry import names, part
from mnist_ff.config.saved import parsed_config
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.errors import BadRunError, ConfigError, MissingFileError, RunError
from mnist_ff.files import first_link, remove_leftovers, write_text
from mnist_ff.runs.find import link_of_a_sweep, may_be_run
from mnist_ff.runs.lock import LOCK, locked
from mnist_ff.runs.reading import (
    Fields,
    is_folder,
    is_taken,
    opened,
    read_bytes,
    read_json,
    read_object,
    why_no_folder,
)
from mnist_ff.runs.records import MNIST_SPEC, DataSpec, Score, Status, Summary
from mnist_ff.runs.tables import BATCH_COLUMNS, BATCHES, EPOCHS, read_batches, read_epochs, without_gaps

T = TypeVar("T")

MAX_YAML_BYTES = 256 << 10
"""Bytes of a YAML file that is read; a run's config takes 2 KB."""

KILLED_EARLY = "the run was killed before it wrote its config; remove the directory and train again"
WANDBS_OWN = "wandb/*/logs/debug-core.log"
"""The one link that belongs into a run directory: wandb makes it anew for each run, and nobody writes through it."""
AUGMENTED = "augmented.safetensors"
"""Training images as they are and as a step sees them, of a run whose images are changed: `images` (R, C, *shape)
uint8, an image a row, itself first."""
HIDDEN = "hidden.safetensors"
"""Activity of the hidden layers on the test images: `N/NAME/mean` and `N/NAME/active`, (units,) float32, for layer N,
counted from 0; `map`, (P, 2) float32, for the images `map_rows` (P,); `images`, (K, *shape) uint8, of `image_rows`
(K,)."""
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
PREDICTIONS = "predictions.safetensors"
MAX_PREDICTIONS_BYTES, MAX_PREDICTIONS = 1 << 30, 10_000_000
"""Bytes of that file, and predictions in it, that are read. 10,000 predictions take 1 MB for 10 classes and 40 MB for
1,000, of which a reader needs a part."""
REPORT = "report.html"
GIT_DIFF = "git.diff"
"""What was changed since the commit that environment.json names."""
REWRITTEN_FILES = (
    "environment.json",
    GIT_DIFF,
    BATCHES,
    EPOCHS,
    "model.safetensors",
    PREDICTIONS,
    HIDDEN,
    AUGMENTED,
    "evaluation.json",
    REPORT,
    "summary.json",
    "config.yaml",
)
"""The files that starting over writes again."""


def check_saved(config: Config) -> None:
    """See that config.yaml will give a config back, before there is a directory. Errors: ConfigError naming a key."""
    _check_same(config, to_yaml(config).encode())


def _check_same(config: Config, content: bytes) -> None:
    """Errors: ConfigError where a config.yaml of this content means another config."""
    path = Path("config.yaml")
    try:
        found = flat(config_to_dict(parsed_config(path, content)))
    except ConfigError as error:
        raise ConfigError(f"config.yaml could not be read back: {error}") from None
    for key, value in flat(config_to_dict(config)).items():
        if key not in found or found[key] != value:
            raise ConfigError(f"{key}={value}: cannot be stored in config.yaml; give another value")


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Run:
        """Claim a directory for a new run; the folder itself may be there, such as that of a job that starts over.

        Errors: ConfigError when another run lives there or a file is in the way; RunError when the folder cannot be
        made.
        """
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.file("config.yaml").touch(exist_ok=False)
        except FileExistsError:
            raise ConfigError(f"{path}: already exists; two runs never share a directory") from None
        except NotADirectoryError as error:
            raise ConfigError(f"{path}: {error.strerror}; choose another folder with hydra.run.dir=FOLDER") from None
        except OSError as error:
            raise RunError(f"{path}: {error.strerror}; choose another folder with hydra.run.dir=FOLDER") from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run directory with a readable config.

        Errors: BadRunError naming what is missing.
        """
        run = cls(Path(path))
        if not is_folder(run.path):
            raise BadRunError(f"{path}: {why_no_folder(run.path)}; give a run directory, such as one in outputs/")
        if not may_be_run(run.path):
            why = f"; {KILLED_EARLY}" if run.was_only_made() else ""
            raise BadRunError(f"{path}: is not a run directory (it has no config.yaml){why}")
        with opened(run.file("config.yaml")):
            return run

    def was_only_made(self) -> bool:
        """Whether the directory is empty but for what comes before a config."""
        return all(
            path.name in (".hydra", LOCK, "train.log") or path.name.startswith(".config.yaml.")
            for path in self.path.iterdir()
        )

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    def config(self) -> Config:
        """The resolved config. Errors: BadRunError when it is invalid."""
        path = self.file("config.yaml")
        content = read_bytes(path, MAX_YAML_BYTES)
        if not content:
            raise BadRunError(f"{path}: is empty; {KILLED_EARLY}")
        try:
            return parsed_config(path, content)
        except ConfigError as error:
            raise BadRunError(str(error)) from None

    def write_config(self, config: Config) -> None:
        """Write config.yaml, once, and read it back. Errors: ConfigError naming a key that is not as it was."""
        path = self.file("config.yaml")
        write_text(path, to_yaml(config))
        _check_same(config, read_bytes(path, MAX_YAML_BYTES))

    def check_place(self) -> None:
        """Errors: RunError where the directory itself is a link of its sweep's, which leads elsewhere."""
        link = link_of_a_sweep(self.path)
        if link is not None:
            raise RunError(f"{link}: is a symbolic link; a sweep writes only inside its own directory")

    def check_no_links(self) -> None:
        """Errors: RunError for a link in the directory: nothing outside of it is written through one."""
        self.check_place()
        link = first_link(self.path, known=WANDBS_OWN)
        if link is not None:
            raise RunError(f"{link}: is a symbolic link; a run writes only inside its own directory")

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file whole. Errors: RunError when it cannot be written, ValueError for NaN (JSON has none)."""
        self.check_place()
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        try:
            write_text(self.file(name), text)
        except OSError as error:
            raise RunError(f"{self.file(name)}: {error.strerror}") from None

    def write_summary(self, summary: Summary) -> None:
        """Write summary.json: the run has ended."""
        self.write_json("summary.json", dataclasses.asdict(summary))

    def summary(self) -> Summary | None:
        """How the run ended, or None while it has not. Errors: BadRunError when the file is invalid."""
        path = self.file("summary.json")
        try:
            values = read_json(path)
        except MissingFileError:
            return None
        except BadRunError as error:
            said = str(error).removeprefix(f"{path}: ")
            raise BadRunError(f"{path}: not a run's summary ({said})") from None
        try:
            return _summary(Fields(values))
        except ValueError as error:
            raise BadRunError(f"{path}: not a run's summary ({error})") from None

    def start_over(self) -> None:
        """Remove what a run left that ended before its first checkpoint, so that it can be made again.

        The log stays. Errors: RunError.
        """
        try:
            for name in REWRITTEN_FILES:  # config.yaml last: it is what claims the directory
                self.file(name).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{error.filename}: {error.strerror}") from None
        remove_leftovers(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process. Errors: RunError when another one trains in it, or it holds a link."""
        self.check_no_links()
        with locked(self.path, "another process is training in this directory"):
            yield

    def environment(self) -> dict[str, Any]:
        """environment.json. Errors: BadRunError when it is invalid."""
        return read_object(self.file("environment.json"))

    def data_spec(self) -> DataSpec:
        """The images and classes that the run's network is for; MNIST's where environment.json does not say, as in
        runs from before other shapes, with the class names of its data set. Errors: BadRunError.
        """
        path = self.file("environment.json")
        if not is_taken(path):
            return _usual_spec(self.config())
        data = self.environment().get("data")
        if not isinstance(data, dict) or not {"shape", "classes"} & data.keys():
            return _usual_spec(self.config())
        try:
            fields = Fields(data, "data")
            shape = fields.items("shape")
            if not all(type(length) is int for length in shape):
                raise ValueError("data.shape is not a list of integers")
            spec = DataSpec(tuple(shape), fields.texts("classes"))
            fault = spec.fault()
        except ValueError as error:
            fault = str(error)
        if fault is not None:
            raise BadRunError(f"{path}: {fault}")
        return spec

    def losses(self) -> list[float]:
        """Every batch's loss, in order. Errors: BadRunError."""
        place = BATCH_COLUMNS.index("loss")
        losses = [row[place] for row in read_batches(self.path)]
        if None in losses:
            raise BadRunError(f"{self.file(BATCHES)}: a row has no loss")
        return [loss for loss in losses if loss is not None]

    def epochs(self) -> list[dict[str, float]]:
        """Every epoch's metrics by column, in order; an empty cell has no key. Errors: BadRunError."""
        return [without_gaps(row) for row in read_epochs(self.path)]


def _usual_spec(config: Config) -> DataSpec:
    """What the run's data set has by itself, which needs no mention in environment.json."""
    if config.data.name not in names("data"):
        return MNIST_SPEC
    spec = getattr(part("data", config.data.name), "spec", MNIST_SPEC)
    assert isinstance(spec, DataSpec)
    return spec


FIELDS = {field.name for field in dataclasses.fields(Summary)}


def _summary(values: Fields) -> Summary:
    """A summary from a file, every field checked. Errors: ValueError naming the field."""
    values.check_known(FIELDS)
    status = values.text("status")
    if status not in set(Status):
        raise ValueError(f"status {status[:40]!r} is not a known status")
    seconds = Fields(values.values.get("seconds", {}), "seconds")
    return Summary(
        status=Status(status),
        cause=values.text_or_null("cause"),
        score=_score(values.fields_or_null("score")),
        epochs=values.whole("epochs"),
        steps=values.whole("steps"),
        parameters=values.whole("parameters"),
        seed=values.whole("seed"),
        name=values.text_or_null("name"),
        data=values.text("data"),
        data_instead_of=values.text_or_null("data_instead_of"),
        seconds={part: seconds.number(part) for part in seconds.values},
        trained_seconds=_optional(values, "trained_seconds", values.number),
        target_reached=_optional(values, "target_reached", values.flag),
        validation=_optional(values, "validation", lambda key: _score(values.fields(key))),
        not_learning=_optional(values, "not_learning", values.text),
    )


def _optional(values: Fields, key: str, read: Callable[[str], T]) -> T | None:
    """A field that may be null or missing, as in older summaries. Errors: ValueError."""
    return None if values.values.get(key) is None else read(key)


def _score(values: Fields | None) -> Score | None:
    """A score that images can give. Errors: ValueError."""
    if values is None:
        return None
    values.check_known(("loss", "accuracy", "correct", "samples"))
    score = Score(values.number("loss"), values.share("accuracy"), values.whole("correct"), values.whole("samples"))
    within = score.correct <= score.samples and 0 < score.samples < 1 << 31
    if not within or abs(score.accuracy * score.samples - score.correct) > 0.51:
        raise ValueError("its score is impossible for its number of images")
    return score
