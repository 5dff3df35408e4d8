"""report.html in a real browser: it answers as the model does, draws, zooms, asks nobody, and fits a phone."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.data.load import Data, load_data
from mnist_ff.errors import BadRunError
from mnist_ff.images.centre import SIDE, centred
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import MLP
from mnist_ff.report.augmented import augmented_part
from mnist_ff.report.run_page import write_report
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import MNIST_SPEC
from mnist_ff.runs.tables import BATCH_COLUMNS
from mnist_ff.training.checkpoint import load_weights, save_weights
from mnist_ff.training.evaluation import evaluate
from tests.support.browser import Browser
from tests.support.commands import MARKUP
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.sweep_maker import make_sweep

ANSWERS = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const images = Array.from({length: bytes.length / 784}, (_, at) => bytes.subarray(784 * at, 784 * at + 784));
return images.map(window.mnistFF.predict);
"""
CENTRED = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
return Array.from(window.mnistFF.centred(Float64Array.from(bytes, (byte) => byte / 255), arguments[1], arguments[2]));
"""
INK = """
const pad = document.getElementById("pad");
const pixels = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height).data;
return Array.from({length: pad.width * pad.height}, (_, at) => pixels[4 * at + 3]);
"""
SEEN = """
const seen = document.getElementById("seen").getContext("2d").getImageData(0, 0, 28, 28).data;
return Array.from({length: 784}, (_, at) => seen[4 * at + 3]);
"""
NEXT_FRAMES = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(arguments[0], 0)));"
SHARES = "return [...document.querySelectorAll('#bars li span')].map((share) => parseFloat(share.textContent) / 100);"
THREE = [(85, 95), (100, 65), (135, 50), (170, 62), (180, 95), (165, 125), (135, 138), (165, 148), (188, 178)]
THREE += [(178, 215), (140, 235), (105, 225), (85, 200)]
"""A 3 on the field's 280 x 280 pixels."""


@pytest.fixture
def page(browser: Browser, trained_run: Path) -> Browser:
    browser.open(trained_run / "report.html")
    return browser


def encoded(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=np.uint8).tobytes()).decode()


def seen(page: Browser) -> np.ndarray:
    page.driver.execute_async_script(NEXT_FRAMES)
    return np.array(page.js(SEEN), dtype=np.uint8).reshape(SIDE, SIDE)


def sees_what_predict_would(page: Browser) -> np.ndarray:
    ink = np.array(page.js(INK), dtype=np.float64).reshape(280, 280) / 255
    made = seen(page)
    assert made.any()
    assert np.array_equal(made, centred(ink))
    return made


def test_the_pages_network_answers_as_the_model(page: Browser, trained_run: Path, real_mnist: Path) -> None:
    """200 test images: each probability within 2e-3, the same answer, though the page has float16 weights."""
    run = Run(trained_run)
    config = run.config()
    images = load_data(config.data, 0).test.images[:200]
    found = np.array(page.js(ANSWERS, encoded(images.numpy())))
    kept = load_file(trained_run / "predictions.safetensors")
    assert np.abs(found - kept["probabilities"][:200]).max() < 2e-3
    assert (found.argmax(1) == kept["answers"][:200]).all()
    assert page.problems() == []


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu"])
def test_every_activation_and_depth(activation: str, browser: Browser, tmp_path: Path) -> None:
    """With weights that float16 holds, the page computes what torch does: on paths of positive and negative values."""
    for hidden in ([], [40], [30, 20, 10, 12]):
        run = made_run(tmp_path / f"{len(hidden)}", activation, hidden)
        browser.open(run.file("report.html"))
        split = make_split(50)
        model = MLP(hidden, activation, 0.0)
        load_weights(run.file("model.safetensors"), model)
        expected = evaluate(model, split)
        found = np.array(browser.js(ANSWERS, encoded(split.images.numpy())))
        assert np.abs(found - expected.probabilities.numpy()).max() < 1e-4
        assert (found.argmax(1) == expected.predictions.numpy()).all()
        assert browser.problems() == []


