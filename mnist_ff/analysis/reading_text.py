"""Print predictions for pictures, and calibration, to a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console

from mnist_ff.analysis.calibration import Reliability, Threshold
from mnist_ff.analysis.console import room_of, tell, tell_picture, tell_table, tell_wrapped
from mnist_ff.analysis.readings import Answer, Reading
from mnist_ff.errors import printable
from mnist_ff.runs.numbers import fixed, percent, percent_cell
from mnist_ff.runs.records import DataSpec

if TYPE_CHECKING:  # they need scipy, which evaluate does not
    from mnist_ff.images.prepared import Pixels

SHOWN_PX = 64
"""Largest side, in pixels, of an image shown in the terminal."""
APART = "   "
UNSURE = "unsure"


def tell_reading(console: Console, reading: Reading, spec: DataSpec, pictured: bool) -> None:
    """Print the predictions for a picture, and with `pictured` the network's input images."""
    if len(reading.answers) == 1:
        labelled = [] if reading.label is None else [f"(labelled {spec.name_of(reading.label)})"]
        _tell_row(console, reading.name, reading.answers[0], spec, labelled)
    else:
        _tell_whole(console, reading, spec)
        for number, answer in enumerate(reading.answers, 1):
            _tell_row(console, f"  digit {number}", answer, spec, [])
    if reading.remark is not None:
        tell_wrapped(console, f"  {reading.remark}")
    if pictured:
        _tell_pictures(console, [answer.pixels for answer in reading.answers])


def _tell_row(console: Console, name: str, answer: Answer, spec: DataSpec, last: Sequence[str]) -> None:
    """Print a name and its top predictions on a line; on a narrow terminal fewer of them, or below the name."""
    cells = [f"{spec.name_of(label)}  {percent(float(answer.probabilities[label]))}" for label in answer.top]
    if answer.is_unsure:
        cells[0] += f"  {UNSURE}"
    room = room_of(console)
    beside = [APART.join([name, *cells[:count], *last]) for count in range(len(cells), 0, -1)]
    below = [APART.join(["", *cells[:count], *last]) for count in range(len(cells), 0, -1)]
    if _fits(beside[0], room):
        tell(console, beside[0])
        return
    fitting = next((text for text in beside if _fits(text, room)), None)
    if fitting is None:
        tell(console, name)
        fitting = next((text for text in below if _fits(text, room)), None)
    if fitting is not None:
        tell(console, fitting)
        return
    for text in (cells[0], *last):
        tell_wrapped(console, APART + text)


def _fits(text: str, room: int | None) -> bool:
    return room is None or cell_len(printable(text)) <= room


def _tell_whole(console: Console, reading: Reading, spec: DataSpec) -> None:
    lines = len(reading.lines)
    words = [reading.text(spec, " / "), f"{len(reading.answers)} digits" + (f" in {lines} lines" if lines > 1 else "")]
    words += [UNSURE] if reading.is_unsure else []
    room, line = room_of(console), APART.join([reading.name, *words])
    if not _fits(line, room):
        tell(console, reading.name)
        tell_wrapped(console, "  " + APART.join(words))
        return
    tell(console, line)


def _tell_pictures(console: Console, images: Sequence[Pixels]) -> None:
    """Print images side by side, as many in a row as fit."""
    colours = console.is_terminal and console.color_system is not None
    room = room_of(console) or 80
    shown = [in_grey(image, min(SHOWN_PX, room)) for image in images]
    each = max(1, (room + 1) // (shown[0].shape[1] + 1))
    for start in range(0, len(shown), each):
        row = shown[start : start + each]
        paper = np.zeros((row[0].shape[0], 1), dtype=np.uint8)
        joined = np.concatenate([part for one in row for part in (one, paper)][:-1], axis=1)
        tell_picture(console, joined, colours)


def in_grey(pixels: Pixels, most: int = SHOWN_PX) -> NDArray[np.uint8]:
    """An image, (H, W) or (C, H, W), as grey uint8 (h, w) for the terminal: the mean of its channels, scaled down so
    that no side is longer than `most`; h is even."""
    grey = pixels.astype(np.float64) * (1 if pixels.dtype == np.uint8 else 255)
    grey = grey.reshape(-1, *pixels.shape[-2:]).mean(axis=0)
    block = -(-max(grey.shape) // most)
    spare = [(0, -side % step) for side, step in zip(grey.shape, (2 * block, block), strict=True)]
    grey = np.pad(grey, spare, mode="edge")
    height, width = grey.shape
    shown: NDArray[np.float64] = grey.reshape(height // block, block, width // block, block).mean(axis=(1, 3))
    return shown.astype(np.uint8)


def tell_threshold(console: Console, readings: int, unsure: int, found: Threshold, images: str) -> None:
    """Print the number of unsure predictions, and the accuracy above the threshold."""
    if not unsure:
        return
    head = f"{unsure:,} of {readings:,} unsure: "
    if not found.reached:
        tell_wrapped(
            console,
            f"{head}on {found.images:,} {images} images, no confidence threshold reaches an accuracy of "
            f"{percent(found.target, 1)}",
        )
        return
    tell_wrapped(
        console,
        f"{head}top probability below {percent(found.value)}; at or above it {percent(found.accuracy)} of the answers "
        f"for the {images} images were right ({percent(found.share, 1)} of {found.images:,})",
    )


def tell_reliability(console: Console, found: Reliability) -> None:
    """Print ECE and Brier score, and the share of images and the accuracy above each confidence threshold."""
    tell_wrapped(console, f"ECE {percent(found.ece)}, Brier score {fixed(found.brier, 4)}")
    rows = [
        (percent_cell(row.threshold, 1), f"{row.images:,}", percent_cell(row.share), percent_cell(row.accuracy))
        for row in found.coverage
    ]
    heads = ("probability\nat least (%)", "images", "answered\n(%)", "accuracy\n(%)")
    tell_table(console, heads, rows)
