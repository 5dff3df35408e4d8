"""Predictions from pictures: photographs made of real test digits, untouched ones, and what cannot be read."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mnist_ff.analysis.console import picture
from tests.benchmarks.photograph_benchmark import right_by_number, right_in, rows_of
from tests.support.commands import Command
from tests.support.framed_photographs import KINDS as SURROUNDINGS
from tests.support.mnist import mnist_test_images, mnist_test_labels
from tests.support.photographs import KINDS, photographs
from tests.support.processes import in_a_terminal

EACH = 50


@pytest.mark.slow
def test_nine_of_ten_photographs_are_read(five_epochs: Path, mnist_ff: Command) -> None:
    """500 of them: 50 with each kind of disturbance, and 50 with all at once."""
    labels = mnist_test_labels()
    folder = Path("photographs")
    folder.mkdir()
    taken = photographs(mnist_test_images(), KINDS, EACH, seed=1)
    for number, (_, _, file) in enumerate(taken):
        (folder / f"{number:03}.jpg").write_bytes(file)
    code, out, err = mnist_ff("predict", str(five_epochs), str(folder), "--json")
    answers = {int(Path(entry["image"]).stem): entry["answer"] for entry in json.loads(out)}
    assert code == (2 if err else 0)
    right = Counter(kind for number, (kind, row, _) in enumerate(taken) if answers.get(number) == labels[row])
    print({kind: right[kind] / EACH for kind in KINDS})
    assert sum(right.values()) >= 0.9 * len(taken)
    assert all(right[kind] >= 0.8 * EACH for kind in KINDS), right


@pytest.mark.slow
@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_boxes_edges_and_borders_are_no_ink(kind: str, five_epochs: Path, real_mnist: Path) -> None:
    """Of 40 digits, at most two fewer than without anything around them."""
    rows = rows_of(seed=1)
    assert right_in(five_epochs, kind, rows, seed=1) >= right_by_number(five_epochs, rows) - 2


def test_an_untouched_digit_gives_what_its_number_gives(trained_run: Path, mnist_ff: Command) -> None:
    images = mnist_test_images()
    numbers = list(range(20))
    for number in numbers:
        Image.fromarray(images[number]).save(f"{number:02}.png")
        Image.fromarray(255 - images[number]).save(f"{number:02}-dark.png")
    by_number = json.loads(mnist_ff("predict", str(trained_run), "--index", *map(str, numbers), "--json")[1])
    for kind in ("", "-dark"):
        files = [f"{number:02}{kind}.png" for number in numbers]
        by_file = json.loads(mnist_ff("predict", str(trained_run), *files, "--json")[1])
        for one, other in zip(by_number, by_file, strict=True):
            assert one["answer"] == other["answer"]
            assert np.allclose(one["probabilities"], other["probabilities"], atol=0.02)
    assert [entry["label"] for entry in by_number] == mnist_test_labels()[numbers].tolist()


def test_probabilities_are_the_runs_own(trained_run: Path, mnist_ff: Command) -> None:
    from safetensors.numpy import load_file

    saved = load_file(trained_run / "predictions.safetensors")["probabilities"]
    found = json.loads(mnist_ff("predict", str(trained_run), "--index", "0", "9999", "--json")[1])
    for entry, number in zip(found, (0, 9999), strict=True):
        assert np.allclose(entry["probabilities"], saved[number], atol=1e-5)
        assert [answer["digit"] for answer in entry["top"]] == np.argsort(-saved[number])[:3].tolist()
        assert entry["top"][0]["probability"] == max(entry["probabilities"])


def test_three_answers_and_a_picture_in_plain_text(trained_run: Path, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("predict", str(trained_run), "--index", "0")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.startswith("test image 0   7  ")
    assert head.count("%") == 3
    assert head.endswith("(labelled 7)")
    assert len(lines) == 14
    assert all(set(line) <= set(" .:-=+*#%@") for line in lines)
    assert "\x1b" not in out
    _, many, _ = mnist_ff("predict", str(trained_run), "--index", *map(str, range(30)))
    assert len(many.splitlines()) == 30  # no pictures of so many


def test_a_terminal_gets_half_blocks(trained_run: Path, real_mnist: Path) -> None:
    code, seen = in_a_terminal("predict", str(trained_run), "--index", "0")
    assert code == 0, seen
    assert seen.count("▀") == 28 * 14
    assert "38;2;" in seen or "38;5;" in seen


def test_half_blocks_show_two_pixels_each() -> None:
    image = np.array([[0, 255], [128, 7]], dtype=np.uint8)
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(picture(image, colours=True))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "38;2;0;0;0;48;2;128;128;128m▀" in text
    assert "38;2;255;255;255;48;2;7;7;7m▀" in text
    assert str(picture(np.array([[0, 255], [0, 255]], dtype=np.uint8), colours=False)) == " @"


def test_a_bad_file_ends_nothing_but_itself(trained_run: Path, mnist_ff: Command) -> None:
    Image.fromarray(mnist_test_images()[0]).save("good.png")
    Image.new("L", (50, 50), 200).save("empty.png")
    Path("text.png").write_text("hello")
    code, out, err = mnist_ff("predict", str(trained_run), "empty.png", "good.png", "text.png")
    assert code == 2
    assert out.startswith("good.png   7  ")
    assert err.splitlines() == [
        "error: empty.png: no digit found; photograph a single digit, larger or with more light",
        "text.png: is not a PNG or JPEG image",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no image given: give PNG or JPEG files"),
        (["nowhere.png"], "nowhere.png: does not exist"),
        (["--index", "10000"], "--index 10000: the test images of mnist have indices 0 to 9999"),
        (["--index", "-1"], "--index -1: the test images of mnist have indices 0 to 9999"),
        (["--index", "8", "x.png"], "--index: x.png is not a number; give image files before --index"),
        (["--index", "0,1,2"], "--index: 0,1,2 is not a number; type --index 0 1 2"),
    ],
)
def test_bad_arguments(words: list[str], reason: str, trained_run: Path, real_mnist: Path, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("predict", str(trained_run), *words)
    assert (code, out) == (2, "")
    assert reason in err
    assert len(err.splitlines()) == 1


def test_file_name_prints_without_escape_codes(trained_run: Path, mnist_ff: Command) -> None:
    Image.fromarray(mnist_test_images()[0]).save("\x1b[2J[b]seven.png")
    code, out, err = mnist_ff("predict", str(trained_run), "\x1b[2J[b]seven.png")
    assert code == 0, err
    assert out.startswith(" [2J[b]seven.png   7  ")
    assert "\x1b" not in out


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_weights_that_give_no_number_are_one_line(words: list[str], trained_run: Path, mnist_ff: Command) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(trained_run, "run")
    weights = load_file("run/model.safetensors")
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, "run/model.safetensors")
    code, out, err = mnist_ff("predict", "run", "--index", "0", *words)
    said = "run/model.safetensors: gives NaN or infinity for some images; train the run again"
    assert (code, err) == (2, f"error: {said}\n")
    assert (json.loads(out) if words else out) == ({"error": said, "exit_code": 2} if words else "")
