"""Parts: made-up ones of each kind, from one file, are trained with; knowing the built-in ones needs no torch."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import yaml
from msgspec import Meta
from torch import nn

from mnist_ff.config import registry
from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.config.keys import known_keys
from mnist_ff.config.legacy import identity_fields, with_legacy_keys
from mnist_ff.config.overrides import holds_text
from mnist_ff.config.paths import conf_dir
from mnist_ff.config.registry import GROUPS, Part, names, parts, register
from mnist_ff.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrackerConfig,
)
from mnist_ff.data.catalog import DataSet, title_of
from mnist_ff.data.load import load_data
from mnist_ff.errors import ConfigError
from mnist_ff.runs.places import elsewhere
from mnist_ff.runs.records import DataSpec
from mnist_ff.trackers.base import Beginning, Ending, Tracker
from mnist_ff.trackers.heard import Fact
from mnist_ff.trackers.tracking import Tracking, chosen_trackers
from mnist_ff.training.callbacks import LossHistory
from mnist_ff.training.learner import Learner
from tests.support.configs import make_config


# what a user's file would hold: data
@dataclass(frozen=True)
class StripesConfig(DataConfig):
    images: Annotated[int, "training images", Meta(ge=10)]


def stripes(config: StripesConfig) -> dict[str, torch.Tensor]:
    labels = torch.arange(config.images, dtype=torch.uint8) % 10
    images = torch.zeros(config.images, 28, 28, dtype=torch.uint8)
    images[torch.arange(config.images), 2 * labels.long()] = 255
    return {"train_images": images, "train_labels": labels, "test_images": images[:10], "test_labels": labels[:10]}


# a model
@dataclass(frozen=True)
class LinearModelConfig(ModelConfig):
    scale: Annotated[float, "of the initial weights", Meta(gt=0)]


def linear(config: LinearModelConfig, spec: DataSpec, seed: int, device: torch.device) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Linear(spec.inputs, len(spec.classes))
    nn.init.normal_(model.weight, std=config.scale)
    return nn.Sequential(nn.Flatten(), model).to(device)


# an optimizer
@dataclass(frozen=True)
class SignConfig(OptimizerConfig):
    pass


class Sign(torch.optim.Optimizer):
    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.sub_(group["lr"] * parameter.grad.sign())


# a schedule
@dataclass(frozen=True)
class HalvingConfig(ScheduleConfig):
    times: Annotated[int, "halvings in a run", Meta(ge=1)]


def halving(config: HalvingConfig) -> Callable[[float], float]:
    return lambda done: 0.5 ** int(done * config.times)


# an augmentation
@dataclass(frozen=True)
class NoiseConfig(AugmentConfig):
    std: Annotated[float, "standard deviation", Meta(ge=0)]


def noise(config: NoiseConfig, rng: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda images: (images + config.std * torch.randn(images.shape, generator=rng)).clamp(0, 1)


# a tracker
@dataclass(frozen=True)
class ListConfig(TrackerConfig):
    label: Annotated[str, "of the list"]


HEARD: list[Fact] = []


class ListTracker(Tracker):
    title = "list"

    def __init__(self, config: ListConfig) -> None:
        self.place = config.label

    def begin(self, beginning: Beginning, first_step: int) -> None:
        HEARD.clear()

    def tell(self, facts: Sequence[Fact]) -> None:
        HEARD.extend(facts)

    def end(self, ending: Ending, step: int) -> None:
        pass


MADE_UP = [
    DataSet("data", "stripes", StripesConfig, stripes, title="Stripes", train_images=100, test_images=10),
    Part("model", "linear", LinearModelConfig, linear),
    Part("optimizer", "sign", SignConfig, lambda config, parameters: Sign(parameters, config.lr)),
    Part("schedule", "halving", HalvingConfig, halving, legacy={"times": 1}),
    Part("augment", "noise", NoiseConfig, noise),
    Part("tracker", "list", ListConfig, ListTracker),
]
YAML = """
seed: 0
name: null
data: {name: stripes, root: null, validation_split: 0.0, images: 100}
model: {name: linear, scale: 0.01}
optimizer: {name: sign, lr: 0.01}
schedule: {name: halving, warmup: 0, times: 2}
augment: {name: noise, std: 0.1}
logger: {list: {label: here}}
"""


@pytest.fixture
def made_up() -> Iterator[Config]:
    """The config above, with its parts registered."""
    for part in MADE_UP:
        register(part)
    trainer = config_to_dict(make_config(trainer__epochs=1, trainer__batch_size=10))["trainer"]
    yield config_from({**yaml.safe_load(YAML), "trainer": trainer})
    for part in MADE_UP:
        del registry._parts[part.group][part.name]
    for clear in registry._caches:
        clear()


def trained(config: Config, *observers: Any) -> list[float]:
    learner, history = Learner(config, load_data(config.data, 0)), LossHistory()
    learner.fit(learner.plan(), [history, *observers], lambda: None)
    return history.losses


def test_a_run_of_made_up_parts_learns(made_up: Config, tmp_path: Path) -> None:
    (tracker,) = chosen_trackers(made_up.logger)
    tracking = Tracking(tracker, Beginning("0" * 16, tmp_path, "run", None, {}, {}), pytest.fail)
    losses = trained(made_up, tracking)
    tracking.tell_end(Ending("finished", None))
    tracking.wait(lambda: float("inf"))
    assert len(losses) == 10
    assert losses[-1] < 0.6 * losses[0]
    rates = [fact.metrics["batch/lr"] for fact in HEARD if "batch/lr" in fact.metrics]
    assert rates == [0.01] * 5 + [0.005] * 5
    assert trained(made_up) == losses


@pytest.mark.parametrize("group", [group for group in GROUPS if group not in ("tracker", "metric", "callback")])
def test_each_made_up_part_alone_joins_the_built_in_ones(made_up: Config, group: str) -> None:
    base = make_config("data=mnist_5k", model__hidden=(8,), trainer__epochs=1, trainer__batch_size=1000)
    config = dataclasses.replace(base, **{group: getattr(made_up, group)})
    if group == "data":
        config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, batch_size=10))
    assert trained(config)
    assert config_from(config_to_dict(config)) == config


def test_a_made_up_part_has_help_ranges_nearest_names_and_legacy_values(made_up: Config) -> None:
    assert known_keys()["schedule.times"] == "halvings in a run"
    assert holds_text("logger.list.label")
    assert elsewhere(made_up.logger) == {"list": "label=here"}
    assert title_of("stripes", None) == "Stripes"
    plain = config_to_dict(made_up)
    for key, value, message in (
        ("times", 0, "schedule.times=0: must be at least 1"),
        ("tims", 1, "did you mean times?"),
        ("peak_at", 0.5, "it belongs to: schedule=one_cycle"),
        ("name", "halvin", "did you mean halving?"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_from({**plain, "schedule": {**plain["schedule"], key: value}})
    del plain["schedule"]["times"]
    with pytest.raises(ConfigError, match=r"schedule\.times: is missing"):
        config_from(plain)
    old = config_from(with_legacy_keys(plain))
    assert old.schedule == HalvingConfig("halving", 0, 1)
    assert "times" not in identity_fields(old)["schedule"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part("schedule", "cosine", HalvingConfig, halving), "schedule=cosine: registered twice"),
        (Part("shedule", "halves", HalvingConfig, halving), "did you mean schedule?"),
        (Part("augment", "halves", HalvingConfig, halving), "must be a frozen dataclass derived from AugmentConfig"),
        (Part("schedule", "Half-life", HalvingConfig, halving), "lower-case letters"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(part: Part, message: str) -> None:
    registry.part("schedule", "cosine")
    with pytest.raises(ConfigError, match=message):
        register(part)


def test_registering_the_same_part_again_changes_nothing() -> None:
    register(registry.part("schedule", "cosine"))


@pytest.mark.parametrize("group", [group for group in GROUPS if group not in ("metric", "callback")])
def test_each_built_in_part_has_keys_with_meanings_and_a_file(group: str) -> None:
    folder = conf_dir() / str(GROUPS[group].folder)
    options = {path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_")}
    assert set(names(group)) == options
    prefix = "logger" if group == "tracker" else group
    meanings = {key: meaning for key, meaning in known_keys().items() if key.startswith(f"{prefix}.")}
    assert meanings
    assert all(meanings.values())
    assert all(part.name == name for name, part in parts(group).items())


def test_knowing_every_part_imports_nothing_slow() -> None:
    code = (
        "import sys; from mnist_ff.config.keys import known_keys; assert known_keys();"
        "print({'torch', 'numpy', 'hydra', 'omegaconf', 'matplotlib'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_saved_keys_have_the_order_of_the_dataclass() -> None:
    """Whatever the order in which they were given: the bytes of config.yaml are the same."""
    values = config_to_dict(make_config())
    mixed = {
        section: dict(sorted(keys.items())) if isinstance(keys, dict) else keys for section, keys in values.items()
    }
    saved = config_to_dict(config_from(mixed))
    assert list(saved["model"]) == ["name", "hidden", "dropout", "input_dropout", "input_noise", "activation", "init"]
    assert list(saved["schedule"]) == ["name", "warmup"]


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("data", "root", True, "data.root=True: must be a text, or null"),
        ("data", "mirrors", [True], "data.mirrors[0]=True: must be a text"),
        ("model", "hidden", ["\ud800"], "model.hidden=\\ud800: its character 1 is not valid UTF-8"),
    ],
)
def test_a_wrong_type_is_explained(section: str, key: str, value: object, message: str) -> None:
    values = config_to_dict(make_config())
    with pytest.raises(ConfigError, match=re.escape(message)):
        config_from({**values, section: {**values[section], key: value}})


def test_the_least_integer_of_64_bits_is_kept_as_text() -> None:
    assert config_from({**config_to_dict(make_config()), "name": -(2**63)}).name == str(-(2**63))
