"""Train: from a checked config to a run directory full of numbers and pictures."""

from __future__ import annotations

import logging
import logging.handlers
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mnist_ff.analysis.console import score_text, tell
from mnist_ff.analysis.rows import sweep_of
from mnist_ff.config.convert import experiment, flat
from mnist_ff.config.schema import Config
from mnist_ff.data.augment import build_augment
from mnist_ff.data.load import load_data
from mnist_ff.data.seeds import generator
from mnist_ff.engine import device as devices
from mnist_ff.engine.cuda_step import why_no_kernels
from mnist_ff.engine.steps import GraphSteps, build_steps, choose_engine
from mnist_ff.errors import BadRunError, DivergedError, RunError, printable
from mnist_ff.files import own_file, remove_leftovers
from mnist_ff.models.mlp import build_model, count_parameters
from mnist_ff.optim.schedule import moves
from mnist_ff.optim.weight_updates import Updates
from mnist_ff.runs.directory import AUGMENTED, REPORT, Run, shown
from mnist_ff.runs.records import Outcome, Plan, Position, Score, Status, StopReason, Summary
from mnist_ff.runs.signals import Interruption
from mnist_ff.session.artifacts import save_augmented, save_predictions
from mnist_ff.session.build import load_teacher, plan_of, scorer, shuffler, stopping_of, warn_of_fallback
from mnist_ff.session.drawing import draw, write_page
from mnist_ff.session.environment import environment, git_state
from mnist_ff.session.failures import failures_of_the_machine, status_of, write_failure
from mnist_ff.session.resume import earlier_changes, recipe
from mnist_ff.session.timing import Clock
from mnist_ff.trackers.base import Beginning, Ending, Tracking, end_all
from mnist_ff.trackers.identity import identify
from mnist_ff.trackers.registry import chosen_trackers
from mnist_ff.training.callbacks import Callback, Checkpoint, EpochLines, ProgressBar, Pruning, RunWriter
from mnist_ff.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    load_optimizer,
    save_checkpoint,
    save_weights,
    weight_shapes,
)
from mnist_ff.training.evaluation import evaluate
from mnist_ff.training.loop import Evaluate, fit

log = logging.getLogger("mnist_ff")


def train(
    config: Config,
    run: Run,
    argv: list[str],
    clock: Clock,
    console: Console,
    stopped: Interruption,
    changes: Mapping[str, Any] | None = None,
    pruning: Pruning | None = None,
) -> Summary:
    """Run a settled config in a directory made for it and return how it ended, which summary.json then holds too.

    `changes` are given when an earlier run in that directory is to go on: the keys that differ from its config.
    `pruning` is given when the run is a search's trial, which may end early.
    Errors: MnistError and bugs alike, after a summary with status diverged or failed.
    """
    assert config.seed is not None
    with run.locked(), _logging_to(run.file("train.log")):
        if changes is None:
            with failures_of_the_machine(run):
                run.write_config(config)
        training = None
        try:
            with failures_of_the_machine(run), devices.prepared(config.trainer, config.seed) as device:
                training = _Training(config, run, argv, clock, console, device, stopped, changes, pruning)
                with training.tracked():
                    return training.run_all()
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # Ctrl-C does not come as an exception here
            if changes is None or training is not None:  # a resume that cannot begin leaves the run as it was
                with suppress(OSError, RunError):  # a full disk must not hide the reason
                    write_failure(run, config, error, clock)
                if config.trainer.plots and isinstance(error, DivergedError):
                    write_page(run, log.warning)
            raise


