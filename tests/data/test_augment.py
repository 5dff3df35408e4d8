"""Augmentation against an independent slow version, image by image and pixel by pixel in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mnist_ff.data.augment.affine import affine_maps
from mnist_ff.data.augment.build import Augment, build_augment
from mnist_ff.data.augment.elastic import ElasticConfig, elastic_fields
from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.errors import ConfigError
from mnist_ff.models.build import build_model
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.runs import WORDS
from tests.support.steps import CPU, assert_close, both

Command = Callable[..., tuple[int, str, str]]
Array = np.ndarray

COUNT = 3


def built(*words: str, seed: int = 0) -> Augment:
    augment = build_augment(make_config(*words).augment, seed, CPU)
    assert augment is not None
    return augment


def twin(augment: Augment) -> torch.Generator:
    """A generator in the state that the augmentation's is in."""
    rng = torch.Generator()
    rng.set_state(augment.rng.get_state())
    return rng


def images(count: int = COUNT) -> torch.Tensor:
    return torch.rand(count, 784, generator=torch.Generator().manual_seed(5))


def sampled(image: Array, x: float, y: float) -> float:
    """The image at a place between its pixels, bilinear; paper outside."""
    left, top = math.floor(x), math.floor(y)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < 28 and 0 <= column < 28:
                total += image[row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return total


def blurred(field: Array, sigma: float) -> Array:
    """A Gaussian over both axes, cut at four sigma, its whole weight one, zeros outside."""
    reach = math.ceil(4 * sigma)
    weights = np.array([math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-reach, reach + 1)])
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(field, [(reach, reach) if axis == other else (0, 0) for other in (0, 1)])
        field = sum(
            weight * np.take(padded, range(offset, offset + 28), axis=axis) for offset, weight in enumerate(weights)
        )
    return field


