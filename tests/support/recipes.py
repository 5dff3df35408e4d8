"""What tests of training recipes share."""

from __future__ import annotations

from dataclasses import replace

import torch

from mnist_ff.data.load import Split
from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import MLP
from mnist_ff.optim.weight_updates import Updates
from tests.support.configs import make_config
from tests.support.steps import CPU

BASE = ("model.hidden=[32,16]", "trainer.batch_size=64")


def trained(engine: str, split: Split, *words: str, epochs: int = 3) -> tuple[torch.Tensor, MLP, Updates]:
    """Figures, model and averages after some epochs; a config with a teacher gets a small one of fixed weights."""
    config = make_config(*BASE, *words)
    model = build_model(config.model, 0, CPU)
    teacher = None
    if config.trainer.teacher is not None:
        teacher = build_model(replace(config.model, hidden=(24,), dropout=0.0), 7, CPU)
    updates = Updates(model, config.trainer)
    trainer = replace(config.trainer, engine=engine)
    step, _ = build_step(StepParts(model, config.optimizer, trainer, split, teacher=teacher, updates=updates))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(3))
    return torch.cat([step(order) for _ in range(epochs)]), model, updates


SPLIT = ["data.validation_split=0.2", "trainer.threads=1"]
