"""The formats of numbers, and a check that no other code formats percentages."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_ff.runs import numbers
from mnist_ff.runs.numbers import MISSING, fixed, loss_text, percent, percent_cell, percent_change, score_text
from mnist_ff.runs.records import Score

PACKAGE = Path(numbers.__file__).resolve().parents[1]


def test_the_style() -> None:
    assert [percent(0.98471), percent(0.5, 0), percent(0.125, None), percent(0.4, None)] == [
        "98.47 %", "50 %", "12.5 %", "40 %",
    ]  # fmt: skip
    assert [percent_cell(0.98471), percent_change(0.0131), percent_change(-0.0131)] == ["98.47", "+1.3 %", "-1.3 %"]
    assert {percent(None), percent_cell(None), percent_change(None), loss_text(None)} == {MISSING} == {"-"}
    assert score_text(Score(0.06123, 0.9847, 9847, 10_000)) == "loss 0.0612, accuracy 98.47 %"


def test_a_tie_is_rounded_as_on_a_page() -> None:
    """JavaScript's toFixed() gives these."""
    values = [94.625, -94.625, 1.005, 2.5, 0.5, -0.001, math.nan, math.inf]
    assert [fixed(value, 2) for value in values[:3]] == ["94.63", "-94.63", "1.00"]
    assert [fixed(value, 0) for value in values[3:5]] == ["3", "1"]
    assert [fixed(value, 2) for value in values[5:]] == ["-0.00", "nan", "inf"]
    assert [percent(0.94625), percent_cell(0.94625), loss_text(0.03125), percent_change(0.5 / 16)] == [
        "94.63 %", "94.63", "0.0313", "+3.1 %",
    ]  # fmt: skip
    assert fixed(1e30, 2) == f"{1e30:.2f}"


def other_percents(source: str) -> Iterator[int]:
    """The lines of f-strings that format a number with a percent sign."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for part, after in zip(node.values, [*node.values[1:], None], strict=True):
            if not isinstance(part, ast.FormattedValue):
                continue
            form = ast.unparse(part.format_spec) if part.format_spec is not None else ""
            sign = isinstance(after, ast.Constant) and re.match(r"\s?%", str(after.value)) is not None
            if ("%" in form and not form.startswith("f'%")) or sign:  # %Y-%m is a date's
                yield part.lineno


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('f"{x:.2%}"', True),
        ('f"{x:{digits}%}"', True),
        ('f"{100 * x:.1f} %"', True),
        ('f"{x}%"', True),
        ('f"{now:%Y-%m-%d}"', False),
        ('f"{percent(x)} of 95 % intervals"', False),
    ],
)
def test_the_check_finds_other_percents(line: str, found: bool) -> None:
    assert bool(list(other_percents(line))) == found


def test_nothing_else_writes_percent() -> None:
    own = PACKAGE / "runs/numbers.py"
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path != own}
    places = [f"{path.relative_to(PACKAGE)}:{line}" for path, text in sources.items() for line in other_percents(text)]
    assert not places, "use runs/numbers.py: percent, percent_cell"


def test_pages_write_percent_in_one_place() -> None:
    for path in (PACKAGE / "report/assets").glob("*.js"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if re.search(r"\}\s?%", line) and ".style." not in line and "hsl(" not in line]
        assert path.name == "pieces.js" or not found, (path.name, found)
        assert all("} %" in line for line in found)
