"""Keep the random numbers of training apart from all others that use torch's global generators.

A user's model may use nn.Dropout or torch.rand, and an optimizer may add noise. Both draw from torch's global
generators, whose states belong to training. They are set before a chunk of batches and saved after it, so that random
numbers of an evaluation, a metric or a callback do not change training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mnist_ff.data.seeds import generator
from mnist_ff.engine.step import Step, StepAround, never
from mnist_ff.models.user_module import buffers_kept

CPU, DEVICE = "cpu", "device"


def own_generators(model: nn.Module) -> dict[str, torch.Generator]:
    """The generators that are attributes of a model's modules, each once, by names such as `block.0.rng`."""
    found: dict[str, torch.Generator] = {}
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Generator) and not any(value is known for known in found.values()):
                found[f"{path}.{attribute}".lstrip(".")] = value
    return found


class Chance:
    """The random state of training: torch's global generators of CPU and training device, and a model's own ones."""

    def __init__(self, seed: int, device: torch.device, own: Mapping[str, torch.Generator]) -> None:
        self._device, self._own = device, own
        self._states: dict[str, torch.Tensor] = {}
        self._seed(seed)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Inside the block torch's global generators have the states that they had at the end of the last block."""
        outside = self._now()
        self._put(self._states)
        try:
            yield
        finally:
            self._states = self._now()
            self._put(outside)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The generators' states by name."""
        return {**self._states, **{f"model.{name}": rng.get_state() for name, rng in self._own.items()}}

    def load_state_dict(self, states: Mapping[str, torch.Tensor], same_device: bool) -> None:
        """Restore state_dict(); on another device type only the CPU's state. Errors: KeyError, RuntimeError."""
        torch.Generator().set_state(states[CPU])  # check that it is valid
        self._states[CPU] = states[CPU].clone()
        if not same_device:
            return
        if DEVICE in self._states:
            torch.Generator(self._device).set_state(states[DEVICE])
            self._states[DEVICE] = states[DEVICE].clone()
        for name, rng in self._own.items():
            rng.set_state(states[f"model.{name}"])

    def reseed(self, seed: int, step: int) -> None:
        """New states for a run that is resumed after `step` steps without its saved states."""
        self._seed(seed, step)
        for name, rng in self._own.items():
            rng.set_state(generator(seed, name, step, device=rng.device).get_state())

    def _seed(self, seed: int, step: int | None = None) -> None:
        number = seed if step is None else generator(seed, "torch", step).initial_seed()
        self._states = {CPU: torch.Generator().manual_seed(number).get_state()}
        if self._device.type != "cpu":
            self._states[DEVICE] = torch.Generator(self._device).manual_seed(number).get_state()

    def _now(self) -> dict[str, torch.Tensor]:
        states = {CPU: torch.get_rng_state()}
        if self._device.type != "cpu":
            states[DEVICE] = self._module().get_rng_state(*self._place())
        return states

    def _put(self, states: Mapping[str, torch.Tensor]) -> None:
        torch.set_rng_state(states[CPU])
        if DEVICE in states:
            self._module().set_rng_state(states[DEVICE], *self._place())

    def _module(self) -> Any:
        return torch.get_device_module(self._device)

    def _place(self) -> tuple[torch.device, ...]:
        return (self._device,) if self._device.type == "cuda" else ()  # MPS has only one device


@contextmanager
def aside(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside the block torch's generators start from a fixed seed, so that evaluating the same weights is repeatable.

    After the block they, the model's own generators and its buffers are as before.
    """
    own = [(rng, rng.get_state()) for rng in own_generators(model).values()]
    try:
        with Chance(0, device, {}).drawn(), buffers_kept(model):
            yield
    finally:
        for rng, state in own:
            rng.set_state(state)


class DrawingStep(StepAround):
    """A step that runs with the random state of training."""

    def __init__(self, step: Step, chance: Chance) -> None:
        super().__init__(step)
        self._chance = chance

    def prepare(self, images: int) -> None:
        """See Step."""
        with self._chance.drawn():
            super().prepare(images)

    def __call__(
        self, rows: torch.Tensor, stopped: Callable[[], object] = never, rates: Sequence[float] = ()
    ) -> torch.Tensor:
        with self._chance.drawn():
            return super().__call__(rows, stopped, rates)
