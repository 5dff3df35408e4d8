"""The last lines of a run, resumes, and the presets debug and overfit."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import pytest

from mnist_ff.runs.directory import Run
from tests.support.commands import Command
from tests.support.processes import Started, in_a_terminal
from tests.support.runs import WORDS, stopped_run

PARTS = Path(__file__).parents[1] / "parts" / "own.py"


def test_a_run_ends_with_its_score_report_and_two_commands(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false"]
    code, out, _ = mnist_ff("train", *words, "hydra.run.dir='a b/it''s'".replace("''", "\\'"))
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines()[-2:])
    assert list(lines) == ["evaluate", "predict"]
    for command in lines.values():
        assert mnist_ff(*shlex.split(command)[1:])[0] == 0, command


@pytest.mark.parametrize("columns", [120, 40])
def test_a_command_is_one_line_in_a_terminal_of_any_width(columns: int) -> None:
    place = "outputs/a rather long name of a folder"
    words = ["data=mnist_5k", "model.hidden=[8]", "trainer.plots=false", "trainer.max_seconds=0.001"]
    code, seen = in_a_terminal("train", *words, f"hydra.run.dir='{place}'", columns=columns)
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen).splitlines()
    assert f"evaluate       mnist-ff evaluate '{place}'" in lines
    assert f"train further  mnist-ff train 'resume={place}' trainer.max_seconds=0.002" in lines


def test_fewer_epochs_than_begun_are_refused_with_what_is_right(mnist_ff: Command) -> None:
    stopped_run("within", 20)
    code, _, err = mnist_ff("train", "resume=within", "trainer.epochs=1")
    assert (code, "within is already in epoch 2; give 2 or more" in err) == (2, True)
    stopped_run("after", 16)
    code, out, _ = mnist_ff("train", "resume=after", "trainer.epochs=1")
    assert code == 0, "no epoch is left to train: only the final files are written"
    assert "resumed after the last epoch (1): only the final files are missing" in out
    code, _, err = mnist_ff("train", "resume=after", "trainer.epochs=2")
    assert code == 0
    assert "after has finished 2 epochs" in mnist_ff("train", "resume=after", "trainer.epochs=1")[2] + err


@pytest.mark.slow
def test_ctrl_c_prints_a_command_that_works_when_pasted(mnist_ff: Command) -> None:
    Path("my parts").mkdir()
    Path("my parts/own.py").write_text(PARTS.read_text())
    words = ["--parts", "my parts/own.py", "data=mnist_5k", "trainer.epochs=100000", "trainer.plots=false"]
    started = Started("train", *words, "optimizer=signs", "hydra.run.dir='my runs/a b'")
    started.wait_for_rows(20, "my runs")
    started.process.send_signal(signal.SIGINT)
    code, out, _ = started.end()
    assert code == 130
    (line,) = (line for line in out.splitlines() if line.startswith("resume "))
    epochs = Run.open("my runs/a b").summary().epochs  # type: ignore[union-attr]
    command = shlex.split(line.removeprefix("resume").strip())
    code, out, _ = mnist_ff(*command[1:], f"trainer.epochs={epochs + 1}")
    assert code == 0
    assert f"resumed from epoch {epochs + 1} of {epochs + 1}, batch " in out


def test_overfit_says_whether_one_batch_was_learned(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", "experiment=overfit", "trainer.epochs=75", "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 75
    assert err.count("\nepoch ") == 3, "one line per evaluated epoch"
    assert "64 images to train" in err
    assert "learned by heart: its loss is 0.00" in err
    out = mnist_ff("train", "experiment=overfit", "trainer.epochs=10", "optimizer.lr=1e-6")[1]
    assert "warning: the loss of one batch is 2." in out


@pytest.mark.slow
def test_debug_turns_every_check_on(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", "experiment=debug", "hydra.run.dir=run")
    assert code == 0
    assert "warning" not in out
    run = Run.open("run")
    assert {"calibration/ece", "dead_units/layers.0", "gradient_norms/layers.0"} <= set(run.epochs()[-1])
    assert run.file("report.html").exists()
    words = ["-m", "--parts", str(PARTS), "experiment=debug,overfit", "model=mlp,small_cnn", "trainer.epochs=1"]
    assert mnist_ff("train", *words, "trainer.plots=false")[0] == 0


def test_json_of_a_run_that_failed(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", *WORDS, "optimizer=sgd", "optimizer.lr=1e30", "--json")
    document = json.loads(out)
    assert (code, document["status"], document["score"]) == (1, "diverged", None)
    assert "error: " in err
    assert mnist_ff("train", "--cfg", "job", "--json")[0] == 2
    assert mnist_ff("train", "-m", "dry_run=true", "seed=0,1", "--json")[0] == 2
