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
from mnist_ff.runs.directory import AUGMENTED, Run
from mnist_ff.runs.records import CLASSES, SIDE, Score
from mnist_ff.training.checkpoint import save_weights
from mnist_ff.training.evaluation import Evaluation, evaluate
from mnist_ff.training.learner import Learner

WORST = 25
"""Mistakes that are drawn as a picture."""
KEPT = 800
"""Mistakes whose images a run keeps, 0.6 MB; a network of 98 % makes 200."""
DOUBTFUL = 6
"""Right answers of each class whose images a run keeps: those it was least sure of."""
CHANGED = 9
"""Augmented images that a run keeps of each class."""


def keep(run: Run, learner: Learner) -> Score:
    """Save the weights, the predictions for the test images, and augmented images; return the score on the former."""
    data = learner.data
    final = evaluate(learner.model, data.test)
    save_weights(run.file("model.safetensors"), learner.model)
    save_predictions(run.file("predictions.safetensors"), final, data.test)
    if learner.augment is not None:
        save_augmented(run.file(AUGMENTED), learner.config, data.train)
    return final.score


def save_predictions(path: Path, final: Evaluation, split: Split) -> None:
    """Keep every answer and probability, and the images of mistakes, so that pictures need no data set.

    `worst_*` are the worst mistakes; `kept_*` all that there is room for, then some right answers.
    """
    wrong = torch.nonzero(final.predictions != final.labels)[:, 0]
    given = final.probabilities[wrong, final.labels[wrong]]
    worst = wrong[torch.argsort(given, stable=True)]
    kept = torch.cat([worst[_by_turns(final, worst)[:KEPT]], _doubtful(final)])
    worst = worst[:WORST]
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
    """The order of `rows` in which each pair of label and answer has its first one, then its second one, and so on."""
    pairs = (final.labels[rows] * CLASSES + final.predictions[rows]).tolist()
    turns: Counter[int] = Counter()
    turn = []
    for pair in pairs:
        turn.append(turns[pair])
        turns[pair] += 1
    return torch.argsort(torch.tensor(turn, dtype=torch.int64), stable=True)


def _doubtful(final: Evaluation) -> torch.Tensor:
    """The rows of each class's right answers with the least probability."""
    found = []
    for label in range(CLASSES):
        right = torch.nonzero((final.labels == label) & (final.predictions == label))[:, 0]
        found.append(right[torch.argsort(final.probabilities[right, label], stable=True)[:DOUBTFUL]])
    return torch.cat(found)


def save_augmented(path: Path, config: Config, split: Split) -> None:
    """Keep some training images, one of each class where there are, and changed ones of them, for a picture."""
    assert config.seed is not None
    cpu = torch.device("cpu")
    augment = build_augment(config.augment, config.seed, cpu)  # not the run's own: its chance is the training's
    assert augment is not None
    labels = split.labels.cpu()
    firsts = [found[0] for found in (torch.nonzero(labels == label)[:, 0] for label in range(CLASSES)) if len(found)]
    images = as_input(split.images[torch.stack(firsts).to(split.images.device)].cpu())
    shown = torch.stack([images, *(augment(images) for _ in range(CHANGED))], dim=1)
    write_bytes(path, save({"images": (shown * 255).round().to(torch.uint8).view(len(firsts), -1, SIDE, SIDE)}))
