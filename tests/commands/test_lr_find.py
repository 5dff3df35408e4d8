"""The learning-rate range test: what it suggests trains well; the same for the same seed; nothing else changes."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.training.lr_range import EXPLODED, rates, smoothed_losses, suggestion, try_rates
from tests.support.commands import Command


def found() -> Path:
    (folder,) = Path("outputs/lr_find").iterdir()
    return folder


def accuracy(directory: str) -> float:
    summary = json.loads(Path(directory, "summary.json").read_text())
    assert summary["status"] == "finished"
    return float(summary["score"]["accuracy"])


def test_suggested_rate_beats_a_thirtieth_of_it(real_mnist: Path, mnist_ff: Command) -> None:
    small = "model.hidden=[100]"
    code, out, err = mnist_ff("lr-find", small)
    assert code == 0, err
    rate = json.loads((found() / "lr_find.json").read_text())["suggested_lr"]
    assert f"suggested  optimizer.lr={rate:g}" in out
    assert 0.0003 < rate < 0.005, "the tutorial's is 0.001"
    words = (small, "trainer.epochs=1", "trainer.plots=false")
    for place, lr in (("suggested", rate), ("thirtieth", rate / 30)):
        assert mnist_ff("train", *words, f"optimizer.lr={lr}", f"hydra.run.dir={place}")[0] == 0
    assert accuracy("suggested") > 0.92
    assert accuracy("suggested") > accuracy("thirtieth") + 0.05


def test_sgd_gets_a_rate_of_its_own(real_mnist: Path, mnist_ff: Command) -> None:
    words = ("optimizer=sgd", "model.hidden=[64]")
    code, out, err = mnist_ff("lr-find", *words)
    assert code == 0, err
    command = re.search(r"^train +mnist-ff (train optimizer=sgd 'model.hidden=\[64\]' optimizer.lr=\S+)$", out, re.M)
    assert command, out
    rate = float(command[1].rsplit("=", 1)[1])
    assert 0.03 < rate < 3
    train = [word.strip("'") for word in command[1].split()]
    assert mnist_ff(*train, "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run")[0] == 0
    assert accuracy("run") > 0.9


def test_the_engine_is_the_one_that_was_chosen(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, bool]] = []

    def building(parts: StepParts) -> Any:
        heard.append((parts.trainer.engine, parts.is_scheduled))
        return build_step(parts)

    monkeypatch.setattr("mnist_ff.training.learner.build_step", building)
    for engine in ("auto", "eager"):
        words = ("data=mnist_5k", "model.hidden=[8]", f"trainer.engine={engine}", "--steps", "10")
        assert mnist_ff("lr-find", *words)[0] in (0, 1)
    assert heard == [("auto", True), ("eager", True)]


def test_lr_find_writes_only_its_own_directory(mnist_ff: Command) -> None:
    state = torch.get_rng_state()
    words = ("data=mnist_5k", "model.hidden=[32]", "--steps", "120")
    tables = []
    for seed in (0, 0, 1):
        code, _, err = mnist_ff("lr-find", *words, f"seed={seed}")
        assert code == 0, err
        folder = found()
        assert {path.name for path in folder.iterdir()} == {"lr_find.csv", "lr_find.json", "lr_find.png"}
        assert (folder / "lr_find.png").read_bytes().startswith(b"\x89PNG")
        tables.append((folder / "lr_find.csv").read_bytes())
        folder.rename(f"moved{len(tables)}")
    assert tables[0] == tables[1] != tables[2]
    assert torch.equal(state, torch.get_rng_state())
    with Path("moved1/lr_find.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows[0]["lr"] == pytest.approx(1e-6)
    assert [row["lr"] for row in rows] == pytest.approx(rates(1e-6, 10, 120)[: len(rows)])
    assert [row["smoothed_loss"] for row in rows] == pytest.approx(smoothed_losses([row["loss"] for row in rows]))
    assert mnist_ff("compare", "outputs")[0] == 2, "there is no run"
    assert mnist_ff("train", "resume=last")[0] == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--first", "1", "--last", "0.1"], "the last above the first"),
        (["--first", "0"], "above 0"),
        (["--last", "inf"], "above 0"),
        (["--steps", "3"], "must be from 10 to 100,000"),
        (["--steps", "100001"], "--steps 100001: must be from 10 to 100,000"),
        (["optimizer.lrr=1"], "did you mean optimizer.lr?"),
        (["logger=mlflow"], "has no effect in lr-find; leave it out"),
        (["metrics=[calibration]"], "metrics: has no effect in lr-find; leave it out"),
        (["callbacks=[]"], "callbacks: has no effect in lr-find; leave it out"),
        (["hydra.run.dir=x"], "has no effect in lr-find; leave it out"),
    ],
)
def test_bad_arguments(words: list[str], expected: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("lr-find", *words)
    assert code == 2
    assert expected in err
    assert list(Path().iterdir()) == []


def test_words_are_shown_without_a_terminals_commands(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "model.hidden=[8]", "name='\x9b2J[b]'", "--steps", "60"]
    code, out, err = mnist_ff("lr-find", *words)
    assert code == 0, err
    assert " 2J[b]" in out
    assert "\x9b" not in out


def test_the_next_command_names_the_parts_file(mnist_ff: Command) -> None:
    parts = str(Path(__file__).parents[1] / "parts" / "own.py")
    words = ("data=stripes", "model=normed", "trainer.batch_size=20", "--steps", "40")
    code, out, err = mnist_ff("lr-find", "--parts", parts, *words)
    assert code == 0, err
    assert out.splitlines()[-1].endswith(f" --parts {shlex.quote(parts)}")


def test_a_loss_that_never_falls_has_no_suggestion(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("lr-find", "data=mnist_5k", "model.hidden=[8]", "--first", "5", "--last", "1000")
    assert code == 1
    assert "the loss never decreased between 5 and 1000" in err
    assert json.loads((found() / "lr_find.json").read_text())["suggested_lr"] is None


class Parabola:
    """A step whose loss is w^2 / 2 after one of gradient descent on it: a rate above 2 makes it grow."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.heard: list[float] = []

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = lambda: None, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        loss = self.weight.detach() ** 2 / 2
        (rate,) = rates
        self.weight.data.mul_(1 - rate)
        self.heard.append(rate)
        return torch.tensor([[float(loss), 0.0]])


