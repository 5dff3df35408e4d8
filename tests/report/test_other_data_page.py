"""Reports of other data than MNIST in a real browser: drawing, the matrix, images in colour, names as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from mnist_ff.data.load import as_input
from mnist_ff.images.centre import centred
from mnist_ff.models.build import build_model
from mnist_ff.runs.directory import PREDICTIONS, Run
from mnist_ff.runs.records import DataSpec
from mnist_ff.training.checkpoint import load_weights
from tests.report.test_report_page import INK, NEXT_FRAMES, PAD, box_of, drag, encoded
from tests.support.browser import Browser
from tests.support.other_data import COLOURS, LETTERS, generated, made_run

PREDICTED = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const size = arguments[1];
const images = Array.from({length: bytes.length / size}, (_, at) => bytes.subarray(size * at, size * at + size));
return images.map(window.mnistFF.predict);
"""
PIXELS = """
return [...document.querySelectorAll(arguments[0])].map((canvas) =>
  Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data));
"""
BARS = """
const texts = (line) => [...line.querySelectorAll("b, span")].map((one) => one.textContent);
return [...document.querySelectorAll("#bars li")].map(texts);
"""
NAMES = ("<b>one</b>", "two & a half", "three", "四")
WIDE = DataSpec((1, 20, 44), NAMES)


def answers(run: Run, spec: DataSpec, images: np.ndarray) -> np.ndarray:
    """What the run's network says, (N, C)."""
    model = build_model(run.config().model, 0, torch.device("cpu"), spec)
    load_weights(run.file("model.safetensors"), model)
    with torch.no_grad():
        found: np.ndarray = model.eval()(as_input(torch.from_numpy(images))).softmax(1).numpy()
    return found


def seen_by_the_network(page: Browser) -> np.ndarray:
    page.driver.execute_async_script(NEXT_FRAMES)
    width, height = page.js("const seen = document.getElementById('seen'); return [seen.width, seen.height]")
    return np.array(page.js(PIXELS, "#seen")[0], dtype=np.uint8).reshape(height, width, 4)


def ink_of(page: Browser) -> np.ndarray:
    width, height = page.js("const pad = document.getElementById('pad'); return [pad.width, pad.height]")
    return np.array(page.js(INK), dtype=np.float64).reshape(height, width) / 255


def test_a_page_of_26_letters(browser: Browser, tmp_path: Path) -> None:
    """The field classifies what is drawn into 26 classes; a cell of the matrix shows its images."""
    run = made_run(tmp_path / "run", LETTERS, images=800, hidden=[30])
    browser.open(run.file("report.html"))
    images = generated(LETTERS, 60, seed=3).images.numpy()
    found = np.array(browser.js(PREDICTED, encoded(images), 784))
    assert np.abs(found - answers(run, LETTERS, images)).max() < 2e-3
    corner = browser.js(PAD)
    drag(browser, corner, [(60, 220), (140, 50), (220, 220)], lift=True)
    drag(browser, corner, [(100, 150), (180, 150)], lift=True)
    drawn = seen_by_the_network(browser)[..., 3]
    assert np.array_equal(drawn, centred(ink_of(browser)))
    bars = browser.js(BARS)
    assert [name for name, _ in bars] == list(LETTERS.classes)
    shares = answers(run, LETTERS, drawn[None])[0]
    assert [float(share.split()[0]) / 100 for _, share in bars] == pytest.approx(shares.tolist(), abs=2.5e-3)
    best = LETTERS.classes[int(shares.argmax())]
    assert browser.js("return document.getElementById('answer').textContent").startswith(f"{best}, ")
    assert browser.js("return document.querySelectorAll('.confusion tbody tr').length") == 26
    heads = browser.js("return [...document.querySelectorAll('.confusion thead th')].map((one) => one.textContent)")
    assert heads[1:] == list(LETTERS.classes)
    check_a_cell(browser, run, LETTERS, ".confusion button")
    assert browser.problems() == []


