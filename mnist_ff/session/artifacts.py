"""Save weights, predictions and images of a run, so that plots and reports need neither data set nor network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save

from mnist_ff.config.schema import Config
from mnist_ff.data.augment.build import build_augment
from mnist_ff.data.load import Data, Split, as_input
from mnist_ff.files import write_bytes
from mnist_ff.runs.directory import AUGMENTED, HIDDEN, PREDICTIONS, Run
from mnist_ff.runs.predictions import VALIDATION_LABELS, VALIDATION_PROBABILITIES
from mnist_ff.runs.records import Score
from mnist_ff.training.checkpoint import save_weights
from mnist_ff.training.evaluation import Evaluation, evaluate
from mnist_ff.training.hidden import HiddenUnits, principal_axes
from mnist_ff.training.learner import Learner

WORST_MISTAKES = 25
"""Mistakes shown in the plot of the worst mistakes."""
MOST_MISTAKES = 800
"""Maximum number of mistakes whose images are saved: 0.6 MB. A network with an accuracy of 98 % makes 200."""
DOUBTFUL_PER_CLASS = 6
"""Correct predictions of each class whose images are saved: those with the lowest probability."""
MOST_PIXELS = 16 << 20
"""Maximum number of pixels in both together. A fifth is for the correct predictions."""
MAP_POINTS, MAP_IMAGES = 5_000, 1_000
"""Maximum number of test images on the map of the last hidden layer, and of those with saved pixels, each beside the
images of mistakes and doubtful predictions."""
MOST_MAP_PIXELS = 4 << 20
"""Maximum number of pixels of the images on the map."""
SMALLEST_SPREAD = 1e-30
"""Where all images are the same to the last hidden layer, no axis has a share of the variance."""
AUGMENTED_IMAGES = 10
"""Maximum number of classes of which one image is saved with augmented versions."""
AUGMENTED_PER_IMAGE = 9
"""Augmented versions of each of these images."""
MOST_AUGMENTED_PIXELS = 4 << 20
"""Maximum number of pixels of these images and their augmented versions."""
UINT8_CLASSES = 256
"""Number of classes up to which labels are saved as uint8."""


def keep(run: Run, learner: Learner) -> Score:
    """Save weights, predictions, hidden activations and augmented images. Returns the score on the test images."""
    data = learner.data
    hidden = HiddenUnits(len(data.test))
    final = evaluate(learner.model, data.test, hidden)
    save_weights(run.file("model.safetensors"), learner.model)
    shown = data.test.viewed(data.spec.shape)  # the network may take vectors
    held_out = None if data.validation is None else evaluate(learner.model, data.validation)
    kept = save_predictions(run.file(PREDICTIONS), final, shown, held_out)
    save_hidden(run.file(HIDDEN), hidden, kept, shown)
    if learner.augment is not None:
        save_augmented(run.file(AUGMENTED), learner.config, data)
    return final.score


def save_predictions(path: Path, final: Evaluation, split: Split, held_out: Evaluation | None = None) -> torch.Tensor:
    """Save all predictions and probabilities, and the images of mistakes. Returns the rows of the saved images.

    `worst_*` are the worst mistakes; `kept_*` are up to MOST_MISTAKES mistakes, then the least confident correct
    predictions. Images are uint8 of the data's shape. Of `held_out`, the validation images, probabilities and labels
    are saved.
    """
    room = max(WORST_MISTAKES, MOST_PIXELS // split.images[0].numel())
    wrong = torch.nonzero(final.predictions != final.labels)[:, 0]
    given = final.probabilities[wrong, final.labels[wrong]]
    worst = wrong[torch.argsort(given, stable=True)]
    doubtful = _doubtful(final, room // 5)
    kept = torch.cat([worst[_by_turns(final, worst)[: min(MOST_MISTAKES, room - room // 5)]], doubtful])
    worst = worst[:WORST_MISTAKES]
    kind = torch.uint8 if final.probabilities.shape[1] <= UINT8_CLASSES else torch.int16
    tensors = {
        "probabilities": final.probabilities,
        "answers": final.predictions.to(kind),
        "labels": final.labels.to(kind),
        "worst_rows": worst,
        "worst_images": _images(split, worst),
        "kept_rows": kept,
        "kept_images": _images(split, kept),
    }
    if held_out is not None:
        tensors |= {VALIDATION_PROBABILITIES: held_out.probabilities, VALIDATION_LABELS: held_out.labels.to(kind)}
    write_bytes(path, save(tensors))
    return kept


def save_hidden(path: Path, hidden: HiddenUnits, kept: torch.Tensor, split: Split) -> None:
    """Save statistics of the hidden layers, and test images projected on two principal axes of the last hidden layer.

    Nothing is saved for a model without hidden layers. `kept` are the rows of the images in predictions.safetensors.
    """
    tensors: dict[str, torch.Tensor] = {}
    for number, (name, layer) in enumerate(hidden.layers().items()):
        tensors |= {f"{number}/{name}/mean": layer.mean, f"{number}/{name}/active": layer.active}
    last = hidden.last_layer()
    if last is not None and last[1].shape[1] > 1 and len(last[1]) > 2:
        found = _map(*last, kept, split)
        tensors |= found if bool(found["map"].isfinite().all()) else {}
    if tensors:
        write_bytes(path, save(tensors))


def _map(rows: torch.Tensor, values: torch.Tensor, kept: torch.Tensor, split: Split) -> dict[str, torch.Tensor]:
    """Coordinates of about MAP_POINTS evenly spaced images and the kept ones, and pixels of some of them."""
    mean, axes = principal_axes(values)
    centred = values - mean
    along = (centred @ axes).square().sum(0) / centred.square().sum().clamp_min(SMALLEST_SPREAD)
    has_pixels = torch.isin(rows, kept.to(rows.device))
    chosen = has_pixels.clone()
    chosen[:: -(-len(rows) // MAP_POINTS)] = True
    room = max(1, min(MAP_IMAGES, MOST_MAP_PIXELS // split.images[0].numel()))
    others = rows[chosen & ~has_pixels].cpu()
    shown = others[:: max(1, -(-len(others) // room))].contiguous()
    return {
        "map": (centred[chosen] @ axes).cpu().contiguous(),
        "map_variance": along.clamp(0, 1).cpu(),
        "map_rows": rows[chosen].cpu(),
        "image_rows": shown,
        "images": _images(split, shown),
    }


def _images(split: Split, rows: torch.Tensor) -> torch.Tensor:
    """The images of these rows, (len(rows), *shape) uint8 on the CPU."""
    images = split.images[rows.to(split.images.device)].cpu()
    return images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)


def _by_turns(final: Evaluation, rows: torch.Tensor) -> torch.Tensor:
    """An order of `rows` that takes the first of each (label, prediction) pair, then the second of each, and so on."""
    pairs = (final.labels[rows] * final.probabilities.shape[1] + final.predictions[rows]).tolist()
    turns: Counter[int] = Counter()
    turn = []
    for pair in pairs:
        turn.append(turns[pair])
        turns[pair] += 1
    return torch.argsort(torch.tensor(turn, dtype=torch.int64), stable=True)


def _doubtful(final: Evaluation, room: int) -> torch.Tensor:
    """Rows of each class's correct predictions with the lowest probability, up to `room` of all classes together."""
    found = []
    for label in range(final.probabilities.shape[1]):
        right = torch.nonzero((final.labels == label) & (final.predictions == label))[:, 0]
        found.append(right[torch.argsort(final.probabilities[right, label], stable=True)[:DOUBTFUL_PER_CLASS]])
    rows = torch.cat(found)
    if len(rows) <= room:
        return rows
    return rows[torch.argsort(final.probabilities[rows, final.labels[rows]], stable=True)[:room]]


