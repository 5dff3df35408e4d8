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
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mnist_ff.analysis.console import note, tell, tell_json, tell_table
from mnist_ff.config.compose import compose
from mnist_ff.config.paths import argument
from mnist_ff.config.schema import Config
from mnist_ff.errors import ConfigError
from mnist_ff.files import write_text
from mnist_ff.models.parts.mlp import mlp_keys
from mnist_ff.runs.numbers import counted, percent, percent_change
from mnist_ff.runs.torch_import import importing_torch
from mnist_ff.session.busy import busy
from mnist_ff.session.peers import PEERS
from mnist_ff.session.threads import with_threads
from mnist_ff.session.timed_commands import JOBS, OURS, WHEN_BUSY, start_up, sweeps, trainings
from mnist_ff.session.validate import check

if TYPE_CHECKING:
    import torch

    from mnist_ff.session.timed_steps import Work

PEER_WORDS = ("lightning", "tensorflow", "jax", "torch")
"""Each of PEERS, written out for Tab."""
BUSY_PER_CORE = 4
"""Most processes of --busy: more only wait for each other."""
MIN_PAIRS = 10
"""Pairs of measurements, with and without logging, that are needed to print quartiles."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="such as model.hidden=[64] trainer.device=cpu"
    )
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each step (default: 15)")
    parser.add_argument("--steps", type=int, default=25, help="steps per measurement (default: 25)")
    parser.add_argument(
        "--busy", type=int, default=0, metavar="N", help="measure all beside N processes that keep a core busy each"
    )
    parser.add_argument(
        "--no-start-up", action="store_true", help="skip the start-up times and the parts of a whole command"
    )
    parser.add_argument(
        "--sweep", action="store_true", help=f"also measure sweeps of {JOBS} small jobs, with and without pictures"
    )
    parser.add_argument("--peers", action="store_true", help="also measure whole trainings, beside Lightning and Keras")
    parser.add_argument(
        "--peer",
        action="append",
        choices=PEER_WORDS,
        help="only beside this library (repeatable; implies --peers)",
    )
    parser.add_argument("--peer-epochs", type=int, default=20, help="epochs to train with --peers (default: 20)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="turns of --sweep and --peers (default: 1)")
    parser.add_argument("--out", type=argument, default="bench.json", help="output file (default: bench.json)")
    parser.add_argument("--json", action="store_true", help="print what the file holds in place of the tables")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Measure, print tables, write bench.json. Errors: ConfigError; RunError for a command that fails."""
    peers = _chosen_peers(arguments)
    config = _checked(arguments, bool(peers))
    with busy(arguments.busy):
        result = _measured(arguments, config, peers, Console(stderr=True) if arguments.json else console)
    write_text(Path(arguments.out), json.dumps(result, indent=2, allow_nan=False) + "\n")
    if arguments.json:
        tell_json(result)
        note(f"written to {arguments.out}")
        return 0
    _print(result, console)
    tell(console, f"written to {arguments.out}")
    return 0


def _chosen_peers(arguments: argparse.Namespace) -> list[str]:
    """Names in PEERS."""
    if arguments.peer is not None:
        return [name for name, peer in PEERS.items() if peer.word in arguments.peer]
    return list(PEERS) if arguments.peers else []


def _checked(arguments: argparse.Namespace, peers: bool) -> Config:
    """The config that is measured. Errors: ConfigError for it, or for an option."""
    if min(arguments.rounds, arguments.peer_epochs, arguments.repeat) < 1 or arguments.steps < 2:
        raise ConfigError("--rounds, --peer-epochs and --repeat must be at least 1, --steps at least 2")
    most = BUSY_PER_CORE * (os.cpu_count() or 1)
    if not 0 <= arguments.busy <= most:
        raise ConfigError(f"--busy {arguments.busy}: must be from 0 to {most}, {BUSY_PER_CORE} for each core")
    out = Path(arguments.out)
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise ConfigError(f"--out {out}: is not a file path")
    if peers:
        _check_peers_can_follow(arguments.overrides)
    config = compose(arguments.overrides)
    _check_a_step_alone(config)
    check(config)
    return config


