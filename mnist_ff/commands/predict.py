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
from mnist_ff.commands.evaluate import (
    add_data_path,
    check_fits,
    data_of,
    warn_of_changes,
    with_data_path,
)
from mnist_ff.config.paths import argument, path_argument
from mnist_ff.config.schema import Config
from mnist_ff.data.load import as_input, load_data
from mnist_ff.engine.device import prepared
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.images.centre import centred
from mnist_ff.images.image_io import picture_files, read_brightness, read_pixels
from mnist_ff.images.segment import NoDigitError, ink_of
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.records import MNIST_SPEC, DataSpec
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.training.trained_model import check_ended_well, load_model

TOP = 3
"""Predictions that are printed."""
PICTURED = 12
"""Images up to which each is shown; of more, the predictions alone."""
SHOWN_PX = 64
"""Pixels of a shown image's longer side, at most."""
CLOTHES = "fashion_mnist"


@dataclass(frozen=True)
class Seen:
    """An image as the network gets it."""

    name: str
    pixels: NDArray[np.uint8] | NDArray[np.float32]
    """Of the data's shape; (28, 28) for MNIST, ink 255."""
    label: int | None = None
    """What it is, where that is known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("run", type=argument, metavar="RUN", help="run directory or name, or last, best")
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
    spec, as_digits = run.data_spec(), False
    if arguments.images:
        as_digits = _as_digits(config, spec)
        if as_digits and config.data.name == CLOTHES:
            note("this run is trained on clothing, but images are prepared like MNIST's digits")
    files = [file for path in arguments.images for file in picture_files(path)]
    seen, failures = _from_files(files, spec, as_digits) if files else ([], [])
    seen += _from_test_images(arguments.index, run, config)
    if seen:
        probabilities = _probabilities(run, config, seen)
        if not np.isfinite(probabilities).all():
            raise BadRunError(
                f"{run.file('model.safetensors')}: gives NaN or infinity for some images; train the run again"
            )
        if arguments.json:
            values = [_json(image, row, spec) for image, row in zip(seen, probabilities, strict=True)]
            out(json.dumps(values, indent=1, allow_nan=False))
        else:
            _show(seen, probabilities, spec, console)
    if failures:
        raise ConfigError("\n".join(failures))
    return 0


def _as_digits(config: Config, spec: DataSpec) -> bool:
    """Whether pictures are prepared like MNIST's digits, or only resized.

    Errors: ConfigError for a network whose images no picture can be made into.
    """
    prepare = getattr(config.data, "prepare", None)
    if not spec.is_image or (len(spec.shape) == 3 and spec.shape[0] == 2):
        raise ConfigError(
            f"this run's network takes {' x '.join(map(str, spec.shape))} numbers, and a picture has one channel or "
            "three; use --index N for a test image"
        )
    return prepare == "digit" or (prepare is None and spec.shape in (MNIST_SPEC.shape, (1, *MNIST_SPEC.shape)))


def _from_files(files: Sequence[Path], spec: DataSpec, as_digits: bool) -> tuple[list[Seen], list[str]]:
    """The pictures as the network takes them, and a line for each picture that cannot be."""
    seen, failures = [], []
    (height, width), coloured = spec.shape[-2:], len(spec.shape) == 3 and spec.shape[0] == 3
    for file in files:
        try:
            pixels = (
                centred(ink_of(read_brightness(file))) if as_digits else read_pixels(file, coloured, (height, width))
            )
            seen.append(Seen(str(file), pixels.reshape(spec.shape)))
        except NoDigitError:
            failures.append(f"{file}: no digit found; photograph a single digit, larger or with more light")
        except ConfigError as error:
            failures.append(str(error))
    return seen, failures


def _from_test_images(numbers: Sequence[int], run: Run, config: Config) -> list[Seen]:
    if not numbers:
        return []
    data = load_data(data_of(config.data), config.seed or 0)
    check_fits(run, data)
    warn_of_changes(run, data)
    test = data.test
    wrong = [number for number in numbers if not 0 <= number < len(test)]
    if wrong:
        raise ConfigError(
            f"--index {wrong[0]}: the test images of {config.data.name} have indices 0 to {len(test) - 1}"
        )
    return [Seen(f"test image {number}", test.images[number].numpy(), int(test.labels[number])) for number in numbers]


def _probabilities(run: Run, config: Config, seen: Sequence[Seen]) -> NDArray[np.float32]:
    """(N, K), rows sum to 1."""
    trainer = dataclasses.replace(config.trainer, device="cpu", precision="fp32")
    with prepared(trainer, config.seed or 0) as device, torch.inference_mode():
        model = load_model(run, config, device)
        images = torch.stack([as_input(torch.from_numpy(image.pixels.copy())) for image in seen])
        probabilities: NDArray[np.float32] = model(images).softmax(1).numpy()
    return probabilities


def _top(row: NDArray[np.float32]) -> list[int]:
    return [int(digit) for digit in np.argsort(-row, kind="stable")[:TOP]]


def _show(seen: Sequence[Seen], probabilities: NDArray[np.float32], spec: DataSpec, console: Console) -> None:
    colours = console.is_terminal and console.color_system is not None
    for image, row in zip(seen, probabilities, strict=True):
        predicted = "   ".join(f"{spec.name_of(label)}  {percent(float(row[label]))}" for label in _top(row))
        labelled = "" if image.label is None else f"   (labelled {spec.name_of(image.label)})"
        tell(console, f"{image.name}   {predicted}{labelled}")
        if len(seen) <= PICTURED and spec.is_image:
            tell_picture(console, _in_grey(image.pixels), colours)


def _in_grey(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image (H, W) or (C, H, W) for the terminal: (H, W), H even, at most SHOWN_PX a side; its channels' mean."""
    grey = pixels.astype(np.float64) * (1 if pixels.dtype == np.uint8 else 255)
    grey = grey.reshape(-1, *pixels.shape[-2:]).mean(axis=0)
    block = -(-max(grey.shape) // SHOWN_PX)
    spare = [(0, -side % step) for side, step in zip(grey.shape, (2 * block, block), strict=True)]
    grey = np.pad(grey, spare, mode="edge")
    height, width = grey.shape
    shown: NDArray[np.float64] = grey.reshape(height // block, block, width // block, block).mean(axis=(1, 3))
    return shown.astype(np.uint8)


def _json(image: Seen, row: NDArray[np.float32], spec: DataSpec) -> dict[str, Any]:
    top = _top(row)
    names = [spec.classes[label] for label in top]
    named = names != list(map(str, top))
    return {
        "image": image.name,
        "answer": top[0],
        **({"name": names[0]} if named else {}),
        "label": image.label,
        "top": [
            {"digit": label, **({"name": name} if named else {}), "probability": float(row[label])}
            for label, name in zip(top, names, strict=True)
        ],
        "probabilities": [float(probability) for probability in row],
    }