def test_lr_find_stops_at_an_explosion() -> None:
    step, tried = Parabola(), rates(0.001, 100, 200)
    losses = try_rates(step, lambda epoch: torch.arange(30), 10, tried, lambda: None)
    assert step.heard == tried[: len(step.heard)]
    weight, expected = 1.0, []
    for rate in tried[: len(losses)]:  # each step multiplies w by 1 - rate
        expected.append(weight**2 / 2)
        weight *= 1 - rate
    assert losses == pytest.approx(expected, rel=1e-3, abs=1e-12)
    smoothed = smoothed_losses(losses)
    assert smoothed[-1] > EXPLODED * min(smoothed)
    assert max(smoothed[:-1]) <= EXPLODED * smoothed[0]
    assert 2 < tried[len(losses) - 1] < 100
    asked = try_rates(Parabola(), lambda epoch: torch.arange(30), 10, tried, lambda: "stop")
    assert len(asked) == 1


def test_suggestion_is_the_steepest_descent() -> None:
    tried = rates(1e-4, 1, 41)
    # a smooth step down at 1e-2 over the logarithm, then up: the smoothed loss lags behind it by some batches
    losses = [2 / (1 + math.exp(3 * math.log10(rate / 1e-2) * 2)) + max(0, rate - 0.3) * 50 for rate in tried]
    rate = suggestion(tried, losses)
    assert rate is not None
    smoothed = smoothed_losses(losses)
    place = tried.index(rate)
    falls = [smoothed[k + 1] - smoothed[k - 1] for k in range(1, smoothed.index(min(smoothed)))]
    assert falls[place - 1] == pytest.approx(min(falls))
    assert 1e-2 <= rate <= 0.3
    assert suggestion(tried[:5], [1, 2, 3, 4, 5]) is None
    assert suggestion([], []) is None
    assert rates(1, 100, 3) == pytest.approx([1, 10, 100])


def test_json_has_every_rate_and_loss(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("lr-find", "data=mnist_5k", "model.hidden=[32]", "--steps", "120", "seed=0", "--json")
    assert code == 0, err
    values = json.loads(out)
    folder = Path(values["directory"])
    assert values["suggested_lr"] == json.loads((folder / "lr_find.json").read_text())["suggested_lr"]
    assert len(values["lr"]) == len(values["loss"]) == len(values["smoothed_loss"]) <= 120
    assert "120 batches of 256" in err
