"""The whole commands that `mnist-ff bench` times: the start-up, sweeps of small jobs, trainings beside other libraries.

Each is a process of its own. What is compared runs in turns, in another order each time: what else the machine does
falls on all alike.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mnist_ff.config.options import options
from mnist_ff.config.own_parts import flag_words
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.engine.spinning import without_ours
from mnist_ff.errors import RunError
from mnist_ff.files import write_text
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Status
from mnist_ff.session.peers import PEERS

START_UPS = 3
"""How often each whole command is run."""
JOB = ("data=mnist_5k", "model.hidden=[16]", "trainer.epochs=1")
"""A job of --sweep, which takes a moment: what is measured is all that comes with it."""
JOBS = 12
OURS = {"mnist-ff, fp32": ("trainer.precision=fp32",), "mnist-ff, bf16": ("trainer.precision=bf16",)}
"""Our trainings by name, with which the others are compared."""
WHEN_BUSY = {"mnist-ff, fp32, trainer.threads=auto": ("trainer.precision=fp32", "trainer.threads=auto")}
AS_THE_PEERS = ("trainer.plots=false", "trainer.device=cpu", "data.fallback=null", "trainer.score_train=0")
"""On the CPU, 60,000 images, and only the test images scored."""

Runner = Callable[[], float | str]
"""Run once; return the seconds, or why there are none."""


@dataclass(frozen=True)
class StartUp:
    """Seconds of whole commands."""

    seconds: dict[str, float]
    """Medians by name."""
    parts: dict[str, float]
    """Seconds of the parts of the training with the median time, and of its end after the summary."""
    beyond_steps_percent: float
    """Share of training time outside of steps, in percent: the median."""


@dataclass(frozen=True)
class Turns:
    """What ran in turns: seconds of each time by name, or why there are none."""

    seconds: dict[str, list[float] | str]

    def medians(self) -> dict[str, float | str]:
        """A number or a reason by name."""
        return {name: v if isinstance(v, str) else statistics.median(v) for name, v in self.seconds.items()}

    def ratios(self, base: str) -> dict[str, float]:
        """How many times as long as `base` each took: the median over the turns."""
        ours = self.seconds.get(base)
        if ours is None or isinstance(ours, str):
            return {}
        return {
            name: statistics.median(a / b for a, b in zip(taken, ours, strict=True))
            for name, taken in self.seconds.items()
            if not isinstance(taken, str)
        }


def in_turns(runners: Mapping[str, Runner], repeat: int) -> Turns:
    """Run each so many times, forwards and backwards in turn. One that fails is not run again."""
    found: dict[str, list[float] | str] = {name: [] for name in runners}
    for number in range(repeat):
        for name in list(runners) if number % 2 == 0 else list(runners)[::-1]:
            so_far = found[name]
            if not isinstance(so_far, str):
                result = runners[name]()
                found[name] = result if isinstance(result, str) else [*so_far, result]
    return Turns(found)


def beyond_steps_percent(seconds: Mapping[str, float]) -> float:
    """The share of training time outside of steps, in percent, from a summary's seconds."""
    return 100 * (1 - seconds["train.steps"] / seconds["train"])


def start_up(overrides: Sequence[str]) -> StartUp:
    """Time --help, a training to its first batch, and a training of one epoch. Errors: RunError."""
    words = [*options().flags, *flag_words(), *overrides, "trainer.epochs=1"]
    helps, wholes, parts = [], [], []
    for _ in range(START_UPS):
        helps.append(_seconds(["--help"]))
        whole, seconds = _run(words)
        wholes.append(whole)
        parts.append(seconds)
    middle = wholes.index(statistics.median_low(wholes))
    named = {name: value for name, value in parts[middle].items() if name != "total"}
    found = {
        "--help": statistics.median(helps),
        "to the first batch": _to_the_first_batch(words),
        "one epoch, whole command": wholes[middle],
    }
    end = wholes[middle] - parts[middle]["total"]
    return StartUp(found, {**named, "end": end}, statistics.median(map(beyond_steps_percent, parts)))