def check_a_cell(page: Browser, run: Run, spec: DataSpec, cells: str) -> None:
    """Click on a kind of mistake: exactly its images come, with their names."""
    label, predicted = page.js(
        "const one = [...document.querySelectorAll(arguments[0])].filter((cell) => cell.dataset.label !== "
        "cell.dataset.predicted)[2]; one.click(); return [one.dataset.label, one.dataset.predicted].map(Number)",
        cells,
    )
    saved = load_file(run.file(PREDICTIONS))
    expected = np.flatnonzero((saved["labels"] == label) & (saved["answers"] == predicted))
    title = page.js("return document.getElementById('cell-title').textContent")
    names = spec.classes[label], spec.classes[predicted]
    assert title == f"Label {names[0]}, predicted {names[1]}: {len(expected)}"
    captions = page.js("return [...document.querySelectorAll('#cell figcaption')].map((one) => one.textContent)")
    assert sorted(int(re.findall(r"no\. (\d+)", caption)[0]) for caption in captions) == expected.tolist()
    assert all(caption.startswith(f"{names[0]} → {names[1]}") for caption in captions)


def test_a_page_of_colour_images(browser: Browser, tmp_path: Path) -> None:
    """Images in their colours, not turned round where the page is dark; nothing to draw on; markup stays text."""
    run = made_run(tmp_path / "run", COLOURS, augmented=True)
    browser.open(run.file("report.html"), scheme="dark")
    assert browser.js("return ['pad', 'draw', 'bars'].map((id) => document.getElementById(id))") == [None] * 3
    parts = browser.js("return [...document.querySelectorAll('nav a')].map((one) => one.textContent)")
    assert parts == ["Training", "Mistakes", "Calibration", "Augmented", "Weights", "Config", "Next steps"]
    saved = load_file(run.file(PREDICTIONS))
    shown = np.array(browser.js(PIXELS, "#worst canvas"), dtype=np.uint8).reshape(25, 32, 32, 4)
    assert np.array_equal(shown[..., :3], saved["worst_images"].transpose(0, 2, 3, 1))
    assert (shown[..., 3] == 255).all()
    style = "return getComputedStyle(document.querySelector('#worst canvas')).filter"
    assert browser.js(style) == "none"
    augmented = load_file(run.file("augmented.safetensors"))["images"].reshape(-1, 3, 32, 32)
    rows = np.array(browser.js(PIXELS, "#rows canvas"), dtype=np.uint8).reshape(-1, 32, 32, 4)
    assert np.array_equal(rows[..., :3], augmented.transpose(0, 2, 3, 1))
    weight = load_file(run.file("model.safetensors"))["layers.0.weight"]
    tiles = np.array(browser.js(PIXELS, "#tiles canvas"), dtype=float).reshape(len(weight), 32, 32, 4)
    scaled = 128 + np.round(weight / np.abs(weight).max() * 127).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.abs(tiles[..., :3] - scaled).max() <= 1
    check_a_cell(browser, run, COLOURS, ".confusion button")
    assert browser.js("return document.querySelectorAll('b, i, u').length") == 0
    assert COLOURS.classes[4] in browser.js("return document.querySelector('.confusion').textContent")
    assert browser.problems() == []


def test_a_drawing_of_another_size_is_scaled(browser: Browser, tmp_path: Path) -> None:
    """Wide images in one channel: the field has their shape, and each pixel is the mean of what it covers."""
    run = made_run(tmp_path / "run", WIDE)
    browser.open(run.file("report.html"))
    corner = browser.js(PAD)
    drag(browser, corner, [(30, 30), (150, 100), (250, 40)], lift=True)
    drawn, ink = seen_by_the_network(browser)[..., 3], ink_of(browser)
    assert ink.shape == (127, 280)
    assert drawn.shape == (20, 44)
    means = np.kron(ink, np.ones((20, 44))).reshape(20, 127, 44, 280).mean(axis=(1, 3))
    assert np.abs(drawn - np.floor(means * 255 + 0.5)).max() <= 1
    assert drawn.any()
    shares = answers(run, WIDE, drawn[None, None])[0]
    bars = browser.js(BARS)
    assert [name for name, _ in bars] == list(NAMES)
    assert [float(share.split()[0]) / 100 for _, share in bars] == pytest.approx(shares.tolist(), abs=2.5e-3)
    box = browser.js("return document.querySelector('#worst canvas').getBoundingClientRect().toJSON()")
    assert box["width"] / box["height"] == pytest.approx(44 / 20, rel=0.05)
    assert browser.problems() == []


