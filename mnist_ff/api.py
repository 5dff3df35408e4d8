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
from mnist_ff.augment import build_augment
from mnist_ff.callbacks import Callback, EpochLines, LossHistory, ProgressBar
from mnist_ff.commands.check import check_teacher, check_trainer, check_warmup
from mnist_ff.commands.parts import load_teacher, plan_of, scorer, settle, shuffler, warn_of_fallback
from mnist_ff.config import Config
from mnist_ff.data.load import Data, Split, ensure
from mnist_ff.data.load import load_data as load
from mnist_ff.engine import build_steps
from mnist_ff.errors import ConfigError, DataError
from mnist_ff.evaluation import score
from mnist_ff.hydra_app.compose import compose
from mnist_ff.interrupts import interruptible
from mnist_ff.model import MLP, build_model, seed_dropout
from mnist_ff.records import CLASSES, INPUTS, SIDE
from mnist_ff.schedule import moves
from mnist_ff.tables import score_text, tell
from mnist_ff.training import fit
from mnist_ff.updates import Updates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Callback", "LossHistory", "init_model", "load_data", "plot_losses", "run_network"]

Arrays: TypeAlias = Sequence[Any]
"""[X_train, X_test, y_train, y_test], the tutorial's order."""


OWN_ARGUMENT = {
    "seed": "seed",
    "trainer.epochs": "epochs",
    "trainer.batch_size": "batch",
    "trainer.shuffle": "shuffle",
    "trainer.device": "device",
    "logger": "callbacks",
}
"""Keys that are arguments of run_network, so that no value can be given twice; observers are given as they are."""


def load_data(*overrides: str, seed: int | None = 0) -> Data:
    """MNIST on the CPU, or what overrides such as 'data=fashion_mnist' name; `seed` draws a validation split.

    Returns Data with `train` and `test` splits: images (N, 28, 28) uint8, labels (N,) int64. They are copies of the
    cache's, yours to change.
    Errors: ConfigError for a wrong override, DataError when the data can be had from nowhere.
    """
    config = settle(compose([*_allowed(overrides, ("seed",)), *_seed_word(seed)]))
    assert config.seed is not None
    loaded = load(config.data, config.seed)
    warn_of_fallback(loaded, Console(stderr=True))
    return dataclasses.replace(loaded, train=_copied(loaded.train), test=_copied(loaded.test))


def init_model(*overrides: str, seed: int = 0) -> MLP:
    """The tutorial's network with fresh weights, or what overrides such as 'model.hidden=[64]' name.

    Maps (B, 784) float32 in [0, 1] to (B, 10) logits. Errors: ConfigError.
    """
    config = compose([*_allowed(overrides, ("seed",)), *_seed_word(seed)])
    return build_model(config.model, config.seed or 0, torch.device("cpu"))


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
    of the test images. seed: decides weights, order and dropout; None draws one. overrides: other keys, such as
    'optimizer=adam'.
    Errors: ConfigError for a wrong argument, DataError for arrays that do not fit, DivergedError.
    """
    taken = [*OWN_ARGUMENT, *(["data"] if data is not None else []), *(["model"] if model is not None else [])]
    words = [f"trainer.epochs={epochs}", f"trainer.batch_size={batch}", f"trainer.shuffle={shuffle}"]
    config = compose([*words, f"trainer.device={device}", *_seed_word(seed), *_allowed(overrides, taken)])
    check_trainer(config.trainer)
    _check_for_run_network(config)
    if config.seed is None:
        config = dataclasses.replace(config, seed=secrets.randbelow(2**32))
    assert config.seed is not None
    observers = _observers(callbacks)
    loaded = _data(data, config, validation_data)
    if batch > len(loaded.train):
        raise ConfigError(f"batch={batch}: must be at most {len(loaded.train)}, the training images")
    check_warmup(config, len(loaded.train))
    with devices.prepared(config.trainer, config.seed) as target:
        network = _network(model, config, target)
        losses = _train(config, loaded.to(target), network, target, observers, verbose)
    if verbose:
        warn_of_fallback(loaded, Console(stderr=True))
    return network, losses


def plot_losses(losses: Sequence[float], path: str | Path | None = None) -> Figure:
    """Every batch's loss with its moving average, as a matplotlib figure, saved to `path` where one is given."""
    from mnist_ff.plots import losses_figure

    figure = losses_figure(losses)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _train(
    config: Config,
    data: Data,
    network: nn.Module,
    device: torch.device,
    callbacks: Sequence[Callback],
    verbose: bool,
) -> list[float]:
    assert config.seed is not None
    updates = Updates(network, config.trainer)
    step, _ = build_steps(
        network,
        config.optimizer,
        config.trainer,
        data.train,
        device,
        moving_rate=moves(config.schedule),
        augment=build_augment(config.augment, config.seed, device),
        teacher=load_teacher(config, device),
        updates=updates,
    )
    history, console = LossHistory(), Console()

    def say(text: str) -> None:
        tell(console, text)

    with ExitStack() as stack:
        heard: list[Callback] = [history, *callbacks]
        if verbose:
            heard.append(EpochLines(say))
            if console.is_terminal:
                heard.append(stack.enter_context(ProgressBar.shown(console)))
        stopped = stack.enter_context(interruptible())
        shuffle = shuffler(config.trainer.shuffle, config.seed, data.train, device)
        outcome = fit(step, scorer(network, data, updates=updates), shuffle, plan_of(config, data), heard, stopped)
        if updates.average is not None and outcome.steps:
            updates.average.put()
    if verbose:
        say(f"score [loss, accuracy]  {score_text(score(network, data.test))}")
    return history.losses


