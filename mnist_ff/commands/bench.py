"""Measure the time of a step, next to its matrix products, plain PyTorch and other libraries.

Absolute times mean little on another machine; so all is timed in one process, interleaved in short rounds, and reported
as medians and as ratios to the fp32 products of the same model and batch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mnist_ff.analysis.console import tell, tell_table
from mnist_ff.config.compose import compose
from mnist_ff.config.options import options
from mnist_ff.config.own_parts import flag_words
from mnist_ff.config.paths import argument
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.engine.device import cpu_name, describe, prepared
from mnist_ff.engine.spinning import without_ours
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.files import write_text
from mnist_ff.models.parts.mlp import mlp_keys
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Status
from mnist_ff.session.peers import PEERS
from mnist_ff.session.threads import with_threads
from mnist_ff.session.timed_steps import Work, is_built_in, timed_works, with_and_without_logging
from mnist_ff.session.validate import check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="such as model.hidden=[64] trainer.device=cpu"
    )
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each step (default: 15)")
    parser.add_argument("--steps", type=int, default=25, help="steps per measurement (default: 25)")
    parser.add_argument(
        "--peers", action="store_true", help="also measure Lightning and Keras, each in its own process"
    )
    parser.add_argument("--peer-epochs", type=int, default=20, help="epochs to train with --peers (default: 20)")
    parser.add_argument("--no-start-up", action="store_true", help="skip the start-up times")
    parser.add_argument("--out", type=argument, default="bench.json", help="output file (default: bench.json)")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Measure, print one table, write bench.json. Errors: ConfigError."""
    if arguments.rounds < 1 or arguments.steps < 2 or arguments.peer_epochs < 1:
        raise ConfigError("--rounds and --peer-epochs must be at least 1, --steps at least 2")
    out = Path(arguments.out)
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise ConfigError(f"--out {out}: is not a file path")
    if arguments.peers:
        _check_peers_can_follow(arguments.overrides)
    config = compose(arguments.overrides)
    _check_a_step_alone(config)
    check(config)
    config = with_threads(config)
    with prepared(config.trainer, 0) as device:
        result = _conditions(config, device, arguments.peers)
        with console.status("measuring"):
            result["milliseconds"] = _measure(timed_works(config, device), arguments.rounds, arguments.steps)
            result["logging_percent"] = _logging_cost(config, 2 * arguments.rounds, 4 * arguments.steps, device)
    if not arguments.no_start_up:
        with console.status("starting up"):
            result["start_up_seconds"] = _start_up(arguments.overrides)
    if arguments.peers:
        with console.status("whole trainings, mnist-ff and peers"):
            result["training_seconds"] = _peers(config, arguments.overrides, arguments.peer_epochs)
    _print(result, console)
    write_text(out, json.dumps(result, indent=2) + "\n")
    tell(console, f"written to {arguments.out}")
    return 0


def _check_a_step_alone(config: Config) -> None:
    """Errors: ConfigError for keys that do not affect the measured steps."""
    asked = {
        f"schedule={config.schedule.name}": config.schedule.name != "constant",
        f"schedule.warmup={config.schedule.warmup}": config.schedule.warmup > 0,
        f"augment={config.augment.name}": config.augment.name != "none",
        f"trainer.teacher={config.trainer.teacher}": config.trainer.teacher is not None,
    }
    for word, there in asked.items():
        if there:
            raise ConfigError(f"{word}: bench measures one step without augmentation, at a constant rate; leave it out")


PEER_KEYS = ("model.hidden=", "model.dropout=", "trainer.batch_size=")


def _check_peers_can_follow(overrides: Sequence[str]) -> None:
    for word in overrides:
        if not word.startswith(PEER_KEYS):
            raise ConfigError(f"{word}: is not supported with --peers (supported: {' '.join(PEER_KEYS)})")


def _conditions(config: Config, device: torch.device, peers: bool) -> dict[str, Any]:
    libraries = {module for peer in PEERS.values() for module in peer.modules} if peers else set()
    found = sorted(name for name in libraries if importlib.util.find_spec(name) is not None)
    return {
        "device": describe(device),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("mnist-ff", "torch", *found)},
        **({"hidden": list(mlp_keys(config.model).hidden)} if is_built_in(config) else {"model": config.model.name}),
        "batch_size": config.trainer.batch_size,
        "optimizer": config.optimizer.name,
    }


