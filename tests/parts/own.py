"""One part of each kind, as a user writes them: mnist-ff train --parts own.py model=small_cnn ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn

import mnist_ff


class SmallCNN(nn.Module):
    def __init__(self, channels: int, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.shape = (1, *shape)[-3:]
        self.layers = nn.Sequential(
            nn.Conv2d(self.shape[0], channels, 3, stride=4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.LazyLinear(classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images.reshape(-1, *self.shape))


@mnist_ff.register("model", "small_cnn")
@dataclass(frozen=True)
class SmallCNNKeys:
    """A small convolutional network."""

    channels: Annotated[int, "channels of the first layer", mnist_ff.Range(at_least=1)] = 8

    def build(self, shape, classes):
        return SmallCNN(self.channels, shape, classes)


@mnist_ff.register("model", "normed")
@dataclass(frozen=True)
class Normed:
    """A multi-layer perceptron with batch normalisation."""

    hidden: Annotated[tuple[int, ...], "units of each hidden layer", mnist_ff.Range(at_least=1)] = (16,)
    act: Annotated[Literal["relu", "tanh"], "activation"] = "relu"

    def build(self, shape, classes):
        sizes = [torch.Size(shape).numel(), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, units in zip(sizes, self.hidden, strict=False):
            layers += [nn.Linear(inputs, units), nn.BatchNorm1d(units), nn.ReLU() if self.act == "relu" else nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


class Signs(torch.optim.Optimizer):
    def __init__(self, parameters, lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.sub_(group["lr"] * average.sign())


@mnist_ff.register("optimizer", "signs")
@dataclass(frozen=True)
class SignsKeys:
    """Steps along the sign of an averaged gradient."""

    lr: Annotated[float, "learning rate", mnist_ff.Range(above=0)] = 0.003
    momentum: Annotated[float, "decay of the average", mnist_ff.Range(at_least=0, below=1)] = 0.5

    def build(self, parameters):
        return Signs(parameters, lr=self.lr, momentum=self.momentum)


@mnist_ff.register("schedule", "halves")
@dataclass(frozen=True)
class Halves:
    """The rate halves at equal distances."""

    times: Annotated[int, "halvings in a run", mnist_ff.Range(at_least=1, at_most=20)] = 2

    def build(self):
        return lambda progress: 0.5 ** int(progress * self.times)


@mnist_ff.register("augment", "noise")
@dataclass(frozen=True)
class Noise:
    """Gaussian noise on the pixels."""

    std: Annotated[float, "standard deviation", mnist_ff.Range(at_least=0)] = 0.1

    def build(self, rng):
        def add(images):
            return (images + self.std * torch.randn(images.shape, generator=rng, device=rng.device)).clamp(0, 1)

        return add


@mnist_ff.register("data", "stripes")
@dataclass(frozen=True)
class Stripes:
    """A bright line for each class."""

    images: Annotated[int, "training images", mnist_ff.Range(at_least=10)] = 400
    classes: Annotated[int, "number of classes", mnist_ff.Range(at_least=2, at_most=12)] = 4

    def build(self):
        labels = torch.arange(self.images) % self.classes
        images = torch.zeros(self.images, 12, 12, dtype=torch.uint8)
        images[torch.arange(self.images), labels] = 255
        return {
            "train_images": images,
            "train_labels": labels,
            "test_images": images[:100],
            "test_labels": labels[:100],
            "classes": [f"line {number}" for number in range(self.classes)],
        }


@mnist_ff.register("metric", "largest_logit")
def largest_logit(model, split):
    images = split.images[:100].float() / 255
    return model(images).abs().max().item()


@mnist_ff.register("callback", "diary")
@dataclass
class Diary(mnist_ff.Callback):
    path: Annotated[str, "file to add a line to after each epoch"] = "diary.txt"

    def on_epoch_end(self, epoch):
        weights = sum(tensor.numel() for tensor in epoch.model.values())
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"epoch {epoch.epoch + 1}: {weights} weights\n")


class Lines(mnist_ff.Tracker):
    def __init__(self, name: str) -> None:
        self.name = name

    def begin(self, beginning, first_step):
        self.path = beginning.directory / self.name

    def tell(self, facts):
        self.write(*(f"{fact.step} {sorted(fact.metrics)}" for fact in facts))

    def end(self, ending, step):
        self.write(str(ending.status))

    def write(self, *lines):
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


@mnist_ff.register("tracker", "lines")
@dataclass(frozen=True)
class LinesKeys:
    """Writes a line for every fact into the run directory."""

    file: Annotated[str, "name of the file in the run directory"] = "lines.txt"

    def build(self):
        return Lines(self.file)
