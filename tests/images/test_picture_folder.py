"""Finding pictures in folders, messages on skipped files, and folders named after classes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnist_ff.data.sets.fashion_mnist import CLASSES
from mnist_ff.errors import ConfigError
from mnist_ff.images.picture_folder import class_folders, find_pictures, skipped_lines

DIGITS = tuple(map(str, range(10)))


def touch(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def test_folders_within_are_searched_in_order() -> None:
    touch("p/b.png", "p/a.JPG", "p/z/1.jpeg", "p/y/x/2.png", "p/notes.txt")
    found = find_pictures(Path("p"))
    assert list(map(str, found.files)) == ["p/a.JPG", "p/b.png", "p/y/x/2.png", "p/z/1.jpeg"]
    assert found.skipped == ("p/notes.txt: not a PNG or JPEG file",)
    assert find_pictures(Path("p/b.png")).files == (Path("p/b.png"),)


def test_hidden_files_loops_and_pipes_are_left_out() -> None:
    touch("p/a.png", "p/.b.png", "p/.git/c.png", "elsewhere/d.png")
    Path("p/loop").symlink_to(Path("p").absolute())
    Path("p/link.png").symlink_to(Path("elsewhere/d.png").absolute())
    Path("p/broken.png").symlink_to("nowhere")
    os.mkfifo("p/pipe.png")
    found = find_pictures(Path("p"))
    assert [file.name for file in found.files] == ["a.png", "link.png"]
    assert sorted(found.skipped) == [
        "p/broken.png: not a regular file",
        "p/loop: a link to a folder; not followed",
        "p/pipe.png: not a regular file",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named() -> None:
    touch("p/a.png", "p/closed/b.png")
    Path("p/closed").chmod(0)
    try:
        assert find_pictures(Path("p")).skipped == ("p/closed: Permission denied",)
    finally:
        Path("p/closed").chmod(0o700)


def test_no_picture_and_too_many_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("empty/a.txt", "p/1.png", "p/2.png", "p/3.png")
    with pytest.raises(ConfigError, match="contains no image files"):
        find_pictures(Path("empty"))
    with pytest.raises(ConfigError, match="nowhere: does not exist"):
        find_pictures(Path("nowhere"))
    monkeypatch.setattr("mnist_ff.images.picture_folder.MAX_PICTURES", 2)
    with pytest.raises(ConfigError, match="holds more than 2 pictures"):
        find_pictures(Path("p"))


def test_many_skipped_files_are_counted() -> None:
    assert skipped_lines(["a: why"]) == ["skipped a: why"]
    assert skipped_lines([f"{number}: why" for number in range(1_205)])[-1] == "skipped 1,200 more"


def test_class_folders_by_name_case_and_number() -> None:
    touch("d/7/a.png", "d/0/b.png", "d/.hidden/c.png", "d/beside.png")
    found, skipped = class_folders(Path("d"), DIGITS)
    assert found == [(Path("d/0"), 0), (Path("d/7"), 7)]
    assert skipped == ("d/beside.png: lies in no class folder",)
    touch("c/T-shirt/a.png", "c/shirt/b.png", "c/ankle_boot/c.png", "c/t-shirt_top/d.png", "c/8/e.png")
    names = {path.name: CLASSES[label] for path, label in class_folders(Path("c"), CLASSES)[0]}
    shirts = {"T-shirt": "T-shirt/top", "t-shirt_top": "T-shirt/top", "shirt": "Shirt"}
    assert names == {**shirts, "ankle_boot": "Ankle boot", "8": "Bag"}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("u", "u: cat, dog: not a class of this run, whose classes are 0, 1, 2"),
        ("flat", "flat: has no folders; --labels needs a folder for each class"),
        ("flat/a.png", "is not a folder"),
    ],
)
def test_other_folders_are_an_error_that_names_the_classes(place: str, said: str) -> None:
    touch("u/cat/a.png", "u/dog/b.png", "u/1/c.png", "flat/a.png")
    with pytest.raises(ConfigError, match=said):
        class_folders(Path(place), DIGITS)
