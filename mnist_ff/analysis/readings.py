"""From a network's probabilities to predictions for pictures of one or several digits, and which are unsure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.runs.records import DataSpec

if TYPE_CHECKING:  # they need scipy, which evaluate does not
    from mnist_ff.images.prepared import Glyph, Pixels, Seen

TOP = 3
"""Number of top predictions reported for each image."""
CUT = "digits touch; cut where the ink is thinnest"
MAY_TOUCH = "wide for one digit; if it is several, write them apart"


@dataclass(frozen=True)
class Answer:
    """A prediction for one image, or one digit of a picture."""

    pixels: Pixels
    probabilities: NDArray[np.float32]
    """(K,); they sum to 1."""
    line: int
    """The line of writing, counted from 0."""
    is_unsure: bool

    @property
    def top(self) -> list[int]:
        """The classes with the largest probabilities, most probable first."""
        return [int(label) for label in np.argsort(-self.probabilities, kind="stable")[:TOP]]


@dataclass(frozen=True)
class Reading:
    """All predictions for a picture."""

    name: str
    answers: tuple[Answer, ...]
    """In reading order."""
    label: int | None
    """The true class, if the picture is labelled."""
    remark: str | None
    """A doubt about how the picture was cut into digits, or None."""

    @property
    def is_unsure(self) -> bool:
        """Whether any of the predictions is unsure."""
        return any(answer.is_unsure for answer in self.answers)

    @property
    def lines(self) -> list[list[Answer]]:
        """The predictions by line of writing."""
        numbers = sorted({answer.line for answer in self.answers})
        return [[answer for answer in self.answers if answer.line == number] for number in numbers]

    def without_pixels(self) -> Reading:
        """A copy without the images, so that thousands fit into memory."""
        none = np.zeros(0, dtype=np.uint8)
        return replace(self, answers=tuple(replace(answer, pixels=none) for answer in self.answers))

    def text(self, spec: DataSpec, between: str = "\n") -> str:
        """The whole picture as text: a class name, or the digits of each line."""
        return between.join("".join(spec.classes[answer.top[0]] for answer in line) for line in self.lines)


Predict = Callable[[Sequence["Pixels"]], NDArray[np.float32]]
"""A function from N images to probabilities (N, K)."""


def read(seen: Sequence[Seen], predict: Predict, threshold: float | None) -> list[Reading]:
    """The predictions for pictures. Those with a top probability below `threshold` are unsure."""
    glyphs = [glyph for picture in seen for glyph in picture.glyphs]
    images = [image for glyph in glyphs for image in (glyph.pixels, *glyph.touching)]
    rows = iter(predict(images)) if images else iter(())
    readings = []
    for picture in seen:
        answers: list[Answer] = []
        remarks = []
        for glyph in picture.glyphs:
            found = [(image, next(rows)) for image in (glyph.pixels, *glyph.touching)]
            chosen = _chosen(found)
            answers += [
                Answer(image, row, glyph.line, threshold is not None and float(row.max()) < threshold)
                for image, row in chosen
            ]
            remarks.append(_remark(glyph, len(chosen) > 1, answers[-1].is_unsure))
        remark = next((text for text in (CUT, MAY_TOUCH) if text in remarks), None)
        readings.append(Reading(picture.name, tuple(answers), picture.label, remark))
    return readings


def _chosen(found: list[tuple[Pixels, NDArray[np.float32]]]) -> list[tuple[Pixels, NDArray[np.float32]]]:
    """The whole image, or the parts that it may be cut into if the network is surer of each part than of the whole."""
    parts = found[1:]
    surer = bool(parts) and min(float(row.max()) for _, row in parts) > float(found[0][1].max())
    return parts if surer else found[:1]


def _remark(glyph: Glyph, was_cut: bool, is_unsure: bool) -> str | None:
    if was_cut:
        return CUT
    return MAY_TOUCH if glyph.is_wide or (glyph.touching and is_unsure) else None


def as_json(reading: Reading, spec: DataSpec, threshold: float | None) -> dict[str, Any]:
    """A picture's predictions as JSON values. With several digits, each is in `parts`, and `answer`, `top` and
    `probabilities` are empty."""
    several = len(reading.answers) > 1
    own = _values(reading.answers[0], spec) if not several else {"answer": None, "top": [], "probabilities": None}
    entry = {"image": reading.name, **own, "label": reading.label}
    entry |= {
        "unsure": reading.is_unsure,
        "threshold": threshold_json(threshold),
        "read": reading.text(spec),
    }
    parts = [
        {"line": number, "unsure": answer.is_unsure, **_values(answer, spec)}
        for number, line in enumerate(reading.lines, 1)
        for answer in line
    ]
    return {**entry, "parts": parts if several else [], "remark": reading.remark}


def threshold_json(threshold: float | None) -> float | None:
    """A threshold as a JSON value; 1 if every prediction is unsure."""
    return None if threshold is None else min(threshold, 1.0)


def _values(answer: Answer, spec: DataSpec) -> dict[str, Any]:
    top = answer.top
    names = [spec.classes[label] for label in top]
    named = names != list(map(str, top))
    return {
        "answer": top[0],
        **({"name": names[0]} if named else {}),
        "top": [
            {"digit": label, **({"name": name} if named else {}), "probability": float(answer.probabilities[label])}
            for label, name in zip(top, names, strict=True)
        ],
        "probabilities": [float(probability) for probability in answer.probabilities],
    }
