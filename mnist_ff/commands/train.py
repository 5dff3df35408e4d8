"""Train: from a checked config to a run directory full of numbers and pictures."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from mnist_ff import device as devices
from mnist_ff.callbacks import Callback, Checkpoint, EpochLines, ProgressBar, RunWriter
from mnist_ff.checkpoint import save_checkpoint, save_weights
from mnist_ff.commands.check import check
from mnist_ff.commands.environment import environment
from mnist_ff.config import Config
from mnist_ff.data.load import Data, Split, ensure, load_data
from mnist_ff.engine import build_steps
from mnist_ff.errors import DivergedError, MnistError
from mnist_ff.evaluation import Evaluation, evaluate
from mnist_ff.files import replacing
from mnist_ff.interrupts import interruptible
from mnist_ff.model import MLP, build_model, count_parameters
from mnist_ff.optimizer import build_optimizer
from mnist_ff.records import Outcome, Plan, Score, Summary
from mnist_ff.runs import Run
from mnist_ff.seeds import row_order
from mnist_ff.tables import score_text
from mnist_ff.training import Shuffle, fit

log = logging.getLogger("mnist_ff")

WORST = 25
"""Mistakes whose images a run keeps."""

Say = Callable[[str], None]


@dataclasses.dataclass
class Clock:
    """Where a run's seconds went. `began` and the results of time.perf_counter() share an origin."""

    began: float
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's seconds to those under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self.seconds[name] = round(spent, 4)

    def total(self) -> dict[str, float]:
        """All parts, and the seconds since `began`."""
        return {**self.seconds, "total": round(time.perf_counter() - self.began, 4)}


def settle(config: Config) -> Config:
    """Decide what a config leaves open: the data set that can be had, and a seed for null.

    Errors: DataError when no data can be had; ConfigError when the fallback is too small for the config.
    """
    settled = dataclasses.replace(config, data=ensure(config.data))
    check(settled)
    if settled.seed is None:
        settled = dataclasses.replace(settled, seed=secrets.randbelow(2**32))
    return settled


def train(config: Config, run: Run, argv: list[str], clock: Clock, console: Console) -> Summary:
    """Run a settled config in a directory made for it and return how it ended, which summary.json then holds too.

    Errors: MnistError and bugs alike, after a summary with status diverged or failed.
    """
    run.write_config(config)
    with _logging_to(run.file("train.log")):

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            log.info(text)

        try:
            return _train(config, run, argv, clock, console, say)
        except Exception as error:
            _write_failure(run, config, error, clock)
            raise


def _train(config: Config, run: Run, argv: list[str], clock: Clock, console: Console, say: Say) -> Summary:
    assert config.seed is not None
    device = devices.prepare(config.trainer)
    torch.manual_seed(config.seed)
    with clock.part("data"):
        data = load_data(config.data, config.seed).to(device)
    run.write_json("environment.json", environment(config, data, device, argv))
    with clock.part("build"):
        model = build_model(config.model, config.seed, device)
        optimizer = build_optimizer(config.optimizer, model.parameters())
        step = build_steps(model, optimizer, data.train, config.trainer.batch_size)
    warn_of_fallback(data, console)
    say(f"{data.title}: {len(data.train):,} images to train, {count_parameters(model):,} parameters, on {device}")
    plan = plan_of(config, data)

    with ExitStack() as stack:
        callbacks: list[Callback] = [stack.enter_context(RunWriter.opened(run)), EpochLines(say)]
        callbacks.append(Checkpoint(_saver(run, model, optimizer)))
        if console.is_terminal:
            callbacks.append(stack.enter_context(ProgressBar.shown(console)))
        stopped = stack.enter_context(interruptible())
        shuffle = shuffler(config.trainer.shuffle, config.seed, data.train, device)
        with clock.part("train"):
            outcome = fit(step, scorer(model, data), shuffle, plan, callbacks, stopped)
        final = evaluate(model, data.test)
        save_weights(run.file("model.safetensors"), model)
        save_predictions(run.file("predictions.safetensors"), final, data.test)
        if config.trainer.plots:
            _draw(run, data, config, console)
        summary = _summary(config, data, outcome, final.score, model, clock)
        run.write_summary(summary)
    _report(summary, run, say)
    warn_of_fallback(data, console)
    return summary


def plan_of(config: Config, data: Data) -> Plan:
    """The loop's plan for this config and data."""
    trainer = config.trainer
    return Plan(
        epochs=trainer.epochs,
        samples=len(data.train),
        batch_size=trainer.batch_size,
        sync_every=trainer.sync_every,
        learning_rate=config.optimizer.lr,
    )


