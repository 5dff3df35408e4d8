"""Names and formats of the files in a run directory. No torch: listing a thousand runs must be quick."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnist_ff.config.convert import config_from, config_to_dict, flat
from mnist_ff.config.legacy import with_legacy_keys
from mnist_ff.config.paths import check_text, expanded, printed
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml, yaml_values
from mnist_ff.errors import BadRunError, ConfigError, MissingFileError, RunError
from mnist_ff.files import first_link, remove_leftovers, replacing, write_text
from mnist_ff.runs.lock import LOCK, locked
from mnist_ff.runs.reading import (
    Fields,
    check_file,
    is_file,
    is_folder,
    listed,
    opened,
    read_bytes,
    read_json,
    read_lines,
    read_object,
    read_rows,
    why_no_folder,
    written_at,
)
from mnist_ff.runs.records import BatchRecord, EpochRecord, Score, Status, Summary

LARGEST_YAML = 256 << 10
"""Bytes of a YAML file that is read; a run's config takes 2 KB."""
OUTPUTS = Path("outputs")
"""Where runs go, unless hydra.run.dir says another place."""
LAST, BEST = "last", "best"
"""Words that stand for a run in OUTPUTS."""
LEVELS = 4
"""Folders below a sweep's or outputs/ in which a run may lie."""
NEAR = 4096
"""Bytes of a file's beginning in which the moment that it began stands."""
EPOCH = datetime.fromtimestamp(0, UTC)
CLOCKS_DIFFER = 86_400
"""Seconds that another machine's clock may be ahead."""

BATCH_COLUMNS = ("step", "epoch", "batch", "loss", "lr", "samples")
KILLED_EARLY = "its run was killed before it wrote its config: nothing is lost, remove the directory and train again"
LONGEST_NAME = 255
"""Bytes in a file's name, as Linux and macOS have it."""
EPOCH_COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "train_eval_loss",
    "train_eval_accuracy",
    "test_loss",
    "test_accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
)
WANDBS_OWN = "wandb/*/logs/debug-core.log"
"""The one link that belongs into a run directory: wandb makes it anew for each run, and nobody writes through it."""
OF_A_SWEEP = ("jobs.json", "multirun.yaml")
"""Files that a sweep's directory has, by which it is known."""
AUGMENTED = "augmented.safetensors"
"""Training images as they are and as a step sees them, of a run whose images are changed: `images` (R, C, 28, 28)
uint8, an image a row, itself first."""
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
REPORT = "report.html"
GIT_DIFF = "git.diff"
"""What was changed since the commit that environment.json names."""
NUMBERS = (
    "environment.json",
    GIT_DIFF,
    "batches.csv",
    "epochs.csv",
    "model.safetensors",
    "predictions.safetensors",
    AUGMENTED,
    "evaluation.json",
    REPORT,
    "summary.json",
    "config.yaml",
)
"""The files that starting over writes again."""


def read_saved_yaml(path: Path) -> Any:
    """A YAML file as plain values that a stranger may have written: no link, no pipe, and of limited size.

    Errors: BadRunError naming the file.
    """
    content = read_bytes(path, LARGEST_YAML)
    try:
        return yaml_values(path, content)
    except ConfigError as error:
        raise BadRunError(str(error)) from None


def output_directory(key: str, text: str) -> Path:
    """Where the value of hydra.run.dir or hydra.sweep.dir means, as an absolute path.

    An absolute one may be anywhere, since someone wrote it out; a relative one stays below the working folder.
    Errors: ConfigError for what would be another place, or a name that other programs misread.
    """
    if not text:
        raise ConfigError(f"{key}=: is empty; give a folder, or leave it out")
    check_text(key, text)
    path = Path(expanded(key, text))
    if ".." in path.parts:
        raise ConfigError(f"{key}={text}: leads out of the working folder; write the absolute path if that is meant")
    if any(part.startswith("-") for part in path.parts):
        raise ConfigError(f"{key}={text}: a name in it begins with -, which commands take for an option")
    if not text.isprintable():
        raise ConfigError(f"{key}={printed(text)}: holds a character that cannot be printed")
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > LONGEST_NAME:
        raise ConfigError(f"{key}: a name in it has {longest} bytes; folders have at most {LONGEST_NAME}")
    return path.absolute()


def check_saved(config: Config) -> None:
    """See that config.yaml will give a config back, before there is a directory. Errors: ConfigError naming a key."""
    _check_same(config, to_yaml(config).encode())


