"""Several digits in one picture are cut apart and ordered; a single digit is unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mnist_ff.images.centre import centred
from mnist_ff.images.image_io import read_brightness
from mnist_ff.images.segment import ink_of
from mnist_ff.images.several import MAX_DIGITS, TooManyError, digits_of
from tests.support.mnist import mnist_test_images
from tests.support.photographs import photograph, scene, sharp_ink
from tests.support.several_digits import drawing_of, photograph_of

pytestmark = pytest.mark.usefixtures("real_mnist")
LINES = [[0, 1, 2], [3, 4]]
"""Test images 7, 2, 1 and 0, 4."""


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two blurred images, so that strokes may be a pixel apart."""
    pair = [ndimage.gaussian_filter(image.astype(float), 1.0).ravel() for image in (first, second)]
    return float(np.corrcoef(*pair)[0, 1])


def check_order(file: bytes, path: Path, lines: list[list[int]]) -> None:
    """Check that each part is most similar to the digit at its place, and has its line number."""
    path.write_bytes(file)
    images = mnist_test_images()
    parts = digits_of(read_brightness(path))
    rows = [row for line in lines for row in line]
    assert [part.line for part in parts] == [number for number, line in enumerate(lines) for _ in line]
    for part, own in zip(parts, rows, strict=True):
        like = {row: likeness(centred(part.ink), images[row]) for row in rows}
        assert max(like, key=like.__getitem__) == own, like


@pytest.mark.parametrize("kind", ["shadow", pytest.param("ruled", marks=pytest.mark.slow)])
def test_a_photographs_digits_are_read_line_by_line(kind: str, tmp_path: Path) -> None:
    lines = [[mnist_test_images()[row] for row in line] for line in LINES]
    check_order(photograph_of(lines, kind, np.random.default_rng(1)), tmp_path / "page.jpg", LINES)


def written(lines: list[list[np.ndarray]], gap: int) -> np.ndarray:
    """White paper with lines of digits that are all 60 pixels high, `gap` pixels apart from top to bottom."""
    page = np.ones((60 + len(lines) * (60 + gap), 60 + 80 * max(map(len, lines))), dtype=np.float32)
    for row, line in enumerate(lines):
        for column, image in enumerate(line):
            ink = image[image.any(1)][:, image.any(0)] / 255
            ink = ndimage.zoom(ink, (60 / len(ink), 50 / ink.shape[1] if ink.shape[1] > 8 else 2), order=1)
            top, left = 30 + row * (60 + gap), 30 + column * 80
            page[top : top + len(ink), left : left + ink.shape[1]] -= ink
    return np.clip(page, 0, 1)


@pytest.mark.parametrize("gap", [16, 20, 40])
def test_lines_that_are_close_stay_apart(gap: int) -> None:
    """From a quarter of the height of the digits on; two pieces of one digit may be as far apart."""
    lines = [[mnist_test_images()[row] for row in line] for line in ([2, 1, 4], [3, 5, 8])]
    assert [part.line for part in digits_of(written(lines, gap))] == [0, 0, 0, 1, 1, 1]


def test_the_halves_of_a_broken_digit_stay_together() -> None:
    images = mnist_test_images()
    page = written([[images[61], images[2]]], 0)
    assert len(digits_of(page)) == 2
    page[57:64, 30:80] = 1  # through the waist of the 8
    assert len(digits_of(page)) == 2


def test_drawn_digits_keep_their_greys(tmp_path: Path) -> None:
    images = mnist_test_images()
    check_order(drawing_of([[images[4], images[1]]], np.random.default_rng(0)), tmp_path / "drawn.png", [[4, 1]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["light", "noise", "squared", "blur", "dark paper", "all at once"])
def test_nine_of_ten_pairs_are_cut_in_two(kind: str, tmp_path: Path) -> None:
    images, rng = mnist_test_images(), np.random.default_rng([7, *kind.encode()])
    right = 0
    for number in range(20):
        pair = images[rng.choice(10_000, 2)]
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(photograph_of([list(pair)], kind, rng))
        right += len(digits_of(read_brightness(path))) == 2
    assert right >= 18


@pytest.mark.parametrize("kind", ["ruled", pytest.param("plain", marks=pytest.mark.slow)])
def test_a_single_digit_is_unchanged(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for number in range(2):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(photograph(mnist_test_images()[number], scene(kind, rng), rng))
        (part,) = digits_of(read_brightness(path))
        assert np.array_equal(part.ink, ink_of(read_brightness(path)))


def test_mnist_digits_are_not_cut_apart() -> None:
    """Also digits with separate strokes, such as a 5 with a detached bar or an open 4."""
    rows = [3893, 5420, 9940, 9639, 9616, 6548, 9669, 7267, *range(6)]
    cut = []
    for row in rows:
        drawn = np.pad(1 - sharp_ink(mnist_test_images()[row], 80, 0), 12, constant_values=1.0)
        cut += [row] if len(digits_of(drawn)) > 1 else []
    assert cut == []


@pytest.mark.parametrize(("left", "right"), [(18, 2), (3, 18)])
def test_digits_that_touch_are_one_part_with_both_halves(left: int, right: int) -> None:
    """The right digit is moved until it touches the left one."""
    first, second = (sharp_ink(mnist_test_images()[row], 60, 0) for row in (left, right))
    rows = max(len(first), len(second))
    first, second = (np.pad(ink, ((rows - len(ink), 0), (0, 0))) for ink in (first, second))
    reach = min(
        int(np.argmax(a[::-1] > 0.5)) + int(np.argmax(b > 0.5))
        for a, b in zip(first, second, strict=True)
        if (a > 0.5).any() and (b > 0.5).any()
    )
    ink = np.zeros((rows, first.shape[1] + second.shape[1] - reach - 2))
    ink[:, : first.shape[1]] = first
    ink[:, -second.shape[1] :] = np.maximum(ink[:, -second.shape[1] :], second)
    (part,) = digits_of(np.pad(1 - ink, 10, constant_values=1.0))
    assert len(part.touching) == 2
    halves = [centred(half) for half in part.touching]
    for half, row in zip(halves, (left, right), strict=True):
        assert likeness(half, mnist_test_images()[row]) > 0.7


def test_a_page_of_text_is_refused() -> None:
    page = np.ones((320, 320))
    for row in range(10, 310, 20):
        for column in range(10, 310, 20):
            page[row : row + 10, column : column + 3] = 0.0
    with pytest.raises(TooManyError):
        digits_of(page)
    assert MAX_DIGITS == 100