def scorer(model: nn.Module, data: Data) -> Callable[[], Mapping[str, Score]]:
    """What fit() asks after each epoch: the validation split's score where there is one, else the test images'."""
    part, split = ("test", data.test) if data.validation is None else ("validation", data.validation)
    return lambda: {part: evaluate(model, split).score}


def shuffler(shuffled: bool, seed: int, split: Split, device: torch.device) -> Shuffle:
    """Row order by epoch, on the device: a new permutation each, or always ascending."""
    if not shuffled:
        ascending = torch.arange(len(split), device=device)
        return lambda epoch: ascending
    return lambda epoch: row_order(seed, epoch, len(split)).to(device)


def save_predictions(path: Path, final: Evaluation, split: Split) -> None:
    """Keep every answer and probability, and the images of the worst mistakes, so that pictures need no data set."""
    wrong = torch.nonzero(final.answers != final.labels)[:, 0]
    given = final.probabilities[wrong, final.labels[wrong]]
    worst = wrong[torch.argsort(given, stable=True)[:WORST]]
    tensors = {
        "probabilities": final.probabilities,
        "answers": final.answers.to(torch.uint8),
        "labels": final.labels.to(torch.uint8),
        "worst_rows": worst,
        "worst_images": split.images[worst.to(split.images.device)].cpu(),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def warn_of_fallback(data: Data, console: Console) -> None:
    """Say in bold that another data set stands in for the one that was asked for."""
    if data.instead_of is not None:
        text = (
            f"WARNING: {data.instead_of} could not be had; this is {data.name}, {data.title}: "
            f"{len(data.train):,} images to train, {len(data.test):,} to test. Its scores are not MNIST's."
        )
        console.print(text, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
        log.warning(text)


def _saver(run: Run, model: MLP, optimizer: Optimizer) -> Callable[[int, int], None]:
    def save(epoch: int, batch: int) -> None:
        rng = model.dropout.rng
        state = {
            "epoch": epoch,
            "batch": batch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "dropout": None if rng is None else rng.get_state(),
        }
        save_checkpoint(run.file("checkpoint.pt"), state)

    return save


def _draw(run: Run, data: Data, config: Config, console: Console) -> None:
    """A picture that fails is a warning, never a lost run."""
    try:
        from mnist_ff.plots import draw_run

        title = data.title if config.name is None else f"{config.name}: {data.title}"
        draw_run(run, title)
    except Exception as error:
        log.warning("no plots:\n%s", traceback.format_exc())
        console.print(f"warning: no plots ({error})", style="yellow", markup=False, soft_wrap=True)


def _summary(config: Config, data: Data, outcome: Outcome, score: Score, model: nn.Module, clock: Clock) -> Summary:
    assert config.seed is not None
    return Summary(
        status="finished" if outcome.stopped is None else "interrupted",
        cause=outcome.stopped,
        score=score,
        epochs=len(outcome.epochs),
        steps=outcome.steps,
        parameters=count_parameters(model),
        seed=config.seed,
        name=config.name,
        data=data.name,
        data_instead_of=data.instead_of,
        seconds=clock.total(),
    )


def _write_failure(run: Run, config: Config, error: Exception, clock: Clock) -> None:
    assert config.seed is not None
    bug = not isinstance(error, MnistError)
    if bug:
        log.error("failed:\n%s", traceback.format_exc())
    run.write_summary(
        Summary(
            status="diverged" if isinstance(error, DivergedError) else "failed",
            cause="".join(traceback.format_exception(error)) if bug else str(error),
            score=None,
            epochs=len(_rows_written(run, "epochs.csv")),
            steps=len(_rows_written(run, "batches.csv")),
            parameters=0,
            seed=config.seed,
            name=config.name,
            data=config.data.name,
            data_instead_of=getattr(config.data, "instead_of", None),
            seconds=clock.total(),
        )
    )


def _rows_written(run: Run, name: str) -> Sequence[str]:
    path = run.file(name)
    return path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []


def _report(summary: Summary, run: Run, say: Say) -> None:
    assert summary.score is not None
    seconds = summary.seconds
    if summary.status != "finished":
        say(f"{summary.status}: {summary.cause}, after {summary.steps:,} batches")
    say(f"score [loss, accuracy]  {score_text(summary.score)}")
    say(f"training {seconds['train']:.1f} s, in all {seconds['total']:.1f} s")
    say(f"run directory  {run.path}")
    say(f"look at it     mnist-ff evaluate {run.path}")


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
        log.level, log.propagate = before