def _check_same(config: Config, content: bytes) -> None:
    """Errors: ConfigError where a config.yaml of this content means another config."""
    path = Path("config.yaml")
    try:
        found = flat(config_to_dict(config_from(with_legacy_keys(yaml_values(path, content)), where=str(path))))
    except ConfigError as error:
        raise ConfigError(f"config.yaml could not be read back: {error}") from None
    for key, value in flat(config_to_dict(config)).items():
        if key not in found or found[key] != value:
            raise ConfigError(f"{key}={value}: config.yaml would not give it back; give another value")


def batch_row(record: BatchRecord) -> str:
    """A line of batches.csv. Nine digits bring a float32 loss back exactly."""
    loss, lr = f"{record.loss:.9g}", f"{record.lr:.9g}"
    return f"{record.step},{record.epoch},{record.batch},{loss},{lr},{record.samples}\n"


def epoch_row(record: EpochRecord) -> str:
    """A line of epochs.csv; the columns of an absent score are empty."""
    figures = [f"{record.train_loss:.9g}", f"{record.train_accuracy:.9g}"]
    for score in (record.train, record.test, record.validation):
        figures += ["", ""] if score is None else [f"{score.loss:.9g}", f"{score.accuracy:.9g}"]
    return f"{record.epoch},{','.join(figures)},{record.seconds:.4f}\n"


def chosen(word: str, say: Callable[[str], None], root: Path = OUTPUTS) -> Path:
    """The path that a word means: itself, or for `last` the newest run in `root`, for `best` the best finished one.

    A directory that is really called so comes first. `say` hears which run was taken, and why.
    Errors: BadRunError where `root` has no such run.
    """
    if not word:
        raise BadRunError(f"an empty word names no run; give a run directory, {LAST} or {BEST}")
    if word not in (LAST, BEST) or is_folder(Path(word)):
        return Path(word)
    runs = sorted(runs_below(root), key=began, reverse=True)
    if not runs:
        raise BadRunError(f"{word}: there is no run in {root}/; mnist-ff train makes one, or give a run directory")
    path, why = _last(runs, root) if word == LAST else _best(runs, root)
    say(f"{word} is {path}: {why}")
    return path


def _last(runs: list[Path], root: Path) -> tuple[Path, str]:
    """The first of the runs that can be read, the newest first in `runs`; and why it is that one."""
    for place, path in enumerate(runs):
        if _is_readable(Run(path)):
            skipped = f" ({place} newer broken)" if place else ""
            return path, f"the newest of {len(runs)}{skipped}"
    raise BadRunError(f"{LAST}: every run in {root}/ is broken; mnist-ff runs says why")


def _is_readable(run: Run) -> bool:
    """Whether a run's config can be read, and its summary and its epochs where there are some."""
    try:
        run.config()
        run.summary()
        for _ in read_rows(run.file("epochs.csv"), EPOCH_COLUMNS, torn=True):
            pass
    except MissingFileError:  # it has only begun
        return True
    except BadRunError:
        return False
    return True


def _best(runs: list[Path], root: Path) -> tuple[Path, str]:
    """The best of the finished runs on the data of the newest of them, the newest first in `runs`; and why it is.

    It goes by validation accuracy where all have a validation split, else by test accuracy, as rankings do.
    """
    scored = [entry for entry in map(_final, runs) if entry is not None]
    if not scored:
        raise BadRunError(f"{BEST}: no run in {root}/ has finished; mnist-ff runs shows what there is")
    newest = scored[0]
    same = [entry for entry in scored if (entry.data, entry.images) == (newest.data, newest.images)]
    split = all(entry.validation is not None for entry in same)
    figures = [(entry.validation if split and entry.validation is not None else entry.test, entry) for entry in same]
    accuracy, best = max(figures, key=lambda figure: figure[0])  # of equals the first, which is the newest
    kind = "validation" if split else "test"
    return best.path, f"{accuracy:.2%} {kind} accuracy, the best of {len(same)} finished on {best.data}"


@dataclass(frozen=True)
class _Final:
    """What a finished run scored."""

    path: Path
    data: str
    images: int
    """Test images."""
    test: float
    validation: float | None


def _final(path: Path) -> _Final | None:
    """The final accuracies of a finished run; None for any other: a broken directory is not the one that is meant."""
    run = Run(path)
    try:
        run.config()
        summary = run.summary()
        if summary is None or summary.status is not Status.FINISHED or summary.score is None:
            return None
        validation = (run.epochs() or [{}])[-1].get("validation_accuracy")
        final = _Final(path, summary.data, summary.score.samples, summary.score.accuracy, validation)
    except BadRunError:
        return None
    return final


