"""Charts, the map and saliency on a run's page in a real browser, at the widths of a desk and of phones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mnist_ff.data.load import as_input, load_data
from mnist_ff.models.mlp import MLP
from mnist_ff.runs.directory import HIDDEN, Run
from mnist_ff.training.checkpoint import load_weights
from tests.report.test_report_page import COLOURS, PAD, box_of, contrast, drag, encoded, made_run, mouse, reading
from tests.support.browser import Browser
from tests.support.mnist import make_split
from tests.support.training import train_without_pictures

METRICS = "metrics=[gradient_norms,weight_norms,dead_units]"
RUN = (
    "data=mnist_5k",
    "model.hidden=[24,16]",
    "trainer.epochs=3",
    "trainer.device=cpu",
    "schedule=cosine",
    "trainer.batch_size=64",
    METRICS,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_without_pictures(tmp_path_factory.mktemp("inside") / "run", *RUN)


@pytest.fixture
def page(browser: Browser, made: Path) -> Iterator[Browser]:
    browser.open(made / "report.html", 1280)
    yield browser
    assert browser.problems() == []
    browser.frame(1200)


SALIENCY = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const images = Array.from({length: bytes.length / 784}, (_, at) => bytes.subarray(784 * at, 784 * at + 784));
return images.map((image) => Array.from(window.mnistFF.saliency(image)));
"""


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu"])
def test_saliency_is_torchs_gradient_of_the_largest_logit(activation: str, browser: Browser, tmp_path: Path) -> None:
    """With weights that float16 holds, to 1e-4 of the largest number."""
    for hidden in ([], [40], [30, 20]):
        run = made_run(tmp_path / f"{len(hidden)}", activation, hidden)
        browser.open(run.file("report.html"))
        model = MLP(hidden, activation, 0.0).eval()
        load_weights(run.file("model.safetensors"), model)
        images = make_split(20).images
        pixels = as_input(images).flatten(1).requires_grad_()
        model(pixels).amax(1).sum().backward()
        assert pixels.grad is not None
        expected = pixels.grad.numpy()
        found = np.array(browser.js(SALIENCY, encoded(images.numpy())))
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


OVERLAY = """
const over = document.getElementById("saliency");
const data = over.getContext("2d").getImageData(0, 0, over.width, over.height).data;
return data.reduce((sum, value, at) => sum + (at % 4 === 3 && value > 0), 0);
"""


def test_saliency_is_drawn_over_the_field_where_wanted(page: Browser) -> None:
    drag(page, page.js(PAD), [(140, 40), (140, 150), (140, 240)], lift=True)
    page.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50));")
    assert page.js(OVERLAY) == 0
    button = page.driver.find_element("id", "what-counts")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.js(OVERLAY) > 1000
    assert "gradient of the largest logit" in page.driver.find_element("id", "saliency-note").text
    page.driver.find_element("id", "clear").click()
    page.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50));")
    assert page.js(OVERLAY) == 0


LINES = "return document.querySelectorAll(`#${arguments[0]} .plot path.line`).length"


def test_a_legend_entry_hides_its_line(page: Browser) -> None:
    """By click and by keyboard; the entry shows its state and keeps the focus."""
    from selenium.webdriver.common.keys import Keys

    for chart, count in (("epoch-loss-chart", 3), ("loss-chart", 2), ("coverage-chart", 2), ("activity-chart", 2)):
        entries = page.driver.find_elements("css selector", f"#{chart} .key")
        assert len(entries) == page.js(LINES, chart) == count
        page.js("arguments[0].scrollIntoView({block: 'center'})", entries[0])
        entries[0].click()
        assert entries[0].get_attribute("aria-pressed") == "false"
        assert page.js(LINES, chart) == count - 1
        entries[0].send_keys(Keys.ENTER)
        assert entries[0].get_attribute("aria-pressed") == "true"
        assert page.js(LINES, chart) == count
    slider = page.driver.find_element("css selector", "#loss-chart input")
    page.driver.find_element("css selector", "#loss-chart .key").click()
    slider.send_keys(Keys.ARROW_RIGHT)
    assert page.js(LINES, "loss-chart") == 1, "a hidden line stays hidden when others are smoothed"


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_charts_do_not_move_under_the_pointer(width: int, page: Browser) -> None:
    page.frame(width)
    for chart in ("loss-chart", "epoch-accuracy-chart", "metric_weight_norms", "reliability-chart"):
        box = box_of(page, chart)
        for share in (0.5, 0.9):
            mouse(page, "mouseMoved", box["x"] + share * box["width"], box["y"] + 100, buttons=0)
            assert reading(page, chart)
            assert page.js(TOP, chart) == box["y"]
            assert page.js(WHOLE, chart), reading(page, chart)


TOP = "return document.querySelector(`#${arguments[0]} svg.plot`).getBoundingClientRect().y"
WHOLE = """
const one = document.querySelector(`#${arguments[0]} .reading`);
return one.scrollHeight <= one.clientHeight + 1;
"""


