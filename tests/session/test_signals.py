"""Signals end a run in order, with its exit code and whole files."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import Command, only_run
from tests.support.processes import PROMPT_S, Started
from tests.support.runs import assert_seconds_add_up
from tests.support.training import WORDS, bytes_of, patched


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_signal_ends_a_run_with_its_exit_code(number: str) -> None:
    started = Started("train", "data=mnist_5k", "trainer.epochs=100000", "trainer.plots=false")
    started.wait_for_rows(30)
    started.process.send_signal(getattr(signal, number))
    code, _, err = started.end(PROMPT_S)
    assert code == 128 + getattr(signal, number).value, err
    summary = json.loads((only_run() / "summary.json").read_text())
    assert (summary["status"], summary["cause"]) == ("interrupted", f"stopped by {number}")
    assert summary["steps"] == (only_run() / "batches.csv").read_text().count("\n") - 1
    assert_seconds_add_up(summary["seconds"])


def test_a_signal_is_heard_within_a_long_chunk() -> None:
    words = ("trainer.sync_every=null", "model.hidden=[3000,3000]", "trainer.batch_size=16", "trainer.plots=false")
    started = Started("train", "data=mnist_5k", *words)
    deadline = time.monotonic() + 60
    while not list(Path("outputs").rglob("checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    started.process.send_signal(signal.SIGTERM)
    code, _, err = started.end(PROMPT_S)
    assert code == 143, err
    steps = json.loads((only_run() / "summary.json").read_text())["steps"]
    assert steps % 250, "a chunk is an epoch: 4,000 images in batches of 16"
    assert 0 < steps == (only_run() / "batches.csv").read_text().count("\n") - 1


def test_a_signal_while_plotting_keeps_a_finished_run() -> None:
    done = patched(
        "sys.modules['mnist_ff.analysis.plots'].draw_run", f"{kill('SIGTERM')}return real(*given)", "trainer.plots=true"
    )
    assert done.returncode == 143, done.stderr
    summary = json.loads((only_run() / "summary.json").read_text())
    assert (summary["status"], summary["cause"]) == ("finished", "stopped by SIGTERM")


def kill(number: str) -> str:
    return f"os.kill(os.getpid(), signal.{number})\n"


EPOCHS = "trainer.epochs=4"
"""The end of the third epoch waits for the second one's checkpoint: a signal within its write has epochs to end."""


WITHIN_THE_SECOND_EPOCHS_CHECKPOINT = """
if ".checkpoint.pt." in os.readlink(f"/proc/self/fd/{given[0]}"):
    calls.append(given)
    if len(calls) == 3:
        """


MOMENTS = {
    "evaluation": ("learner.score", "calls.append(given)\nif len(calls) == 1:\n    "),
    "a checkpoint's write": ("os.fsync", WITHIN_THE_SECOND_EPOCHS_CHECKPOINT),
    "the last files": ("artifacts.save_predictions", ""),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [*itertools.product(MOMENTS, ["SIGTERM"]), *itertools.product(["evaluation"], ["SIGINT", "SIGUSR1", "SIGUSR2"])],
)
def test_signal_waits_for_evaluation_and_writes(moment: str, number: str, mnist_ff: Command) -> None:
    name, condition = MOMENTS[moment]
    done = patched(name, f"{condition}{kill(number)}return real(*given)", EPOCHS, "hydra.run.dir=run")
    assert done.returncode == 128 + getattr(signal, number).value, done.stderr
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["cause"] == f"stopped by {number}"
    assert summary["status"] == ("finished" if moment == "the last files" else "interrupted")
    assert not list(Path("run").glob(".*.tmp"))
    assert_goes_on_as_if_nothing_had_happened(mnist_ff)


def test_second_signal_ends_at_once_with_whole_files(mnist_ff: Command) -> None:
    again = "calls.append(given)\nif len(calls) == 2:\n    "
    twice = f"{again}{kill('SIGTERM')}    {kill('SIGINT')}return real(*given)"
    done = patched("learner.score", twice, EPOCHS, "hydra.run.dir=run")
    assert done.returncode == 130, done.stderr
    assert "stopped at once; resume  mnist-ff train resume=run" in done.stdout
    assert not Path("run/summary.json").exists()
    assert_goes_on_as_if_nothing_had_happened(mnist_ff)


def assert_goes_on_as_if_nothing_had_happened(mnist_ff: Command) -> None:
    assert mnist_ff("train", "resume=run")[0] == 0
    assert mnist_ff("train", *WORDS, EPOCHS, "hydra.run.dir=whole")[0] == 0
    assert bytes_of(Path("run")) == bytes_of(Path("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train", *WORDS, "trainer.epochs=100000"], ["runs"]], ids=["train", "runs"])
def test_ctrl_c_during_start_has_no_traceback(words: list[str]) -> None:
    """Python's own start, before any line of the package, is Python's affair."""
    heard = 0
    for delay in [*range(40, 400, 20), 700, 1000, 1500, 2000, 3000]:
        command = [sys.executable, "-m", "mnist_ff", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay / 1000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if "Traceback" in err and "mnist_ff" not in err:
            continue
        heard += 1
        assert process.returncode in (130, -signal.SIGINT, *([0] if words == ["runs"] else [])), (delay, err)
        assert "Traceback" not in err, (delay, err)
    assert heard > 10


FORKED_FROM = """
import os, signal
from mnist_ff.runs.signals import interruptible
from mnist_ff.sweeps import fork_server
with fork_server.held_back():
    assert fork_server.is_here()
    with fork_server.heard_again():
        os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
assert not fork_server.is_here()
with interruptible() as stopped:
    os.kill(os.getpid(), signal.SIGINT)
print(stopped.signal_name)
"""


def test_ctrl_c_is_no_traceback_in_a_process_that_does_not_listen_yet() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED_FROM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGINT\n", "")
