"""The tutorial's functions for Python: load once, train, train on, plot. The same code underneath as the commands."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from rich.console import Console
from torch import nn

from mnist_ff import device as devices
from mnist_ff.callbacks import Callback, EpochLines, LossHistory, ProgressBar
from mnist_ff.commands.train import plan_of, scorer, settle, shuffler, warn_of_fallback
from mnist_ff.config import Config
from mnist_ff.data.load import Data, Split
from mnist_ff.data.load import load_data as load
from mnist_ff.engine import build_steps
from mnist_ff.errors import ConfigError, DataError
from mnist_ff.evaluation import evaluate
from mnist_ff.hydra_app.compose import compose
from mnist_ff.interrupts import interruptible
from mnist_ff.model import MLP, build_model
from mnist_ff.optimizer import build_optimizer
from mnist_ff.tables import score_text
from mnist_ff.training import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Callback", "LossHistory", "init_model", "load_data", "plot_losses", "run_network"]

Arrays: TypeAlias = Sequence[Any]
"""[X_train, X_test, y_train, y_test], the tutorial's order."""


def load_data(*overrides: str) -> Data:
    """MNIST on the CPU, or what overrides such as 'data=fashion_mnist' name.

    Returns Data with `train` and `test` splits: images (N, 28, 28) uint8, labels (N,) int64.
    Errors: ConfigError for a wrong override, DataError when the data can be had from nowhere.
    """
    config = settle(compose(overrides))
    assert config.seed is not None
    data = load(config.data, config.seed)
    warn_of_fallback(data, Console(stderr=True))
    return data


def init_model(*overrides: str, seed: int = 0) -> MLP:
    """The tutorial's network with fresh weights, or what overrides such as 'model.hidden=[64]' name.

    Maps (B, 784) float32 in [0, 1] to (B, 10) logits. Errors: ConfigError.
    """
    return build_model(compose(overrides).model, seed, torch.device("cpu"))


def run_network(
    data: Data | Arrays | None = None,
    model: nn.Module | None = None,
    epochs: int = 20,
    batch: int = 256,
    shuffle: bool = True,
    validation_data: tuple[Any, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int | None = 0,
    device: str = "auto",
    verbose: bool = True,
    overrides: Sequence[str] = (),
) -> tuple[nn.Module, list[float]]:
    """Train a network and return it with the loss of every batch. Ctrl-C ends training and keeps both.

    data: from load_data(), or [X_train, X_test, y_train, y_test] as arrays or tensors: images (N, 784) floats in
    [0, 1] or (N, 28, 28) uint8, labels integer (N,) or one-hot (N, 10). model: any module from (B, 784) to (B, 10)
    logits; it is trained on from its present weights, in place. validation_data: (images, labels) to watch instead
    of the test images. seed: decides weights, order and dropout; None draws one. overrides: such as 'optimizer=adam'.
    Errors: ConfigError for a wrong argument, DataError for arrays that do not fit, DivergedError.
    """
    words = [f"trainer.epochs={epochs}", f"trainer.batch_size={batch}", f"trainer.shuffle={shuffle}"]
    config = compose([*words, f"trainer.device={device}", *overrides])
    config = dataclasses.replace(config, seed=secrets.randbelow(2**32) if seed is None else seed)
    target = devices.prepare(config.trainer)
    loaded = _data(data, overrides, validation_data)
    if batch > len(loaded.train):
        raise ConfigError(f"batch={batch}: must be at most {len(loaded.train)}, the training images")
    return _run(config, loaded.to(target), model, target, callbacks, verbose)


def plot_losses(losses: Sequence[float], path: str | Path | None = None) -> Figure:
    """Every batch's loss with its moving average, as a matplotlib figure, saved to `path` where one is given."""
    from mnist_ff.plots import losses_figure

    figure = losses_figure(losses)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _run(
    config: Config,
    data: Data,
    model: nn.Module | None,
    device: torch.device,
    callbacks: Sequence[Callback],
    verbose: bool,
) -> tuple[nn.Module, list[float]]:
    assert config.seed is not None
    torch.manual_seed(config.seed)  # a module of the user's draws its dropout from torch's own generator
    network = build_model(config.model, config.seed, device) if model is None else model.to(device)
    optimizer = build_optimizer(config.optimizer, network.parameters())
    step = build_steps(network, optimizer, data.train, config.trainer.batch_size)
    history, console = LossHistory(), Console()
    with ExitStack() as stack:
        heard: list[Callback] = [history, *callbacks]
        if verbose:
            heard.append(EpochLines(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)))
            if console.is_terminal:
                heard.append(stack.enter_context(ProgressBar.shown(console)))
        stopped = stack.enter_context(interruptible())
        shuffle = shuffler(config.trainer.shuffle, config.seed, data.train, device)
        fit(step, scorer(network, data), shuffle, plan_of(config, data), heard, stopped)
    if verbose:
        score = evaluate(network, data.test).score
        console.print(f"score [loss, accuracy]  {score_text(score)}", markup=False, highlight=False, soft_wrap=True)
    return network, history.losses


def _data(data: Data | Arrays | None, overrides: Sequence[str], validation: tuple[Any, Any] | None) -> Data:
    if data is None:
        loaded = load_data(*overrides)
    elif isinstance(data, Data):
        loaded = data
    else:
        loaded = _from_arrays(data)
    if validation is None:
        return loaded
    return dataclasses.replace(loaded, validation=_split(*validation, "validation_data"))


def _from_arrays(arrays: Arrays) -> Data:
    if len(arrays) != 4:
        raise DataError(f"data: has {len(arrays)} parts, not [X_train, X_test, y_train, y_test]")
    train_images, test_images, train_labels, test_labels = arrays
    return Data(
        "arrays",
        _split(train_images, train_labels, "X_train, y_train"),
        _split(test_images, test_labels, "X_test, y_test"),
    )


def _split(images: Any, labels: Any, where: str) -> Split:
    pixels = torch.as_tensor(np.asarray(images) if not isinstance(images, torch.Tensor) else images)
    classes = torch.as_tensor(np.asarray(labels) if not isinstance(labels, torch.Tensor) else labels)
    if pixels.dtype != torch.uint8:
        if not pixels.is_floating_point():
            raise DataError(f"{where}: images are {pixels.dtype}; give uint8, or floats in [0, 1]")
        pixels = pixels.float()
        if len(pixels) and not (0 <= float(pixels.min()) <= float(pixels.max()) <= 1):  # NaN is outside too
            raise DataError(f"{where}: float images must lie in [0, 1]; divide by 255")
    if classes.ndim == 2:
        classes = classes.argmax(1)
    classes = classes.long()
    if tuple(pixels.shape[1:]) not in ((784,), (28, 28)) or classes.shape != pixels.shape[:1]:
        raise DataError(f"{where}: shapes {tuple(pixels.shape)} and {tuple(classes.shape)} are not (N, 784) and (N,)")
    if len(classes) == 0 or int(classes.min()) < 0 or int(classes.max()) > 9:
        raise DataError(f"{where}: labels must be the classes 0 to 9, and there must be some")
    return Split(pixels, classes)