def runs_below(path: Path, depth: int = LEVELS) -> Iterator[Path]:
    """Directories with a config.yaml, at any of the first levels: a subdirectory's name may hold a slash.

    Among them those that cannot be looked into, as they may be runs: who reads them says why they are broken.
    Errors: BadRunError where `path` itself, which is there, cannot be listed.
    """
    if is_folder(path):
        yield from _runs_in(listed(path), depth)


def _runs_in(entries: Iterable[Path], depth: int) -> Iterator[Path]:
    for folder in entries:
        if folder.name.startswith(".") or not is_folder(folder):
            continue
        if may_be_run(folder):
            yield folder
        elif depth > 1 and not folder.is_symlink():
            try:
                inner = listed(folder)
            except BadRunError:
                yield folder
                continue
            yield from _runs_in(inner, depth - 1)


def may_be_run(folder: Path) -> bool:
    """Whether a folder has a config.yaml, of whatever kind, or cannot be asked."""
    try:
        os.lstat(folder / "config.yaml")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def link_of_a_sweep(path: Path) -> Path | None:
    """The first link on the way to a run from the directory of the sweep that it belongs to; None without a sweep."""
    whole = Path(os.path.abspath(path))
    links: list[Path] = []
    for place in (whole, *whole.parents[:LEVELS]):
        if links and any(is_file(place / name) for name in OF_A_SWEEP):
            return links[-1]
        if os.path.islink(place):
            links.append(place)
    return None


def began(path: Path) -> tuple[float, float]:
    """When a run began, to order runs by, in seconds since 1970, whatever the clock on the wall showed there: as its
    environment.json says, else the time of its config.yaml; that time again tells runs of one second apart."""
    written = written_at(path / "config.yaml")
    started = _started(path / "environment.json")
    return (written if started is None else started), written


def sweep_began(path: Path) -> tuple[float, float]:
    """The same of a sweep: as its jobs.json says, else when the first of its runs began, else its files' own time."""
    jobs, made = OF_A_SWEEP
    written = written_at(path / made) or written_at(path / jobs)  # a search writes its jobs again and again
    started = _started(path / jobs)
    if started is None:
        with suppress(BadRunError):  # a folder that cannot be listed
            started = min((began(run)[0] for run in runs_below(path)), default=None)
    return (written or written_at(path) if started is None else started), written


def _started(path: Path) -> float | None:
    """A moment near a file's beginning, in seconds since 1970; None for one that has no offset from UTC or that no
    clock can have shown yet."""
    try:
        with opened(path) as file:
            found = re.search(rb'"started"\s*:\s*"([0-9TZ:.+-]{1,40})"', file.read(NEAR))
        moment = datetime.fromisoformat(found[1].decode()) if found else None
    except (BadRunError, ValueError):
        return None
    if moment is None or moment.utcoffset() is None:
        return None
    seconds = (moment - EPOCH).total_seconds()
    return seconds if 0 < seconds < time.time() + CLOCKS_DIFFER else None