def test_dark_drawings_on_a_light_ground(browser: Browser, tmp_path: Path) -> None:
    """Where the data is dark on light, the network sees the drawing so too, and images are shown as they are."""
    spec = DataSpec((24, 24), ("a", "b", "c"))
    run = made_run(tmp_path / "run", spec, inverted=True)
    browser.open(run.file("report.html"))
    drag(browser, browser.js(PAD), [(60, 60), (200, 200)], lift=True)
    drawn = seen_by_the_network(browser)
    assert (drawn[..., 3] == 255).all()
    assert (drawn[0, -1, :3] == 255).all()
    assert (drawn[12, 12, :3] < 100).all()
    shares = answers(run, spec, drawn[None, ..., 0])[0]
    assert float(browser.js(BARS)[0][1].split()[0]) / 100 == pytest.approx(shares[0], abs=2.5e-3)
    saved = load_file(run.file(PREDICTIONS))
    shown = np.array(browser.js(PIXELS, "#worst canvas"), dtype=np.uint8).reshape(-1, 24, 24, 4)
    assert np.array_equal(shown[..., 1], saved["worst_images"])
    assert browser.problems() == []


def test_a_page_of_many_classes(browser: Browser, tmp_path: Path) -> None:
    """Beyond 50 classes the most frequent mistakes are listed and clickable, and the ten likeliest classes drawn."""
    spec = DataSpec((28, 28), tuple(f"word {number}" for number in range(300)))
    run = made_run(tmp_path / "run", spec, images=1500)
    browser.open(run.file("report.html"), 390, 800)
    assert browser.js("return document.documentElement.scrollWidth") <= 390
    assert browser.js("return document.querySelector('.confusion')") is None
    check_a_cell(browser, run, spec, ".confusion-list button")
    drag(browser, browser.js(PAD), [(60, 60), (200, 200)], lift=True)
    drawn = seen_by_the_network(browser)[..., 3]
    shares = answers(run, spec, drawn[None])[0]
    bars = browser.js(BARS)
    assert [name for name, _ in bars] == [spec.classes[place] for place in np.argsort(-shares, kind="stable")[:10]]
    browser.frame(1200)
    assert browser.problems() == []


@pytest.mark.parametrize("width", [390, 1200])
def test_pages_of_other_data_fit(width: int, browser: Browser, tmp_path: Path) -> None:
    """No sideways scrolling, however long the names, many the classes and odd the shapes."""
    long = tuple(f"{'a very long name ' * 4}{number}" for number in range(40))
    for number, spec in enumerate([DataSpec((12, 12), long), DataSpec((3, 9, 120), long[:3]), DataSpec((50,), long)]):
        run = made_run(tmp_path / f"{number}", spec, images=200, augmented=spec.is_image)
        browser.open(run.file("report.html"), width, 800)
        browser.js("for (const one of document.querySelectorAll('details')) one.open = true")
        assert browser.js("return document.documentElement.scrollWidth") <= width
        names: Any = browser.js("return [...document.querySelectorAll('canvas')].map((one) => one.ariaLabel)")
        assert all(names)
        assert browser.problems() == []
    browser.frame(1200)


def test_mixed_data_on_one_page(browser: Browser, tmp_path: Path, mnist_ff: Any) -> None:
    """compare's page of runs on different data; they are not tested against each other."""
    for name, spec, images in (("letters", LETTERS, 400), ("colours", COLOURS, 300)):
        made_run(tmp_path / name, spec, images=images)
    code, out, _ = mnist_ff("compare", "letters", "colours", "--html", "both.html")
    assert code == 0
    assert "No significance test: they were evaluated on different test images" in out
    browser.open(Path("both.html"))
    assert browser.js("return document.querySelectorAll('.accuracy-chart .plot path.line').length") == 2
    assert box_of(browser, "batch-chart")["width"] > 300
    assert browser.problems() == []
