"""Evaluate a model on a split, without dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from mnist_ff.data.load import Split, as_input
from mnist_ff.engine.chance import aside
from mnist_ff.engine.inference import Inference
from mnist_ff.models.mlp import MLP
from mnist_ff.models.unmodified import why_modified
from mnist_ff.runs.records import Score
from mnist_ff.training.hidden import HiddenUnits, watched

ROWS_AT_ONCE = 1_000
"""Images in one forward pass on a CPU: always as many, so that the same weights give the same digits; few enough for
its cache, which takes a third off the time of 10,000 at once. A CUDA device takes a whole split."""
CPU_NUMBERS, CUDA_NUMBERS = 8 << 20, 1 << 28
"""Pixels in one forward pass, at most: fewer images where they are large, or a network would need too much memory."""


@dataclass(frozen=True)
class Evaluation:
    """A score with the probabilities behind it, on the CPU."""

    score: Score
    probabilities: torch.Tensor
    """(N, K) float32, rows sum to 1."""
    predictions: torch.Tensor
    """(N,) int64: the class with the largest logit."""
    labels: torch.Tensor
    """(N,) int64."""


@dataclass(frozen=True)
class EpochScores:
    """What is measured of a model after an epoch."""

    parts: Mapping[str, Score] = field(default_factory=dict)
    """By part: 'validation' where there is a split, else 'test'; 'train' where training images are scored too."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The chosen metrics of the first of them, by column of epochs.csv."""


def score(model: nn.Module, split: Split, precision: torch.dtype = torch.float32) -> Score:
    """Loss and accuracy over a whole split. Leaves the model in training mode as it was.

    precision: of the built-in network's products on a CPU; that of any other model's is its own.
    """
    return _score(_logits(model, split, precision), split)


def evaluate(model: nn.Module, split: Split, hidden: HiddenUnits | None = None) -> Evaluation:
    """score() with the probabilities and predictions behind it; `hidden` listens to the hidden layers."""
    logits = _logits(model, split, hidden=hidden)
    probabilities, predictions = logits.softmax(1).cpu(), logits.argmax(1).cpu()
    return Evaluation(_score(logits, split), probabilities, predictions, split.labels.cpu())


def _logits(
    model: nn.Module, split: Split, precision: torch.dtype = torch.float32, hidden: HiddenUnits | None = None
) -> torch.Tensor:
    """(N, K) float32, dropout off."""
    numbers = split.images[0].numel()
    rows, most = (len(split), CUDA_NUMBERS) if split.images.is_cuda else (ROWS_AT_ONCE, CPU_NUMBERS)
    at_once = max(1, min(rows, most // numbers))
    found = []
    with _forward(model, split, min(at_once, len(split)), precision, hidden) as forward:
        for start in range(0, len(split), at_once):
            block = split.images[start : start + at_once]
            found.append(forward(block))
            if hidden is not None:
                hidden.end_of_block(len(block))
    return torch.cat(found).float()


@contextmanager
def _forward(
    model: nn.Module, split: Split, at_once: int, precision: torch.dtype, hidden: HiddenUnits | None
) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """A function from up to `at_once` images to their logits, dropout off. The model's mode is then as it was."""
    if split.images.device.type == "cpu" and why_modified(model) is None:
        assert isinstance(model, MLP)
        yield partial(Inference(model, at_once, precision), see=hidden)
        return
    was_training = model.training
    model.train(False)
    try:
        # inference mode would spoil what a foreign module keeps of its forward pass for training
        with torch.no_grad(), aside(model, split.labels.device), _listening(model, hidden):
            yield lambda block: model(as_input(block))
    finally:
        model.train(was_training)


def _listening(model: nn.Module, hidden: HiddenUnits | None) -> AbstractContextManager[object]:
    """Let `hidden` hear any model's layers; not a compiled one's, which hooks would compile again."""
    compiled = any(type(module).__name__ == "OptimizedModule" for module in model.modules())
    return nullcontext() if hidden is None or compiled else watched(model, hidden)


def _score(logits: torch.Tensor, split: Split) -> Score:
    # float64: the mean of 10,000 to the last digit. By class, torch's kernel takes a fourth of the time on a CPU
    log_probs = torch.log_softmax(logits.double().t().contiguous(), 0)  # (K, N)
    loss = F.nll_loss(log_probs.t(), split.labels)
    correct = int((logits.argmax(1) == split.labels).sum())
    return Score(float(loss), correct / len(split), correct, len(split))
