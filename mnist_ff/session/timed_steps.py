"""The steps that `mnist-ff bench` times: ours, the matrix products they cannot avoid, and plain PyTorch loops."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from mnist_ff.config.schema import Config
from mnist_ff.data.catalog import description
from mnist_ff.data.load import Data, Split, as_input
from mnist_ff.data.random_images import random_images
from mnist_ff.engine.device import check_precision
from mnist_ff.engine.graph import capture_cuda
from mnist_ff.engine.step import Step
from mnist_ff.errors import ConfigError
from mnist_ff.models.build import build_model
from mnist_ff.models.parts.mlp import MLPConfig, mlp_keys
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Plan
from mnist_ff.session.peers import torch_network
from mnist_ff.training.callbacks import LossHistory, RunWriter
from mnist_ff.training.evaluation import EpochScores
from mnist_ff.training.learner import Learner
from mnist_ff.training.loop import Listeners, fit

Work = Callable[[int], None]
"""Do so many steps, and be done with them on the device when it returns."""

IMAGES = 60_000
MOST_NUMBERS = 1 << 30
"""Maximum number of pixels of all images. If images are large, there are fewer of them."""
PRODUCTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "tf32": torch.float32}


def timed_works(config: Config, device: torch.device) -> dict[str, Work]:
    """Everything that is timed, by its name in the table; the others are compared with the first."""
    data = _random_images(config, device)
    works = _built_in_works(config, data, device) if is_built_in(config) else _own_works(config, data, device)
    return {name: _in_tf32(work) if "tf32" in name else work for name, work in works.items()}


def is_built_in(config: Config) -> bool:
    """Whether the network is the built-in one, whose products are known."""
    return isinstance(config.model, MLPConfig)


def _own_works(config: Config, data: Data, device: torch.device) -> dict[str, Work]:
    """The steps that a user's model has, and the plain loop over the same model."""
    works: dict[str, Work] = {}
    for precision in _precisions(device):
        for engine in ("eager", "graph") if device.type == "cuda" else ("eager",):
            step = _step(config, engine, precision, data)
            if step.info.engine == engine:  # a graph only where it can be captured
                works[f"{engine} step, {precision}"] = _timed(step, config, data, device)
    works["plain PyTorch loop on tensors"] = _plain(config, data, device)
    return works


def _built_in_works(config: Config, data: Data, device: torch.device) -> dict[str, Work]:
    works: dict[str, Work] = {}
    engines = ("fused", "graph") if device.type == "cuda" else ("fused",)
    precisions = _precisions(device)
    for precision in precisions:
        works[f"products alone, {precision}"] = _repeated(_products(config, PRODUCTS[precision], device), device)
    if device.type == "cuda":
        counter = torch.zeros(1, device=device)
        works["products alone, fp32, as a graph"] = _as_graph(_products(config, torch.float32, device), device)
        works["a graph's launch alone"] = _as_graph(lambda: counter.add_(1), device)
    for precision in precisions:
        for engine in (*engines, "eager"):
            works[f"{engine} step, {precision}"] = _ours(config, engine, precision, data, device)
    works["plain PyTorch loop on tensors"] = _plain(config, data, device)
    works["DataLoader loop with .item()"] = _data_loader(config, data, device)
    return works


def with_and_without_logging(config: Config, device: torch.device, stack: ExitStack) -> tuple[Work, Work]:
    """The fastest fp32 step alone, and inside fit() with files, which are closed with `stack`."""
    data, fast = _random_images(config, device), "graph" if device.type == "cuda" else "fused"
    engine = fast if is_built_in(config) else "auto"
    step = _step(config, engine, "fp32", data)  # one for both: where its buffers lie makes a difference too
    return _timed(step, config, data, device), _logged(step, config, data, stack)


def _precisions(device: torch.device) -> list[str]:
    found = []
    for precision in PRODUCTS:
        try:
            check_precision(precision, device)
        except ConfigError:
            continue
        found.append(precision)
    return found