class _Training:
    """One run from data to summary; it lives as long as the run's open files."""

    def __init__(
        self,
        config: Config,
        run: Run,
        argv: list[str],
        clock: Clock,
        console: Console,
        device: torch.device,
        stopped: Interruption,
        changes: Mapping[str, Any] | None,
        pruning: Pruning | None,
    ) -> None:
        assert config.seed is not None
        self.config, self.run, self.clock, self.console = config, run, clock, console
        self.device, self.seed, self.stopped, self.pruning = device, config.seed, stopped, pruning
        self.resumed = changes is not None
        saved = load_checkpoint(run, self._warn) if self.resumed else None
        if saved is not None:
            self._check_same_network(saved)
        with clock.part("data"):
            self.data = load_data(config.data, self.seed).to(device)
        with clock.part("build"):
            self.model = build_model(config.model, self.seed, device)
            self.augment = build_augment(config.augment, self.seed, device)
            self.updates = Updates(self.model, config.trainer)
            moving = moves(config.schedule)
            self.step, self.optimizer = build_steps(
                self.model,
                config.optimizer,
                config.trainer,
                self.data.train,
                device,
                moving_rate=moving,
                augment=self.augment,
                teacher=load_teacher(config, device),
                updates=self.updates,
            )
        self.engine = choose_engine(self.model, config.trainer, device, config.optimizer.name, moving)
        self.writer: RunWriter | None = None
        self.trackers: list[Tracking] = []
        self.stopping = stopping_of(config)
        self.best: dict[str, torch.Tensor] | None = None
        conditions = environment(config, self.data, device, self.engine, argv)
        if saved is None:
            self.position = Position()
            run.write_json("environment.json", {**conditions, "git": git_state(run), "history": []})
        else:
            self.position = self._restore(saved)
            self._check_same_teacher(conditions)
            self._begin_again(conditions, changes or {})
            if self.stopping is not None:
                self.stopping.resume(_monitored(run, config.trainer.monitor), config.trainer.epochs)

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Inside the block the chosen trackers hear of the run; at its end they hear how it ended."""
        with self.clock.part("import"):
            self.trackers = self._trackers()
        try:
            yield
        except BaseException as error:
            end_all(self.trackers, Ending(status_of(error), str(error)), self.stopped)
            raise
        end_all(self.trackers, self._ending(), self.stopped)

    def _trackers(self) -> list[Tracking]:
        chosen = chosen_trackers(self.config.logger)
        if not chosen:
            return []
        first_step = plan_of(self.config, self.data, self.position).first_step
        identity = identify(self.run, [tracker.title for tracker in chosen], first_step)
        if identity.copied is not None:
            self._say(f"a copy of {identity.copied}: to its trackers it is a run of its own from now on")
        beginning = Beginning(
            identity=identity.name,
            directory=self.run.path,
            name=self.config.name or self.run.path.name,
            sweep=sweep_of(self.run.path),
            config=flat(experiment(self.config)),
            tags=_conditions(self.run),
        )
        return [Tracking(tracker, beginning, self._warn, identity.since[tracker.title]) for tracker in chosen]

    def _ending(self) -> Ending:
        """What the run's own files say."""
        summary, model = self.run.summary(), self.run.file("model.safetensors")
        assert summary is not None
        pictures = sorted(self.run.file("plots").glob("*.png")) if self.config.trainer.plots else []
        return Ending(summary.status, summary.cause, summary.score, tuple(pictures), model)

    def run_all(self) -> Summary:
        """Train, score, write, draw, report."""
        warn_of_fallback(self.data, self.console)
        parameters = count_parameters(self.model)
        self._say(
            f"{self.data.title}: {len(self.data.train):,} images to train, {parameters:,} parameters, "
            f"on {self.device} ({self.engine}, {self.config.trainer.precision})"
        )
        for tracking in self.trackers:
            self._say(f"tracked by {tracking.where}")
        if self.config.logger.silenced:
            self._say("wandb is off: logger.wandb.mode=disabled, which WANDB_MODE sets too")
        if self.device.type == "cuda" and self.config.trainer.engine == "auto" and self.engine == "fused":
            self._say(f"no CUDA graph: optimizer={self.config.optimizer.name} cannot change its rate in one")
        if self.device.type == "cuda" and self.engine != "eager" and (reason := why_no_kernels()) is not None:
            self._say(f"no Triton kernels, torch's own instead, slower and with other masks for a seed: {reason}")
        outcome = self._fit()
        self._settle_weights(outcome)
        final = evaluate(self.model, self.data.test)
        save_weights(self.run.file("model.safetensors"), self.model)
        save_predictions(self.run.file("predictions.safetensors"), final, self.data.test)
        if self.augment is not None:
            save_augmented(self.run.file(AUGMENTED), self.config, self.data.train)
        self._secure_numbers()
        summary = self._summary(outcome, final.score)
        self.run.write_summary(summary)  # first: a signal leaves 5 s, and a kill none
        if self.config.trainer.plots and self.stopped() is None:
            summary = self._draw(outcome, final.score)
        self._report(summary)
        warn_of_fallback(self.data, self.console)
        return summary

    def _fit(self) -> Outcome:
        config = self.config
        plan = plan_of(config, self.data, self.position)
        evaluate_epoch = scorer(self.model, self.data, config.trainer.score_train, self.updates)
        self._warm_up(plan, evaluate_epoch)
        with ExitStack() as stack:
            stack.enter_context(self.clock.part("train"))
            if self.resumed and self._early() is not None:  # all was done but for the last files
                return Outcome(plan.first_step, (), 0.0, self._early())
            self.writer = stack.enter_context(RunWriter.opened(self.run, self.resumed))
            callbacks: list[Callback] = [
                self.writer,
                EpochLines(self._say),
                *([] if self.stopping is None else [self.stopping]),
                Checkpoint(self._save),
            ]
            if self.pruning is not None:
                callbacks.append(self.pruning)
            callbacks += self.trackers
            if self.console.is_terminal:
                callbacks.append(stack.enter_context(ProgressBar.shown(self.console)))
            shuffle = shuffler(config.trainer.shuffle, self.seed, self.data.train, self.device)
            return fit(self.step, evaluate_epoch, shuffle, plan, callbacks, self._reason_to_stop)

    def _warm_up(self, plan: Plan, evaluate_epoch: Evaluate) -> None:
        """Record CUDA graphs and have the device load its code: only now is a restored optimizer's state in place."""
        if isinstance(self.step, GraphSteps):
            with self.clock.part("build"):
                for chunk in plan.chunks():
                    rows = plan.rows(chunk)
                    self.step.prepare(rows.stop - rows.start)
                evaluate_epoch()

    def _reason_to_stop(self) -> StopReason | None:
        return self.stopped() or self._pruned() or self._early()

    def _early(self) -> StopReason | None:
        return None if self.stopping is None else self.stopping()

    def _settle_weights(self, outcome: Outcome) -> None:
        """Give the model the weights that the run keeps: the best epoch's, or the averages. Training is over."""
        if self.config.trainer.keep_best and self.best is not None:
            assert self.stopping is not None
            assert self.stopping.best_epoch is not None
            self.model.load_state_dict(self.best)
            self._say(f"kept: the weights after epoch {self.stopping.best_epoch + 1}, the best")
        elif self.updates.average is not None and outcome.steps:
            self.updates.average.put()

    def _pruned(self) -> StopReason | None:
        return None if self.pruning is None else self.pruning()

    def _say(self, text: str, style: str | None = None) -> None:
        """To the terminal and train.log. A terminal that is gone ends its part only."""
        log.info(printable(text))
        try:
            tell(self.console, text, style)
        except (OSError, SystemExit) as error:  # rich makes SystemExit of a broken pipe
            log.warning("nothing is printed any more (%s)", error)
            self.console = Console(quiet=True)

    def _warn(self, text: str) -> None:
        self._say(f"warning: {text}", style="yellow")

    def _save(self, position: Position) -> None:
        weights = self.model.state_dict()
        if not torch.stack([weight.isfinite().all() for weight in weights.values()]).all():
            raise DivergedError(
                f"a weight was no longer finite after epoch {position.epoch}, batch {len(position.batches)} "
                f"(lr {self._rate_before(position):g}); try a smaller optimizer.lr"
            )
        if self.config.trainer.keep_best and not position.batches:
            assert self.stopping is not None
            if self.stopping.best_epoch == position.epoch - 1:
                with self.updates.in_place():
                    self.best = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        rng = self.model.dropout.rng
        self._secure_numbers()  # before a checkpoint says that they are there
        state = TrainingState(
            position,
            weights,
            self.optimizer.state_dict(),
            None if rng is None else rng.get_state(),
            self.device.type,
            recipe(self.config),
            None if self.augment is None else self.augment.rng.get_state(),
            None if self.updates.average is None else self.updates.average.state(),
            self.best,
        )
        save_checkpoint(self.run, state)

    def _rate_before(self, position: Position) -> float:
        """The learning rate of the last step before a position."""
        plan = plan_of(self.config, self.data)
        return plan.rate(max(0, position.epoch * plan.batches + len(position.batches) - 1))

    def _check_same_network(self, saved: Mapping[str, Any]) -> None:
        """Before there is memory taken for a network. Errors: BadRunError where the config is another one's."""
        shapes = {name: tuple(weight.shape) for name, weight in saved["model"].items()}
        if saved["recipe"] != recipe(self.config) or shapes != weight_shapes(self.config.model):
            raise BadRunError(f"{self.run.file('config.yaml')}: is not the config that its checkpoint was trained with")

    def _secure_numbers(self) -> None:
        for wrong in [] if self.writer is None else self.writer.secure():
            self._warn(wrong)

    def _restore(self, saved: Mapping[str, Any]) -> Position:
        """Put a checkpoint's state into the parts and return where it stands; no file is touched yet."""
        plan = plan_of(self.config, self.data)
        try:
            if self.config.trainer.keep_best and saved["best"] is not None:
                self.model.load_state_dict(saved["best"])  # to see that it fits
                self.best = saved["best"]
            self.model.load_state_dict(saved["model"])
            load_optimizer(self.optimizer, saved["optimizer"], self.config.optimizer)
            position = plan.position(saved["epoch"], saved["batches"])
            if self.updates.average is not None:
                self.updates.average.load(saved["average"])
            self._restore_chance(saved, position.epoch * plan.batches + len(position.batches))
        except Exception as error:  # what does not fit fails in many ways
            first = (str(error).splitlines() or [""])[0]
            raise BadRunError(f"{self.run.path}: its checkpoint does not fit its config ({first})") from None
        return position

    def _restore_chance(self, saved: Mapping[str, Any], step: int) -> None:
        """The generators as they were, or others from the seed and the step where they were another device's."""
        rng = self.model.dropout.rng
        if saved["device"] != self.device.type:
            self._warn(f"the generators of {saved['device']} cannot go on on {self.device.type}: seeded anew")
            for name, own in (("dropout", rng), ("augment", None if self.augment is None else self.augment.rng)):
                if own is not None:  # the same objects: a step may hold them already
                    own.set_state(generator(self.seed, name, step, device=self.device).get_state())
            return
        if rng is not None and saved["dropout"] is not None:
            rng.set_state(saved["dropout"])
        if self.augment is not None:
            self.augment.rng.set_state(saved["augment"])

    def _check_same_teacher(self, conditions: Mapping[str, Any]) -> None:
        """Errors: BadRunError when the teacher is not the network that taught before."""
        before, now = self.run.environment().get("teacher"), conditions["teacher"]
        if isinstance(before, dict) and now is not None and before.get("sha256") != now["sha256"]:
            raise BadRunError(f"trainer.teacher={now['run']}: its weights are not those that taught this run so far")

    def _begin_again(self, conditions: dict[str, Any], changes: Mapping[str, Any]) -> None:
        """Cut the files to the checkpoint and record the resume in environment.json; config.yaml stays as it was."""
        before = self.run.environment()
        batches = plan_of(self.config, self.data).batches
        self.run.cut(self.position.epoch * batches + len(self.position.batches), self.position.epoch)
        remove_leftovers(self.run.path)
        at = {"epoch": self.position.epoch, "batch": len(self.position.batches), "changes": dict(changes)}
        earlier_changes(self.run)  # see that there is a history
        git = git_state(self.run, resumes=len(before["history"]) + 1)
        history = [*before["history"], {**at, **conditions, "git": git}]
        self.run.write_json("environment.json", {**before, "history": history})
        self.run.file("summary.json").unlink(missing_ok=True)  # its presence means that the run has ended

    def _draw(self, outcome: Outcome, score: Score) -> Summary:
        """Pictures, a summary that knows their seconds, and the page. A signal leaves the rest to mnist-ff report."""
        name = self.config.name
        title = self.data.title if name is None else f"{name}: {self.data.title}"
        draw(self.run, title, self._warn, self.stopped)
        summary = self._summary(outcome, score)
        try:
            self.run.write_summary(summary)
        except RunError as error:
            self._warn(f"{error}; its summary of before is kept")
        if self.stopped() is None:
            write_page(self.run, self._warn)
        return summary

    def _summary(self, outcome: Outcome, score: Score) -> Summary:
        stop = outcome.stopped or self.stopped()
        return Summary(
            status=Status.FINISHED if outcome.stopped is None else outcome.stopped.status,
            cause=None if stop is None else stop.text,
            score=score,
            epochs=self.position.epoch + len(outcome.epochs),
            steps=outcome.steps,
            parameters=count_parameters(self.model),
            seed=self.seed,
            name=self.config.name,
            data=self.data.name,
            data_instead_of=self.data.instead_of,
            seconds=self.clock.total(),
        )

    def _report(self, summary: Summary) -> None:
        assert summary.score is not None
        seconds, path = summary.seconds, shown(self.run.path)
        if summary.status is not Status.FINISHED or summary.stopped_early:
            self._say(f"{summary.status}: {summary.cause}, after {summary.steps:,} batches")
        self._say(f"score [loss, accuracy]  {score_text(summary.score)}")
        self._say(f"training {seconds['train']:.1f} s, in all {seconds['total']:.1f} s")
        self._say(f"run directory  {path}")
        if self.config.trainer.plots and self.stopped() is not None:
            self._say(f"pictures       mnist-ff report {shlex.quote(str(path))}")
        elif self.run.file(REPORT).is_file():
            self._say(f"open           {shlex.quote(str(path / REPORT))}")
        self._say(f"look at it     mnist-ff evaluate {shlex.quote(str(path))}")


def _monitored(run: Run, column: str) -> list[float]:
    """A column of epochs.csv. Errors: BadRunError when a row has none."""
    try:
        return [row[column] for row in run.epochs()]
    except (KeyError, ValueError):
        raise BadRunError(f"{run.file('epochs.csv')}: its rows have no {column}") from None


def _conditions(run: Run) -> dict[str, str]:
    """What trackers are told of a run beside its config, from its environment.json."""
    known = run.environment()
    keys = ("started", "device", "device_name", "engine")
    conditions = {"directory": run.path, "torch": torch.__version__, **{key: known.get(key) for key in keys}}
    git = known.get("git")
    if isinstance(git, dict):
        conditions |= {f"git_{key}": git.get(key) for key in ("sha", "dirty")}
    return {key: str(value) for key, value in conditions.items()}


class _LogFile(logging.handlers.WatchedFileHandler):
    """A log that is made again when something removed it, that follows no link, and that ends no run on a full disk."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open(self.baseFilename, "ab", opener=own_file), self.encoding, line_buffering=True)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say nothing: the run's own files are where a full disk is told."""


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; make room, or choose another place with hydra.run.dir=") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        with suppress(OSError):  # the last lines of a full disk
            handler.close()
        log.level, log.propagate = before
