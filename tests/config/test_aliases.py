"""Messages about keys, flags and commands of other libraries suggest the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import mnist_ff as package
from mnist_ff.cli import COMMANDS
from mnist_ff.config import aliases
from mnist_ff.config.compose import Composer
from mnist_ff.config.keys import known_keys
from mnist_ff.errors import ConfigError
from tests.support.commands import Command

TYPED = {
    "lr=0.01": "optimizer.lr=0.01",
    "optimizer.learning_rate=0.01": "optimizer.lr=0.01",
    "learningRate=0.01": "optimizer.lr=0.01",
    "lr0=0.01": "optimizer.lr=0.01",
    "epochs=5": "trainer.epochs=5",
    "max_epochs=5": "trainer.epochs=5",
    "batch=64": "trainer.batch_size=64",
    "batch_size=64": "trainer.batch_size=64",
    "model.dropout_rate=0.2": "model.dropout=0.2",
    "dropout=0.2": "model.dropout=0.2",
    "hidden_units=128": "model.hidden=[128]",
    "units=[64,32]": "model.hidden=[64,32]",
    "layers=3": "model.hidden=[500,300]",
    "activation=tanh": "model.activation=tanh",
    "momentum=0.9": "optimizer.momentum=0.9, a key of optimizer=rmsprop_torch, sgd",
    "weight_decay=0.01": "optimizer.weight_decay=0.01",
    "wd=0.01": "optimizer.weight_decay=0.01",
    "patience=3": "trainer.patience=3",
    "early_stopping=true": "trainer.patience=3",
    "device=0": "trainer.device=cuda:0",
    "device=cpu": "trainer.device=cpu",
    "gpu=true": "trainer.device=cuda",
    "gpus=2": "trainer.device=cuda",
    "accelerator=gpu": "trainer.device=cuda",
    "num_threads=2": "trainer.threads=2",
    "val_split=0.1": "data.validation_split=0.1",
    "validation_split=0.1": "data.validation_split=0.1",
    "dataset=kmnist": "data=kmnist",
    "optim=SGD": "optimizer=sgd",
    "scheduler=CosineAnnealingLR": "schedule=cosine",
    "warmup_steps=100": "schedule.warmup=100",
    "run_name=first": "name=first",
    "random_state=1": "seed=1",
    "amp=true": "trainer.precision=bf16",
    "half=true": "trainer.precision=bf16",
    "precision=16-mixed": "trainer.precision=bf16",
    "precision=32": "trainer.precision=fp32",
    "log_every_n_steps=10": "trainer.sync_every=10",
    "gradient_clip_val=1": "trainer.clip_norm=1",
    "save_best_only=true": "trainer.keep_best=true",
    "output_dir=there": "hydra.run.dir=there",
    "wandb=true": "logger=wandb",
}
"""Overrides that people try, and the right ones."""
ABSENT = {
    "imgsz=64": "28 x 28 for MNIST",
    "verbose=1": "mnist_ff.train(verbose=0)",
    "loss=mse": "cross-entropy",
    "workers=8": "trainer.threads=8",
    "project=digits": "name=digits for a label",
}
"""Overrides of settings that do not exist here, and a part of the message."""


@pytest.mark.parametrize(("typed", "right"), [*TYPED.items(), *ABSENT.items()])
def test_a_name_of_another_library_leads_to_the_right_key(typed: str, right: str) -> None:
    with pytest.raises(ConfigError) as error:
        Composer().check([typed])
    message = str(error.value)
    key = typed.partition("=")[0]
    assert message.startswith(f"{typed}: no such key {key}; {'type ' if typed in TYPED else ''}"), message
    assert right in message
    assert "\n" not in message


def test_every_suggestion_is_accepted() -> None:
    composer = Composer()
    for typed, right in TYPED.items():
        composer.check([right.partition(",")[0] if ", a key" in right else right])
        assert aliases.meant(typed.partition("=")[0]) is not None


def test_every_target_exists_and_no_name_is_listed_twice() -> None:
    names = {*aliases.every_name(), "trainer.max_seconds"}
    assert set(aliases.WORDS) <= names
    words = [
        aliases.plain(word) for listed in [*aliases.WORDS.values(), *aliases.UNSUPPORTED] for word in listed.split()
    ]
    assert sorted({word for word in words if words.count(word) > 1}) == []
    last = {aliases.plain(key.rpartition(".")[2]) for key in known_keys()}
    assert last & set(words) == {"project"}


@pytest.mark.parametrize(
    "words", [("train",), ("train", "-m"), ("lr-find",), ("bench",), ("reproduce", "tutorial")], ids=" ".join
)
def test_every_command_with_overrides_suggests_the_key(words: tuple[str, ...], mnist_ff: Command) -> None:
    code, _, err = mnist_ff(*words, "epochs=5")
    assert (code, err) == (2, "error: epochs=5: no such key epochs; type trainer.epochs=5\n")
    code, _, err = mnist_ff(*words, "--lr", "0.01")
    assert (code, err) == (2, "error: --lr: overrides have no dashes; type optimizer.lr=0.01\n")


def test_from_python() -> None:
    with pytest.raises(ConfigError, match=r"lr=0\.01: no such key lr; type optimizer\.lr=0\.01"):
        package.train("lr=0.01")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epochs",), "--epochs: overrides have no dashes; type trainer.epochs=VALUE"),
        (("--batch-size=64",), "--batch-size: overrides have no dashes; type trainer.batch_size=64"),
        (("--optimizer", "Adam"), "--optimizer: overrides have no dashes; type optimizer=adam"),
        (("--amp",), "--amp: overrides have no dashes; type trainer.precision=bf16"),
        (("--shuffle",), "--shuffle: overrides have no dashes; type trainer.shuffle=true"),
        (("--no-shuffle",), "--no-shuffle: overrides have no dashes; type trainer.shuffle=false"),
        (("--imgsz", "64"), "--imgsz: no such flag; images keep the size"),
        (("--multirum",), "--multirum: no such flag; did you mean --multirun?; see mnist-ff train --help"),
        (("--tracking-uri", "postgresql://me:secret@host/x"), "type logger.mlflow.tracking_uri=VALUE"),
        (("epochs",), "epochs: has no =\ndid you mean trainer.epochs=VALUE?"),
        (("optimizer=SGD",), "did you mean sgd?"),
        (("-m", "seed=0,1", "hydra/launcher=jblib"), "did you mean joblib?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_flags_and_values(words: tuple[str, ...], said: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *words)
    assert code == 2
    assert said in err
    assert "secret" not in err


def test_a_flag_of_a_command_without_overrides(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("runs", "--jsn")
    assert (code, err) == (2, "error: --jsn: no such flag; did you mean --json?; see mnist-ff runs --help\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list",), "list: no such command; type mnist-ff runs"),
        (("eval", "last"), "eval: no such command; type mnist-ff evaluate"),
        (("sweep",), "sweep: no such command; type mnist-ff train -m"),
        (("optimizer.lr=0.1",), "optimizer.lr=0.1: no such command; type mnist-ff train optimizer.lr=0.1"),
        (("trian",), "did you mean train?"),
        (("--parts", "x.py", "train"), "--parts: options stand after the command: mnist-ff train --parts x.py"),
        (("-m", "train", "seed=0,1"), "-m: options stand after the command: mnist-ff train -m seed=0,1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands(words: tuple[str, ...], said: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff(*words)
    assert code == 2
    assert said in err


def test_every_command_that_is_named_exists() -> None:
    known = {*COMMANDS, "serve", "--version"}
    assert {name.split()[0] for name in aliases.COMMANDS} <= known
    words = [word for listed in aliases.COMMANDS.values() for word in listed.split()]
    assert not set(words) & set(COMMANDS)
    assert sorted({word for word in words if words.count(word) > 1}) == []


def test_a_wrong_key_in_a_users_file_gets_the_right_one(mnist_ff: Command) -> None:
    Path("own/optimizer").mkdir(parents=True)
    Path("own/optimizer/mine.yaml").write_text("defaults: [sgd]\nlearning_rate: 0.1\n")
    code, _, err = mnist_ff("train", "--config-dir", "own", "optimizer=mine")
    assert code == 2
    assert "optimizer.learning_rate: no such key" in err
    assert "did you mean lr?" in err
