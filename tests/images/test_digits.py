"""A digit prepared as MNIST's were."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mnist_ff.images.centre import BOX, SIDE, centred


def test_paper_alone_is_empty() -> None:
    assert not centred(np.zeros((50, 40))).any()


def test_a_bar_fills_the_box_in_the_middle() -> None:
    """Ten columns of forty rows, anywhere: 5 x 20, from row 5 to 24: pixel 14 is the middle."""
    ink = np.zeros((100, 300))
    ink[55:95, 20:30] = 1
    expected = np.zeros((SIDE, SIDE), dtype=np.uint8)
    expected[5:25, 12:17] = 255  # across, its pixel 2 on 14; down, its 9.5 on 14.5, for halves go on
    assert np.array_equal(centred(ink), expected)


def test_output_pixel_is_the_mean_it_covers() -> None:
    """30 x 30 to 20 x 20: each target covers 1.5 source pixels a side."""
    ink = np.random.default_rng(0).random((30, 30))
    fine = np.repeat(np.repeat(ink, 2, axis=0), 2, axis=1)  # halves of pixels: 60 x 60, in blocks of 3 x 3
    means = fine.reshape(20, 3, 20, 3).mean(axis=(1, 3))
    made = centred(ink)
    rows, columns = np.flatnonzero(made.any(axis=1)), np.flatnonzero(made.any(axis=0))
    box = made[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert box.shape == (BOX, BOX)
    assert np.abs(box - means * 255).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_heavy_corner_does_not_leave_the_field(corner: tuple[int, int]) -> None:
    """Its centre of mass would put the light end outside."""
    ink = np.full((40, 40), 0.004)
    rows, columns = (slice(36, 40) if side else slice(0, 4) for side in corner)
    ink[rows, columns] = 1
    made = centred(ink)
    assert (made > 0).sum() == BOX * BOX
    top = 8 if corner[0] == 0 else 0
    left = 8 if corner[1] == 0 else 0
    assert made[top : top + BOX, left : left + BOX].all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2), (19, 21)])
def test_any_size_of_ink(shape: tuple[int, int]) -> None:
    made = centred(np.ones(shape))
    longest = max(np.count_nonzero(made.any(axis=0)), np.count_nonzero(made.any(axis=1)))
    assert longest == BOX
    assert made.max() == 255


def test_real_digits_stay_what_they_are(real_mnist: Path) -> None:
    """MNIST's own images have been through it: nearly all come back as they were."""
    raw = gzip.decompress((real_mnist / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, SIDE, SIDE)[:500]
    same = sum(np.array_equal(centred(image / 255.0), image) for image in images)
    assert same >= 495, same
