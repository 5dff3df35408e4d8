"""run_network() and init_model() with images of any shape and any number of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mnist_ff
from mnist_ff.errors import ConfigError, DataError
from tests.support.mnist import random_split
from tests.support.own_data import keras_arrays, write_npz

SHORT: dict[str, Any] = {"epochs": 3, "batch": 50, "verbose": False, "device": "cpu"}
FUSED_AND_EAGER = ("trainer.engine=fused", "trainer.engine=eager")


def arrays(shape: tuple[int, ...], classes: int, samples: int = 200) -> list[Any]:
    train, test = random_split(shape, classes, samples), random_split(shape, classes, samples, seed=1)
    return [train.images.numpy(), test.images.numpy(), train.labels.numpy(), test.labels.numpy()]


@pytest.mark.parametrize("shape", [(28, 28), (20, 12), (1, 14, 14), (2, 8, 8), (3, 32, 32), (50,), (1,)])
@pytest.mark.parametrize("classes", [2, 5])
def test_both_engines_train_images_of_any_shape(shape: tuple[int, ...], classes: int) -> None:
    losses = [
        mnist_ff.run_network(data=arrays(shape, classes), **SHORT, overrides=["model.hidden=[16]", engine])[1]
        for engine in FUSED_AND_EAGER
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("classes", [2, 26, 1000])
def test_both_engines_train_any_number_of_classes(classes: int) -> None:
    data, results = arrays((8, 8), classes, max(200, classes)), []
    for engine in FUSED_AND_EAGER:
        words = ["model.hidden=[16]", "trainer.label_smoothing=0.1", engine]
        network, losses = mnist_ff.run_network(data=data, **SHORT, overrides=words)
        assert network(torch.zeros(2, 64)).shape == (2, classes)
        results.append(losses)
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    assert results[0][0] == pytest.approx(np.log(classes), rel=0.5)


def test_one_hot_rows_say_how_many_classes_there_are() -> None:
    data = arrays((6, 6), 3)
    hot = [np.eye(7)[labels] for labels in data[2:]]
    network, losses = mnist_ff.run_network(data=[*data[:2], *hot], **SHORT)
    assert network(torch.zeros(1, 36)).shape == (1, 7)
    assert network(torch.zeros(1, 6, 6)).shape == (1, 7)
    numbers = mnist_ff.run_network(data=[*data[:2], hot[0], data[3]], **SHORT)[1]
    assert numbers == losses


def test_few_of_mnists_classes_are_still_ten() -> None:
    network, _ = mnist_ff.run_network(data=arrays((28, 28), 3), **SHORT)
    assert network(torch.zeros(1, 784)).shape == (1, 10)


class Pictures(nn.Module):
    """Takes images in their own shape only, and remembers what it was given."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3)
        self.last = nn.Linear(4, classes)
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4:
            raise ValueError("give (B, C, H, W)")
        self.seen.add(tuple(images.shape[1:]))
        return self.last(self.convolution(images).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_a_module_for_images_gets_images() -> None:
    model = Pictures(3, 5)
    _, losses = mnist_ff.run_network(data=arrays((3, 12, 10), 5), model=model, **SHORT, overrides=["augment=both"])
    assert model.seen == {(3, 12, 10)}
    assert len(losses) == 12


def test_a_module_for_flat_images_gets_them_flat() -> None:
    for shape in ((28, 28), (3, 12, 10)):
        widths: set[torch.Size] = set()
        model = nn.Sequential(nn.Linear(int(np.prod(shape)), 10))
        model.register_forward_pre_hook(lambda _, given, widths=widths: widths.add(given[0].shape[1:]))
        mnist_ff.run_network(data=arrays(shape, 10), model=model, **SHORT, overrides=["augment=shift"])
        assert widths == {torch.Size([int(np.prod(shape))])}


def test_flat_mnist_is_augmented_as_images_are() -> None:
    data = arrays((28, 28), 10)
    flat = [images.reshape(len(images), 784) for images in data[:2]]
    words = ["augment=both", "model.hidden=[16]"]
    results = [
        mnist_ff.run_network(data=[*images, *data[2:]], **SHORT, overrides=words)[1] for images in (data[:2], flat)
    ]
    assert results[0] == results[1]


BAD = {
    "channels last": ((40, 12, 10, 3), "have their channels last; give .*transpose"),
    "four channels": ((40, 4, 12, 10), "up to 256 x 256 pixels and 3 channels"),
    "too high": ((40, 257, 10), "up to 256 x 256 pixels"),
    "too long": ((4, 196_609), "vectors of up to 196,608 numbers"),
    "five axes": ((40, 1, 1, 5, 5), "give .H, W. or .C, H, W."),
}


@pytest.mark.parametrize(("shape", "said"), BAD.values(), ids=BAD.keys())
def test_images_beyond_the_limits_are_one_line(shape: tuple[int, ...], said: str) -> None:
    images, labels = np.zeros(shape, np.uint8), np.arange(shape[0]) % 3
    with pytest.raises(DataError, match=said) as caught:
        mnist_ff.run_network(data=[images, images, labels, labels], **SHORT)
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    data = arrays((6, 6), 3)
    narrow = data[1][:, :, :5]
    hot = np.eye(3)[data[2]]
    wrong = {
        r"images of shape \(6, 5\), but those to train on have \(6, 6\)": [data[0], narrow, data[2], data[3]],
        "label 9 is not from 0 to 2": [data[0], data[1], hot, np.where(data[3] == 1, 9, data[3])],
    }
    for said, given in wrong.items():
        with pytest.raises(DataError, match=said):
            mnist_ff.run_network(data=given, **SHORT)
    with pytest.raises(DataError, match="validation_data: images of shape"):
        mnist_ff.run_network(data=data, validation_data=(narrow, data[3]), **SHORT)


def test_vectors_cannot_be_augmented() -> None:
    with pytest.raises(ConfigError, match="augment: needs images with rows and columns"):
        mnist_ff.run_network(data=arrays((50,), 3), **SHORT, overrides=["augment=shift"])


def test_a_module_of_other_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model: maps \(2, 64\) to \(2, 4\) float32, not to \(2, 5\) logits"):
        mnist_ff.run_network(data=arrays((8, 8), 5), model=nn.Linear(64, 4), **SHORT)


def test_a_fresh_network_and_loaded_data_have_the_datas_sizes(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "data.npz", keras_arrays(5, (12, 10, 3)))
    words = ["data=npz", f"data.path={path}"]
    network = mnist_ff.init_model(*words, "model.hidden=[8]")
    assert network(torch.zeros(2, 3, 12, 10)).shape == (2, 5)
    loaded = mnist_ff.load_data(*words)
    assert loaded.spec.shape == (3, 12, 10)
    mnist_ff.run_network(data=loaded, model=network, **{**SHORT, "batch": 10})