def _logging_cost(config: Config, rounds: int, steps: int, device: torch.device) -> float:
    """What recording every batch adds to a step, in percent: the median over pairs measured one after the other."""
    with ExitStack() as stack:
        pair = with_and_without_logging(config, device, stack)
        for work in pair:
            work(steps)
        ratios = []
        for number in range(rounds):
            order = pair if number % 2 else pair[::-1]  # neither always runs on the warmer caches
            seconds = {work: _seconds(work, steps) for work in order}
            ratios.append(seconds[pair[1]] / seconds[pair[0]])
    return (statistics.median(ratios) - 1) * 100


def _seconds(work: Work, steps: int) -> float:
    began = time.perf_counter()
    work(steps)
    return time.perf_counter() - began


def _measure(works: dict[str, Work], rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Milliseconds a step of each, interleaved: the machine's other work falls on all alike."""
    for work in works.values():
        work(steps)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(_seconds(work, steps) / steps * 1e3)
    base = statistics.median(next(iter(times.values())))
    return {
        name: {
            "median": statistics.median(values),
            "fastest": min(values),
            "ratio": statistics.median(values) / base,
        }
        for name, values in times.items()
    }


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mnist_ff", *words]


def _start_up(overrides: Sequence[str]) -> dict[str, float]:
    """Seconds of whole processes: --help, to the first batch of a training, a training of one epoch."""
    helps = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(_command("--help"), stdout=subprocess.DEVNULL, check=True)
        helps.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        fixed = ["trainer.epochs=1", "trainer.sync_every=1", f"hydra.run.dir='{run}'"]
        words = ["train", *options().flags, *flag_words(), *overrides, *fixed]
        began = time.perf_counter()
        with subprocess.Popen(_command(*words), stdout=subprocess.DEVNULL) as process:
            first = _seconds_to_first_row(run / "batches.csv", began, process)
        whole = time.perf_counter() - began
        if process.returncode:
            raise RunError(f"the run that measures the start-up time failed: mnist-ff {' '.join(words)}")
    return {"--help": statistics.median(helps), "to the first batch": first, "one epoch, whole command": whole}


def _seconds_to_first_row(path: Path, began: float, process: subprocess.Popen[bytes]) -> float:
    while process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") > 1:
            break
        time.sleep(0.005)
    return time.perf_counter() - began


def _peers(config: Config, overrides: Sequence[str], epochs: int) -> dict[str, float | str]:
    """Seconds of training alone, ours by precision and each peer's, or why there are none."""
    found: dict[str, float | str] = {}
    for precision in ("fp32", "bf16"):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            words = [
                *options().flags,
                *flag_words(),
                *overrides,
                f"trainer.epochs={epochs}",
                f"trainer.precision={precision}",
                "trainer.plots=false",
            ]
            # as the peers: on the CPU, 60,000 images, and only the test images scored
            words += ["trainer.device=cpu", "data.fallback=null", "trainer.score_train=0"]
            done = subprocess.run(_command("train", *words, f"hydra.run.dir='{run}'"), capture_output=True, text=True)
            summary = Run(run).summary()
            if summary is not None and summary.status is Status.FINISHED:
                found[f"mnist-ff, {precision}"] = summary.seconds["train"]
            else:
                found[f"mnist-ff, {precision}"] = f"failed: {done.stderr.strip()}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        write_text(path, to_yaml(config))
        for name, peer in PEERS.items():
            words = ["-m", "mnist_ff.session.peers", name, str(path), str(epochs)]
            environment = {**without_ours(os.environ), **peer.environment}
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
            found[name] = _seconds_printed(done)
    return found


def _seconds_printed(done: subprocess.CompletedProcess[str]) -> float | str:
    """The last line of a peer's output: its seconds, or 'not installed'."""
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        return float(last)
    except ValueError:
        return last or f"failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"


def _print(result: dict[str, Any], console: Console) -> None:
    model = f"hidden {result['hidden']}" if "hidden" in result else f"model {result['model']}"
    tell(
        console,
        f"{result['device']}, {result['threads']} threads, torch {result['versions']['torch']}; {model}, "
        f"batch {result['batch_size']}, {result['optimizer']}",
    )
    times = result["milliseconds"]
    base = "fp32 products" if "hidden" in result else next(iter(times))
    rows = [(name, f"{row['median']:.3f}", f"{row['ratio']:.2f}") for name, row in times.items()]
    tell_table(console, ("a step", "ms", f"x {base}"), rows)
    tell(console, f"logging every batch costs {result['logging_percent']:+.1f} %")
    for title, key in (("start-up", "start_up_seconds"), ("training", "training_seconds")):
        if key in result:
            shown = [(name, f"{v:.2f}" if isinstance(v, float) else v) for name, v in result[key].items()]
            tell_table(console, (title, "seconds"), shown)
