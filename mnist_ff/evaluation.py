"""Score a model on a split, dropout off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mnist_ff.data.load import Split, as_input
from mnist_ff.records import Score

ROWS_AT_ONCE = 1_000
"""Images in one forward pass on a CPU: always as many, so that the same weights give the same digits; few enough for
its cache, which takes a third off the time of 10,000 at once. A CUDA device takes a whole split."""


@dataclass(frozen=True)
class Evaluation:
    """A score with the probabilities behind it, on the CPU."""

    score: Score
    probabilities: torch.Tensor
    """(N, 10) float32, rows sum to 1."""
    answers: torch.Tensor
    """(N,) int64: the class with the largest logit."""
    labels: torch.Tensor
    """(N,) int64."""


def evaluate(model: nn.Module, split: Split) -> Evaluation:
    """Loss, accuracy and probabilities over a whole split. Leaves the model in training mode as it was."""
    was_training = model.training
    at_once = len(split) if split.images.is_cuda else ROWS_AT_ONCE
    model.train(False)
    try:
        with torch.inference_mode():
            parts = [model(as_input(split.images[start : start + at_once])) for start in range(0, len(split), at_once)]
            logits = torch.cat(parts).float()
            loss = F.cross_entropy(logits.double(), split.labels)  # float64: the mean of 10,000 to the last digit
            answers = logits.argmax(1)
            correct = int((answers == split.labels).sum())
            probabilities = logits.softmax(1)
    finally:
        model.train(was_training)
    score = Score(float(loss), correct / len(split), correct, len(split))
    return Evaluation(score, probabilities.cpu(), answers.cpu(), split.labels.cpu())
