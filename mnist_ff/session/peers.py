"""The same training in other libraries, for `mnist-ff bench --peers`; each in its own process.

Random images in MNIST's shape, the configured layers, ReLU and dropout, RMSprop at 0.001, every epoch evaluated on
10,000 images; the printed seconds are those of fit() alone, as mnist-ff's are.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_ff.analysis.console import out
from mnist_ff.config.convert import config_from
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import read_yaml
from mnist_ff.models.parts.mlp import mlp_keys
from mnist_ff.runs.records import CLASSES, INPUTS, MNIST_SPEC, DataSpec

if TYPE_CHECKING:
    from torch import nn

TRAIN, TEST = 60_000, 10_000


@dataclass(frozen=True)
class Peer:
    """A library: the modules it needs, its environment, and a function that trains and returns the seconds."""

    modules: tuple[str, ...]
    train: Callable[[Config, int], float]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """What --peer calls it: the module that no other peer needs."""
        return self.modules[-1]


def _data(part: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(part)
    return rng.random((part, INPUTS), dtype=np.float32), rng.integers(CLASSES, size=part)


def torch_network(config: Config, spec: DataSpec = MNIST_SPEC) -> nn.Sequential:
    """The configured layers out of torch's own modules, as one would write them, for flat images."""
    from torch import nn

    parts: list[nn.Module] = []
    sizes = [spec.inputs, *mlp_keys(config.model).hidden]
    for above, below in pairwise(sizes):
        parts += [nn.Linear(above, below), nn.ReLU(), nn.Dropout(mlp_keys(config.model).dropout)]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], len(spec.classes)))


def _keras(config: Config, epochs: int) -> float:
    import keras

    layers: list[Any] = [keras.Input((INPUTS,))]
    for units in mlp_keys(config.model).hidden:
        layers += [keras.layers.Dense(units, activation="relu"), keras.layers.Dropout(mlp_keys(config.model).dropout)]
    model = keras.Sequential([*layers, keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile(keras.optimizers.RMSprop(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = _data(TRAIN)
    test = _data(TEST)
    began = time.perf_counter()
    model.fit(x, y, batch_size=config.trainer.batch_size, epochs=epochs, validation_data=test, verbose=0)
    return time.perf_counter() - began


def _lightning(config: Config, epochs: int) -> float:
    import lightning
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    network = torch_network(config)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: Any, number: int) -> Any:
            loss = F.cross_entropy(self.network(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, number: int) -> None:
            self.log("val_loss", F.cross_entropy(self.network(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.RMSprop(self.parameters(), lr=0.001, alpha=0.9)

    def loader(part: int, batch: int, shuffle: bool) -> Any:
        x, y = _data(part)
        return DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch, shuffle=shuffle)

    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    train, test = loader(TRAIN, config.trainer.batch_size, True), loader(TEST, 1000, False)
    began = time.perf_counter()
    trainer.fit(Module(), train, test)
    return time.perf_counter() - began


def _keras_on(backend: str, module: str) -> Peer:
    return Peer(("keras", module), _keras, {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"})


PEERS = {
    "Keras on TensorFlow": _keras_on("tensorflow", "tensorflow"),
    "Keras on JAX": _keras_on("jax", "jax"),
    "Keras on PyTorch": _keras_on("torch", "torch"),
    "Lightning with tensors": Peer(("lightning",), _lightning),
}


def main(name: str, config_path: str, epochs: str) -> None:
    """Print a peer's seconds of training, or that it is not installed."""
    peer = PEERS[name]
    missing = [module for module in peer.modules if importlib.util.find_spec(module) is None]
    if missing:
        out(f"not installed: {', '.join(missing)}")
        return
    out(str(peer.train(config_from(read_yaml(Path(config_path))), int(epochs))))


if __name__ == "__main__":
    main(*sys.argv[1:])
