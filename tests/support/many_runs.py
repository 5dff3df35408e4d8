"""Many small run directories, as trainings leave them, without training."""

from __future__ import annotations

import dataclasses
import functools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.runs.records import Score, Status, Summary
from mnist_ff.runs.tables import BATCH_COLUMNS, EPOCH_COLUMNS
from tests.support.configs import make_config

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
RATES = (0.0003, 0.001, 0.003, 0.01)
STATUSES = (Status.FINISHED,) * 8 + (Status.FAILED, Status.INTERRUPTED)


def batch_lines(first: int, count: int, per_epoch: int = 10) -> str:
    """Rows of batches.csv from a step on, with a loss that falls."""
    steps = range(first, first + count)
    return "".join(
        f"{step},{step // per_epoch},{step % per_epoch},{2.3 / (1 + step / per_epoch):.9g},0.001,256\n"
        for step in steps
    )


@functools.cache
def _base() -> str:
    words = ("data=mnist_5k", "trainer.epochs=77", "seed=777", "optimizer.lr=0.0777", "name='a name'")
    return to_yaml(make_config(*words))


def make_run(path: Path, number: int, epochs: int = 2) -> Path:
    """A run that has ended, by its number: the higher the later."""
    path.mkdir(parents=True)
    name = f"run {number}" if number % 3 == 0 else None
    text = _base().replace("epochs: 77", f"epochs: {epochs}").replace("seed: 777", f"seed: {number}")
    text = text.replace("lr: 0.0777", f"lr: {RATES[number % len(RATES)]}").replace(
        "name: a name", f"name: {name or 'null'}"
    )
    (path / "config.yaml").write_text(text, encoding="utf-8")
    began = (FIRST + timedelta(minutes=number)).isoformat()
    (path / "environment.json").write_text(json.dumps({"started": began, "device": "cpu", "history": []}))
    correct = 850 + number % 140
    rows = [f"{epoch},0.5,0.8,,,0.4,{correct / 1000},,,1.5\n" for epoch in range(epochs)]
    (path / "epochs.csv").write_text(",".join(EPOCH_COLUMNS) + "\n" + "".join(rows))
    (path / "batches.csv").write_text(",".join(BATCH_COLUMNS) + "\n" + batch_lines(0, 10 * epochs))
    status = STATUSES[number % len(STATUSES)]
    score = Score(0.4, correct / 1000, correct, 1000) if status is Status.FINISHED else None
    cause = None if score else "stopped by SIGTERM" if status is Status.INTERRUPTED else "out of memory"
    summary = Summary(
        status, cause, score, epochs, 10 * epochs, 545_810, number, name, "mnist_5k", None, {"total": 3.5}
    )
    (path / "summary.json").write_text(json.dumps(dataclasses.asdict(summary)))
    return path


def make_runs(folder: Path, count: int) -> list[Path]:
    """So many runs, the oldest first."""
    return [
        make_run(folder / f"{FIRST + timedelta(minutes=number):%Y-%m-%d_%H-%M}-00_{number:04x}", number)
        for number in range(count)
    ]
