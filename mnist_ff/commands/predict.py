"""Classify images, photographs or test images with a run's network."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from mnist_ff.analysis.console import note, out, tell, tell_picture, warning
from mnist_ff.commands.evaluate import add_data_path, check_ended_well, data_of, with_data_path
from mnist_ff.config.paths import argument, path_argument
from mnist_ff.config.schema import Config
from mnist_ff.data.load import as_input, load_data
from mnist_ff.engine.device import prepared
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.images.centre import centred
from mnist_ff.images.image_io import picture_files, read_brightness
from mnist_ff.images.segment import NoDigitError, ink_of
from mnist_ff.runs.directory import Run
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.training.checkpoint import load_model

TOP = 3
"""Predictions that are printed."""
PICTURED = 12
"""Images up to which each is shown; of more, the predictions alone."""
CLOTHES = "fashion_mnist"


@dataclass(frozen=True)
class Seen:
    """An image as the network gets it."""

    name: str
    pixels: NDArray[np.uint8]
    """(28, 28), ink 255."""
    label: int | None = None
    """What it is, where that is known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("run", type=argument, metavar="RUN", help="run directory, or last, best")
    parser.add_argument(
        "images", nargs="*", type=path_argument, metavar="IMAGE", help="PNG or JPEG files, or folders with them"
    )
    parser.add_argument(
        "--index", nargs="+", type=_number, metavar="N", default=[], help="test images by index, from 0"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    add_data_path(parser)


def _number(word: str) -> int:
    """A test image's number. Errors: argparse's own, which says where files belong."""
    try:
        return int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word} is not a number; give image files before --index") from None


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print each image's top predictions. A file that cannot be used ends nothing but itself; it is named at the end.

    Errors: ConfigError, BadRunError, DataError.
    """
    if not arguments.images and not arguments.index:
        raise ConfigError("no image given: give PNG or JPEG files, a folder with them, or --index N for a test image")
    run = Run.open(resolve_run(arguments.run, note))
    config = run.config()
    check_parts(run, config, warning)
    config = with_data_path(run, config, arguments.data_path)
    check_ended_well(run)
    if arguments.images and config.data.name == CLOTHES:
        note("this run is trained on clothing, but images are prepared like MNIST's digits")
    files = [file for path in arguments.images for file in picture_files(path)]
    seen, failures = _from_files(files)
    seen += _from_test_images(arguments.index, config)
    if seen:
        probabilities = _probabilities(run, config, seen)
        if not np.isfinite(probabilities).all():
            raise BadRunError(
                f"{run.file('model.safetensors')}: gives NaN or infinity for some images; train the run again"
            )
        if arguments.json:
            values = [_json(image, row) for image, row in zip(seen, probabilities, strict=True)]
            out(json.dumps(values, indent=1, allow_nan=False))
        else:
            _show(seen, probabilities, console)
    if failures:
        raise ConfigError("\n".join(failures))
    return 0


def _from_files(files: Sequence[Path]) -> tuple[list[Seen], list[str]]:
    """The pictures' digits, and a line for each picture that gives none."""
    seen, failures = [], []
    for file in files:
        try:
            seen.append(Seen(str(file), centred(ink_of(read_brightness(file)))))
        except NoDigitError:
            failures.append(f"{file}: no digit found; photograph a single digit, larger or with more light")
        except ConfigError as error:
            failures.append(str(error))
    return seen, failures


def _from_test_images(numbers: Sequence[int], config: Config) -> list[Seen]:
    if not numbers:
        return []
    test = load_data(data_of(config.data), config.seed or 0).test
    wrong = [number for number in numbers if not 0 <= number < len(test)]
    if wrong:
        raise ConfigError(
            f"--index {wrong[0]}: the test images of {config.data.name} have indices 0 to {len(test) - 1}"
        )
    return [Seen(f"test image {number}", test.images[number].numpy(), int(test.labels[number])) for number in numbers]


def _probabilities(run: Run, config: Config, seen: Sequence[Seen]) -> NDArray[np.float32]:
    """(N, 10), rows sum to 1."""
    trainer = dataclasses.replace(config.trainer, device="cpu", precision="fp32")
    with prepared(trainer, config.seed or 0) as device, torch.inference_mode():
        model = load_model(run, config, device)
        images = torch.from_numpy(np.stack([image.pixels for image in seen]))
        probabilities: NDArray[np.float32] = model(as_input(images)).softmax(1).numpy()
    return probabilities


def _top(row: NDArray[np.float32]) -> list[int]:
    return [int(digit) for digit in np.argsort(-row, kind="stable")[:TOP]]


def _show(seen: Sequence[Seen], probabilities: NDArray[np.float32], console: Console) -> None:
    colours = console.is_terminal and console.color_system is not None
    for image, row in zip(seen, probabilities, strict=True):
        predicted = "   ".join(f"{digit}  {row[digit]:.2%}" for digit in _top(row))
        label = "" if image.label is None else f"   (labelled {image.label})"
        tell(console, f"{image.name}   {predicted}{label}")
        if len(seen) <= PICTURED:
            tell_picture(console, image.pixels, colours)


def _json(image: Seen, row: NDArray[np.float32]) -> dict[str, Any]:
    top = _top(row)
    return {
        "image": image.name,
        "answer": top[0],
        "label": image.label,
        "top": [{"digit": digit, "probability": float(row[digit])} for digit in top],
        "probabilities": [float(probability) for probability in row],
    }