def _network(model: nn.Module | None, config: Config, device: torch.device) -> nn.Module:
    """The model to train, on the device, its masks drawn from the seed. Errors: ConfigError for a wrong shape."""
    assert config.seed is not None
    if model is None:
        return build_model(config.model, config.seed, device)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: is a {type(model).__name__}, not a torch.nn.Module")
    network = model.to(device)
    if isinstance(network, MLP):
        seed_dropout(network, config.seed, device)
    was_training = network.training
    with torch.inference_mode():
        shape = tuple(network.train(False)(torch.zeros(2, INPUTS, device=device)).shape)
    network.train(was_training)
    if shape != (2, CLASSES):
        raise ConfigError(f"model: maps (2, {INPUTS}) to {shape}, not to (2, {CLASSES}) logits")
    return network


def _check_for_run_network(config: Config) -> None:
    """Errors: ConfigError for keys that only a run directory can honour, BadRunError for a teacher that is none."""
    trainer = config.trainer
    if trainer.patience is not None or trainer.keep_best:
        raise ConfigError("trainer.patience, trainer.keep_best: belong to mnist-ff train and its run directory")
    if trainer.teacher is not None:
        check_teacher(trainer.teacher)


def _allowed(overrides: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The overrides, none of which may say what an argument says. Errors: ConfigError."""
    for word in overrides:
        key = word.lstrip("+~").split("=")[0]
        for name in taken:
            if key == name or key.startswith(f"{name}."):
                argument = OWN_ARGUMENT.get(name, name)
                raise ConfigError(f"overrides: {word} says what the argument {argument}= says")
    return list(overrides)


def _seed_word(seed: int | None) -> list[str]:
    return ["seed=null" if seed is None else f"seed={seed}"]


def _observers(callbacks: Sequence[Callback]) -> list[Callback]:
    if isinstance(callbacks, Callback) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise ConfigError("callbacks: must be a list of mnist_ff.Callback")
    return list(callbacks)


def _copied(split: Split) -> Split:
    return Split(split.images.clone(), split.labels.clone())


def _data(data: Data | Arrays | None, config: Config, validation: tuple[Any, Any] | None) -> Data:
    if data is None:
        assert config.seed is not None
        loaded = load(ensure(config.data), config.seed)
        warn_of_fallback(loaded, Console(stderr=True))
    elif isinstance(data, Data):
        loaded = data
    else:
        loaded = _from_arrays(data)
    if validation is None:
        return loaded
    if not isinstance(validation, list | tuple) or len(validation) != 2:
        raise DataError("validation_data: must be (images, labels)")
    return dataclasses.replace(loaded, validation=_split(*validation, "validation_data"))


def _from_arrays(arrays: Arrays) -> Data:
    if not isinstance(arrays, list | tuple) or len(arrays) != 4:
        raise DataError("data: must be from load_data() or [X_train, X_test, y_train, y_test]")
    train_images, test_images, train_labels, test_labels = arrays
    return Data(
        "arrays",
        _split(train_images, train_labels, "X_train, y_train"),
        _split(test_images, test_labels, "X_test, y_test"),
    )


def _split(images: Any, labels: Any, where: str) -> Split:
    pixels, classes = _pixels(images, where), _classes(labels, where)
    if tuple(pixels.shape[1:]) not in ((INPUTS,), (SIDE, SIDE)) or classes.shape != pixels.shape[:1]:
        raise DataError(f"{where}: shapes {tuple(pixels.shape)} and {tuple(classes.shape)} are not (N, 784) and (N,)")
    if len(classes) == 0 or int(classes.min()) < 0 or int(classes.max()) >= CLASSES:
        raise DataError(f"{where}: labels must be the classes 0 to 9, and there must be some")
    return Split(pixels, classes)


def _tensor(values: Any, where: str) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu()
    try:
        return torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not numbers ({error})") from None


def _pixels(images: Any, where: str) -> torch.Tensor:
    """uint8 pixels as they are, or floats in [0, 1] as float32. Errors: DataError."""
    pixels = _tensor(images, where)
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise DataError(f"{where}: images are {pixels.dtype}; give uint8, or floats in [0, 1]")
    pixels = pixels.float()
    if pixels.numel() and not (0 <= float(pixels.min()) <= float(pixels.max()) <= 1):  # NaN is outside too
        raise DataError(f"{where}: float images must lie in [0, 1]; divide by 255")
    return pixels


def _classes(labels: Any, where: str) -> torch.Tensor:
    """Labels as (N,) int64, from integers (N,) or (N, 1), or one-hot rows (N, 10). Errors: DataError."""
    classes = _tensor(labels, where)
    if classes.ndim == 2 and classes.shape[1] == 1:
        classes = classes[:, 0]
    if classes.ndim == 2:
        ones = (classes == 1).sum(1)
        if classes.shape[1] != CLASSES or not bool(((ones == 1) & ((classes != 0).sum(1) == 1)).all()):
            raise DataError(f"{where}: labels of shape {tuple(classes.shape)} are not one-hot rows of {CLASSES}")
        return classes.argmax(1)
    if classes.is_floating_point() and not bool((classes == classes.round()).all()):
        raise DataError(f"{where}: labels must be whole numbers")
    return classes.long()
