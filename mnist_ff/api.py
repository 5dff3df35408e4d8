"""The tutorial's functions for Python: load once, train, train on, plot. The same code underneath as the commands."""

from __future__ import annotations

import dataclasses
import operator
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from rich.console import Console
from torch import nn

from mnist_ff.analysis.console import tell
from mnist_ff.analysis.opened_run import OpenedRun
from mnist_ff.config.compose import compose
from mnist_ff.config.options import folders_of, using_folders
from mnist_ff.config.own_parts import loaded, with_variable
from mnist_ff.config.schema import Config
from mnist_ff.data.arrays import data_of_arrays, numbers_of, split_of_arrays
from mnist_ff.data.catalog import description
from mnist_ff.data.load import Data, Split, ensure
from mnist_ff.data.load import load_data as load
from mnist_ff.engine import device as devices
from mnist_ff.errors import ConfigError, DataError, keep_partial, type_name
from mnist_ff.models.build import build_model
from mnist_ff.models.user_module import restored, to_train_on
from mnist_ff.runs.directory import Run
from mnist_ff.runs.numbers import score_text
from mnist_ff.runs.records import DataSpec
from mnist_ff.runs.signals import interruptible
from mnist_ff.session.given import given_parts
from mnist_ff.session.resolve import resolve, warn_of_fallback
from mnist_ff.session.start import Caller, start
from mnist_ff.session.start import resume as resume_run
from mnist_ff.session.threads import with_threads
from mnist_ff.session.validate import check_teacher, check_trainer, check_warmup
from mnist_ff.training.callbacks import Callback, EpochLines, LossHistory
from mnist_ff.training.chosen_callbacks import with_view
from mnist_ff.training.evaluation import score
from mnist_ff.training.learner import Learner
from mnist_ff.training.limits import first_reason, limits_of
from mnist_ff.training.progress_bar import ProgressBar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Callback", "LossHistory", "init_model", "load_data", "plot_losses", "run_network", "train"]


class Partial(NamedTuple):
    """The partial result of run_network() after an exception: the exception's attribute `partial`."""

    model: nn.Module
    losses: list[float]


Arrays: TypeAlias = Sequence[Any]
"""[X_train, X_test, y_train, y_test], the tutorial's order."""


OWN_ARGUMENT = {
    "seed": "seed",
    "trainer.epochs": "epochs",
    "trainer.batch_size": "batch",
    "trainer.shuffle": "shuffle",
    "trainer.device": "device",
    "logger": "callbacks",
    "callbacks": "callbacks",
}
"""Keys that are arguments of run_network, so that no value can be given twice; observers are given as they are."""


DEVICE_LETTERS = set("abcdefghijklmnopqrstuvwxyz0123456789:")
"""Of a device's name; others could mean something to Hydra."""
SHOWN = 80
"""Characters of a wrong value that a message repeats."""


@devices.undisturbed()
def load_data(*overrides: str, seed: int | None = 0) -> Data:
    """MNIST on the CPU, or what overrides such as 'data=fashion_mnist' name; `seed` draws a validation split.

    Returns Data with `train` and `test` splits: images (N, 28, 28) uint8, labels (N,) int64. They are copies of the
    cache's, yours to change.
    Errors: ConfigError for a wrong override, DataError when the data cannot be downloaded.
    """
    config = compose([*_allowed(overrides, ("seed",)), *_seed_word(seed)])
    idle = dataclasses.replace(config.trainer, batch_size=1, threads=None)  # nothing is trained: few images do
    config = resolve(dataclasses.replace(config, trainer=idle))
    assert config.seed is not None
    loaded = load(config.data, config.seed)
    warn_of_fallback(loaded, Console(stderr=True))
    return dataclasses.replace(loaded, train=_copied(loaded.train), test=_copied(loaded.test))


@devices.undisturbed()
def init_model(*overrides: str, seed: int = 0) -> nn.Module:
    """The tutorial's network with fresh weights, or what overrides such as 'model.hidden=[64]' name.

    Maps (B, 784) float32 in [0, 1] to (B, 10) logits, and with a data=... of other images those of their size to
    logits for their classes. Errors: ConfigError, DataError for data that cannot be read.
    """
    config = compose([*_allowed(overrides, ("seed",)), *_seed_word(seed)])
    return build_model(config.model, config.seed or 0, torch.device("cpu"), description(config.data).spec)