def shown(path: Path) -> Path:
    """A path as people type it: relative where it lies below the working folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Run:
        """Claim a directory for a new run; Hydra may have made it and its .hydra already.

        Errors: ConfigError when another run lives there or a file is in the way; RunError when the folder cannot be
        made.
        """
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.file("config.yaml").touch(exist_ok=False)
        except FileExistsError:
            raise ConfigError(f"{path}: there is already something here; two runs never share a directory") from None
        except NotADirectoryError as error:
            raise ConfigError(f"{path}: {error.strerror}; choose another place with hydra.run.dir=FOLDER") from None
        except OSError as error:
            raise RunError(f"{path}: {error.strerror}; choose another place with hydra.run.dir=FOLDER") from None
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
        """The resolved config. Errors: BadRunError when it is not one of ours."""
        path = self.file("config.yaml")
        if check_file(path) == 0:
            raise BadRunError(f"{path}: is empty; {KILLED_EARLY}")
        try:
            values = read_saved_yaml(path)
            return config_from(with_legacy_keys(values) if isinstance(values, dict) else {}, where=str(path))
        except BadRunError:
            raise
        except ConfigError as error:
            raise BadRunError(str(error)) from None

    def write_config(self, config: Config) -> None:
        """Write config.yaml, once, and read it back. Errors: ConfigError naming a key that is not as it was."""
        path = self.file("config.yaml")
        write_text(path, to_yaml(config))
        _check_same(config, read_bytes(path, LARGEST_YAML))

    def check_place(self) -> None:
        """Errors: RunError where the directory itself is a link of its sweep's, which leads elsewhere."""
        link = link_of_a_sweep(self.path)
        if link is not None:
            raise RunError(f"{link}: is a link; a sweep's runs are written into its own directory only")

    def check_no_links(self) -> None:
        """Errors: RunError for a link in the directory: nothing outside of it is written through one."""
        self.check_place()
        link = first_link(self.path, known=WANDBS_OWN)
        if link is not None:
            raise RunError(f"{link}: is a link; a run's files are written into its own directory only")

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
        """How the run ended, or None while it has not. Errors: BadRunError when the file is not one of ours."""
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
            for name in NUMBERS:  # config.yaml last: it is what claims the directory
                self.file(name).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{error.filename}: {error.strerror}") from None
        remove_leftovers(self.path)

    def cut(self, steps: int, epochs: int) -> None:
        """Cut batches.csv and epochs.csv to what a checkpoint knows: later rows and a torn last line go.

        Errors: BadRunError when rows that the checkpoint knows are missing.
        """
        sizes = [
            (self.file(name), self._known_size(name, columns, count))
            for name, columns, count in (("batches.csv", BATCH_COLUMNS, steps), ("epochs.csv", EPOCH_COLUMNS, epochs))
        ]
        for path, size in sizes:
            with opened(path) as file, replacing(path) as temporary, temporary.open("wb") as kept:
                while size:
                    piece = file.read(min(size, 1 << 20))
                    if not piece:
                        raise BadRunError(f"{path}: became shorter while it was read")
                    size -= kept.write(piece)

    def _known_size(self, name: str, columns: tuple[str, ...], count: int) -> int:
        """The bytes of a CSV file's head and its first `count` rows. Errors: BadRunError where they are others."""
        path = self.file(name)
        size = len(",".join(columns)) + 1
        lines = read_lines(path, columns)
        for number in range(count):
            line = next(lines, b"")
            if line.partition(b",")[0] != b"%d" % number or not line.endswith(b"\n"):
                raise BadRunError(f"{path}: its rows are not those of a run's first {count} {name.split('.')[0]}")
            size += len(line)
        return size

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process. Errors: RunError when another one trains in it, or it holds a link."""
        self.check_no_links()
        with locked(self.path, "another process is training in it"):
            yield

    def environment(self) -> dict[str, Any]:
        """environment.json. Errors: BadRunError when it is not one of ours."""
        return read_object(self.file("environment.json"))

    def losses(self) -> list[float]:
        """Every batch's loss, in order. Errors: BadRunError."""
        path, place = self.file("batches.csv"), BATCH_COLUMNS.index("loss")
        found = [row[place] for row in read_rows(path, BATCH_COLUMNS)]
        losses = [loss for loss in found if loss is not None]
        if len(losses) < len(found):
            raise BadRunError(f"{path}: a row has no loss")
        return losses

    def epochs(self) -> list[dict[str, float]]:
        """Every epoch's figures by column, in order; an empty cell has no key. Errors: BadRunError."""
        rows = read_rows(self.file("epochs.csv"), EPOCH_COLUMNS)
        figures = [zip(EPOCH_COLUMNS, row, strict=True) for row in rows]
        return [{column: cell for column, cell in row if cell is not None} for row in figures]


FIELDS = {field.name for field in dataclasses.fields(Summary)}


def _summary(values: Fields) -> Summary:
    """A summary from a file, every field checked. Errors: ValueError naming the field."""
    values.check_known(FIELDS)
    status = values.text("status")
    if status not in set(Status):
        raise ValueError(f"status {status[:40]!r} is none that a run has")
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
    )


def _score(values: Fields | None) -> Score | None:
    """A score that images can give. Errors: ValueError."""
    if values is None:
        return None
    values.check_known(("loss", "accuracy", "correct", "samples"))
    score = Score(values.number("loss"), values.share("accuracy"), values.whole("correct"), values.whole("samples"))
    within = score.correct <= score.samples and 0 < score.samples < 1 << 31
    if not within or abs(score.accuracy * score.samples - score.correct) > 0.51:
        raise ValueError("its score is none that images can give")
    return score
