"""Predictions for pictures: unsure ones, touching digits, and their text at any width."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from mnist_ff.analysis.calibration import Threshold, reliability
from mnist_ff.analysis.labelled import Labelled, tell_labelled
from mnist_ff.analysis.reading_text import tell_reading, tell_reliability, tell_threshold
from mnist_ff.analysis.readings import CUT, MAY_TOUCH, Reading, as_json, read
from mnist_ff.images.prepared import Glyph, Pixels, Seen
from mnist_ff.runs.records import DataSpec

SPEC = DataSpec((28, 28), tuple(map(str, range(10))))
NAMED = DataSpec((28, 28), tuple(f"a class with a long name {number}" for number in range(10)))
WIDTHS = (120, 80, 60, 40)


def told(digit: int, probability: float) -> np.ndarray:
    """An image that `predict` classifies as this digit."""
    return np.full((28, 28), [digit, round(100 * probability)] * 14, dtype=np.uint8)


def predict(images: list[Pixels]) -> np.ndarray:
    """What the image says, and the rest evenly."""
    rows = []
    for image in images:
        digit, top = int(image[0, 0]), int(image[0, 1]) / 100
        row = np.full(10, (1 - top) / 9, dtype=np.float32)
        row[digit] = top
        rows.append(row)
    return np.array(rows)


def readings(*seen: Seen, threshold: float | None = 0.9) -> list[Reading]:
    return read(seen, predict, threshold)  # type: ignore[arg-type]


def page(name: str = "page.png") -> Seen:
    lines = [(4, 0), (2, 0), (1, 1)]
    return Seen(name, tuple(Glyph(told(digit, 0.95), line) for digit, line in lines))


def test_a_prediction_below_the_threshold_is_unsure() -> None:
    sure, unsure = readings(Seen("a", (Glyph(told(3, 0.95)),)), Seen("b", (Glyph(told(3, 0.85)),)))
    assert (sure.is_unsure, unsure.is_unsure) == (False, True)
    assert not any(one.is_unsure for one in readings(Seen("b", (Glyph(told(3, 0.2)),)), threshold=None))


def test_touching_digits_are_cut_if_each_part_is_surer_than_the_whole() -> None:
    halves = (told(4, 0.95), told(2, 0.93))
    cut, whole = readings(
        Seen("a", (Glyph(told(8, 0.91), 0, halves),)), Seen("b", (Glyph(told(8, 0.94), 0, halves, is_wide=True),))
    )
    assert (cut.text(SPEC), cut.remark) == ("42", CUT)
    assert (whole.text(SPEC), whole.remark) == ("8", MAY_TOUCH)
    (doubtful,) = readings(Seen("c", (Glyph(told(8, 0.6), 0, (told(4, 0.5), told(2, 0.9))),)))
    assert (doubtful.text(SPEC), doubtful.remark) == ("8", MAY_TOUCH)


def test_json_of_one_and_of_several() -> None:
    one, several = (as_json(reading, SPEC, 0.9) for reading in readings(Seen("a", (Glyph(told(3, 0.6)),), 3), page()))
    assert (one["answer"], one["label"], one["read"], one["parts"]) == (3, 3, "3", [])
    assert (one["unsure"], one["threshold"]) == (True, 0.9)
    assert [entry["digit"] for entry in one["top"]] == [3, 0, 1]
    assert set(one) == set(several)
    assert (several["answer"], several["probabilities"], several["read"]) == (None, None, "42\n1")
    assert [(part["line"], part["answer"]) for part in several["parts"]] == [(1, 4), (1, 2), (2, 1)]
    assert as_json(readings(page())[0], SPEC, float(np.nextafter(1, 2)))["threshold"] == 1.0


def shown(width: int | None, *tellers: object) -> list[str]:
    """The lines that are printed to a terminal of this width, or to a file."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=width is not None, width=width, color_system=None)
    for teller in tellers:
        teller(console)  # type: ignore[operator]
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("spec", [SPEC, NAMED], ids=["digits", "names"])
def test_no_line_is_wider_than_the_terminal(width: int, spec: DataSpec) -> None:
    wide = Seen("wide.png", (Glyph(told(8, 0.6), 0, (told(4, 0.3), told(2, 0.3)), True),), 7)
    found = readings(wide, page(), page("photographs/of/last/summer/a-picture.jpg"))
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 999).tolist()
    answered = readings(*(Seen(f"{n}.png", (Glyph(told(n % 10, 0.95)),), label) for n, label in enumerate(labels)))
    measured = reliability(random.dirichlet(np.ones(10) / 9, 12_000), random.integers(0, 10, 12_000))
    lines = shown(
        width,
        *(lambda console, one=one: tell_reading(console, one, spec, True) for one in found),
        lambda console: tell_threshold(console, 3, 1, Threshold(0.9, 0.995, True, 10_000, 0.9, 0.995), "test"),
        lambda console: tell_labelled(console, Labelled(spec, answered), 0.9),
        lambda console: tell_reliability(console, measured),
    )
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    whole = readings(page())[0].text(spec, " / ")
    for words in (whole, "3 digits in 2 lines", "unsure", MAY_TOUCH, "accuracy", "ECE", "(labelled 7"):
        assert words in text, words


def test_lines_in_a_file_are_not_wrapped() -> None:
    (line, *_) = shown(None, lambda console: tell_reading(console, readings(page("x" * 200))[0], SPEC, False))
    assert line == "x" * 200 + "   42 / 1   3 digits in 2 lines"


def test_accuracy_and_tables_of_labelled_pictures() -> None:
    seen = [(3, 3, 0.95), (3, 5, 0.99), (5, 5, 0.6), (5, 5, 0.95)]
    found = Labelled(SPEC, readings(*(Seen(f"{n}.png", (Glyph(told(p, s)),), t) for n, (p, t, s) in enumerate(seen))))
    values = found.as_json(["x.png: no digit found"])
    assert (values["images"], values["correct"], values["accuracy"]) == (4, 3, 0.75)
    assert (values["sure"], values["sure_accuracy"], values["not_read"]) == (3, 2 / 3, ["x.png: no digit found"])
    assert (values["confusion"][5][3], values["confusion"][5][5]) == (1, 2)
    lines = shown(80, lambda console: tell_labelled(console, found, 0.9))
    assert lines[0].startswith("accuracy 75.00 % (3 of 4; 95 % interval ")
    assert lines[1] == "sure 75.00 % (3 of 4), 66.67 % of these right"
    assert "label  3  5" in lines
    assert "5      1  2" in lines
    assert lines[-2:] == ["1.png", "   read as 3  99.00 %"]


def test_without_mistakes_there_is_no_heading_for_them() -> None:
    found = Labelled(SPEC, readings(Seen("a.png", (Glyph(told(3, 0.95)),), 3)))
    assert "mistakes" not in " ".join(shown(80, lambda console: tell_labelled(console, found, 0.9)))
