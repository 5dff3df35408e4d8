"""The report's charts of metrics, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_ff.errors import BadRunError
from mnist_ff.report.curves import MAX_EPOCH_CELLS, epoch_curves
from mnist_ff.report.run_page import write_report
from mnist_ff.runs.directory import Run
from mnist_ff.runs.tables import EPOCH_COLUMNS
from tests.support.browser import Browser
from tests.support.configs import make_config

CHARTS = """
const charts = [...document.querySelectorAll("#metric-charts > div")];
return charts.map((host) => [host.id, host.querySelectorAll("svg.plot path.line").length]);
"""
READING = """
const plot = document.querySelector(`#metric_${arguments[0]} svg.plot`);
plot.focus();
plot.dispatchEvent(new KeyboardEvent("keydown", {key: "End", bubbles: true}));
return document.querySelector(`#metric_${arguments[0]} .reading`).textContent;
"""
LEGEND = "return document.querySelector(`#metric_${arguments[0]}`).textContent;"


def run_with(path: Path, columns: dict[str, list[str]]) -> Run:
    """A run directory that has a config and epochs.csv with these metrics, a cell an epoch."""
    run = Run.create(path)
    run.write_config(make_config())
    epochs = len(next(iter(columns.values())))
    known = ["0.5" if name != "epoch" else "" for name in EPOCH_COLUMNS]
    rows = [[str(epoch), *known[1:], *(cells[epoch] for cells in columns.values())] for epoch in range(epochs)]
    lines = [[*EPOCH_COLUMNS, *columns], *rows]
    run.file("epochs.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    return run


def test_each_metric_has_a_chart_with_a_line_for_each_value(browser: Browser, tmp_path: Path) -> None:
    many = {f"weight_norms/layers.{layer}": [str(layer), str(layer + 1)] for layer in range(12)}
    few = {"calibration/ece": ["0.25", "0.125"], "calibration/brier": ["0.5", ""], "constructor": ["3", "4"]}
    run = run_with(tmp_path / "run", {**few, **many, "never_finite": ["", ""]})
    browser.open(write_report(run))
    assert dict(browser.js(CHARTS)) == {
        "metric_calibration": 2,
        "metric_constructor": 1,
        "metric_weight_norms": 12,
        "metric_never_finite": 0,
    }
    assert browser.js(READING, "calibration") == "epoch 2: ECE 0.125"
    assert browser.js(READING, "constructor") == "epoch 2: constructor 4"
    assert browser.js(READING, "weight_norms").startswith("epoch 2: layers.")
    text = browser.js(LEGEND, "calibration")
    assert "ECE" in text
    assert "Brier score" in text
    assert "Metrics, validation images" in browser.js("return document.getElementById('training').textContent")


def test_a_page_without_metrics_has_no_place_for_them(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", {"x": ["1"]})
    text = run.file("epochs.csv").read_text().replace(",x\n", "\n").replace(",1\n", "\n")
    run.file("epochs.csv").write_text(text)
    assert 'id="metric-charts"' not in write_report(run).read_text()


def test_hundreds_of_metrics_are_thinned(tmp_path: Path) -> None:
    columns = {f"norms/{layer}": ["1.25"] * 500 for layer in range(300)}
    curves = epoch_curves(run_with(tmp_path / "run", columns))
    assert curves is not None
    assert curves["columns"]["epoch"][-1] == 499
    assert sum(map(len, curves["columns"].values())) <= MAX_EPOCH_CELLS


@pytest.mark.parametrize("column", ["<b>", "Upper", "a/b/c", "x,x", "=cmd", "loss "])
def test_columns_that_no_metric_has_are_refused(column: str, tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", {column: ["1"]})
    with pytest.raises(BadRunError, match=r"its columns are not epoch,.* and metrics"):
        epoch_curves(run)