@devices.undisturbed()
def run_network(
    data: Data | Arrays | None = None,
    model: nn.Module | None = None,
    epochs: int = 20,
    batch: int = 256,
    shuffle: bool = True,
    validation_data: tuple[Any, Any] | None = None,
    callbacks: Iterable[Callback] | None = (),
    seed: int | None = 0,
    device: str | torch.device = "auto",
    verbose: bool = True,
    overrides: Iterable[str] | None = (),
) -> tuple[nn.Module, list[float]]:
    """Train a network and return it with the loss of every batch. Ctrl-C ends training and keeps both.

    data: from load_data(), or [X_train, X_test, y_train, y_test] as arrays or tensors: images (N, 784), (N, H, W) or
    (N, C, H, W), or vectors (N, D), uint8 or floats in [0, 1]; labels integers (N,) from 0 on, or one-hot (N, K), which
    also says the number of classes. model: any module from flat images, (B, 784) for MNIST, to (B, 10) logits, one per
    class, or else from images in their own shape; it is
    trained on from its present weights, in place, and keeps its parameters. validation_data: (images,
    labels) to watch instead of the test images. seed: decides weights, order and dropout; None draws one.
    overrides: other keys, such as 'optimizer=adam'.
    Errors: ConfigError for a wrong argument, DataError for arrays that do not fit, DivergedError, and whatever a
    callback raises; what ends training has `.partial`, with `model` and `losses` as they were then.
    """
    observers = _observers(callbacks)
    taken = [*OWN_ARGUMENT, *(["data"] if data is not None else []), *(["model"] if model is not None else [])]
    words = [f"trainer.epochs={_whole('epochs', epochs)}", f"trainer.batch_size={_whole('batch', batch)}"]
    words += [f"trainer.shuffle={_flag('shuffle', shuffle)}", f"trainer.device={_device_word(device)}"]
    verbose = _flag("verbose", verbose)
    config = compose([*words, *_seed_word(seed), *_allowed(overrides, taken)])
    check_trainer(config.trainer)
    _check_for_run_network(config)
    if config.seed is None:
        config = dataclasses.replace(config, seed=secrets.randbelow(2**32))
    assert config.seed is not None
    loaded = _data(data, config, validation_data)
    if config.trainer.teacher is not None:
        check_teacher(config.trainer.teacher, loaded.spec)
    if config.trainer.batch_size > len(loaded.train):
        raise ConfigError(
            f"batch={config.trainer.batch_size}: must be at most {len(loaded.train)}, the training images"
        )
    check_warmup(config, len(loaded.train))
    config = with_threads(config, model, loaded.spec)
    assert config.seed is not None
    with devices.prepared(config.trainer, config.seed) as target, ExitStack() as stack:
        network, shape = _network(model, config, target, loaded.spec)
        stack.enter_context(restored(network))
        losses = _train(Learner(config, loaded.viewed(shape).to(target), network), observers, verbose)
    if verbose:
        warn_of_fallback(loaded, Console(stderr=True))
    return network, losses


