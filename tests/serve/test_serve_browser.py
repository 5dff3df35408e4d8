"""The pages of `mnist-ff serve` in a real browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from mnist_ff.runs.numbers import percent
from tests.support.browser import Browser
from tests.support.commands import MARKUP
from tests.support.many_runs import make_run, make_runs
from tests.support.processes import COMMAND, Forked, Held
from tests.support.sweep_maker import make_sweep

pytestmark = pytest.mark.slow

FITS = "return document.documentElement.scrollWidth <= innerWidth"
CUT = """
return [...document.querySelectorAll("button, input, select, a, td, th, dd")].filter((part) => {
  const box = part.getBoundingClientRect();
  const hidden = getComputedStyle(part).position === "absolute";
  return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5) && !hidden;
}).map((part) => part.outerHTML.slice(0, 200));
"""
POINTS = "return curve.xs.length * curve.size"
NAMES = "return [...document.querySelectorAll('#rows th a')].map((link) => link.textContent)"


def until(browser: Browser, code: str, wanted: Callable[[Any], bool] = bool, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not wanted(found := browser.js(code)):
        assert time.monotonic() < deadline, (code, found, browser.problems())
        time.sleep(0.05)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_runs(tmp_path / "outputs", 6)
    make_run(tmp_path / "outputs" / f"2027{MARKUP.replace('/', '-')}", 1)
    grid = [{"optimizer.lr": lr, "seed": seed} for lr in (0.001, 0.003) for seed in (0, 1)]
    make_sweep(tmp_path / "outputs" / "sweeps" / "grid", grid, lambda values: 0.9)
    return tmp_path / "outputs"


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    started = Forked(COMMAND, "serve", str(folder), "--json")
    yield json.loads(started.first_line())["url"]
    started.kill()


@pytest.fixture
def opened(browser: Browser, address: str) -> Browser:
    browser.frame(1280)
    browser.driver.get("about:blank")
    for kind in ("browser", "performance"):
        browser.driver.get_log(kind)
    browser.driver.get(address)
    until(browser, NAMES, lambda names: len(names) == 8)
    return browser


@pytest.mark.browser
def test_a_live_page_follows_a_training_to_its_end(opened: Browser, folder: Path) -> None:
    """From the list, over lost connections, to the report, with requests to this server only."""
    run = folder / "2028-01-01_00-00-00_live"
    words = ["data=mnist_5k", "model.hidden=[32]", "trainer.epochs=40", "trainer.plots=false", "name=followed"]
    training = Held(str(run), 40, "train", *words, f"hydra.run.dir={run}")
    until(opened, NAMES, lambda names: "followed" in names)
    until(opened, "return document.querySelector('#rows .going')?.textContent", lambda said: said == "running")
    opened.js("[...document.querySelectorAll('#rows th a')].find((a) => a.textContent === 'followed').click()")
    first = until(opened, "return typeof curve === 'undefined' ? 0 : curve.xs.length * curve.size")
    assert 40 <= first < 40 * 16
    opened.js("window.never_loaded_again = true; stop();")  # as a tab in the background does
    opened.js("start()")
    training.let_go()
    assert until(opened, POINTS, lambda points: points > first) <= 40 * 16
    until(opened, "return document.getElementById('status').textContent", lambda said: said == "finished")
    assert training.end()[0] == 0
    until(opened, POINTS, lambda points: points == 40 * 16)
    assert opened.js("return curve.xs") == [*range(1, 40 * 16 + 1)]
    rows = (run / "batches.csv").read_text().splitlines()[1:]
    assert opened.js("return curve.ys") == [float(row.split(",")[3]) for row in rows]
    assert opened.js("return epochs.epoch") == [*range(1, 41)]
    assert opened.js("return window.never_loaded_again")
    assert "40 of 40 epochs" in opened.js("return document.getElementById('said').textContent")
    accuracy = json.loads((run / "summary.json").read_text())["score"]["accuracy"]
    assert percent(accuracy) in opened.js("return document.getElementById('tiles').textContent")
    assert opened.problems() == []
    opened.js("document.getElementById('report').click()")
    until(opened, "return document.querySelector('#mistakes h2')?.textContent")
    assert opened.js("return document.querySelector('h1').textContent").startswith("followed")
    assert {url.split("/")[2].split(":")[0] for url in opened.requests() if url.startswith("http")} == {"127.0.0.1"}
    assert opened.problems() == []


@pytest.mark.browser
def test_search_sort_jobs_and_comparison_in_the_list(opened: Browser) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    assert "token" not in opened.driver.current_url
    assert MARKUP.replace("/", "-") in opened.js(NAMES)[0] or any(
        MARKUP.replace("/", "-") in n for n in opened.js(NAMES)
    )
    head = opened.driver.find_element(By.CSS_SELECTOR, "[data-part='head test']")
    head.send_keys(Keys.ENTER)
    until(
        opened,
        "return document.querySelector('th[aria-sort=descending] button')?.textContent",
        lambda t: t == "test (%)",
    )
    assert opened.js("return document.activeElement.dataset.part") == "head test"  # where the keyboard was
    assert opened.js(NAMES)[0] == "grid"
    opened.driver.find_element(By.CSS_SELECTOR, ".unfold").send_keys(Keys.ENTER)
    until(opened, "return document.querySelectorAll('#rows tr.job').length", lambda count: count == 4)
    for box in opened.driver.find_elements(By.CSS_SELECTOR, "#rows tr.job input")[:2]:
        box.send_keys(Keys.SPACE)
    assert opened.js("return document.getElementById('compare').textContent") == "Compare 2 chosen"
    opened.driver.find_element(By.ID, "words").send_keys("optimizer.lr=0.003")
    until(opened, NAMES, lambda names: len(names) == 2 + 4)
    assert "words=optimizer.lr" in opened.driver.current_url
    opened.driver.find_element(By.ID, "words").send_keys("<x")
    until(opened, "return document.getElementById('empty').hidden", lambda hidden: not hidden)
    opened.driver.find_element(By.ID, "compare").send_keys(Keys.ENTER)
    until(opened, "return document.querySelector('h1').textContent", lambda title: title.startswith("2 runs compared"))
    opened.driver.find_element(By.CSS_SELECTOR, "#table tbody a").click()
    until(opened, "return document.querySelector('#config h2')?.textContent")
    assert opened.problems() == []


@pytest.mark.browser
def test_every_page_fits_every_screen(opened: Browser) -> None:
    opened.js("document.querySelector('.unfold').click()")
    until(opened, "return document.querySelectorAll('#rows tr.job').length")
    home = opened.driver.current_url
    ended = opened.js("return [...document.querySelectorAll('#rows tr:not(.job) th a')].at(-1).href").split("/")[-1]
    for place in ("", f"live/{ended}"):
        if place:
            opened.driver.get(home.split("#")[0] + place)
            until(opened, "return document.getElementById('tiles')?.textContent")
        for width in (1280, 390, 320):
            for scheme in ("light", "dark"):
                opened.frame(width, 800, scheme, mobile=width < 1000)
                assert opened.js(FITS), (place, width)
                assert opened.js(CUT) == [], (place, width)
    assert opened.problems() == []


@pytest.mark.browser
def test_another_page_cannot_read_or_frame_the_server(opened: Browser, tmp_path: Path) -> None:
    """A local file, opened in the browser that has the cookie, gets no response and cannot show a frame."""
    base = opened.driver.current_url.split("#")[0]
    page = tmp_path / "evil.html"
    page.write_text(f"<iframe src='{base}' id=frame></iframe>")
    opened.driver.get(page.as_uri())
    ask = f"""
    const done = arguments[0];
    const asked = fetch("{base}runs.json", {{credentials: "include"}});
    asked.then((answer) => answer.text()).then(done, () => done("refused"));
    """
    assert opened.driver.execute_async_script(ask) == "refused"
    ask = f"""
    const [done, source] = [arguments[0], new EventSource("{base}events/x", {{withCredentials: true}})];
    source.onerror = () => done("refused"); source.onopen = () => done("open");
    """
    assert opened.driver.execute_async_script(ask) == "refused"
    opened.problems()