def save_augmented(path: Path, config: Config, data: Data) -> None:
    """Save one training image of each of the first classes with augmented versions, for a plot."""
    assert config.seed is not None
    cpu = torch.device("cpu")
    # not the run's own augmentation, whose random numbers belong to training
    augment = build_augment(config.augment, config.seed, cpu, data.spec.shape)
    assert augment is not None
    firsts = _first_of_each_class(data)
    images = as_input(data.train.images[firsts.to(data.train.images.device)].cpu())
    shown = torch.stack([images, *(augment(images) for _ in range(AUGMENTED_PER_IMAGE))], dim=1)
    pixels = (shown.clamp(0, 1) * 255).round().to(torch.uint8).view(len(firsts), -1, *data.spec.shape)
    write_bytes(path, save({"images": pixels}))


def _first_of_each_class(data: Data) -> torch.Tensor:
    """The row of the first training image of each class, for as many classes as are saved."""
    room = max(1, MOST_AUGMENTED_PIXELS // (data.spec.inputs * (1 + AUGMENTED_PER_IMAGE)))
    labels = data.train.labels.cpu()
    rows = (torch.nonzero(labels == label)[:1, 0] for label in range(len(data.spec.classes)))
    return torch.cat(list(rows))[: min(AUGMENTED_IMAGES, room)]
