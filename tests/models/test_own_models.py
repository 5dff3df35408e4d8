"""What a user's model must be, told in one line; what its state is, seen without its memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mnist_ff.config import own_parts, registry
from mnist_ff.config.registry import Part
from mnist_ff.config.schema import ModelConfig
from mnist_ff.errors import BadRunError, PartError
from mnist_ff.models.build import build_model, described_state
from mnist_ff.models.user_module import must_be_finite
from mnist_ff.runs.records import DataSpec
from mnist_ff.training.checkpoint import load_weights, save_weights
from tests.support.configs import make_config
from tests.support.steps import CPU

PARTS = str(Path(__file__).parents[1] / "support" / "own_models.py")
SPEC = DataSpec((3, 6, 5), ("a", "b", "c", "d"))


@pytest.fixture
def built() -> Iterator[Callable[[Callable[[], Any]], nn.Module]]:
    """Build what a function returns as the model of a made-up part."""

    def build(make: Callable[[], Any]) -> nn.Module:
        part = Part("model", "made", ModelConfig, lambda *_: make())
        registry.unregister(part)
        registry.register(part)
        made.append(part)
        return build_model(ModelConfig("made"), 0, CPU, SPEC)

    made: list[Part] = []
    yield build
    for part in made[-1:]:
        registry.unregister(part)


def linear(outputs: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(90, outputs))


class Returning(nn.Module):
    def __init__(self, change: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layers, self.change = linear(), change

    def forward(self, x: torch.Tensor) -> Any:
        return self.change(self.layers(x))


class ExtraState(nn.Sequential):
    def get_extra_state(self) -> Any:
        return {"epoch": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


class Pinned(nn.Sequential):
    """Keeps a buffer elsewhere, whatever to() says."""

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        super()._apply(function, recurse)
        self.register_buffer("table", torch.zeros(3, device="meta"))
        return self


class Unused(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*linear())
        self.extra = nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> Any:
        return self[1](self[0](x))


def with_buffer(value: torch.Tensor) -> nn.Module:
    model = linear()
    model.register_buffer("kept", value)
    return model


WRONG = {
    "a class": (lambda: nn.Linear, "is the class Linear; give an instance of it"),
    "no module": (lambda: "net", "is a str, not a torch.nn.Module"),
    "a tuple": (lambda: Returning(lambda y: (y, y)), "returns a tuple, not a tensor of (B, 4) logits"),
    "a dict": (lambda: Returning(lambda y: {"logits": y}), "returns a dict, not a tensor of (B, 4) logits"),
    "other classes": (lambda: linear(5), "maps (2, 3, 6, 5) to (2, 5) float32, not to (2, 4) logits"),
    "classes as numbers": (lambda: Returning(lambda y: y.argmax(1)), "to (2,) int64, not to (2, 4) logits"),
    "other images": (lambda: nn.Linear(784, 4), "fails on (2, 3, 6, 5) float32 images (RuntimeError: "),
    "float16": (lambda: linear().half(), "1.weight is float16, and images are float32; give model.float()"),
    "no parameters": (lambda: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(4)), "has no trainable parameters"),
    "all frozen": (lambda: linear().requires_grad_(False), "has no trainable parameters; see requires_grad_()"),
    "state that is no tensor": (lambda: ExtraState(*linear()), "state_dict() has a dict under _extra_state"),
    "a complex buffer": (lambda: with_buffer(torch.zeros(2, dtype=torch.complex64)), "kept is complex64"),
    "a sparse buffer": (lambda: with_buffer(torch.eye(3).to_sparse()), "kept is sparse_coo, which cannot be saved"),
    "two devices": (lambda: Pinned(*linear()), "table stays on meta; a model must be on one device, here cpu"),
    "a lazy layer that is not used": (Unused, "extra.weight is still uninitialised"),
}


@pytest.mark.parametrize(("make", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_no_model_is_one_line(make: Callable[[], Any], reason: str, built: Any) -> None:
    with pytest.raises(PartError) as caught:
        built(make)
    text = str(caught.value)
    assert text.startswith("model=made: ")
    assert reason in text
    assert "\n" not in text


def test_a_failing_forward_keeps_its_own_error(built: Any) -> None:
    def fail(y: torch.Tensor) -> Any:
        raise KeyError("heads")

    with pytest.raises(PartError, match="KeyError") as caught:
        built(lambda: Returning(fail))
    assert isinstance(caught.value.__cause__, KeyError)


def test_own_weights_are_a_function_of_the_seed_alone(built: Any) -> None:
    with own_parts.loaded([PARTS]):
        config = make_config("model=cnn").model
        before = torch.get_rng_state()
        first = build_model(config, 3, CPU, SPEC).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(5)
        again, other = (build_model(config, seed, CPU, SPEC).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


@pytest.mark.parametrize("name", ["noisy", "cnn"])
def test_a_models_state_is_described_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.models import build

    with own_parts.loaded([PARTS]):
        config = make_config(f"model={name}").model
        real = build_model(config, 0, CPU, SPEC).state_dict()
        monkeypatch.setattr(build, "build_model", lambda *_: pytest.fail("the meta device suffices"))
        found = described_state(config, SPEC, 0)
    assert {key: entry.shape for key, entry in found.items()} == {key: tuple(t.shape) for key, t in real.items()}
    assert [entry.kinds for key, entry in found.items() if key.endswith("num_batches_tracked")] == [("I64",)]


def test_a_builder_that_needs_numbers_is_built_for_its_state(built: Any) -> None:
    def make() -> nn.Module:
        model = linear()
        model[1].weight.data = torch.from_numpy(np.ones((4, 90), np.float32)) * float(
            model[1].bias.detach().sum() * 0 + 1
        )
        return model

    built(make)
    assert described_state(ModelConfig("made"), SPEC, 0)["1.weight"].shape == (4, 90)


def test_such_a_builder_makes_nothing_larger_than_the_file(built: Any) -> None:
    numbers = [90]

    def make() -> nn.Module:
        model = linear()
        model.table = nn.Parameter(torch.randn(numbers[0], 10**6 if numbers[0] > 90 else 1) * float(torch.ones(())))
        return model

    built(make)
    numbers[0] = 10**6  # 4 TB
    with pytest.raises(BadRunError, match=r"too small for the network of its config\.yaml"):
        described_state(ModelConfig("made"), SPEC, 1000)


def test_weights_of_every_layout_are_saved_and_loaded(tmp_path: Path) -> None:
    def make() -> nn.Sequential:
        model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(5, 4), nn.Linear(5, 4).bfloat16())
        model.to(memory_format=torch.channels_last)
        model[3].weight = nn.Parameter(torch.zeros(5, 4, dtype=torch.bfloat16).T)
        model.tied = model[2]
        model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        return model

    model = make()
    assert "mask" not in must_be_finite(model)
    assert {"0.weight", "1.running_var", "tied.weight", "2.weight"} <= set(must_be_finite(model))
    model[1].num_batches_tracked.fill_(7)
    save_weights(tmp_path / "w", model)
    saved = load_file(tmp_path / "w")
    assert torch.equal(saved["2.weight"], saved["tied.weight"])
    other = make()
    load_weights(tmp_path / "w", other)
    assert int(other[1].num_batches_tracked) == 7
    assert other.tied is other[2]
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