def _random_images(config: Config, device: torch.device) -> Data:
    """As many as MNIST has, fewer where each is large, but a whole batch."""
    spec = description(config.data).spec
    count = max(config.trainer.batch_size, min(IMAGES, MOST_NUMBERS // spec.inputs))
    return random_images(spec, count).to(device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _products(config: Config, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """The products of a step alone: forward, weight gradients, input gradients of all layers but the first."""
    batch = config.trainer.batch_size
    spec = description(config.data).spec
    sizes = [spec.inputs, *mlp_keys(config.model).hidden, len(spec.classes)]

    def random(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, device=device).to(dtype)

    inputs = [random(batch, size) for size in sizes[:-1]]
    outputs = [random(batch, size) for size in sizes[1:]]
    weights = [random(below, above) for above, below in pairwise(sizes)]
    gradients = [torch.empty_like(weight) for weight in weights]
    forward = [torch.empty_like(output) for output in outputs]
    backward = [torch.empty_like(given) for given in inputs]

    def products() -> None:
        for given, weight, out in zip(inputs, weights, forward, strict=True):
            torch.mm(given, weight.t(), out=out)
        for grad, given, out in zip(outputs, inputs, gradients, strict=True):
            torch.mm(grad.t(), given, out=out)
        for grad, weight, out in list(zip(outputs, weights, backward, strict=True))[1:]:
            torch.mm(grad, weight, out=out)

    return products


def _repeated(once: Callable[[], object], device: torch.device) -> Work:
    def work(steps: int) -> None:
        for _ in range(steps):
            once()
        _wait(device)

    return work


def _as_graph(once: Callable[[], object], device: torch.device) -> Work:
    once()  # what is set up at a first call cannot be captured
    _wait(device)
    return _repeated(capture_cuda(lambda: (once(), None)[1], []), device)


def _in_tf32(work: Work) -> Work:
    """The same with fp32 products in tf32, as trainer.precision=tf32 has them."""

    def switched(steps: int) -> None:
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            work(steps)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    return switched


def _rows(split: Split, batch: int, steps: int) -> torch.Tensor:
    return torch.arange(steps * batch, device=split.labels.device) % len(split)


def _step(config: Config, engine: str, precision: str, data: Data) -> Step:
    trainer = dataclasses.replace(config.trainer, engine=engine, precision=precision)  # type: ignore[arg-type]
    return Learner(dataclasses.replace(config, seed=0, trainer=trainer), data).step


def _ours(config: Config, engine: str, precision: str, data: Data, device: torch.device) -> Work:
    return _timed(_step(config, engine, precision, data), config, data, device)


def _timed(step: Step, config: Config, data: Data, device: torch.device) -> Work:
    trainer, split = config.trainer, data.train
    most = len(split) // trainer.batch_size  # images that a graph has room for
    chunk = min(trainer.sync_every or most, most) * trainer.batch_size

    def work(steps: int) -> None:
        for rows in torch.split(_rows(split, trainer.batch_size, steps), chunk):
            step(rows)
        _wait(device)

    return work


def _logged(step: Step, config: Config, data: Data, stack: ExitStack) -> Work:
    """The step inside fit(), with a loss history and files, waiting as often as the config says."""
    trainer = config.trainer
    writer = stack.enter_context(RunWriter.opened(Run(Path(stack.enter_context(tempfile.TemporaryDirectory())))))

    def work(steps: int) -> None:
        plan = Plan(1, steps * trainer.batch_size, trainer.batch_size, trainer.sync_every, config.optimizer.lr)
        order = _rows(data.train, trainer.batch_size, steps)
        fit(step, EpochScores, lambda epoch: order, plan, Listeners([LossHistory(), writer]))

    return work


def _plain(config: Config, data: Data, device: torch.device) -> Work:
    """The tight loop that a PyTorch user writes: tensors on the device, torch's RMSprop, no .item()."""
    split, images = data.train, as_input(data.train.images)
    network: nn.Module
    if is_built_in(config):
        network, images = torch_network(config, data.spec).to(device), images.flatten(1)
    else:
        network = build_model(config.model, 0, device, data.spec)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.001, alpha=0.9)

    def work(steps: int) -> None:
        for rows in torch.split(_rows(split, config.trainer.batch_size, steps), config.trainer.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), split.labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        _wait(device)

    return work


def _data_loader(config: Config, data: Data, device: torch.device) -> Work:
    """The usual loop: a shuffling DataLoader, .to(device), loss.item() every batch."""
    split = data.train
    network = torch_network(config, data.spec).to(device)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.001, alpha=0.9)
    images = split.images.flatten(1).float().cpu() / 255
    loader = DataLoader(TensorDataset(images, split.labels.cpu()), config.trainer.batch_size, shuffle=True)
    batches = iter(loader)

    def work(steps: int) -> None:
        nonlocal batches
        for _ in range(steps):
            batch = next(batches, None)
            if batch is None:
                batches = iter(loader)
                batch = next(batches)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(batch[0].to(device)), batch[1].to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()

    return work
