"""`mnist-ff data FORMAT`: what own files hold, and the contact sheet."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_ff.images.contact_sheet import CELL_PX, MOST_ROWS, PER_CLASS, contact_sheet
from tests.support.commands import Command
from tests.support.own_data import LETTERS, keras_arrays, medmnist_arrays, write_npz, write_pictures


def test_counts_shape_classes_and_duplicates_are_shown(mnist_ff: Command) -> None:
    arrays = keras_arrays()
    arrays["x_test"][:3] = arrays["x_train"][:3]
    write_npz(Path("letters.npz"), {**arrays, "classes": LETTERS})
    code, out, err = mnist_ff("data", "npz", "data.path=letters.npz")
    assert code == 0, err
    assert "letters.npz, a NumPy archive with Keras's keys" in out
    assert "28 x 28 and 26 classes, uint8" in out
    assert re.search(r"^all +260 +52$", out, flags=re.M)
    assert re.search(r"^z +10 +2$", out, flags=re.M)
    assert "3 of 52 test images are training images too" in out
    assert out.endswith("contact sheet of training images: contact_sheet.png\n")
    with Image.open("contact_sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_validation_images_have_a_column(mnist_ff: Command) -> None:
    write_npz(Path("m.npz"), medmnist_arrays())
    _, out, _ = mnist_ff("data", "npz", "data.path=m.npz", "--sheet", "s.png")
    assert re.search(r"^class +train +validation +test$", out, flags=re.M)
    assert re.search(r"^4 +20 +4 +6$", out, flags=re.M)
    assert Path("s.png").is_file()
    assert not Path("contact_sheet.png").exists()


def test_a_sheet_overwrites_nothing(mnist_ff: Command) -> None:
    write_pictures(Path("pets"), ("a", "b"), (16,), colour=False)
    for name in ("contact_sheet.png", "contact_sheet_2.png"):
        _, out, _ = mnist_ff("data", "folder", "data.path=pets")
        assert out.endswith(f": {name}\n")
    before = Path("contact_sheet.png").read_bytes()
    code, _, err = mnist_ff("data", "folder", "data.path=pets", "--sheet", "contact_sheet.png")
    assert code == 2
    assert "--sheet contact_sheet.png: already exists; give another name" in err
    assert Path("contact_sheet.png").read_bytes() == before
    code, _, err = mnist_ff("data", "folder", "data.path=pets", "--sheet", "sheet.jpg")
    assert code == 2
    assert "give a name that ends with .png" in err


def test_a_bundled_set_has_a_sheet_on_request(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("data", "mnist_5k", "--sheet", "five.png")
    assert code == 0, err
    assert "28 x 28 and 10 classes" in out
    assert Path("five.png").is_file()
    code, _, err = mnist_ff("data", "--sheet", "x.png")
    assert code == 2
    assert "--sheet: give one data set" in err


def test_the_list_has_what_needs_no_path_and_fits(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("data")
    assert code == 0
    assert "emnist_letters" in out
    assert not re.search(r"^(npz|folder|idx) ", out, flags=re.M)
    table = out.split("\n\n")[0].splitlines()[1:]  # sums of cached sets follow, which are longer
    assert all(len(line) <= 80 for line in table)


@pytest.mark.parametrize(("shape", "value"), [((3, 40, 20), 200), ((100, 256), 200), ((2, 8, 8), 200), ((5, 5), 1.0)])
def test_images_of_any_shape_are_on_the_sheet(shape: tuple[int, ...], value: float) -> None:
    images = np.full((4, *shape), value, np.uint8 if value > 1 else np.float32)
    sheet = np.asarray(contact_sheet(images, np.array([0, 0, 1, 1]), ("long" * 10, "b")))
    shown = 255 if value == 1 else 200
    assert (sheet == shown).all(axis=2).sum() > 4 * CELL_PX


def test_a_sheet_of_a_thousand_classes_is_small() -> None:
    images = np.zeros((1_000, 4, 4), np.uint8)
    sheet = contact_sheet(images, np.arange(1_000), [str(number) for number in range(1_000)])
    assert sheet.height < (MOST_ROWS + 1) * (CELL_PX + 10)
    assert sheet.width < PER_CLASS * (CELL_PX + 10) + 200


def test_as_json(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("data", "mnist_5k", "--sheet", "sheet.png", "--json")
    found = json.loads(out)
    assert code == 0
    assert [(row["name"], row["train"], row["test"]) for row in found["cached"]] == [("mnist_5k", 4000, 1000)]
    (shown,) = found["shown"]
    assert shown["totals"] == {"train": 4000, "test": 1000}
    assert sum(row["train"] for row in shown["classes"]) == 4000
    assert shown["sheet"] == "sheet.png"