def slow(config: dict[str, float], pictures: Array, rng: torch.Generator) -> Array:
    """What the fast one must give, from the same draws."""
    count = len(pictures)
    draws = torch.rand(5, count, 1, 1, generator=rng).numpy() * 2 - 1 if "rotation" in config else None
    words = torch.empty(count * 392, dtype=torch.int64)
    fields = None
    if "sigma" in config:
        words.random_(-(2**63), None, generator=rng)
        fields = words.view(torch.int16).view(count, 2, 28, 28).numpy() / 32768
    result = np.zeros((count, 28, 28))
    for number, picture in enumerate(pictures.reshape(count, 28, 28)):
        bend = np.zeros((2, 28, 28))
        if fields is not None:
            bend = np.stack([blurred(field, config["sigma"]) * config["alpha"] for field in fields[number]])
        back = np.eye(3)
        if draws is not None:
            turn, lean, size, right, down = (float(draw[number, 0, 0]) for draw in draws)
            angle, slope = math.radians(turn * config["rotation"]), math.tan(math.radians(lean * config["shear"]))
            # what the digit goes through is this from right to left; a pixel looks for its source the other way
            moved = np.array([[1, 0, right * config["shift"]], [0, 1, down * config["shift"]], [0, 0, 1]])
            leant = np.array([[1, -slope, 0], [0, 1, 0], [0, 0, 1]])
            turned = np.array(
                [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
            )
            grown = np.diag([1 + size * config["scale"], 1 + size * config["scale"], 1])
            back = np.linalg.inv(moved @ leant @ turned @ grown)
        for row in range(28):
            for column in range(28):
                x, y, _ = back @ np.array([column - 13.5, row - 13.5, 1])
                place = (x + 13.5 + bend[0, row, column], y + 13.5 + bend[1, row, column])
                result[number, row, column] = sampled(picture, *place)
    return result.reshape(count, 784)


@pytest.mark.parametrize("name", ["affine", "elastic", "both"])
def test_augmentation_equals_a_slow_reference(name: str) -> None:
    augment = built(f"augment={name}")
    config = {key: value for key, value in vars(make_config(f"augment={name}").augment).items() if key != "name"}
    pictures, rng = images(), twin(augment)
    np.testing.assert_allclose(augment(pictures).numpy(), slow(config, pictures.double().numpy(), rng), atol=2e-4)


def test_shift_moves_each_image_by_whole_pixels() -> None:
    augment = built("augment=shift", "augment.pixels=3")
    pictures, rng = images(200), twin(augment)
    moves = torch.randint(0, 7, (2, 200, 1), generator=rng)[:, :, 0] - 3
    result = augment(pictures).view(-1, 28, 28)
    for number, (picture, (down, right)) in enumerate(zip(pictures.view(-1, 28, 28), moves.t().tolist(), strict=True)):
        for row in (0, 3, 14, 27):
            for column in (0, 3, 14, 27):
                inside = 0 <= row + down < 28 and 0 <= column + right < 28
                expected = picture[row + down, column + right] if inside else 0
                assert result[number, row, column] == expected
    assert set(moves.flatten().tolist()) == set(range(-3, 4))


def test_nothing_moves_where_all_amounts_are_zero() -> None:
    words = [f"augment.{key}=0" for key in ("rotation", "scale", "shear", "shift", "alpha")]
    pictures = images()
    torch.testing.assert_close(built("augment=both", *words)(pictures), pictures, atol=1e-5, rtol=0)
    assert build_augment(make_config().augment, 0, CPU) is None


def test_elastic_displacement_matches_its_config_comment() -> None:
    """A Gaussian's squared weights add up to 1 / (4 pi sigma^2) in a plane; an even draw has a variance of 1/3."""
    config = make_config("augment=elastic", "augment.alpha=34.0").augment
    assert isinstance(config, ElasticConfig)
    moves = elastic_fields(config, torch.Generator().manual_seed(0))(400, 28, 28)
    field = moves.view(400, 2, 28, 28)[:, :, 10:18, 10:18] * 14
    assert (
        float(field.std())
        == pytest.approx(34 / math.sqrt(3 * 4 * math.pi * 16), rel=0.05)
        == pytest.approx(1.4, rel=0.05)
    )


def test_augmentation_has_its_own_seeded_generator() -> None:
    pictures = images()
    first, again, other = built("augment=both"), built("augment=both"), built("augment=both", seed=1)
    one = first(pictures)
    assert torch.equal(one, again(pictures))
    assert not torch.equal(one, first(pictures)), "each batch has draws of its own"
    assert not torch.equal(one, other(pictures))


@pytest.mark.parametrize("name", ["shift", "both"])
def test_fused_and_eager_see_the_same_images(name: str) -> None:
    split = make_split(300)
    results = []
    for engine in ("eager", "fused"):
        config = make_config(f"augment={name}", "model.hidden=[16]", "trainer.batch_size=64")
        model = build_model(config.model, 0, CPU)
        augment = build_augment(config.augment, 0, CPU)
        trainer = replace(config.trainer, engine=engine)
        step, _ = build_step(StepParts(model, config.optimizer, trainer, split, augment=augment))
        results.append((torch.cat([step(torch.arange(300)) for _ in range(3)]), model))
    assert_close(results, 1e-5)
    assert (results[0][0] - both(split, "model.hidden=[16]", epochs=3)[0][0]).abs().max() > 1e-3


def test_run_keeps_a_picture_of_augmented_images(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import plots

    monkeypatch.setattr(plots, "DRAWINGS", {"augmented": plots.DRAWINGS["augmented"]})  # the others take seconds
    words = [*WORDS, "augment=both", "trainer.epochs=1", "trainer.plots=true", "trainer.threads=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=a")[0] == 0
    shown = load_file("a/augmented.safetensors")["images"]
    assert shown.shape == (10, 10, 28, 28)
    assert (shown[:, 1:] != shown[:, :1]).flatten(2).any(2).all()
    assert Path("a/plots/augmented.png").stat().st_size > 10_000


@pytest.mark.parametrize("shape", [(20, 12), (3, 32, 32), (1, 28, 28), (2, 9, 31), (5, 6)])
@pytest.mark.parametrize("name", ["shift", "affine", "elastic", "both"])
def test_images_of_any_shape_are_changed(name: str, shape: tuple[int, ...]) -> None:
    augment = build_augment(make_config(f"augment={name}").augment, 0, CPU, shape)
    assert augment is not None
    pictures = torch.rand(7, *shape, generator=torch.Generator().manual_seed(1))
    changed = augment(pictures)
    assert changed.shape == pictures.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1 + 1e-6
    assert (changed - pictures).abs().max() > 0.01


@pytest.mark.parametrize("name", ["shift", "affine", "elastic", "both"])
def test_every_channel_moves_as_a_grey_image_does(name: str) -> None:
    """The same random numbers for any number of channels."""
    grey, colour = (
        build_augment(make_config(f"augment={name}").augment, 3, CPU, shape) for shape in ((16, 24), (3, 16, 24))
    )
    assert grey is not None
    assert colour is not None
    pictures = torch.rand(5, 16, 24, generator=torch.Generator().manual_seed(2))
    for _ in range(2):
        changed = grey(pictures)
        torch.testing.assert_close(colour(pictures[:, None].repeat(1, 3, 1, 1)), changed[:, None].repeat(1, 3, 1, 1))


def test_a_rotation_keeps_distances_where_sides_differ() -> None:
    """A quarter turn of an image of 40 x 20 carries a point 6 rows below the middle 6 columns to its side."""
    words = ["augment.rotation=90", "augment.scale=0", "augment.shear=0", "augment.shift=0"]
    draw = affine_maps(make_config("augment=affine", *words).augment, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    maps = draw(500, 20.0, 10.0)
    places = maps @ torch.tensor([0.0, 6 / 20, 1.0])  # (500, 2), in halves of width and height
    distances = (places * torch.tensor([10.0, 20.0])).norm(dim=1)
    torch.testing.assert_close(distances, torch.full((500,), 6.0))
    assert places[:, 0].abs().max() > 0.5


def test_vectors_are_refused_by_name() -> None:
    augment = build_augment(make_config("augment=both").augment, 0, CPU, (50,))
    assert augment is not None
    with pytest.raises(ConfigError, match="augment: needs images with rows and columns, not vectors of 50 numbers"):
        augment(torch.rand(3, 50))
