"""Classify images, photographs or test images with a run's network."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mnist_ff.analysis.calibration import Threshold, threshold
from mnist_ff.analysis.console import note, tell_json, warning
from mnist_ff.analysis.labelled import Labelled, tell_labelled
from mnist_ff.analysis.reading_text import tell_reading, tell_threshold
from mnist_ff.analysis.readings import Predict, Reading, as_json, read, threshold_json
from mnist_ff.commands.evaluate import (
    add_data_path,
    check_fits,
    data_of,
    warn_of_changes,
    with_data_path,
)
from mnist_ff.config.paths import argument, path_argument
from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError, ConfigError, MissingFileError, printable
from mnist_ff.runs.directory import Run
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.predictions import read_held_out
from mnist_ff.runs.records import MNIST_SPEC, DataSpec
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.torch_import import importing_torch

if TYPE_CHECKING:
    from torch import nn

    from mnist_ff.images.prepared import Pixels, Preparation, Seen

PICTURED = 12
"""Up to this number of images, each is shown; with more, only the predictions."""
CLOTHES = "fashion_mnist"
AT_ONCE, NUMBERS_AT_ONCE = 256, 8 << 20
"""Pictures, and values in them, that are in memory at a time."""
PROGRESS_S = 5.0
"""Seconds between two lines of progress."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", type=argument, metavar="RUN", help="run directory or name, or last, best")
    parser.add_argument(
        "images",
        nargs="*",
        default=[],
        type=path_argument,
        metavar="IMAGE",
        help="PNG or JPEG files, or folders, read recursively",
    )
    parser.add_argument(
        "--index", nargs="+", type=_number, metavar="N", default=[], help="test images by index, from 0"
    )
    parser.add_argument(
        "--labels", action="store_true", help="IMAGE is a folder with a folder for each class: print the accuracy"
    )
    parser.add_argument("--single", action="store_true", help="read each picture as one digit; never cut it")
    parser.add_argument(
        "--unsure-below",
        type=_share,
        metavar="P",
        help="probability below which an answer is unsure, 0 to 1 (default: from images held out from training)",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    add_data_path(parser)


def _number(word: str) -> int:
    """Parse a test image's index. Errors: argparse's, with the correct order of the arguments."""
    try:
        return int(word)
    except ValueError:
        numbers = [part for part in word.replace(",", " ").split() if part.isdecimal()]
        typed = f"type --index {' '.join(numbers)}" if len(numbers) > 1 else "give image files before --index"
        raise argparse.ArgumentTypeError(f"{word} is not a number; {typed}") from None


def _share(word: str) -> float:
    """Parse a probability. Errors: argparse's."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{word} is not a number from 0 to 1")
    return value


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print each image's top predictions. Files that cannot be read are skipped and named in an error at the end.

    Errors: ConfigError, BadRunError, DataError.
    """
    _check(arguments)
    run = Run.open(resolve_run(arguments.run, note))
    config = run.config()
    check_parts(run, config, warning)
    config = with_data_path(run, config, arguments.data_path)
    spec = run.data_spec()
    preparation = _preparation(arguments, config, spec) if arguments.images else None
    files = _files(arguments, spec)
    failures: list[str] = []
    with importing_torch("predict"):
        from mnist_ff.engine.device import prepared
        from mnist_ff.training.trained_model import check_ended_well, load_model
    check_ended_well(run)
    batches = _batches(arguments, run, config, files, preparation, failures)
    limit, chosen = _limit(arguments.unsure_below, run, spec)
    trainer = dataclasses.replace(config.trainer, device="cpu", precision="fp32")
    with prepared(trainer, config.seed or 0) as device:
        predict = _predictor(run, load_model(run, config, device))
        readings = (reading for seen in batches for reading in read(seen, predict, limit))
        pictured = len(files) + len(arguments.index) <= PICTURED and spec.is_image
        output = _Output(spec, limit, arguments.json, pictured, console)
        if arguments.labels:
            output.labelled(readings, failures)
        else:
            output.readings(readings, chosen)
    if failures:
        raise ConfigError("\n".join(map(printable, failures)))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Check the arguments. Errors: ConfigError for a combination that is not allowed."""
    if not arguments.images and not arguments.index:
        raise ConfigError("no image given: give PNG or JPEG files, a folder with them, or --index N for a test image")
    if arguments.labels and (arguments.index or len(arguments.images) != 1):
        raise ConfigError("--labels: give one folder, with a folder of pictures for each class")


def _preparation(arguments: argparse.Namespace, config: Config, spec: DataSpec) -> Preparation:
    """How pictures are prepared for this run's network. Errors: ConfigError if its input is not an image."""
    from mnist_ff.images.prepared import Preparation

    as_digits = _as_digits(config, spec)
    is_clothing = as_digits and config.data.name == CLOTHES
    if is_clothing:
        note("this run is trained on clothing, but images are prepared like MNIST's digits")
    letters = all(len(name) == 1 for name in spec.classes)
    # the pictures of a class folder hold one digit each
    return Preparation(spec, as_digits, as_digits and letters and not arguments.single and not arguments.labels)


def _as_digits(config: Config, spec: DataSpec) -> bool:
    """Whether pictures are prepared like MNIST's digits, or only resized.

    Errors: ConfigError if the network's input is not an image with one or three channels.
    """
    prepare = getattr(config.data, "prepare", None)
    if not spec.is_image or (len(spec.shape) == 3 and spec.shape[0] == 2):
        raise ConfigError(
            f"this run's network takes {' x '.join(map(str, spec.shape))} numbers, and a picture has one channel or "
            "three; use --index N for a test image"
        )
    return prepare == "digit" or (prepare is None and spec.shape in (MNIST_SPEC.shape, (1, *MNIST_SPEC.shape)))


def _files(arguments: argparse.Namespace, spec: DataSpec) -> list[tuple[Path, int | None]]:
    """The picture files, with --labels each with its label. Errors: ConfigError."""
    from mnist_ff.images.picture_folder import class_folders, find_pictures, skipped_lines

    given: list[tuple[Path, int | None]] = [(path, None) for path in arguments.images]
    skipped: list[str] = []
    if arguments.labels:
        found, others = class_folders(arguments.images[0], spec.classes)
        given = list(found)
        skipped += others
    files: list[tuple[Path, int | None]] = []
    for path, label in given:
        pictures = find_pictures(path)
        files += [(file, label) for file in pictures.files]
        skipped += pictures.skipped
    for line in skipped_lines(skipped):
        note(line)
    return files


def _batches(
    arguments: argparse.Namespace,
    run: Run,
    config: Config,
    files: Sequence[tuple[Path, int | None]],
    preparation: Preparation | None,
    failures: list[str],
) -> Iterator[list[Seen]]:
    """Pictures and then test images, in batches of up to a few hundred. Errors: ConfigError for a wrong index."""
    tested = _from_test_images(arguments.index, run, config)
    size = max(1, min(AT_ONCE, NUMBERS_AT_ONCE // run.data_spec().inputs))
    if len(files) <= PICTURED:
        size = PICTURED
    return _chained(files, preparation, failures, tested, size)


def _chained(
    files: Sequence[tuple[Path, int | None]],
    preparation: Preparation | None,
    failures: list[str],
    tested: list[Seen],
    size: int,
) -> Iterator[list[Seen]]:
    if preparation is not None:
        from mnist_ff.images.prepared import in_batches

        done, said = 0, time.monotonic()
        for seen in in_batches(files, preparation, size, failures):
            yield seen
            done = min(done + size, len(files))
            if done < len(files) and time.monotonic() - said > PROGRESS_S and sys.stderr.isatty():
                note(f"{done:,} of {len(files):,} pictures")
                said = time.monotonic()
    if tested:
        yield tested


def _from_test_images(numbers: Sequence[int], run: Run, config: Config) -> list[Seen]:
    if not numbers:
        return []
    from mnist_ff.data.load import load_data
    from mnist_ff.images.prepared import Glyph, Seen

    data = load_data(data_of(config.data), config.seed or 0)
    check_fits(run, data)
    warn_of_changes(run, data)
    test = data.test
    wrong = [number for number in numbers if not 0 <= number < len(test)]
    if wrong:
        raise ConfigError(
            f"--index {wrong[0]}: the test images of {config.data.name} have indices 0 to {len(test) - 1}"
        )
    return [
        Seen(f"test image {number}", (Glyph(test.images[number].numpy()),), int(test.labels[number]))
        for number in numbers
    ]


def _limit(asked: float | None, run: Run, spec: DataSpec) -> tuple[float | None, tuple[Threshold, str] | None]:
    """The threshold below which a prediction is unsure, and how it was chosen if not by the user."""
    if asked is not None:
        return asked, None
    try:
        held_out = read_held_out(run, spec)
    except MissingFileError:
        return None, None
    except BadRunError as error:
        warning(f"no answer is called unsure: {error}")
        return None, None
    found = threshold(held_out.probabilities, held_out.labels)
    if found is None:
        return None, None
    return (found.value if found.reached else float(np.nextafter(1, 2))), (found, held_out.images)


def _predictor(run: Run, model: nn.Module) -> Predict:
    """A function from images to probabilities (N, K). It raises BadRunError for NaN or infinity."""
    import torch

    from mnist_ff.data.load import as_input

    def predict(images: Sequence[Pixels]) -> NDArray[np.float32]:
        size = max(1, NUMBERS_AT_ONCE // images[0].size)
        with torch.inference_mode():
            rows = [
                model(torch.stack([as_input(torch.from_numpy(image.copy())) for image in images[start : start + size]]))
                .softmax(1)
                .numpy()
                for start in range(0, len(images), size)
            ]
        probabilities: NDArray[np.float32] = np.concatenate(rows)
        if not np.isfinite(probabilities).all():
            raise BadRunError(
                f"{run.file('model.safetensors')}: gives NaN or infinity for some images; train the run again"
            )
        return probabilities

    return predict


@dataclass(frozen=True)
class _Output:
    """Prints predictions."""

    spec: DataSpec
    limit: float | None
    """Predictions with a smaller top probability are unsure."""
    as_json: bool
    pictured: bool
    """Whether the images are shown too."""
    console: Console

    def readings(self, found: Iterator[Reading], chosen: tuple[Threshold, str] | None) -> None:
        """Print the predictions of each picture, and at the end to stderr what "unsure" means."""
        if self.as_json:
            tell_json([as_json(reading, self.spec, self.limit) for reading in found])
            return
        answers = unsure = 0
        for reading in found:
            tell_reading(self.console, reading, self.spec, self.pictured)
            answers += len(reading.answers)
            unsure += sum(answer.is_unsure for answer in reading.answers)
        if chosen is not None:
            tell_threshold(Console(stderr=True), answers, unsure, *chosen)

    def labelled(self, found: Iterator[Reading], failures: list[str]) -> None:
        """Print the accuracy on labelled pictures. `failures` grows while the pictures are read."""
        readings = [reading.without_pixels() for reading in found]
        scored = Labelled(self.spec, readings)
        if not readings:
            return
        if self.as_json:
            entries = [as_json(reading, self.spec, self.limit) for reading in readings]
            tell_json({**scored.as_json(failures), "threshold": threshold_json(self.limit), "predictions": entries})
        else:
            tell_labelled(self.console, scored, self.limit)
