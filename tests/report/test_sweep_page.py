"""The pages of a sweep and of a comparison in a browser, at three widths, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.runs.tables import BATCH_COLUMNS
from tests.support.browser import Browser, started, unavailable
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.sweep_maker import make_sweep, product, write_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]
FRAMES = [(width, scheme) for width in (1280, 390, 320) for scheme in ("light", "dark")]
IN_SIGHT = """
const table = document.querySelector(".ranked"), edge = table.parentElement.getBoundingClientRect().right + 1;
const inside = (cell) => cell.getBoundingClientRect().right <= edge;
return [...table.tHead.rows[0].cells].filter(inside).map((cell) => cell.textContent);
"""
SCROLLED = """
const box = document.querySelector(".ranked").parentElement;
box.scrollLeft = 300;
return document.querySelector(".ranked tbody th").getBoundingClientRect().left - box.getBoundingClientRect().left;
"""
CUT = """
return [...document.querySelectorAll("#legend .key, .ranked th, .heat td, .heat th")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent);
"""
CONTRASTS = """
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const card = numbers(getComputedStyle(document.querySelector("section")).backgroundColor);
const linear = (x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
const weights = [0.2126, 0.7152, 0.0722];
const light = (color) => color.slice(0, 3).reduce((sum, x, at) => sum + linear(x / 255) * weights[at], 0);
return [...document.querySelectorAll(".heat td")].map((cell) => {
  const [r, g, b, a = 1] = numbers(getComputedStyle(cell).backgroundColor);
  const back = light([r, g, b].map((x, place) => a * x + (1 - a) * card[place]));
  const ink = light(numbers(getComputedStyle(cell).color));
  return (Math.max(back, ink) + 0.05) / (Math.min(back, ink) + 0.05);
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def add_curves(folder: Path, shift: float) -> None:
    rows = "".join(f"{step},0,{step},{1 / (step + 1) + shift:.9g},0.001,50\n" for step in range(60))
    (folder / "batches.csv").write_text(",".join(BATCH_COLUMNS) + "\n" + rows)


def grid_sweep(settings: int, mnist_ff: Command) -> Path:
    grid = list(
        product(optimizer__lr=[0.001 * (n + 1) for n in range(settings)], model__hidden=[[32], [64]], seed=[0, 1])
    )
    make_sweep(Path("sweep"), grid, lambda v: 0.9 + v["optimizer.lr"] + v["seed"] / 500, "data.validation_split=0.1")
    for number in range(len(grid)):
        add_curves(Path("sweep", str(number)), number / 100)
    assert mnist_ff("report", "sweep")[0] == 0
    return Path("sweep/report.html")


def test_a_sweep_of_few_settings(browser: Browser, mnist_ff: Command) -> None:
    page = grid_sweep(3, mnist_ff)
    for width, scheme in FRAMES:
        browser.open(page, width, 900, scheme)
        assert browser.js("return document.documentElement.scrollWidth") == width
        assert browser.js(IN_SIGHT)[:3] == ["run", "rank", "validation accuracy (%)"], (width, scheme)
        assert browser.js(CUT) == []
        assert min(browser.js(CONTRASTS)) >= 4.5, scheme
        assert browser.problems() == []
        beyond = browser.js("return document.querySelector('.beyond').textContent")
        assert ("seconds, status" in beyond) == (width < 1280), "it is said"
        assert browser.js(SCROLLED) == pytest.approx(0, abs=6), "the first column stays"
    count = "return document.querySelectorAll(arguments[0]).length"
    assert browser.js(count, "#batch-chart path.band") == browser.js(count, "#batch-chart path.line") == 6
    assert browser.js(count, ".heat td") == 6
    assert browser.js(count, "img") == 0, "the heat map is no picture that is white in the dark"
    assert "resume=" not in browser.js("return document.getElementById('next').textContent"), "nothing failed"
    browser.js("document.querySelector('#legend button').click()")
    assert browser.js(count, "#batch-chart path.line") == 5
    browser.js("document.querySelector('#legend button').click()")
    assert browser.js(count, "#batch-chart path.line") == 6


def test_a_sweep_of_many_settings_names_the_best(browser: Browser, mnist_ff: Command) -> None:
    browser.open(grid_sweep(12, mnist_ff), 1280)
    names = browser.js("return [...document.querySelectorAll('#legend .key')].map((one) => one.textContent)")
    assert len(names) == len(set(names)) == 8
    assert names[-1] == "17 more"
    assert "optimizer.lr=0.012" in names[0]
    count = "return document.querySelectorAll(arguments[0]).length"
    assert browser.js(count, "#batch-chart path.line") == 24
    assert browser.js(count, "#batch-chart path.band") == 7
    assert browser.problems() == []


READ = """
const host = document.getElementById("batch-chart");
const say = (key) => {
  host.querySelector(".plot").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  return host.querySelector(".reading").textContent;
};
const reading = host.querySelector(".reading");
const words = [say("End"), say("ArrowDown"), say("ArrowDown"), say("ArrowUp")];
return [words, Math.round(reading.offsetHeight / 20), reading.scrollHeight <= reading.clientHeight + 1];
"""


def test_on_a_phone_one_line_is_read_at_a_time(browser: Browser, mnist_ff: Command) -> None:
    """With six settings, arrow keys choose the one that is read out."""
    browser.open(grid_sweep(3, mnist_ff), 320)
    words, rows, whole = browser.js(READ)
    assert rows <= 3
    assert whole
    assert all(text.count("optimizer.lr=") == 1 for text in words), words
    assert words[0] != words[1] != words[2]
    assert words[3] == words[1]
    assert browser.problems() == []


def test_paths_in_a_narrow_column_break_between_their_parts(browser: Browser, mnist_ff: Command) -> None:
    """The folder of a setting's runs is written once; no column is a few letters wide."""
    folder = Path("outputs/sweeps/2026-11-30_19-50-15_5ef3")
    make_sweep(folder, list(product(optimizer__lr=[0.01, 0.1], seed=[0, 1])), lambda values: 0.9, "trainer.epochs=1")
    config = make_config("seed=0", "data=mnist_5k", "model.hidden=[8]", "schedule=cosine", "augment=shift")
    alone = Path("outputs/2026-11-30_19-47-43_52fc")
    write_run(alone, config, 0.8)
    assert mnist_ff("compare", str(folder), str(alone), "--html", "page.html")[0] == 0
    for width in (1280, 390, 320):
        browser.open(Path("page.html"), width)
        texts = browser.js(
            "return [...document.querySelectorAll('.ranked tbody th')].map((one) => one.textContent.trim())"
        )
        assert sorted(texts) == [str(alone), f"{folder}/0 1", f"{folder}/2 3"]
        high = browser.js(
            "return Math.max(...[...document.querySelectorAll('.ranked tbody th')].map((one) => one.clientHeight))"
        )
        assert high <= 120, (width, high)
        assert browser.js("return document.documentElement.scrollWidth") == width


def test_a_comparison_on_different_test_images(browser: Browser, mnist_ff: Command) -> None:
    runs: dict[str, Any] = {
        "first": ["data=mnist", "data.validation_split=0.1"],
        "second": ["data=mnist", "data.validation_split=0.1", "optimizer=sgd", "model.dropout=0.1"],
        "other": ["data=fashion_mnist", "data.validation_split=0.1"],
    }  # fmt: skip
    long = "a name that is rather long, as people write them when they try out one thing after another"
    for number, (name, words) in enumerate(runs.items()):
        config = make_config("seed=0", *words)
        write_run(Path(name), replace(config, name=long if name != "other" else "x"), 0.9 - number / 100)
        add_curves(Path(name), number / 10)
    assert mnist_ff("compare", *runs, "--html", "page.html")[0] == 0
    for width, scheme in FRAMES:
        browser.open(Path("page.html"), width, 900, scheme)
        assert browser.js("return document.documentElement.scrollWidth") == width
        assert browser.js(IN_SIGHT)[:3] == ["run", "rank", "validation accuracy (%)"], (width, scheme)
        assert browser.js(CUT) == []
        assert browser.problems() == []
    heads = browser.js("return [...document.querySelectorAll('#table h3')].map((one) => one.textContent)")
    assert heads == ["mnist, 1,000 test images", "fashion_mnist, 1,000 test images"]
    names = browser.js("return [...document.querySelectorAll('#legend .key')].map((one) => one.textContent)")
    assert len(set(names)) == 3
    charts = browser.js("return [...document.querySelectorAll('.accuracy-chart strong')].map((one) => one.textContent)")
    assert charts == [f"accuracy, validation images of {data}" for data in ("mnist", "fashion_mnist")]
    charts = browser.js("return [...document.querySelectorAll('.loss-chart strong')].map((one) => one.textContent)")
    assert charts[0] == "cross-entropy (nats), validation images of mnist"