@devices.undisturbed()
def train(
    *overrides: str,
    data: Data | Arrays | None = None,
    model: nn.Module | None = None,
    directory: str | Path | None = None,
    resume: str | Path | Run | OpenedRun | None = None,
    callbacks: Iterable[Callback] | None = (),
    parts: str | Path | Iterable[str | Path] = (),
    config_dir: str | Path | Iterable[str | Path] = (),
    verbose: bool = True,
) -> Run:
    """Train as `mnist-ff train` does, into a run directory, and return the Run: its path, config, losses, summary.

    overrides: as on the command line, 'optimizer=adam', 'trainer.epochs=5'. data, model: as for run_network(), in
    place of data= and model=; the model is trained in place. directory: of the run, in place of outputs/<time>.
    resume: a run to train further, in its own directory; data and model that it was given are given again.
    parts, config_dir: files and folders, as --parts and --config-dir take them.
    Ctrl-C ends training and returns the Run, which can be resumed.
    Errors: ConfigError before anything is written, BadRunError, DataError, DivergedError, RunError, and whatever a
    callback raises; what ends training has `.partial`, the Run, which can be resumed.
    """
    if resume is not None and directory is not None:
        raise ConfigError("directory: a resumed run stays in its own; leave it out")
    taken = [name for name, given in (("data", data), ("model", model)) if given is not None and resume is None]
    _allowed([word for word in overrides if not str(word).startswith("data.validation_split=")], taken)
    observers = _observers(callbacks)
    console = Console(quiet=not _flag("verbose", verbose))
    with ExitStack() as stack:
        stack.enter_context(loaded(with_variable(_paths("parts", parts))))
        stack.enter_context(using_folders(folders_of(_paths("config_dir", config_dir), "config_dir")))
        images = None if data is None else data if isinstance(data, Data) else data_of_arrays(data)
        given = stack.enter_context(given_parts(images, model))
        caller = Caller(overrides, tuple(given), tuple(observers), console)
        if resume is None:
            return start(caller, None if directory is None else Path(directory))
        if isinstance(resume, OpenedRun):
            resume = resume.run
        return resume_run(caller, resume if isinstance(resume, Run) else Run.open(resume))


def plot_losses(losses: Sequence[float], path: str | Path | None = None) -> Figure:
    """Every batch's loss with its moving average, as a matplotlib figure, saved to `path` where one is given.

    Errors: ConfigError.
    """
    from mnist_ff.analysis.canvas import own_style
    from mnist_ff.analysis.plots import losses_figure

    if path is not None and not isinstance(path, str | os.PathLike):
        raise ConfigError(f"path: is {type_name(path)}; give a file name, such as 'losses.png'")
    numbers = numbers_of(losses, "losses")
    with own_style():
        figure = losses_figure(numbers)
        if path is not None:
            try:
                figure.savefig(path, dpi=120)
            except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
                raise ConfigError(f"path: {os.fspath(path)}: {getattr(error, 'strerror', None) or error}") from None
    return figure


def _train(learner: Learner, callbacks: Sequence[Callback], verbose: bool) -> list[float]:
    """Train, and return the loss of every batch."""
    history, console, plan = LossHistory(), Console(), learner.plan()

    def say(text: str) -> None:
        tell(console, text)

    with ExitStack() as stack:
        observers: list[Callback] = [history, *with_view(callbacks, learner.model)]
        if verbose:
            observers.append(EpochLines(say, console.width if console.is_terminal else None))
            if console.is_terminal:
                observers.append(stack.enter_context(ProgressBar.shown(console)))
        stopped = stack.enter_context(interruptible())
        limits = limits_of(learner.config.trainer)
        observers += limits
        learner.prepare(plan)
        try:
            outcome = learner.fit(plan, observers, first_reason(stopped, *limits))
        except (Exception, SystemExit) as error:  # a callback may raise any exception
            if history.losses:
                learner.use_averages()
            keep_partial(error, Partial(learner.model, history.losses))
            raise
        if outcome.steps:
            learner.use_averages()
    if verbose:
        if outcome.stopped is not None:
            say(f"{outcome.stopped.text}, after {len(history.losses):,} batches")
        say(f"score  {score_text(score(learner.model, learner.data.test))}")
    return history.losses


def _network(
    model: nn.Module | None, config: Config, device: torch.device, spec: DataSpec
) -> tuple[nn.Module, tuple[int, ...]]:
    """The model to train, on the device, its masks drawn from the seed, and the shape in which it takes an image.

    Errors: ConfigError.
    """
    assert config.seed is not None
    if model is None:
        return build_model(config.model, config.seed, device, spec), spec.shape
    return to_train_on(model, config.seed, device, spec)


def _check_for_run_network(config: Config) -> None:
    """Errors: ConfigError for keys that only a run directory can honour."""
    trainer = config.trainer
    if trainer.patience is not None or trainer.keep_best:
        raise ConfigError("trainer.patience, trainer.keep_best: need a run directory; use them with mnist-ff train")


