"""Steps of both engines over the same rows, and a CUDA graph that is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mnist_ff.config.schema import Config
from mnist_ff.data.load import Data, Split
from mnist_ff.engine.step import Step
from mnist_ff.models.mlp import MLP
from mnist_ff.training.learner import Learner
from tests.support.configs import make_config

CPU = torch.device("cpu")


def built(engine: str, split: Split, *overrides: str) -> tuple[Step, MLP, Config]:
    config = make_config("trainer.batch_size=64", "model.hidden=[32,16]", *overrides, f"trainer.engine={engine}")
    learner = Learner(config, Data("random", split, split))
    assert isinstance(learner.model, MLP)
    return learner.step, learner.model, config


def both(split: Split, *overrides: str, epochs: int = 2) -> list[tuple[torch.Tensor, MLP]]:
    """Figures and model of the eager and of the fused step over the same rows."""
    rows = torch.cat([torch.randperm(len(split), generator=torch.Generator().manual_seed(e)) for e in range(epochs)])
    results = []
    for engine in ("eager", "fused"):
        step, model, _ = built(engine, split, *overrides)
        results.append((torch.cat([step(part) for part in torch.split(rows, len(split))]), model))
    return results


def assert_close(results: list[tuple[torch.Tensor, MLP]], tolerance: float) -> None:
    (eager, plain), (fused, fast) = results
    assert len(eager) == len(fused)
    assert (eager[:, 0] - fused[:, 0]).abs().max() <= tolerance
    assert (eager[:, 1] - fused[:, 1]).abs().max() <= 1  # an argmax may tie
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], value, atol=tolerance, rtol=1e-3)
    assert eager[-1, 0] < eager[0, 0], "something must have been learnt"


def fake_capture(calls: list[str]) -> Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]:
    """A graph that is none: capture runs nothing, replay runs the function."""

    def capture(one: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        calls.append("capture")

        def replay() -> None:
            calls.append("replay")
            one()

        return replay

    return capture