def test_the_readout_under_the_pointer(page: Browser) -> None:
    plot = "document.querySelector(`#${arguments[0]} svg.plot`)"
    press = f"{plot}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'End', bubbles: true}}))"
    for chart, words in (
        ("loss-chart", r"batch 189 (epoch 3, 63/63): loss "),
        ("epoch-accuracy-chart", "epoch 3: train, running "),
        ("lr-chart", "batch 189 (epoch 3, 63/63): learning rate "),
        ("speed-chart", "epoch 3, "),
        ("reliability-chart", "confidence "),
        ("coverage-chart", "confidence of at least 99.9 %: answered "),
    ):
        page.js(press, chart)
        assert reading(page, chart).startswith(words)
    best = page.js("return [...document.querySelectorAll('.best-name')].map((one) => one.textContent)")
    assert [words.split(":")[0] for words in best] == ["lowest", "highest"]


TILES = """
const tiles = document.querySelector(".tiles");
while (tiles.children.length > arguments[0]) tiles.lastElementChild.remove();
while (tiles.children.length < arguments[0]) tiles.append(tiles.firstElementChild.cloneNode(true));
const rows = new Map();
for (const tile of tiles.children) {
  rows.set(tile.offsetTop, [...(rows.get(tile.offsetTop) ?? []), tile.getBoundingClientRect()]);
}
const right = tiles.getBoundingClientRect().right;
return [...rows.values()].map((row) => [row.length, Math.round(right - row.at(-1).right)]);
"""


def test_no_row_of_tiles_is_left_with_one_or_a_hole(page: Browser) -> None:
    """At any width; the first tile may have a row of its own."""
    for width in (1280, 1000, 941, 900, 700, 601, 600, 390, 320, 280):
        page.frame(width)
        for count in range(9, 3, -1):
            rows = page.js(TILES, count)
            assert all(length > 1 for length, _ in rows[1:]), (width, count, rows)
            assert all(abs(hole) <= 1 for _, hole in rows), (width, count, rows)


PLOTS = """
return [...document.querySelectorAll(".pair")].map((pair) =>
  [...pair.querySelectorAll(":scope > .chart > svg.plot")].map((plot) => Math.round(plot.getBoundingClientRect().y)));
"""
WHISKERS = """
const found = document.querySelectorAll("#reliability-chart path.whisker");
return [...found].map((one) => (one.getAttribute("d").match(/L/g) ?? []).length);
"""
BROKEN = """
const rows = (one) => new Set([...one.children].map((key) => key.offsetTop)).size;
return [...document.querySelectorAll(".zoom")].filter((one) => rows(one) > 1).length;
"""


def test_plots_side_by_side_begin_at_one_height(page: Browser) -> None:
    """Whatever the height of their legends."""
    found = [heights for heights in page.js(PLOTS) if heights]
    assert len(found) >= 3
    for heights in found:
        assert all(one == other for one, other in zip(heights[::2], heights[1::2], strict=False)), found


def test_bins_have_error_bars(page: Browser) -> None:
    """Each bin has one, with its limits in the readout; bins with few images are not joined by a line."""
    bins = page.js("return FACTS.calibration.bins")
    assert page.js(WHISKERS) == [len(bins)]
    assert (
        page.js("return document.querySelectorAll('#reliability-chart .plot path.line:not(.whisker, .dashed)').length")
        == 0
    )
    box = box_of(page, "reliability-chart")
    mouse(page, "mouseMoved", box["x"] + 0.6 * box["width"], box["y"] + 100, buttons=0)
    words = r"confidence [\d.]+ % \((1 image|[\d,]+ images)\): accuracy [\d.]+ % \([\d.]+ % to [\d.]+ %\)"
    assert re.fullmatch(words, reading(page, "reliability-chart")), reading(page, "reliability-chart")


def test_buttons_of_a_chart_stay_together(page: Browser) -> None:
    for width in (1280, 390, 320, 280):
        page.frame(width, 900, mobile=width < 600)
        assert page.js(BROKEN) == 0, width


ENDS = """
const along = (axis) => [...mnistMap.points].filter((_, at) => at % 2 === axis);
return [along(0), along(1)].map((all) => [Math.min(...all), Math.max(...all)]);
"""


def test_the_maps_axes_have_names(page: Browser) -> None:
    """Points reach from edge to edge along both axes, however different their spread is."""
    names = page.js("return [...document.querySelectorAll('.frame span')].map((one) => one.textContent)")
    assert [re.sub(r"[\d.]+", "N", name) for name in names] == [
        "second component (N % of the variance)", "first component (N % of the variance)"
    ]  # fmt: skip
    ends = page.js(ENDS)
    assert ends == [[-32767, 32767]] * 2


CUT = """
const cut = [...document.querySelectorAll(".scroll")].filter((one) => one.scrollWidth > one.clientWidth + 1);
return cut.map((one) => `${one.innerText.slice(0, 60)} ${one.scrollWidth - one.clientWidth}`);
"""


OUTSIDE = """
return [...document.querySelectorAll("svg.plot text")].filter((text) => {
  const [box, frame] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
  return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1);
}).map((text) => text.textContent);
"""