def made_run(path: Path, activation: str, hidden: list[int], scale: float = 1.5) -> Run:
    """A run directory with a config, random weights and the report of these."""
    values = config_to_dict(make_config("data=mnist_5k"))
    values["model"] |= {"activation": activation, "hidden": hidden}
    config = config_from(values)
    path.mkdir()
    run = Run(path)
    run.write_config(config)
    model = build_model(config.model, 1, torch.device("cpu"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((scale * parameter + 0.01).half())
    save_weights(run.file("model.safetensors"), model)
    write_report(run)
    return run


def test_the_page_prepares_a_drawing_as_predict_does(page: Browser, real_mnist: Path, trained_run: Path) -> None:
    """Pixel for pixel: noise of many shapes, blocks whose means lie between two greys, real digits at many sizes."""
    rng = np.random.default_rng(0)
    inks = [rng.integers(0, 256, rng.integers(1, 120, 2)) * (rng.random() < 0.7) for _ in range(60)]
    inks += [rng.integers(0, 2, rng.integers(1, 60, 2)) * int(rng.integers(1, 256)) for _ in range(40)]
    inks += [np.kron(rng.integers(0, 256, (20, 20)), np.ones((2, 2))) + rng.integers(0, 2, (40, 40)) for _ in range(20)]
    images = load_data(Run(trained_run).config().data, 0).test.images[:40].numpy()
    inks += [np.kron(image, np.ones((size, size))) for size, image in zip([1, 2, 3, 5] * 10, images, strict=True)]
    for ink in inks:
        ink = np.clip(ink, 0, 255).astype(np.uint8)
        height, width = ink.shape
        found = np.array(page.js(CENTRED, encoded(ink), width, height)).reshape(SIDE, SIDE)
        assert np.array_equal(found, centred(ink / 255)), ink.shape


def test_a_digit_drawn_with_the_pointer(page: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    pad = page.driver.find_element(By.ID, "pad")
    page.js("arguments[0].scrollIntoView()", pad)
    chain = ActionChains(page.driver, duration=10)
    chain.move_to_element_with_offset(pad, THREE[0][0] - 140, THREE[0][1] - 140).click_and_hold()
    for x, y in THREE[1:]:
        chain.move_to_element_with_offset(pad, x - 140, y - 140)
    chain.release().perform()
    image = sees_what_predict_would(page)
    shares = page.js(SHARES)
    assert shares == pytest.approx(page.js(ANSWERS, encoded(image))[0], abs=6e-4)
    assert len(shares) == 10
    assert int(np.argmax(shares)) == 3
    assert page.js("return document.getElementById('answer').textContent").startswith("3, ")
    page.driver.find_element(By.ID, "undo").click()
    assert not seen(page).any()
    assert page.js("return document.getElementById('answer').textContent") == "Draw something."
    assert page.problems() == []


@pytest.mark.parametrize("ended", ["Clear", "Undo", "Delete"])
def test_cancelled_stroke_ends(ended: str, page: Browser) -> None:
    """What the pointer does until it is lifted leaves nothing, and joins no other stroke."""
    corner = page.js(PAD)
    first, second = [(60, 60), (60, 200)], [(200, 60), (200, 120)]
    drag(page, corner, first, lift=True)
    alone = seen(page)
    drag(page, corner, second, lift=False)
    assert not np.array_equal(seen(page), alone)
    if ended == "Delete":
        page.js("document.getElementById('pad').dispatchEvent(new KeyboardEvent('keydown', {key: 'Delete'}))")
    else:
        page.js("document.getElementById(arguments[0]).click()", ended.lower())
    mouse(page, "mouseMoved", corner[0] + 240, corner[1] + 200, buttons=1)
    mouse(page, "mouseReleased", corner[0] + 240, corner[1] + 200)
    assert np.array_equal(seen(page), alone if ended == "Undo" else np.zeros_like(alone))
    drag(page, corner, second, lift=True)
    assert seen(page).any()
    assert page.js("return window.mnistFF.pad.strokes.length") == (2 if ended == "Undo" else 1)
    assert page.problems() == []


def test_the_keys_pen_rests_while_a_pointer_draws(page: Browser) -> None:
    corner = page.js(PAD)
    drag(page, corner, [(60, 60), (60, 120)], lift=False)
    for key in (" ", "ArrowRight"):
        page.js("document.getElementById('pad').dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))", key)
    mouse(page, "mouseMoved", corner[0] + 60, corner[1] + 200, buttons=1)
    mouse(page, "mouseReleased", corner[0] + 60, corner[1] + 200)
    strokes = page.js("return window.mnistFF.pad.strokes")
    assert len(strokes) == 1
    assert {round(place["x"]) for place in strokes[0]} <= {59, 60, 61}
    assert round(strokes[0][-1]["y"]) in (199, 200, 201)
    assert page.js("return document.getElementById('pen').classList.contains('down')") is False


def drag(page: Browser, corner: list[float], places: list[tuple[int, int]], lift: bool) -> None:
    """A stroke of the mouse, from the drawing field's corner."""
    points = [(corner[0] + x, corner[1] + y) for x, y in places]
    mouse(page, "mousePressed", *points[0], buttons=1)
    for x, y in points[1:]:
        mouse(page, "mouseMoved", x, y, buttons=1)
    if lift:
        mouse(page, "mouseReleased", *points[-1])


PAD = """
const pad = document.getElementById("pad");
pad.scrollIntoView();
const box = pad.getBoundingClientRect();
return [box.x, box.y];
"""


def test_digit_drawn_by_touch_on_a_phone(browser: Browser, trained_run: Path) -> None:
    """Two strokes; undo takes the last, clear all; the page does not scroll away under the finger."""
    browser.open(trained_run / "report.html", 390)
    browser.frame(390, 800, mobile=True)
    box = browser.js(
        "const pad = document.getElementById('pad'); pad.scrollIntoView(); return pad.getBoundingClientRect()"
    )
    top = browser.js("return scrollY")
    for stroke in ([(140, 40), (140, 150), (140, 240)], [(60, 240), (150, 240), (220, 240)]):
        for kind, place in [("touchStart", stroke[0]), *(("touchMove", at) for at in stroke[1:]), ("touchEnd", None)]:
            points = [] if place is None else [{"x": box["x"] + place[0], "y": box["y"] + place[1]}]
            browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    both = sees_what_predict_would(browser)
    assert browser.js("return scrollY") == top
    browser.js("document.getElementById('undo').click()")
    one = sees_what_predict_would(browser)
    assert np.count_nonzero(one.any(axis=0)) < np.count_nonzero(both.any(axis=0))
    browser.js("document.getElementById('clear').click()")
    assert not seen(browser).any()
    browser.frame(1200)


def test_a_digit_drawn_with_the_keyboard(page: Browser) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    pad = page.driver.find_element(By.ID, "pad")
    page.js("arguments[0].focus()", pad)
    pad.send_keys(Keys.ARROW_UP * 3, Keys.SPACE, Keys.ARROW_DOWN * 20, Keys.SPACE)
    image = sees_what_predict_would(page)
    assert image.sum(axis=0).argmax() in (13, 14)
    assert int(np.argmax(page.js(SHARES))) == 1
    pad.send_keys(Keys.ARROW_RIGHT * 3)  # lifted: it moves and leaves no ink
    assert np.array_equal(seen(page), image)
    pad.send_keys(Keys.BACKSPACE)
    assert not seen(page).any()
    pad.send_keys(Keys.SPACE, Keys.ARROW_LEFT, Keys.DELETE)
    assert not seen(page).any()
    assert all(name.strip() for name in page.js(NAMES))
    live = "return ['answer', 'cell-title'].map((id) => document.getElementById(id).getAttribute('aria-live'))"
    assert page.js(live) == ["polite", "polite"]


def test_no_request_leaves_the_page_and_none_could(page: Browser, trained_run: Path) -> None:
    page.js("for (const button of document.querySelectorAll('button')) button.click()")
    page.js("for (const one of document.querySelectorAll('details')) one.open = true")
    page.driver.execute_async_script(NEXT_FRAMES)
    own = (trained_run / "report.html").resolve().as_uri()
    assert {url for url in page.requests() if not url.startswith("data:")} == {own}
    assert page.problems() == []
    assert page.driver.execute_async_script(SENDING) == "TypeError"
    assert any("Content Security Policy" in problem for problem in page.problems())
    assert page.js(ADDING) is None


def test_markup_in_a_name_stays_text(page: Browser) -> None:
    assert page.js("return window.pwned ?? null") is None
    assert page.js("return document.querySelector('h1').firstChild.textContent.trim()") == MARKUP
    assert page.driver.title == f"{MARKUP} · mnist-ff"
    assert page.js("return document.querySelectorAll('script').length") == 2
    assert MARKUP in page.js("return document.querySelector('#config pre').textContent")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [280, 320, 390, 1200])
def test_it_fits_and_can_be_read(browser: Browser, trained_run: Path, width: int, scheme: str) -> None:
    """No sideways scrolling; text stands out from its ground by WCAG's 4.5 to 1."""
    browser.open(trained_run / "report.html", width, 800, scheme)
    browser.js("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.js("return document.documentElement.scrollWidth") <= width
    for where in ("h1", ".lead", ".hint", ".tiles dt", ".status", "nav a", ".known", "#bars span", ".plot text", "pre"):
        text, ground = browser.js(COLOURS, where)
        assert contrast(text, ground) >= 4.5, (where, text, ground)
    dark = luminance(browser.js(COLOURS, "h1")[1]) < 0.1
    assert dark == (scheme == "dark")


SENDING = """
fetch("https://example.org").then(() => arguments[0]("sent"), (error) => arguments[0](error.name));
"""
ADDING = """
const one = document.createElement("script");
one.textContent = "window.pwned = 2";
document.body.append(one);
return window.pwned ?? null;
"""
NAMES = """
const all = document.querySelectorAll("button, canvas, svg[tabindex], input");
return [...all].map((one) => one.ariaLabel || one.textContent || one.closest("label")?.textContent || "");
"""
TICKS = """
const marks = document.querySelectorAll(`#${arguments[0]} svg.plot text[text-anchor=middle]`);
return [...marks].map((one) => one.textContent);
"""
COLOURS = """
let one = document.querySelector(arguments[0]);
const style = getComputedStyle(one);
const text = one instanceof SVGElement ? style.fill : style.color;
while (one && getComputedStyle(one).backgroundColor === "rgba(0, 0, 0, 0)") one = one.parentElement;
return [text, getComputedStyle(one).backgroundColor].map((colour) => colour.match(/\\d+/g).slice(0, 3).map(Number));
"""


def luminance(colour: list[int]) -> float:
    """Relative luminance (WCAG 2.2)."""
    red, green, blue = (((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[int], other: list[int]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_it_prints_on_white_paper(browser: Browser, trained_run: Path) -> None:
    browser.open(trained_run / "report.html", 1200, 900, "dark")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert browser.js(COLOURS, "h1") == [[0, 0, 0], [255, 255, 255]]
    assert browser.js("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.js("return getComputedStyle(document.querySelector('.confusion')).breakInside") == "avoid"
    browser.js("document.body.style.width = '720px'")  # a sheet of A4 between its margins; it is 1,050 high
    heights = browser.js(
        "return [...document.querySelectorAll('.pair .plot')].map((one) => one.getBoundingClientRect().height)"
    )
    assert len(heights) == 4
    assert all(0 < height < 320 for height in heights)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def box_of(page: Browser, chart: str) -> dict[str, float]:
    found: dict[str, float] = page.js(
        "const plot = document.querySelector(`#${arguments[0]} svg.plot`); plot.scrollIntoView({block: 'center'});"
        "return plot.getBoundingClientRect().toJSON()",
        chart,
    )
    return found


def mouse(page: Browser, kind: str, x: float, y: float, **more: Any) -> None:
    event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1, **more}
    page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def ticks(page: Browser, chart: str = "loss-chart") -> list[float]:
    """The numbers under a chart."""
    return [float(word) for word in page.js(TICKS, chart)[:-1]]


def reading(page: Browser, chart: str = "loss-chart") -> str:
    text: str = page.js("return document.querySelector(`#${arguments[0]} .reading`).textContent", chart)
    return text


def test_the_loss_under_the_pointer_has_four_digits_and_words(page: Browser, trained_run: Path) -> None:
    with (trained_run / "batches.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    box = box_of(page, "loss-chart")
    for share in (0.3, 0.5, 0.77):
        mouse(page, "mouseMoved", box["x"] + share * box["width"], box["y"] + 100, buttons=0)
        found = re.fullmatch(r"batch (\d+) \(epoch 1, (\d+)/235\): loss ([\d.]+), smoothed ([\d.]+)", reading(page))
        assert found is not None, reading(page)
        batch = int(found[1])
        assert found[2] == found[1]
        assert float(found[3]) == float(f"{losses[batch - 1]:.4g}")
        width = int(page.js("return document.querySelector('#loss-chart label').textContent").split()[-1])
        first = max(0, batch - 1 - width // 2)
        around = losses[first : batch - 1 - width // 2 + width]
        assert float(found[4]) == pytest.approx(np.mean(around), rel=1e-3)


def test_a_mean_of_batches_is_called_one(browser: Browser, trained_run: Path) -> None:
    """The last point of 20 batches by sixes is of two."""
    browser.open(trained_run / "report.html")
    assert browser.js("return [upTo(6, 6), upTo(18, 6), upTo(20, 6), upTo(7, 1)]") == [
        "mean of 6 batches up to batch 6", "mean of 6 batches up to batch 18", "mean of 2 batches up to batch 20",
        "batch 7",
    ]  # fmt: skip


def test_a_point_without_a_neighbour_is_a_dot(page: Browser) -> None:
    """A run of one epoch has one in each line; so has a line with gaps around a point."""
    for chart in ("epoch-loss-chart", "epoch-accuracy-chart"):
        dots = page.js(DOTS, chart)
        assert len(dots) == 3
        assert all(width > 5 for width in dots)
    made = page.js(GAPS)
    assert made == [2, 1]


DOTS = """
const dots = document.querySelectorAll(`#${arguments[0]} svg.plot > circle.dot`);
return [...dots].map((dot) => dot.getBoundingClientRect().width);
"""
GAPS = """
const host = document.createElement("div");
document.querySelector("main").append(host);
const line = { name: "gaps", look: "s0", xs: [1, 2, 3, 4, 5, 6, 7], ys: [1, null, 2, null, null, 3, 4] };
new Chart(host, { title: "gaps", x: "x", y: "y", lines: [line] });
const [dots, path] = [host.querySelectorAll("circle.dot"), host.querySelector("path.line")];
return [dots.length, path.getAttribute("d").split("L").length - 1];
"""


def test_zoom_by_dragging_wheel_keys_and_buttons(page: Browser) -> None:
    from selenium.webdriver.common.by import By

    box, whole = box_of(page, "loss-chart"), ticks(page)
    y = box["y"] + 120
    mouse(page, "mousePressed", box["x"] + 0.4 * box["width"], y)
    for step in range(1, 6):
        mouse(page, "mouseMoved", box["x"] + (0.4 + 0.04 * step) * box["width"], y, buttons=1)
    mouse(page, "mouseReleased", box["x"] + 0.6 * box["width"], y)
    dragged = ticks(page)
    assert min(dragged) > 60
    assert max(dragged) < 160
    mouse(page, "mousePressed", box["x"] + 0.5 * box["width"], y, clickCount=1)
    mouse(page, "mouseReleased", box["x"] + 0.5 * box["width"], y, clickCount=1)
    top = page.js("return scrollY")
    mouse(page, "mouseWheel", box["x"] + 0.5 * box["width"], y, deltaX=0, deltaY=-400, button="none")
    wheeled = ticks(page)
    assert max(wheeled) - min(wheeled) < max(dragged) - min(dragged)
    assert page.js("return scrollY") == top
    plot = page.driver.find_element(By.CSS_SELECTOR, "#loss-chart svg.plot")
    plot.send_keys("0")
    assert ticks(page) == whole
    plot.send_keys("+++")
    assert max(ticks(page)) - min(ticks(page)) < max(whole) - min(whole)
    plot.send_keys("0")
    page.driver.find_element(By.CSS_SELECTOR, "#loss-chart button[aria-label='zoom in']").click()
    assert ticks(page) != whole
    page.driver.find_element(By.CSS_SELECTOR, "#loss-chart button[aria-label='show all']").click()
    assert ticks(page) == whole
    assert page.problems() == []


def test_chart_arrow_keys_and_pinch_zoom(browser: Browser, trained_run: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(trained_run / "report.html", 390)
    browser.frame(390, 800, mobile=True)
    box, whole = box_of(browser, "loss-chart"), ticks(browser)
    middle, y = box["x"] + box["width"] / 2, box["y"] + 100
    for kind, apart in (("touchStart", 30), ("touchMove", 60), ("touchMove", 120), ("touchEnd", 0)):
        points = [{"x": middle - apart, "y": y, "id": 0}, {"x": middle + apart, "y": y, "id": 1}] if apart else []
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert max(ticks(browser)) - min(ticks(browser)) < (max(whole) - min(whole)) / 1.5
    plot = browser.driver.find_element(By.CSS_SELECTOR, "#loss-chart svg.plot")
    plot.send_keys("0", Keys.HOME)
    first = reading(browser)
    assert first.startswith("batch 1 (epoch 1, 1/235): loss ")
    plot.send_keys(Keys.ARROW_RIGHT)
    assert reading(browser) != first
    browser.frame(1200)


def test_smoothing_can_be_changed(page: Browser) -> None:
    def lines() -> list[str]:
        found: list[str] = page.js(
            "return [...document.querySelectorAll('#loss-chart .plot path.line')].map((one) => one.getAttribute('d'))"
        )
        return found

    before = lines()
    assert len(before) == 2
    page.js(
        "const slider = document.querySelector('#loss-chart input'); slider.value = slider.max;"
        "slider.dispatchEvent(new Event('input'))"
    )
    after = lines()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_click_on_a_cell_shows_its_images(page: Browser, trained_run: Path, real_mnist: Path) -> None:
    from selenium.webdriver.common.by import By

    images = load_data(Run(trained_run).config().data, 0).test.images.numpy()
    kept = load_file(trained_run / "predictions.safetensors")
    wrong = [(int(a), int(b)) for a, b in zip(kept["labels"], kept["answers"], strict=True) if a != b]
    for label, answer in (max(set(wrong), key=wrong.count), (7, 7)):
        cell = page.driver.find_element(
            By.CSS_SELECTOR, f".confusion [data-label='{label}'][data-predicted='{answer}']"
        )
        here = (kept["labels"] == label) & (kept["answers"] == answer)
        assert int(cell.text) == here.sum()
        page.js("arguments[0].scrollIntoView({block: 'center'})", cell)
        cell.click()
        title = page.js("return document.getElementById('cell-title').textContent")
        assert title.startswith(f"Label {label}, predicted {answer}: ")
        shown = page.js(SHOWN)
        assert len(shown) == (6 if label == answer else wrong.count((label, answer)))
        for row, pixels in shown:
            assert here[row]
            assert np.array_equal(np.array(pixels, dtype=np.uint8).reshape(SIDE, SIDE), images[row])
    assert page.problems() == []


SHOWN = """
return [...document.querySelectorAll("#cell canvas")].map((canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, 28, 28).data;
  const row = Number(canvas.getAttribute("aria-label").match(/\\d+/)[0]);
  return [row, Array.from({length: 784}, (_, at) => data[4 * at + 3])];
});
"""


def test_the_worst_mistakes_say_label_answer_and_probability(page: Browser, trained_run: Path) -> None:
    from mnist_ff.report.mislabelled import MISLABELLED

    kept = load_file(trained_run / "predictions.safetensors")
    captions = page.js("return [...document.querySelectorAll('#worst figcaption')].map((one) => one.innerText)")
    assert len(captions) == 25
    for row, caption in zip(kept["worst_rows"], captions, strict=True):
        label, answer = kept["labels"][row], kept["answers"][row]
        assert caption.startswith(f"{label} → {answer}")
        assert f"{percent(float(kept['probabilities'][row, answer]), 1)} sure" in caption
        assert ("wrong label" in caption) == (int(row) in MISLABELLED)


def test_too_large_network_is_left_out_with_notice(browser: Browser, tmp_path: Path) -> None:
    run = made_run(tmp_path / "large", "relu", [1300], scale=1)
    browser.open(run.file("report.html"))
    assert browser.js("return document.getElementById('pad')") is None
    assert "can hold 950,000" in browser.js("return document.getElementById('draw').textContent")
    assert browser.js("return document.querySelectorAll('#tiles canvas').length") == 100
    assert browser.problems() == []


def test_a_sweeps_page(browser: Browser, tmp_path: Path, mnist_ff: Any) -> None:
    """Ranked, sortable, with curves on top of each other and ways to each run's own page; failures with reasons."""
    from selenium.webdriver.common.by import By

    words = ("data=mnist_5k", "model.hidden=[16]", "trainer.epochs=2", "optimizer=sgd", "optimizer.lr=0.01,0.1,1e30")
    assert mnist_ff("train", "-m", *words, "hydra.sweep.dir=sweep")[0] == 1
    browser.open(Path("sweep/report.html"))
    first = "return [...document.querySelectorAll('.sortable tbody tr')].map((row) => row.cells[3].textContent)"
    assert browser.js(first) == ["0.1", "0.01"]
    browser.driver.find_element(By.CSS_SELECTOR, ".sortable th:nth-child(4) button").click()
    assert browser.js(first) == ["0.01", "0.1"]
    assert browser.js("return document.querySelectorAll('.accuracy-chart .plot path.line').length") == 2
    assert browser.js("return document.querySelectorAll('#batch-chart .plot path.line').length") == 3
    assert "the loss became nan" in browser.js("return document.getElementById('bad').textContent")
    assert "mnist-ff train -m resume=sweep" in browser.js("return document.getElementById('next').textContent")
    assert browser.js("const one = document.querySelector('.picture'); return one.complete && one.naturalWidth") > 300
    browser.frame(360)
    assert browser.js("return document.documentElement.scrollWidth") <= 360
    browser.frame(1200)
    assert browser.problems() == []
    browser.driver.find_element(By.CSS_SELECTOR, ".sortable tbody a").click()
    assert browser.js("return document.querySelector('h1').textContent.trim().split(' ')[0]") == "0"
    assert browser.js("return Boolean(window.mnistFF)")
    assert browser.problems() == []


def test_names_beside_lines_keep_their_ends(browser: Browser, mnist_ff: Any) -> None:
    """Six runs of four keys, so that their places name them: the job's number is in sight, and no name is cut off."""
    folder = Path("outputs/a-rather-long-name-of-a-folder-with-sweeps/another-rather-long-name/of-a-sweep")
    grid = [
        {
            "optimizer.lr": 0.01 * n,
            "seed": n,
            "trainer.batch_size": 50 + n,
            "model.dropout": 0.1 * n,
            "model.input_dropout": 0.1 * n,
        }
        for n in range(1, 7)
    ]
    make_sweep(folder, grid, lambda values: 0.9 + values["seed"] / 1000, "data.validation_split=0.1")
    for number in range(6):
        rows = "".join(f"{step},0,{step},{1 / (step + 1 + number):.9g},0.001,50\n" for step in range(450))
        (folder / str(number) / "batches.csv").write_text(",".join(BATCH_COLUMNS) + "\n" + rows)
    assert mnist_ff("compare", *(str(folder / str(number)) for number in range(6)), "--html", "six.html")[0] == 0
    browser.open(Path("six.html"))
    names = browser.js("return [...document.querySelectorAll('#legend button')].map((one) => one.textContent)")
    assert sorted(names) == list("012345")
    assert f"without “{folder}/”" in browser.js("return document.getElementById('runs-note').textContent")
    assert browser.js("return document.querySelectorAll('.loss-chart svg.plot > circle.dot').length") == 6
    box = box_of(browser, "batch-chart")
    mouse(browser, "mouseMoved", box["x"] + 0.5 * box["width"], box["y"] + 100, buttons=0)
    assert reading(browser, "batch-chart").startswith("mean of 3 batches up to batch ")
    long = [f"a{'WwM' * 30}-{number}" for number in range(3)]
    shown = browser.js(LONG_NAMES, long)
    assert [name[-2:] for name, _ in shown] == ["-2", "-1", "-0"]  # from the top
    assert all(name.startswith("…") for name, _ in shown)
    assert all(room >= 0 for _, room in shown)
    assert browser.problems() == []


LONG_NAMES = """
const host = document.createElement("div");
document.querySelector("main").append(host);
const lines = arguments[0].map((name, place) => ({ name, look: `s${place}`, xs: [1, 2], ys: [place, place] }));
new Chart(host, { title: "names", x: "x", y: "y", lines });
const right = (one) => one.getBoundingClientRect().right;
const edge = right(host.querySelector("svg.plot"));
return [...host.querySelectorAll("text.name")].map((one) => [one.textContent, edge - right(one)]);
"""


def test_drawn_data_bytes_equal_the_runs(small_data: Data) -> None:
    """The JSON in a page ends neither its element nor a line."""
    from mnist_ff.report.page import json_text

    hard = {"name": "</script><!--&\u2028\u2029"}
    text = json_text(hard)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == hard


def test_report_shows_the_runs_augmented_images(
    browser: Browser, tmp_path: Path, mnist_ff: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_ff.analysis.plots.DRAWINGS", {})  # they take seconds
    words = ("data=mnist_5k", "model.hidden=[16]", "trainer.epochs=1", "augment=both", "hydra.run.dir=run")
    assert mnist_ff("train", *words)[0] == 0
    browser.open(tmp_path / "run" / "report.html")
    script = """return [...document.querySelectorAll("#rows canvas")].map((canvas) =>
        Array.from(canvas.getContext("2d").getImageData(0, 0, 28, 28).data.filter((_, at) => at % 4 === 3)));"""
    shown = np.array(browser.js(script), dtype=np.uint8)
    kept = load_file(tmp_path / "run" / "augmented.safetensors")["images"]
    assert np.array_equal(shown, kept.reshape(-1, SIDE * SIDE))
    assert browser.js("return document.querySelectorAll('#rows .own').length") == 10
    assert browser.js("return document.querySelectorAll('section#augmented .gap').length") == 0


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((10, 28, 28), np.uint8),
        np.zeros((11, 2, 28, 28), np.uint8),
        np.zeros((0, 2, 28, 28), np.uint8),
        np.zeros((10, 0, 28, 28), np.uint8),
        np.full((10, 2, 28, 28), 7.9, np.float32),
    ],
)
def test_a_file_of_other_images_is_named(images: np.ndarray, tmp_path: Path) -> None:
    save_file({"images": images}, tmp_path / "augmented.safetensors")
    with pytest.raises(BadRunError, match=r"augmented\.safetensors: not readable"):
        augmented_part(Run(tmp_path), MNIST_SPEC)
