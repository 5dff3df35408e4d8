"""Predictions and images that a run saves, so that plots and reports need neither data set nor network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save

from mnist_ff.config.schema import Config
from mnist_ff.data.augment.build import build_augment
from mnist_ff.data.load import Split, as_input
from mnist_ff.files import write_bytes
from mnist_ff.runs.directory import AUGMENTED, PREDICTIONS, Run
from mnist_ff.runs.records import CLASSES, SIDE, Score
from mnist_ff.training.checkpoint import save_weights
from mnist_ff.training.evaluation import Evaluation, evaluate
from mnist_ff.training.learner import Learner

WORST_MISTAKES = 25
"""Mistakes in the picture of mistakes."""
MOST_MISTAKES = 800
"""Mistakes whose images a run saves, 0.6 MB; a network with an accuracy of 98 % makes 200."""
DOUBTFUL_PER_CLASS = 6
"""Correct predictions of each class whose images a run saves: the least confident ones."""
AUGMENTED_PER_IMAGE = 9
"""Augmented versions of one image of each class."""


def keep(run: Run, learner: Learner) -> Score:
    """Save weights, predictions for the test images, and augmented images; return the score on the test images."""
    data = learner.data
    final = evaluate(learner.model, data.test)
    save_weights(run.file("model.safetensors"), learner.model)
    save_predictions(run.file(PREDICTIONS), final, data.test)
    if learner.augment is not None:
        save_augmented(run.file(AUGMENTED), learner.config, data.train)
    return final.score


def save_predictions(path: Path, final: Evaluation, split: Split) -> None:
    """Save every prediction and probability, and the images of mistakes, so that plots need no data set.

    `worst_*` are the worst mistakes; `kept_*` are up to MOST_MISTAKES of them, then the least confident correct ones.
    """
    wrong = torch.nonzero(final.predictions != final.labels)[:, 0]
    given = final.probabilities[wrong, final.labels[wrong]]
    worst = wrong[torch.argsort(given, stable=True)]
    kept = torch.cat([worst[_by_turns(final, worst)[:MOST_MISTAKES]], _doubtful(final)])
    worst = worst[:WORST_MISTAKES]
    tensors = {
        "probabilities": final.probabilities,
        "answers": final.predictions.to(torch.uint8),
        "labels": final.labels.to(torch.uint8),
        "worst_rows": worst,
        "worst_images": split.images[worst.to(split.images.device)].cpu(),
        "kept_rows": kept,
        "kept_images": split.images[kept.to(split.images.device)].cpu(),
    }
    write_bytes(path, save(tensors))


def _by_turns(final: Evaluation, rows: torch.Tensor) -> torch.Tensor:
    """The order of `rows` that takes one of each (label, prediction) pair, then a second one of each, and so on."""
    pairs = (final.labels[rows] * CLASSES + final.predictions[rows]).tolist()
    turns: Counter[int] = Counter()
    turn = []
    for pair in pairs:
        turn.append(turns[pair])
        turns[pair] += 1
    return torch.argsort(torch.tensor(turn, dtype=torch.int64), stable=True)


def _doubtful(final: Evaluation) -> torch.Tensor:
    """The rows of each class's correct predictions with the lowest probability."""
    found = []
    for label in range(CLASSES):
        right = torch.nonzero((final.labels == label) & (final.predictions == label))[:, 0]
        found.append(right[torch.argsort(final.probabilities[right, label], stable=True)[:DOUBTFUL_PER_CLASS]])
    return torch.cat(found)


def save_augmented(path: Path, config: Config, split: Split) -> None:
    """Save one training image of each class and augmented versions of it, for a plot."""
    assert config.seed is not None
    cpu = torch.device("cpu")
    augment = build_augment(
        config.augment, config.seed, cpu
    )  # not the run's own, whose random numbers belong to training
    assert augment is not None
    labels = split.labels.cpu()
    firsts = [found[0] for found in (torch.nonzero(labels == label)[:, 0] for label in range(CLASSES)) if len(found)]
    images = as_input(split.images[torch.stack(firsts).to(split.images.device)].cpu())
    shown = torch.stack([images, *(augment(images) for _ in range(AUGMENTED_PER_IMAGE))], dim=1)
    write_bytes(path, save({"images": (shown * 255).round().to(torch.uint8).view(len(firsts), -1, SIDE, SIDE)}))