def _measured(arguments: argparse.Namespace, config: Config, peers: list[str], console: Console) -> dict[str, Any]:
    """All that bench.json holds. Errors: ConfigError, RunError."""
    with importing_torch("bench"):
        from mnist_ff.engine.device import prepared
        from mnist_ff.session.timed_steps import timed_works
    config = with_threads(config)
    with prepared(config.trainer, 0) as device:
        result = _conditions(config, device, peers)
        result["busy"] = arguments.busy
        with console.status("measuring"):
            result["milliseconds"] = _measure(timed_works(config, device), arguments.rounds, arguments.steps)
            result |= _logging_cost(config, 2 * arguments.rounds, 4 * arguments.steps, device)
    if not arguments.no_start_up:
        with console.status("starting up"):
            found = start_up(arguments.overrides)
        result["start_up_seconds"] = found.seconds
        result["whole_command_seconds"] = found.parts
        result["beyond_steps_percent"] = found.beyond_steps_percent
    if arguments.sweep:
        with console.status("sweeps"):
            turns = sweeps(arguments.repeat)
        result |= {"sweep_seconds": turns.medians(), "sweep_turns": turns.seconds}
    if peers:
        others = [*(WHEN_BUSY if arguments.busy else ()), *peers]
        with console.status("whole trainings, mnist-ff and peers"):
            turns = trainings(config, arguments.overrides, arguments.peer_epochs, arguments.repeat, others)
        result |= {"training_seconds": turns.medians(), "training_turns": turns.seconds}
        result["training_ratios"] = {name: turns.ratios(name) for name in OURS}
    return result


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


def _conditions(config: Config, device: torch.device, peers: Sequence[str]) -> dict[str, Any]:
    import torch

    from mnist_ff.engine.device import cpu_name, describe
    from mnist_ff.session.timed_steps import is_built_in

    libraries = {module for name in peers for module in PEERS[name].modules}
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


def _logging_cost(config: Config, rounds: int, steps: int, device: torch.device) -> dict[str, Any]:
    """What recording every batch adds to a step, in percent: of pairs measured one after the other, the median and the
    quartiles."""
    from mnist_ff.session.timed_steps import with_and_without_logging

    with ExitStack() as stack:
        pair = with_and_without_logging(config, device, stack)
        for work in pair:
            work(steps)
        costs = []
        for number in range(rounds):
            order = pair if number % 2 else pair[::-1]  # neither always runs on the warmer caches
            seconds = {work: _seconds(work, steps) for work in order}
            costs.append((seconds[pair[1]] / seconds[pair[0]] - 1) * 100)
    low, middle, high = statistics.quantiles(costs, n=4, method="inclusive")
    return {"logging_percent": middle, "logging_percent_quartiles": [low, high], "logging_pairs": rounds}


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


def _print(result: dict[str, Any], console: Console) -> None:
    model = f"hidden {result['hidden']}" if "hidden" in result else f"model {result['model']}"
    tell(
        console,
        f"{result['device']}, {counted(result['threads'], 'thread')}, torch {result['versions']['torch']}; {model}, "
        f"batch {result['batch_size']}, {result['optimizer']}",
    )
    times = result["milliseconds"]
    base = "fp32 products" if "hidden" in result else next(iter(times))
    rows = [(name, f"{row['median']:.3f}", f"{row['ratio']:.2f}") for name, row in times.items()]
    tell_table(console, ("a step", "ms", f"x {base}"), rows)
    tell(console, _logging_text(result))
    _print_start_up(result, console)
    if "sweep_seconds" in result:
        tell_table(console, ("sweep", "seconds"), [(n, _cell(v)) for n, v in result["sweep_seconds"].items()])
    if "training_seconds" in result:
        ratios = result["training_ratios"]
        rows = [
            (name, _cell(seconds), *(_cell(ratios[ours].get(name, "")) for ours in ratios))
            for name, seconds in result["training_seconds"].items()
        ]
        tell_table(console, ("training", "seconds", *(f"x {ours}" for ours in ratios)), rows)


def _logging_text(result: dict[str, Any]) -> str:
    """A sentence on the cost of recording every batch, if it is more than noise."""
    pairs, (low, high) = result["logging_pairs"], result["logging_percent_quartiles"]
    if pairs < MIN_PAIRS:
        return f"the cost of logging is not shown: it needs --rounds {MIN_PAIRS // 2} or more"
    spread = f"quartiles {percent_change(low / 100)} to {percent_change(high / 100)}, {pairs} pairs"
    if low <= 0:
        return f"logging every batch has no measurable cost here ({spread})"
    return f"logging every batch costs {percent_change(result['logging_percent'] / 100)} ({spread})"


def _print_start_up(result: dict[str, Any], console: Console) -> None:
    if "start_up_seconds" not in result:
        return
    tell_table(console, ("start-up", "seconds"), [(n, _cell(v)) for n, v in result["start_up_seconds"].items()])
    parts = result["whole_command_seconds"]
    rows = [(f"  {name}" if "." in name else name, _cell(seconds)) for name, seconds in parts.items()]
    tell_table(console, ("one epoch, by part", "seconds"), rows)
    tell(console, f"beyond its steps, training takes {percent(result['beyond_steps_percent'] / 100, 1)}")


def _cell(value: float | str) -> str:
    return f"{value:.2f}" if isinstance(value, float) else value