def test_axes_of_a_phone_have_numbers_and_whole_names(page: Browser) -> None:
    page.frame(320, 900, mobile=True)
    assert page.js(OUTSIDE) == []
    assert page.js("return ticks(1, 4700, 2.6, true)") == [2000, 4000]
    assert page.js("return figure(6000)") == "6,000"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_all_parts_fit_and_can_be_read(width: int, scheme: str, page: Browser) -> None:
    """Tables have no cut columns; text on every shade has a contrast of at least 4.5 to 1."""
    page.frame(width, 900, scheme, mobile=width < 600)
    page.js("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.js("return document.documentElement.scrollWidth") <= width
    assert page.js(CUT) == []
    for where in (".key", ".reading", ".best-name", ".facts dt", "th.axis", "#map-keys .key", "#what-counts"):
        assert contrast(*page.js(COLOURS, where)) >= 4.5, where
    for shade in range(1, 6):
        if page.js("return document.querySelector(arguments[0])", f".scale .shade{shade}"):
            text, ground = page.js(BLENDED, f".scale .shade{shade}")
            assert contrast(text, ground) >= 4.5, (shade, text, ground)
    assert page.js("return document.querySelector('thead th.axis').textContent") == "predicted"
    assert page.js("return document.querySelector('tbody th.axis').textContent") == "label"


BLENDED = """
const one = document.querySelector(arguments[0]);
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const [red, green, blue, alpha] = numbers(getComputedStyle(one).backgroundColor);
const card = numbers(getComputedStyle(one.closest("section")).backgroundColor);
const ground = [red, green, blue].map((value, at) => Math.round(alpha * value + (1 - alpha) * card[at]));
return [numbers(getComputedStyle(one).color).slice(0, 3), ground];
"""


def test_weights_are_folded_on_a_phone_only(browser: Browser, made: Path) -> None:
    opened = "return document.getElementById('weights-fold').open"
    browser.open(made / "report.html", 390)
    assert browser.js(opened) is False
    browser.driver.find_element("css selector", "#weights-fold summary").click()
    assert browser.js("return document.querySelector('#tiles canvas').getBoundingClientRect().height") > 20
    browser.open(made / "report.html", 1280)
    assert browser.js(opened) is True


READY = """
const wait = () => (mnistMap.pixels.size >= 900 ? arguments[0]() : setTimeout(wait, 20));
wait();
"""
OUTERMOST = """
const middle = mnistMap.canvas.clientWidth / 2;
const away = (place) => Math.hypot(...mnistMap.at(place).map((value) => value - middle));
return closest([...mnistMap.rows.keys()], (place) => -away(place));
"""
POINT = """
const place = arguments[0];
document.getElementById("map").scrollIntoView({block: "center"});
const box = document.getElementById("map").getBoundingClientRect();
const [x, y] = mnistMap.at(place);
return [box.x + x, box.y + y, mnistMap.rows[place], mnistMap.labels[place]];
"""
BESIDE = """
const canvas = document.querySelector("#map-image canvas");
const data = canvas.getContext("2d").getImageData(0, 0, 28, 28).data;
return [canvas.getAttribute("aria-label"), Array.from({length: 784}, (_, at) => data[4 * at + 3])];
"""


@pytest.mark.parametrize("kind", ["click", "tap", "key"])
def test_the_map_shows_the_image_of_a_point(kind: str, page: Browser, made: Path) -> None:
    """The pixels of the test image itself, for images of the page's mistakes and of the map's sheet."""
    page.driver.execute_async_script(READY)
    if kind == "tap":
        page.frame(390, 800, mobile=True)
    images = load_data(Run(made).config().data, 0).test.images.numpy()
    x, y, row, _ = page.js(POINT, page.js(OUTERMOST))
    if kind == "click":
        mouse(page, "mousePressed", x, y, buttons=1)
        mouse(page, "mouseReleased", x, y)
    elif kind == "tap":
        for name, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
    else:
        from selenium.webdriver.common.keys import Keys

        page.driver.find_element("id", "map").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_UP)
        row = page.js("return mnistMap.rows[mnistMap.chosen]")
    label, pixels = page.js(BESIDE)
    assert label.startswith(f"test image {row}: label ")
    assert (np.array(pixels, dtype=np.uint8).reshape(28, 28) == images[row]).all()


def test_every_point_of_the_map_has_its_image(page: Browser, made: Path) -> None:
    page.driver.execute_async_script(READY)
    images = load_data(Run(made).config().data, 0).test.images.numpy()
    for row in load_file(made / HIDDEN)["image_rows"][[0, 31, 32, -1]].tolist():
        page.js("mnistMap.choose([...mnistMap.rows].indexOf(arguments[0]))", row)
        _, pixels = page.js(BESIDE)
        assert (np.array(pixels, dtype=np.uint8).reshape(28, 28) == images[row]).all()
    first = page.driver.find_element("css selector", "#map-keys .key")
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    assert page.js("return mnistMap._shown().some((place) => mnistMap.labels[place] === 0)") is False
