"""Measure the parts of a run, an epoch and a step, and write a profiler trace of some steps."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mnist_ff.analysis.console import tell, tell_json, tell_table, warning
from mnist_ff.config.compose import compose
from mnist_ff.config.overrides import key_of
from mnist_ff.config.paths import argument, display_path
from mnist_ff.config.schema import Config
from mnist_ff.errors import ConfigError
from mnist_ff.runs.numbers import MISSING, counted
from mnist_ff.runs.places import elsewhere
from mnist_ff.runs.reading import is_taken
from mnist_ff.runs.signals import interruptible
from mnist_ff.runs.torch_import import importing_torch
from mnist_ff.session.timing import CountedTiming, process_start
from mnist_ff.session.validate import check, check_new

if TYPE_CHECKING:
    from mnist_ff.session.profiling import Part, Profile
    from mnist_ff.session.step_trace import Operation

PROFILE_FOLDER = Path("outputs", "profile")
EPOCHS = 2
"""Default of trainer.epochs: the second epoch is typical of all later ones."""
MAX_STEPS = 1_000
WORDS = {
    "start": "start Python",
    "import": "import PyTorch",
    "config": "read the config",
    "data": "load the data",
    "build": "build model and step",
    "train.steps": "train: steps",
    "train.scores": "train: evaluate",
    "train.records": "train: record batches",
    "train.checkpoints": "train: checkpoints",
    "train.callbacks": "train: callbacks",
    "train.other": "train: other",
    "keep": "save the results",
    "plots": "plots",
    "report": "report",
    "load": "load the batch",
    "augment": "augment it",
    "forward": "forward",
    "loss": "loss",
    "backward": "backward",
    "update": "update",
}
"""The names of the parts in the tables."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="as for train, such as trainer.engine=eager"
    )
    parser.add_argument(
        "--config-dir", action="append", metavar="DIR", help="folder with option files of your own, like conf/"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps to trace (default: 20)")
    parser.add_argument(
        "--out", type=argument, metavar="FILE", help="file of the trace (default: outputs/profile/<time>/trace.json)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document in place of the tables")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Train a temporary run, print tables of its times, and write the trace. Errors: those of train."""
    timing = CountedTiming(arguments.began, process_start(arguments.began) if arguments.is_process else None)
    timing.claim("import")
    config, out = _checked(arguments)
    timing.claim("config")
    with timing.part("import"), importing_torch("profile"):
        from mnist_ff.session.profiling import profiled
        from mnist_ff.session.resolve import resolve
    with timing.part("data"):
        resolved = resolve(config)
    with interruptible() as stopped, Console(stderr=True).status("training, timing, tracing"):
        found = profiled(resolved, timing, ["mnist-ff", "profile", *arguments.overrides], stopped, out, arguments.steps)
    if found is None:
        return stopped.exit_code
    for text in found.warnings:
        warning(text)
    if arguments.json:
        tell_json(_values(found))
    else:
        _print(found, console)
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[Config, Path]:
    """The config of the run, and the path of the trace. Errors: ConfigError."""
    if not 1 <= arguments.steps <= MAX_STEPS:
        raise ConfigError(f"--steps {arguments.steps}: must be from 1 to {MAX_STEPS:,}")
    words = list(arguments.overrides)
    for word in words:
        if key_of(word).startswith(("hydra.", "hydra/", "sweep", "resume", "dry_run")):
            raise ConfigError(f"{word}: profile does not keep its run; leave it out")
    if not any(key_of(word) == "trainer.epochs" for word in words):
        words.append(f"trainer.epochs={EPOCHS}")
    config = compose(words)
    outside = elsewhere(config.logger)
    if outside:
        names = ", ".join(outside)
        raise ConfigError(f"logger={names}: profile does not keep its run; leave it out")
    check_new(config)
    check(config)
    return config, _trace_file(arguments.out)


def _trace_file(given: str | None) -> Path:
    """The path of the trace. Errors: ConfigError for a path that cannot be written."""
    if given is None:
        return PROFILE_FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}" / "trace.json"
    out = Path(given)
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise ConfigError(f"--out {out}: is not a file path")
    if is_taken(out):
        raise ConfigError(f"--out {out}: already exists; choose another file, or remove it")
    return out


def _print(found: Profile, console: Console) -> None:
    trainer, trace = found.config.trainer, found.trace
    threads = f", {counted(found.threads, 'thread')}" if found.on_cpu else ""
    tell(console, f"{found.device} ({found.engine}, {trainer.precision}{threads})")
    epochs, batches = counted(found.summary.epochs, "epoch"), counted(found.plan.batches, "batch")
    tell(
        console,
        f"{epochs} of {batches} of {found.plan.batch_size}, "
        f"data={found.config.data.name} model={found.config.model.name} optimizer={found.config.optimizer.name}",
    )
    tell(console, "")
    _table(console, "the whole run", found.whole, "times")
    _table(console, "an epoch", found.epoch, "times")
    _table(console, "a step", found.step, "times")
    if found.uncaptured:
        tell(console, "(of a step outside the CUDA graph, which hides the parts; it takes longer than in the graph)")
    in_run = found.step_in_run
    if in_run is not None:
        tell(console, f"In the run a step took {_ms(in_run)} ms. The profiler was off for these tables.")
    tell(console, "")
    _print_operations(trace.operations, trace.on_device, console)
    slower = f"{trace.times_slower:.2f} times" if trace.times_slower > 1 else "within noise"
    times = f"{_ms(trace.seconds)} ms, without it {_ms(trace.plain_seconds)} ms"
    tell(console, f"With the profiler a step takes {times} ({slower}).")
    steps = counted(trace.steps, "step")
    tell(console, f"trace  {display_path(trace.path)}")
    tell(console, f"       {steps} and an evaluation; open it in https://ui.perfetto.dev or chrome://tracing")


def _table(console: Console, head: str, parts: Sequence[Part], times: str) -> None:
    total = sum(part.seconds for part in parts)
    rows = [
        (
            WORDS.get(part.name, part.name),
            f"{1e3 * part.seconds:.3f}" if total < 1 else f"{1e3 * part.seconds:.1f}",
            f"{100 * part.seconds / max(total, 1e-12):.1f}",
            MISSING if part.count is None else f"{part.count:,.4g}" if part.count < 1000 else f"{part.count:,.0f}",
        )
        for part in parts
    ]
    whole = f"{1e3 * total:.3f}" if total < 1 else f"{1e3 * total:.1f}"
    tell_table(console, (head, "ms", "%", times), [*rows, ("total", whole, "100.0", "")], spare=(times,))
    tell(console, "")


def _print_operations(operations: Sequence[Operation], on_device: bool, console: Console) -> None:
    total, longest = sum(operation.seconds for operation in operations), 32 if console.width >= 80 else 20
    rows = [
        (
            operation.name if len(operation.name) <= longest else f"{operation.name[: longest - 1]}…",
            operation.meaning or "",
            f"{1e3 * operation.seconds:.3f}",
            f"{100 * operation.seconds / max(total, 1e-12):.1f}",
            f"{operation.calls:,.4g}" if operation.calls else MISSING,
        )
        for operation in operations
    ]
    head = "operation\non the device" if on_device else "operation"
    tell_table(
        console,
        (head, "what it does", "own ms\na step", "%", "calls\na step"),
        rows,
        left=("what it does",),
        spare=("what it does", "calls\na step"),
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}"


def _values(found: Profile) -> dict[str, Any]:
    """The JSON document."""
    trace, score = found.trace, found.summary.score
    return {
        "device": found.device,
        "engine": found.engine,
        "precision": found.config.trainer.precision,
        "threads": found.threads,
        "epochs": found.summary.epochs,
        "batches": found.plan.batches,
        "batch_size": found.plan.batch_size,
        "test_accuracy": None if score is None else score.accuracy,
        "run": _rows(found.whole),
        "epoch": _rows(found.epoch),
        "step": _rows(found.step),
        "step_seconds_in_run": found.step_in_run,
        "operations": [
            {"name": one.name, "meaning": one.meaning, "seconds": one.seconds, "calls": one.calls}
            for one in trace.operations
        ],
        "profiler": {"step_seconds": trace.seconds, "step_seconds_without": trace.plain_seconds},
        "trace": str(trace.path),
        "traced_steps": trace.steps,
    }


def _rows(parts: Sequence[Part]) -> dict[str, Any]:
    total = sum(part.seconds for part in parts)
    rows = [
        {"part": part.name, "seconds": part.seconds, "share": part.seconds / max(total, 1e-12), "count": part.count}
        for part in parts
    ]
    return {"total_seconds": total, "parts": rows}
