"""The Learner owns the model, the optimizer and everything else that training changes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mnist_ff.config.paths import expanded
from mnist_ff.config.schema import Config
from mnist_ff.data.augment.build import build_augment
from mnist_ff.data.load import Data, Split
from mnist_ff.data.seeds import generator, row_order
from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.engine.chance import Chance, DrawingStep, own_generators
from mnist_ff.engine.step import Named, Step, never, products_dtype, unnamed
from mnist_ff.engine.waits import AdaptedStep, sleeping_team
from mnist_ff.errors import ConfigError
from mnist_ff.models.build import build_model, taken_spec
from mnist_ff.models.mlp import MLP
from mnist_ff.models.user_module import must_be_finite
from mnist_ff.optim.schedule import is_scheduled, learning_rates
from mnist_ff.optim.weight_updates import Updates
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import DataSpec, Outcome, Plan, Position, Score, StopReason
from mnist_ff.training.callbacks import Callback
from mnist_ff.training.checkpoint import load_optimizer
from mnist_ff.training.evaluation import EpochScores, score
from mnist_ff.training.loop import Listeners, Timed, fit, untimed
from mnist_ff.training.measure import Metrics
from mnist_ff.training.trained_model import load_model


class Learner:
    """A model with everything that trains it, built from a config.

    The train command, the Python API, the learning-rate range test and the benchmark all use this class.
    """

    def __init__(
        self,
        config: Config,
        data: Data,
        model: nn.Module | None = None,
        rates_given: bool = False,
        named: Named = unnamed,
    ) -> None:
        """Build everything on the device that holds `data`.

        config: its seed must be set. model: trained instead of the configured network. rates_given: the caller passes
        learning rates to the step, whatever the schedule. named: opened around each part of a batch step.
        Errors: ConfigError for an engine that the model or device does not support; BadRunError for a teacher that is
        not a finished run.
        """
        assert config.seed is not None, "resolve() picks one"
        batches = config.trainer.limit_batches
        if batches is not None:
            few = data.train.some(batches * config.trainer.batch_size, config.seed)
            data = dataclasses.replace(data, train=few)
        if model is None:  # otherwise the caller has already shaped the images
            data = data.viewed(taken_spec(config.model, data.spec).shape)
        self.config, self.data, self.seed = config, data, config.seed
        self.device = data.train.labels.device
        self.model = build_model(config.model, self.seed, self.device, data.spec) if model is None else model
        self.augment = build_augment(config.augment, self.seed, self.device, data.spec.shape)
        self.updates = Updates(self.model, config.trainer)
        self.metrics = Metrics(config)
        self.must_be_finite = must_be_finite(self.model)
        """Names of tensors in the model's state_dict in which NaN or infinity ends the run."""
        self.chance = Chance(self.seed, self.device, {} if isinstance(self.model, MLP) else own_generators(self.model))
        parts = self._step_parts(rates_given, named)
        with self.chance.drawn():
            step, self.optimizer = build_step(parts)
        self.step: Step = DrawingStep(step, self.chance)
        team = sleeping_team() if self.device.type == "cpu" else None
        if team is not None:
            self.step = AdaptedStep(self.step, team)

    def _step_parts(self, rates_given: bool, named: Named) -> StepParts:
        config = self.config
        return StepParts(
            self.model,
            config.optimizer,
            config.trainer,
            self.data.train,
            is_scheduled=rates_given or is_scheduled(config.schedule),
            augment=self.augment,
            teacher=_load_teacher(config, self.device, self.data.spec),
            updates=self.updates,
            shape=self.data.spec.shape,
            named=named,
        )

    def plan(self, start: Position = Position()) -> Plan:  # noqa: B008 (it is frozen)
        """The plan of training from this position to the last epoch, for fit()."""
        config, trainer, samples = self.config, self.config.trainer, len(self.data.train)
        steps = trainer.epochs * math.ceil(samples / trainer.batch_size)
        return Plan(
            epochs=trainer.epochs,
            samples=samples,
            batch_size=trainer.batch_size,
            sync_every=trainer.sync_every,
            learning_rate=config.optimizer.lr,
            checkpoint_every=trainer.checkpoint_every,
            start=start,
            evaluate_every=trainer.evaluate_every,
            checkpoint_epochs=trainer.checkpoint_epochs,
            schedule=learning_rates(config.schedule, config.optimizer.lr, steps)
            if is_scheduled(config.schedule)
            else None,
        )

    def prepare(self, plan: Plan) -> None:
        """Do the setup that would slow down the first epoch: capture CUDA graphs and load kernels on the device.

        Call it after load_state_dict(): a CUDA graph keeps the addresses of the optimizer's state.
        """
        for chunk in plan.chunks():
            rows = plan.rows(chunk)
            self.step.prepare(rows.stop - rows.start)
        if self.step.info.engine == "graph":
            self.evaluate()

    def fit(
        self,
        plan: Plan,
        callbacks: Sequence[Callback] = (),
        stopped: Callable[[], StopReason | None] = never,
        timed: Timed = untimed,
    ) -> Outcome:
        """Train as planned; see training.loop.fit()."""
        return fit(self.step, self._epoch_scores, self.row_order, plan, Listeners(callbacks, stopped, timed))

    def evaluate(self) -> Mapping[str, Score]:
        """Scores by split, as in EpochScores.parts. If weights are averaged, the averages are scored."""
        with self.updates.swapped_in():
            return self._scores()

    @property
    def _watched(self) -> tuple[str, Split]:
        """The split that is scored after each epoch, 'validation' or 'test', by name."""
        validation = self.data.validation
        return ("test", self.data.test) if validation is None else ("validation", validation)

    def _scores(self) -> dict[str, Score]:
        data, images = self.data, self.config.trainer.score_train
        parts = dict([self._watched])
        if images:
            parts["train"] = data.train.first(images)
        precision = products_dtype(self.config.trainer.precision)
        return {part: score(self.model, split, precision) for part, split in parts.items()}

    def _epoch_scores(self) -> EpochScores:
        """evaluate() with the chosen metrics, which are left out if a loss is not finite."""
        with self.updates.swapped_in():
            parts = self._scores()
            if not self.config.metrics or not all(math.isfinite(found.loss) for found in parts.values()):
                return EpochScores(parts)
            return EpochScores(parts, self.metrics(self.model, self._watched[1]))

    def row_order(self, epoch: int) -> torch.Tensor:
        """An epoch's order of the training images, (N,) int64 on the device: shuffled if trainer.shuffle is true."""
        if not self.config.trainer.shuffle:
            return torch.arange(len(self.data.train), device=self.device)
        return row_order(self.seed, epoch, len(self.data.train)).to(self.device)

    def use_averages(self) -> None:
        """Replace the weights by their averages, if there are any. For the end of training."""
        if self.updates.ema is not None:
            self.updates.ema.copy_to_model()

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """A copy of the model's state_dict, with averaged weights if there are any."""
        with self.updates.swapped_in():
            return {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes. Tensors are not copied."""
        ema, dropout, augment = self.updates.ema, self._dropout_rng, self._augment_rng
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "dropout": None if dropout is None else dropout.get_state(),
            "device": self.device.type,
            "augment": None if augment is None else augment.get_state(),
            "average": None if ema is None else ema.state(),
            "generators": self.chance.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Restore what state_dict() returned after `step` steps.

        Random generators of another device type are reseeded from the seed and the step.
        Errors: of many kinds, if the state belongs to another model or optimizer.
        """
        self.model.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"], self.config.optimizer)
        if self.updates.ema is not None:
            self.updates.ema.load(state["average"])
        same_device = state["device"] == self.device.type
        if not same_device or state["generators"] is None:  # None: an older checkpoint
            self.chance.reseed(self.seed, step)
        if state["generators"] is not None:
            self.chance.load_state_dict(state["generators"], same_device)
        for name, rng in (("dropout", self._dropout_rng), ("augment", self._augment_rng)):
            if rng is None:  # set_state() keeps the object: a step may hold it already
                continue
            if not same_device:
                rng.set_state(generator(self.seed, name, step, device=self.device).get_state())
            elif name == "augment" or state[name] is not None:
                rng.set_state(state[name])

    @property
    def _dropout_rng(self) -> torch.Generator | None:
        return self.model.dropout.rng if isinstance(self.model, MLP) else None

    @property
    def _augment_rng(self) -> torch.Generator | None:
        return None if self.augment is None else self.augment.rng


def _load_teacher(config: Config, device: torch.device, spec: DataSpec) -> nn.Module | None:
    """The network of the run trainer.teacher. Only the config and the weights in its directory are read.

    Errors: ConfigError if it takes other images or has another number of classes.
    """
    if config.trainer.teacher is None:
        return None
    run = Run.open(expanded("trainer.teacher", config.trainer.teacher))
    own = run.data_spec()
    if (own.inputs, len(own.classes)) != (spec.inputs, len(spec.classes)):
        raise ConfigError(
            f"trainer.teacher={config.trainer.teacher}: is for images of shape {own.shape} in {len(own.classes)} "
            f"classes, and data={config.data.name} has {spec.shape} in {len(spec.classes)}"
        )
    return load_model(run, run.config(), device)