def _allowed(overrides: Iterable[str] | None, taken: Sequence[str]) -> list[str]:
    """The overrides, none of which may say what an argument says. Errors: ConfigError."""
    words = None if isinstance(overrides, str | bytes | Mapping) else _listed(overrides)
    if words is None:
        raise ConfigError(f"overrides: is {type_name(overrides)}; give a list, such as ['optimizer=adam']")
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(
                f"overrides: {_shown(word)} is {type_name(word)}; an override is text, such as 'optimizer=adam'"
            )
        key = word.strip().lstrip("+~").split("=")[0]
        if key.startswith(("hydra.", "hydra/", "sweep.")) or key in ("hydra", "sweep"):
            raise ConfigError(f"overrides: {word}: is only for the command mnist-ff train")
        for name in taken:
            if key == name or key.startswith((f"{name}.", f"{name}@")):
                argument = OWN_ARGUMENT.get(name, name)
                raise ConfigError(f"overrides: {word} duplicates the argument {argument}=")
    return words


def _paths(name: str, given: Any) -> list[str]:
    """One path or several, as texts. Errors: ConfigError."""
    paths = [given] if isinstance(given, str | Path) else _listed(given)
    if paths is None or not all(isinstance(path, str | Path) for path in paths):
        raise ConfigError(f"{name}: is {type_name(given)}; give a path, or a list of paths")
    return [str(path) for path in paths]


def _seed_word(seed: int | None) -> list[str]:
    return ["seed=null" if seed is None else f"seed={_whole('seed', seed)}"]


def _whole(name: str, value: Any) -> int:
    """A whole number of any library's. Errors: ConfigError."""
    try:
        if isinstance(value, bool) or getattr(value, "dtype", None) == torch.bool:
            raise TypeError
        whole = operator.index(value)
    except Exception:  # arrays and tensors of several numbers fail in ways of their own
        raise ConfigError(f"{name}={_shown(value)}: is {type_name(value)}; give an integer") from None
    if whole.bit_length() > 64:  # Python writes out no number of thousands of digits
        raise ConfigError(f"{name}: has {whole.bit_length()} bits; give a smaller integer")
    return whole


def _flag(name: str, value: Any) -> bool:
    """True or False, numpy's too, or 1 or 0. Errors: ConfigError."""
    try:
        if not isinstance(value, str | bytes) and hasattr(value, "__bool__") and value in (0, 1):
            return bool(value)
    except Exception:  # arrays and tensors of several values are neither
        pass
    raise ConfigError(f"{name}={_shown(value)}: must be True or False")


def _device_word(device: Any) -> str:
    if not isinstance(device, str | torch.device) or not set(str(device)) <= DEVICE_LETTERS:
        raise ConfigError(f"device={_shown(device)}: must be auto, cpu, cuda, cuda:N or mps")
    return f"'{device}'"


def _observers(callbacks: Iterable[Callback] | None) -> list[Callback]:
    heard = None if isinstance(callbacks, Callback | Mapping) else _listed(callbacks)
    if heard is None or not all(isinstance(callback, Callback) for callback in heard):
        raise ConfigError("callbacks: must be a list of mnist_ff.Callback instances")
    return heard


def _listed(values: Any) -> list[Any] | None:
    """The items, none for None; None for what has no items, as an array of no dimension has none."""
    try:
        items = iter(() if values is None else values)
    except TypeError:
        return None
    return list(items)


def _shown(value: object) -> str:
    """A value for a message: on one line, and not all of a large one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _copied(split: Split) -> Split:
    return dataclasses.replace(split, images=split.images.clone(), labels=split.labels.clone())


def _data(data: Data | Arrays | None, config: Config, validation: tuple[Any, Any] | None) -> Data:
    if data is None:
        assert config.seed is not None
        loaded = load(ensure(config.data), config.seed)
        warn_of_fallback(loaded, Console(stderr=True))
    elif isinstance(data, Data):
        loaded = data
    else:
        loaded = data_of_arrays(data)
    if validation is None:
        return loaded
    if not isinstance(validation, list | tuple) or len(validation) != 2:
        raise DataError("validation_data: must be (images, labels)")
    return dataclasses.replace(loaded, validation=split_of_arrays(*validation, loaded.spec, "validation_data"))
