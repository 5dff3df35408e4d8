"""The moving average of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_ff.optim.weight_updates import EMA
from mnist_ff.runs.directory import Run
from tests.support.commands import Command
from tests.support.runs import WORDS


def test_ema_has_no_bias_to_initial_weights() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    ema, seen = EMA(model, 0.9), []
    for value in (1.0, 5.0, 2.0):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update()
        seen.append(value)
    ages = np.array([0.9**2, 0.9, 1.0])
    expected = float((ages * seen).sum() / ages.sum())
    with ema.swapped_in():
        assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-6)
    assert model.weight[0, 0].item() == 2.0
    ema.copy_to_model()
    assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_averages_are_scored_and_kept(mnist_ff: Command) -> None:
    words = [*WORDS, "trainer.epochs=1", "trainer.threads=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=plain")[0] == 0
    assert mnist_ff("train", *words, "trainer.ema=0.9", "hydra.run.dir=ema")[0] == 0
    assert Path("plain/batches.csv").read_bytes() == Path("ema/batches.csv").read_bytes(), "training is the same"
    plain, averaged = (Run.open(name) for name in ("plain", "ema"))
    last, summary = averaged.epochs()[-1], averaged.summary()
    assert summary is not None
    assert summary.score is not None
    assert last["test_loss"] == pytest.approx(summary.score.loss, rel=1e-8), "scored as it is kept"
    assert last["test_loss"] != plain.epochs()[-1]["test_loss"]
    raw = [torch.load(Path(name, "checkpoint.pt"), weights_only=True)["model"] for name in ("plain", "ema")]
    torch.testing.assert_close(raw[0], raw[1], rtol=0, atol=0)