def sweeps(repeat: int) -> Turns:
    """Time a run of mnist_5k and a sweep of twelve, one after another and with joblib, each with and without pictures.

    Errors: RunError.
    """
    seeds = f"seed={','.join(map(str, range(JOBS)))}"
    ways: dict[str, list[str]] = {
        "one run": [],
        f"{JOBS} jobs, one after another": ["-m", seeds],
        f"{JOBS} jobs, joblib": ["-m", seeds, "hydra/launcher=joblib"],
    }
    pictures = {"": "trainer.plots=true", ", no pictures": "trainer.plots=false"}
    runners: dict[str, Runner] = {}
    for (way, words), (note, word) in product(ways.items(), pictures.items()):
        runners[way + note] = _sweep([*words, *JOB, word])
    return in_turns(runners, repeat)


def _sweep(words: list[str]) -> Runner:
    def run() -> float | str:
        if "hydra/launcher=joblib" in words and importlib.util.find_spec("joblib") is None:
            return "not installed: joblib"
        with tempfile.TemporaryDirectory() as folder:
            places = [f"hydra.{kind}.dir='{Path(folder) / 'runs'}'" for kind in ("run", "sweep")]
            return _seconds(["train", *words, places["-m" in words]])

    return run


def trainings(config: Config, overrides: Sequence[str], epochs: int, repeat: int, others: Sequence[str]) -> Turns:
    """Time training alone, with `overrides` and as the peers do it: ours by precision, then the named peers.

    `others` names peers, and trainings of WHEN_BUSY.
    """
    runners: dict[str, Runner] = {}
    ours = OURS | {name: words for name, words in WHEN_BUSY.items() if name in others}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        write_text(path, to_yaml(config))
        for name, words in ours.items():
            runners[name] = _training([*overrides, f"trainer.epochs={epochs}", *AS_THE_PEERS, *words])
        for name in others:
            if name in PEERS:
                runners[name] = _peer(name, path, epochs)
        return in_turns(runners, repeat)


def _training(words: list[str]) -> Runner:
    def run() -> float | str:
        try:
            return _run([*options().flags, *flag_words(), *words])[1]["train"]
        except RunError as error:
            return f"failed: {error}"

    return run


def _peer(name: str, config: Path, epochs: int) -> Runner:
    def run() -> float | str:
        words = ["-m", "mnist_ff.session.peers", name, str(config), str(epochs)]
        environment = {**without_ours(os.environ), **PEERS[name].environment}
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
        last = (done.stdout.strip().splitlines() or [""])[-1]
        try:
            return float(last)
        except ValueError:
            return last or f"failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"

    return run


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mnist_ff", *words]


def _seconds(words: Sequence[str]) -> float:
    """The seconds that a whole command takes. Errors: RunError."""
    began = time.perf_counter()
    done = subprocess.run(_command(*words), capture_output=True, text=True)
    taken = time.perf_counter() - began
    if done.returncode:
        raise RunError(_failed(words, (done.stderr.strip().splitlines() or ["no output"])[-1].removeprefix("error: ")))
    return taken


def _run(words: Sequence[str]) -> tuple[float, dict[str, float]]:
    """A training: the seconds of the whole command, and those of its summary. Errors: RunError."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        whole = _seconds(["train", *words, f"hydra.run.dir='{run}'"])
        summary = Run(run).summary()
    assert summary is not None
    assert summary.status is Status.FINISHED
    return whole, summary.seconds


def _failed(words: Sequence[str], reason: str) -> str:
    return f"a command that bench times failed: mnist-ff {' '.join(words)}: {reason}"


def _to_the_first_batch(words: Sequence[str]) -> float:
    """Seconds until the first batch is written; the run is ended then. Errors: RunError."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        training = ["train", *words, "trainer.sync_every=1", f"hydra.run.dir='{run}'"]
        began = time.perf_counter()
        with subprocess.Popen(_command(*training), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                while not _has_a_row(run / "batches.csv") and process.poll() is None:
                    time.sleep(0.005)
                taken = time.perf_counter() - began
            finally:
                process.kill()
        if not _has_a_row(run / "batches.csv"):
            raise RunError(_failed(training, "it ended before its first batch"))
    return taken


def _has_a_row(path: Path) -> bool:
    return path.exists() and path.read_bytes().count(b"\n") > 1
