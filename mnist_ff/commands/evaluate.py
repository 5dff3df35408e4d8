"""Evaluate a run again, from its directory alone."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import torch
from rich.console import Console

from mnist_ff.checkpoint import load_weights
from mnist_ff.config import (
    VARIANTS,
    Config,
    DataConfig,
    DownloadConfig,
    MNIST5kConfig,
    MNISTConfig,
    QMNISTConfig,
)
from mnist_ff.data.load import Data, load_data
from mnist_ff.device import prepare
from mnist_ff.evaluation import Evaluation, evaluate
from mnist_ff.model import build_model
from mnist_ff.runs import Run
from mnist_ff.tables import accuracy_text, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--data", choices=list(VARIANTS[DataConfig]), help="another data set (default: the run's own)")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="which images (default: test)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Print loss, accuracy and a row a class; write evaluation.json into the run directory."""
    run = Run.open(arguments.run)
    config = run.config()
    data_config = config.data if arguments.data in (None, config.data.name) else _other(config.data, arguments.data)
    config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, device=arguments.device))
    data, evaluation = _evaluate(run, config, data_config, arguments.split)
    values = _values(data, arguments.split, evaluation)
    run.write_json("evaluation.json", values)
    console.print(
        f"{run.path} on {data.title}, {arguments.split} images", markup=False, highlight=False, soft_wrap=True
    )
    console.print(f"loss      {evaluation.score.loss:.6f}", highlight=False)
    console.print(f"accuracy  {accuracy_text(evaluation.score)}", highlight=False)
    rows = [
        (row["class"], row["images"], f"{row['precision']:.4f}", f"{row['recall']:.4f}", f"{row['f1']:.4f}")
        for row in values["classes"]
    ]
    console.print(table(("class", "images", "precision", "recall", "F1"), rows))
    return 0


def _evaluate(run: Run, config: Config, data_config: DataConfig, split: str) -> tuple[Data, Evaluation]:
    device = prepare(config.trainer)
    model = build_model(config.model, config.seed or 0, device)
    load_weights(run.file("model.safetensors"), model)
    whole = dataclasses.replace(data_config, validation_split=0.0)  # 'train' is every training image
    data = load_data(whole, config.seed or 0).to(device)
    return data, evaluate(model, getattr(data, split))


def _other(own: DataConfig, name: str) -> DataConfig:
    """Another data set in the same cache. The run's mirrors are not asked: other sets' files have the same names."""
    common: dict[str, Any] = {"name": name, "root": own.root, "validation_split": 0.0}
    if name == "mnist_5k":
        return MNIST5kConfig(**common, instead_of=None)
    if name == "mnist":
        return MNISTConfig(**common, mirrors=(), fallback=None)
    if name == "qmnist":
        return QMNISTConfig(**common, mirrors=(), test_part="all")
    return DownloadConfig(**common, mirrors=())


def _values(data: Data, split: str, evaluation: Evaluation) -> dict[str, Any]:
    score = evaluation.score
    return {
        "data": data.name,
        "data_instead_of": data.instead_of,
        "split": split,
        **dataclasses.asdict(score),
        "accuracy_interval_95": score.interval(),
        "classes": [_class_row(label, evaluation) for label in range(evaluation.probabilities.shape[1])],
    }


def _class_row(label: int, evaluation: Evaluation) -> dict[str, Any]:
    """Precision, recall and F1 of one class; 0 where nothing was answered or there is nothing to find."""
    has, said = evaluation.labels == label, evaluation.answers == label
    right = int((has & said).sum())
    images, answers = int(has.sum()), int(torch.count_nonzero(said))
    return {
        "class": label,
        "images": images,
        "precision": right / answers if answers else 0.0,
        "recall": right / images if images else 0.0,
        "f1": 2 * right / (images + answers) if images + answers else 0.0,
    }
