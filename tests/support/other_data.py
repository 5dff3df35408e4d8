"""Run directories of generated data of any shape and any classes, made in a moment: nothing is trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.config.schema import Config
from mnist_ff.data.load import Split
from mnist_ff.models.build import build_model
from mnist_ff.report.run_page import write_report
from mnist_ff.runs.directory import AUGMENTED, PREDICTIONS, Run
from mnist_ff.runs.records import DataSpec, Score, Status, Summary
from mnist_ff.runs.tables import BATCH_COLUMNS, EPOCH_COLUMNS
from mnist_ff.session.artifacts import save_predictions
from mnist_ff.training.checkpoint import save_weights
from mnist_ff.training.evaluation import Evaluation
from tests.support.configs import make_config

LETTERS = DataSpec((28, 28), tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
COLOURS = DataSpec((3, 32, 32), ("red", "green", "blue", "yellow", "<b>violet</b>"))


def generated(spec: DataSpec, count: int, seed: int = 0) -> Split:
    """Images of a shape with labels that run through the classes: a bright bar at each class's own place."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(spec.classes)
    flat = torch.zeros(count, spec.inputs, dtype=torch.uint8)
    width = max(1, spec.inputs // len(spec.classes))
    starts = labels * (spec.inputs - width) // max(1, len(spec.classes) - 1)
    flat.scatter_(1, starts[:, None] + torch.arange(width), 255)
    noise = torch.randint(0, 60, flat.shape, generator=rng, dtype=torch.uint8)
    inner = torch.ones(spec.shape, dtype=torch.bool)
    if len(spec.shape) > 1:
        inner[..., [0, -1], :] = inner[..., [0, -1]] = False  # the ground at the edges stays dark
    return Split((flat | noise).view(count, *spec.shape) * inner, labels, len(spec.classes))


def predictions_of(spec: DataSpec, labels: torch.Tensor, wrong_every: int = 7, seed: int = 0) -> Evaluation:
    """Predictions of which one in `wrong_every` is wrong, mostly as the class after the label."""
    rng = torch.Generator().manual_seed(seed)
    classes = len(spec.classes)
    rows = torch.arange(len(labels))
    logits = torch.randn(len(labels), classes, generator=rng)
    logits[rows, labels] += 12
    mistaken = rows[::wrong_every]
    logits[mistaken, (labels[mistaken] + 1 + (mistaken % 3 == 0) * (mistaken % 5)) % classes] += 14
    found = logits.argmax(1)
    correct = int((found == labels).sum())
    score = Score(0.5, correct / len(labels), correct, len(labels))
    return Evaluation(score, logits.softmax(1), found, labels)


def made_run(
    path: Path,
    spec: DataSpec,
    *,
    images: int = 400,
    augmented: bool = False,
    inverted: bool = False,
    config: Config | None = None,
    **model: Any,
) -> Run:
    """A finished run on this data with its report: random weights, made-up predictions and curves.

    `inverted` makes the images dark on light; `model` are keys of the MLP.
    """
    if config is None:
        words = ("data=mnist_5k", *(["augment=shift"] if augmented else []))
        values = config_to_dict(make_config(*words, "model.hidden=[12]"))
        values["model"] |= model
        config = config_from(values)
    path.mkdir(parents=True)
    run = Run(path)
    run.write_config(config)
    sections = {"data": {"name": config.data.name, "shape": list(spec.shape), "classes": list(spec.classes)}}
    run.file("environment.json").write_text(json.dumps({"device": "cpu", **sections}))
    network = build_model(config.model, 1, torch.device("cpu"), spec)
    save_weights(run.file("model.safetensors"), network)
    test = generated(spec, images)
    if inverted:
        test = dataclasses.replace(test, images=255 - test.images)
    final = predictions_of(spec, test.labels)
    save_predictions(run.file(PREDICTIONS), final, test)
    if augmented:
        rows = generated(spec, 40).images.view(8, 5, *spec.shape)
        save_file({"images": rows.contiguous()}, run.file(AUGMENTED))
    _write_curves(run)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    summary = Summary(Status.FINISHED, None, final.score, 2, 20, parameters, 0, None, config.data.name, None)
    run.write_summary(dataclasses.replace(summary, seconds={"total": 1.0}))
    write_report(run)
    return run


def _write_curves(run: Run) -> None:
    batches = [f"{step},{step // 10},{step % 10},{2 / (step + 1):.9g},0.001,64" for step in range(20)]
    epochs = [f"{epoch},0.5,0.8,0.4,0.85,0.45,0.84,,,1.0" for epoch in range(2)]
    for name, columns, rows in (("batches.csv", BATCH_COLUMNS, batches), ("epochs.csv", EPOCH_COLUMNS, epochs)):
        run.file(name).write_text("\n".join([",".join(columns), *rows, ""]))
