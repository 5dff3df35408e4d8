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

CPU_BATCH_SIZE = 1_000
"""Images per forward pass on a CPU. It is fixed, so that the same weights always give the same digits. The activations
fit the cache, which takes a third less time than 10,000 images. A CUDA device takes a whole split at once."""
MAX_CPU_PIXELS, MAX_CUDA_PIXELS = 8 << 20, 1 << 28
"""Maximum number of pixels per forward pass: large images come in smaller batches, to save memory."""


@dataclass(frozen=True)
class Evaluation:
    """A score and the predictions behind it, on the CPU."""

    score: Score
    probabilities: torch.Tensor
    """(N, K) float32, rows sum to 1."""
    predictions: torch.Tensor
    """(N,) int64: the class with the largest logit."""
    labels: torch.Tensor
    """(N,) int64."""


@dataclass(frozen=True)
class EpochScores:
    """A model's scores and metrics after an epoch."""

    parts: Mapping[str, Score] = field(default_factory=dict)
    """By split: 'validation' if there is one, else 'test'; also 'train' if trainer.score_train is set."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The chosen metrics on the validation or test images, by their column in epochs.csv."""


def score(model: nn.Module, split: Split, precision: torch.dtype = torch.float32) -> Score:
    """Loss and accuracy over a whole split, without dropout. The model's training mode is restored.

    precision: dtype of the built-in network's matrix products on a CPU. Other models decide themselves.
    """
    return _score(_logits(model, split, precision), split)


def evaluate(model: nn.Module, split: Split, hidden: HiddenUnits | None = None) -> Evaluation:
    """As score(), with probabilities and predictions. `hidden` collects the hidden layers' activations."""
    logits = _logits(model, split, hidden=hidden)
    probabilities, predictions = logits.softmax(1).cpu(), logits.argmax(1).cpu()
    return Evaluation(_score(logits, split), probabilities, predictions, split.labels.cpu())


def _logits(
    model: nn.Module, split: Split, precision: torch.dtype = torch.float32, hidden: HiddenUnits | None = None
) -> torch.Tensor:
    """(N, K) float32, dropout off."""
    numbers = split.images[0].numel()
    rows, most = (len(split), MAX_CUDA_PIXELS) if split.images.is_cuda else (CPU_BATCH_SIZE, MAX_CPU_PIXELS)
    batch_size = max(1, min(rows, most // numbers))
    found = []
    with _forward(model, split, min(batch_size, len(split)), precision, hidden) as forward:
        for start in range(0, len(split), batch_size):
            batch = split.images[start : start + batch_size]
            found.append(forward(batch))
            if hidden is not None:
                hidden.end_of_batch(len(batch))
    return torch.cat(found).float()


@contextmanager
def _forward(
    model: nn.Module, split: Split, batch_size: int, precision: torch.dtype, hidden: HiddenUnits | None
) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """A function from up to `batch_size` images to logits, without dropout. The training mode is restored after it."""
    if split.images.device.type == "cpu" and why_modified(model) is None:
        assert isinstance(model, MLP)
        yield partial(Inference(model, batch_size, precision), on_layer=hidden)
        return
    was_training = model.training
    model.train(False)
    try:
        # not inference_mode(): a user's module may keep tensors of its forward pass for training
        with torch.no_grad(), aside(model, split.labels.device), _hooked(model, hidden):
            yield lambda batch: model(as_input(batch))
    finally:
        model.train(was_training)


def _hooked(model: nn.Module, hidden: HiddenUnits | None) -> AbstractContextManager[object]:
    """Hook `hidden` into the model's layers. Not into a compiled model, which hooks would recompile."""
    compiled = any(type(module).__name__ == "OptimizedModule" for module in model.modules())
    return nullcontext() if hidden is None or compiled else watched(model, hidden)


def _score(logits: torch.Tensor, split: Split) -> Score:
    # float64 for an exact mean of 10,000 losses; over dimension 0 torch's CPU kernel takes a fourth of the time
    log_probs = torch.log_softmax(logits.double().t().contiguous(), 0)  # (K, N)
    loss = F.nll_loss(log_probs.t(), split.labels)
    correct = int((logits.argmax(1) == split.labels).sum())
    return Score(float(loss), correct / len(split), correct, len(split))
