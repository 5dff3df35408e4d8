"""What a process had set before is as it was after a run: signals, torch's switches, the environment."""

from __future__ import annotations

import faulthandler
import locale
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnist_ff import run_network
from mnist_ff.runs.records import StopReason
from mnist_ff.runs.signals import NAMES, ending_at_once, interruptible
from tests.support.mnist import make_split
from tests.support.processes import wait_for

NUMBERS = [getattr(signal, name) for name in NAMES]


def state() -> dict[str, Any]:
    """What belongs to the whole process."""
    mask = os.umask(0)
    os.umask(mask)
    loggers = [logging.getLogger(name) for name in (None, "mnist_ff", "hydra")]
    return {
        "signals": [signal.getsignal(number) for number in NUMBERS],
        "flush denormal": sys.float_info.min / 2 == 0,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "chance": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()),  # type: ignore[index]
        "warnings": list(warnings.filters),
        "loggers": [(log.level, list(log.handlers), log.propagate, log.disabled) for log in loggers],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": mask,
        "locale": locale.setlocale(locale.LC_ALL),
        "hooks": (sys.excepthook, threading.excepthook, sys.displayhook),
        "faulthandler": faulthandler.is_enabled(),
        "wakeup": signal.set_wakeup_fd(-1),
    }


@pytest.mark.parametrize("flush", [True, False])
def test_the_python_api_gives_back_what_it_sets(flush: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_CBWR")
    split = make_split(64)
    arrays = [split.images.numpy(), split.images.numpy(), split.labels.numpy(), split.labels.numpy()]
    words = ["model.hidden=[8]", "trainer.threads=1", "trainer.deterministic=true"]
    before = [signal.signal(number, lambda *_: None) for number in NUMBERS]
    precision = torch.get_float32_matmul_precision()
    torch.set_flush_denormal(flush)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        expected = state()
        run_network(arrays, epochs=1, batch=16, device="cpu", verbose=False, overrides=words)
        found = state()
        assert {key for key in expected if found[key] != expected[key]} == set()
        assert found["flush denormal"] is flush
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(precision)
        torch.set_flush_denormal(False)
        for number, handler in zip(NUMBERS, before, strict=True):
            signal.signal(number, handler)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopped() is None
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stopped() == StopReason.from_signal("SIGUSR1")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_faulthandlers_signal_is_given_back(tmp_path: Path) -> None:
    with (tmp_path / "dump").open("w") as file:
        faulthandler.register(signal.SIGUSR1, file)
        try:
            with interruptible() as stopped:
                os.kill(os.getpid(), signal.SIGUSR1)
                assert stopped() == StopReason.from_signal("SIGUSR1")
            assert (tmp_path / "dump").read_text() == ""
            os.kill(os.getpid(), signal.SIGUSR1)
            assert "test_faulthandlers_signal" in (tmp_path / "dump").read_text()
        finally:
            faulthandler.unregister(signal.SIGUSR1)


def test_callers_own_sigint_handler_is_kept() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with ending_at_once():
            os.kill(os.getpid(), signal.SIGINT)
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "ignored", "heard", "code"),
    [("trap '' INT", "INT", "TERM", 143), ("trap '' HUP", "HUP", "INT", 130), (":", None, "HUP", 129)],
)
def test_a_run_ignores_what_its_shell_ignores(before: str, ignored: str | None, heard: str, code: int) -> None:
    words = "train data=mnist_5k 'model.hidden=[8]' trainer.epochs=100000 trainer.plots=false hydra.run.dir=run"
    process = subprocess.Popen(["bash", "-c", f"{before}; exec {sys.executable} -m mnist_ff {words}"])
    wait_for(lambda: Path("run/checkpoint.pt").exists())
    if ignored is not None:
        process.send_signal(getattr(signal, f"SIG{ignored}"))
        time.sleep(1)
        assert process.poll() is None
    process.send_signal(getattr(signal, f"SIG{heard}"))
    assert process.wait(timeout=60) == code
