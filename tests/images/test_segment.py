"""From a picture to its ink: each step against what is known of a made picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_ff.images.centre import centred
from mnist_ff.images.frames import without_frames
from mnist_ff.images.image_io import read_brightness
from mnist_ff.images.paper import otsu, read_paper, shrunk
from mnist_ff.images.segment import (
    NoDigitError,
    digit_in,
    drawn_ink,
    ink_of,
    is_of_strokes,
    standing_out,
    thickened,
    without_lines,
)
from tests.support.framed_photographs import KINDS, framed_photographs
from tests.support.mnist import mnist_test_images
from tests.support.photographs import photograph, scene


def seven(side: int = 200, ink: float = 0.2, paper: float = 0.9, width: int = 14) -> np.ndarray:
    """A 7 of straight strokes in the middle of a square of paper."""
    image = Image.new("F", (side, side), paper)
    corners = [(0.3, 0.25), (0.65, 0.25), (0.45, 0.75)]
    ImageDraw.Draw(image).line([(x * side, y * side) for x, y in corners], fill=ink, width=width)
    return np.asarray(image, dtype=np.float64)


def alike(first: np.ndarray, second: np.ndarray) -> float:
    """The share of ink that two images have in common, at most a pixel apart: 1 where they are equal."""
    moved = [np.roll(first, (down, right), axis=(0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(float(np.minimum(one, second).sum() / np.maximum(one, second).sum()) for one in moved)


DIGIT = (255 * (seven(28, width=3) < 0.5)).astype(np.uint8)
EXPECTED = centred((seven() < 0.5).astype(float)).astype(float)


def test_otsu_cuts_between_two_heaps() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.2, 0.03, 5000), rng.normal(0.8, 0.03, 500)])
    assert 0.3 < otsu(values) < 0.7
    assert otsu(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.5, abs=0.01)


def test_shrunk_is_the_mean_of_blocks() -> None:
    picture = np.random.default_rng(0).random((90, 61))
    small = shrunk(picture, 30)
    assert small.shape == (30, 20)
    assert small[3, 4] == pytest.approx(picture[9:12, 12:15].mean())
    assert np.array_equal(shrunk(picture, 90), picture)
    assert shrunk(np.ones((1, 1000)), 10).shape == (1, 10)


@pytest.mark.parametrize("shade", [1.0, 0.3])
def test_polarity_is_found_also_across_a_shadow(shade: float) -> None:
    light = np.where(np.arange(200) < 100, 1.0, shade)
    assert read_paper(np.log(seven() * light + 0.05))[0]
    assert not read_paper(np.log(seven(ink=0.9, paper=0.2) * light + 0.05))[0]


@pytest.mark.parametrize("seed", [74, 97, 184])
def test_half_of_a_dim_sheet_is_no_paper(seed: int, tmp_path: Path) -> None:
    """The digit lies across both halves."""
    rng = np.random.default_rng(seed)
    seen = scene("all at once", rng)
    file = tmp_path / "photograph.jpg"
    file.write_bytes(photograph(DIGIT, seen, rng))
    light = np.log(read_brightness(file) + 0.05)
    assert read_paper(light)[0] == (seen.paper > 0.5)


def test_real_digits_polarity(real_mnist: object) -> None:
    """Both ways, 28 x 28 as they are: the strokes are up to a third of such a picture."""
    images = mnist_test_images()[:500] / 255
    wrong = sum(read_paper(np.log(image + 0.05))[0] for image in images)
    wrong += sum(not read_paper(np.log(1 - image + 0.05))[0] for image in images)
    assert wrong <= 5


def test_a_shadows_edge_does_not_stand_out() -> None:
    light = np.log(seven())
    light[:, 90:] += np.log(0.5)
    contrast = standing_out(light)
    assert contrast[10, :].max() < 1e-9
    assert contrast[50, 80] == pytest.approx(np.log(0.9 / 0.2))  # ink on the bright side
    assert contrast[50, 110] == pytest.approx(np.log(0.9 / 0.2))  # and in the shadow


@pytest.mark.parametrize("tilt", [-15, -4, 0, 9])
@pytest.mark.parametrize("squared", [False, True])
def test_lines_go_and_the_digit_stays(tilt: float, squared: bool) -> None:
    side = 300
    rows, columns = np.indices((side, side))
    digit = np.where(seven(side, width=20) < 0.5, 1.5, 0.0)
    lines = np.zeros((side, side), dtype=bool)
    for turn in (0, 90)[: 1 + squared]:
        angle = np.radians(tilt + turn)
        lines |= (rows * np.cos(angle) - columns * np.sin(angle)) % 40 < 2
    contrast = np.where(digit > 0, digit, lines * 0.4)
    cleared = without_lines(contrast)
    outside = (digit == 0) & lines
    assert cleared[outside].mean() < 0.04  # of 0.4
    assert (cleared[digit > 0] > 1.0).mean() > 0.97


def test_without_lines_a_tall_one_stays() -> None:
    contrast = np.zeros((300, 300))
    contrast[10:290, 140:165] = 1.0
    assert np.array_equal(without_lines(contrast), contrast)


def test_what_the_border_cuts_is_not_the_digit() -> None:
    contrast = np.where(seven() < 0.5, 1.0, 0.0)
    contrast[:, :20] = 2.0
    assert alike(centred(digit_in(contrast)), EXPECTED) > 0.85
    alone = np.zeros((100, 100))
    alone[0:100, 40:55] = 1.0  # here it is all there is
    assert centred(digit_in(alone)).any()


def test_detached_strokes_are_kept_specks_dropped() -> None:
    contrast = np.zeros((200, 200))
    contrast[60:140, 60:75] = 1.0
    contrast[60:75, 85:130] = 1.0  # ten pixels beside it, as the bar of a 5
    contrast[20:24, 20:24] = 1.0
    ink = digit_in(contrast)
    assert centred(ink).astype(bool).any(axis=0).sum() > 14
    contrast[60:75, 85:130] = 0
    assert centred(digit_in(contrast)).astype(bool).any(axis=0).sum() < 8


@pytest.mark.parametrize(("paper", "ink", "table"), [(0.9, 0.2, 0.15), (0.15, 0.9, 0.7)])
def test_a_sheet_on_a_table_is_paper(paper: float, ink: float, table: float) -> None:
    picture = np.full((300, 300), table)
    picture[60:260, 50:250] = seven(200, ink, paper)
    picture += np.random.default_rng(0).normal(0, 0.01, picture.shape)
    assert alike(centred(ink_of(picture.clip(0, 1))), EXPECTED) > 0.75


def test_what_a_pen_draws(real_mnist: object) -> None:
    assert sum(is_of_strokes(image / 255) for image in mnist_test_images()[:500]) >= 498
    assert not is_of_strokes(np.ones((20, 30)))
    assert not is_of_strokes(np.zeros((20, 30)))


def test_fine_pen_strokes_become_as_wide_as_mnist() -> None:
    """A frame of lines one pixel wide, 100 pixels high: two of twenty are ten."""
    ink = np.zeros((100, 60))
    ink[[0, -1]] = ink[:, [0, -1]] = 1
    made = thickened(ink)
    middle = made[made.shape[0] // 2], made[:, made.shape[1] // 2]
    assert [row.sum() for row in middle] == [20, 20]  # two strokes each
    bold = np.zeros((100, 60))
    bold[:, 20:40] = 1
    assert thickened(bold) is bold
    assert not thickened(np.zeros((5, 5))).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 3), (28, 28), (700, 900)])
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_empty_paper_has_no_digit(shape: tuple[int, int], level: float) -> None:
    with pytest.raises(NoDigitError):
        ink_of(np.full(shape, level))


def test_noise_alone_has_no_digit() -> None:
    for seed in range(5):
        with pytest.raises(NoDigitError):
            ink_of(0.8 + np.random.default_rng(seed).normal(0, 0.02, (300, 400)))


def test_drawn_ink_keeps_every_grey(real_mnist: object) -> None:
    image = mnist_test_images()[0] / 255
    ink = drawn_ink(1 - image)
    assert ink is not None
    assert np.allclose(ink, image)
    assert drawn_ink(seven() + np.random.default_rng(0).normal(0, 0.01, (200, 200))) is None


@pytest.mark.parametrize("size", [28, 60, 500, 2500])
@pytest.mark.parametrize(("ink", "paper"), [(0.2, 0.9), (0.95, 0.1)])
def test_size_and_polarity_do_not_change_the_digit(size: int, ink: float, paper: float) -> None:
    picture = seven(size, ink, paper, max(2, size * 14 // 200))
    picture = picture + np.random.default_rng(0).normal(0, 0.005, picture.shape)
    assert alike(centred(ink_of(np.clip(picture, 0, 1))), EXPECTED) > (0.75 if size < 100 else 0.85)


AROUND = (
    *("box of 2 px, drawn", "dashed box, drawn", "touched box", "row of cells", "narrow sheet on a dark table"),
    *(
        pytest.param(kind, marks=pytest.mark.slow)
        for kind in (
            *("corner marks, drawn", "box on the edge, drawn", "touched box, drawn", "thick box", "open box"),
            *("box in perspective", "sheet on a dark table", "scanner's border", "small picture"),
        )
    ),
)


@pytest.mark.parametrize("kind", AROUND)
def test_what_is_around_a_digit_is_no_ink(kind: str, tmp_path: Path) -> None:
    for name in ("plain, drawn", kind):
        (tmp_path / name.replace(" ", "_")).write_bytes(framed_photographs(DIGIT[None], np.array([0]), name, 3)[0])
    made = [centred(ink_of(read_brightness(path))).astype(float) for path in sorted(tmp_path.iterdir())]
    assert kind in KINDS
    assert alike(*made) > 0.6


def test_faint_squares_leave_the_digit_that_crosses_them() -> None:
    rows, columns = np.indices((300, 300))
    contrast = np.where((rows % 60 < 2) | (columns % 60 < 2), 0.2, 0.0)
    contrast[20:24, 10:50] = 0.2  # a mark in a square, as large as what a frame holds
    digit = np.where(seven(300, width=20) < 0.5, 1.0, 0.0)
    ink = np.maximum(contrast, digit)
    cleared = without_frames(ink, 0.05)
    assert (cleared[digit > 0] == 1.0).all()


def test_digits_that_look_like_frames_stay() -> None:
    """A large 0, one with a speck in it, square or thick; a 1 as high as the picture; a straight 4 and 8."""
    y, x = np.indices((200, 200)) - 100.0
    ring = np.abs(np.hypot(y / 1.2, x) - 70) < 8
    speck = np.hypot(y, x) < 5
    square = (np.maximum(np.abs(y), np.abs(x)) < 80) & (np.maximum(np.abs(y), np.abs(x)) >= 66)
    one = (np.abs(x) < 10) & (np.abs(y) < 96)
    four = ((np.abs(x - 20) < 7) & (np.abs(y) < 80)) | ((np.abs(y - 20) < 7) & (np.abs(x) < 60))
    four |= (np.abs(x + 50) < 7) & (y > -80) & (y < 20)
    narrow = (np.abs(y) < 55) & (np.abs(x) < 35)
    eight = narrow & ((np.abs(y) > 51) | (np.abs(x) > 31) | (np.abs(y) < 2))
    for drawn in (ring, ring | speck, square, one, four):
        noise = np.random.default_rng(0).normal(0, 0.01, drawn.shape)
        for picture in (1.0 - drawn, np.clip(0.9 - 0.7 * drawn + noise, 0, 1)):
            assert alike(centred(ink_of(picture)).astype(float), centred(drawn.astype(float)).astype(float)) > 0.7
    assert np.array_equal(without_frames(eight.astype(float), 0.05), eight)
