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
    "hidden_layer_sizes=100,50": "model.hidden=[100,50]",
    "hidden_layer_sizes=(100,50)": "model.hidden=[100,50]",
    "hidden_layer_sizes=(100, 50)": "model.hidden=[100,50]",
    "device=0,1": "trainer.device=cuda:0",
    "max_time=00:01:30": "trainer.max_seconds=90",
    "timeout=2m": "trainer.max_seconds=120",
    "target=98%": "trainer.target_accuracy=0.98",
    "target=0.98": "trainer.target_accuracy=0.98",
    "monitor=val_acc": "trainer.monitor=validation_accuracy",
    "lrf=0.01": "schedule.final=0.01, a key of schedule=cosine, linear, one_cycle",
    "gamma=0.1": "schedule.factor=0.1, a key of schedule=step",
    "reduce_lr_on_plateau=true": "schedule=cosine",
    "limit_train_batches=0.1": "trainer.limit_batches=10",
    "val_check_interval=0.5": "trainer.evaluate_every=1",
    "fast_dev_run=true": "experiment=debug",
    "overfit_batches=1": "experiment=overfit",
    "tol=1e-4": "trainer.min_delta=1e-4",
    "learning_rate=adaptive": "optimizer.lr=0.001",
    "model.init_weights=xavier": "model.init=glorot_uniform",
}
"""Overrides that people try, and the right ones."""
ABSENT = {
    "imgsz=64": "28 x 28 for MNIST",
    "verbose=1": "mnist_ff.train(verbose=0)",
    "loss=mse": "cross-entropy",
    "workers=8": "trainer.threads=8",
    "project=digits": "name=digits for a label",
    "fliplr=0.5": "type augment=affine",
    "warmup_epochs=3": "schedule.warmup=BATCHES",
    "batchnorm=true": "--parts FILE.py",
    "warm_start=true": "resume=RUN",
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
    ("typed", "right"),
    [
        ("trainer.device=gpu", "trainer.device=cuda"),
        ("trainer.precision=16-mixed", "trainer.precision=bf16"),
        ("trainer.max_seconds=1m", "trainer.max_seconds=60"),
        ("trainer.target_accuracy=98", "trainer.target_accuracy=0.98"),
        ("data.validation_split=20%", "data.validation_split=0.2"),
        ("trainer.patience=true", "trainer.patience=3"),
        ("model.activation=swish", "model.activation=silu"),
        ("model.init=xavier", "model.init=glorot_uniform"),
        ("model.hidden=64", "must be a list, such as model.hidden=[64]"),
        ("model.hidden=64,32", "a list is model.hidden=[64,32]; -m makes a run of each"),
        ("optimizer.lr=0.1,0.2", "optimizer.lr=0.1,0.2: has several values; -m makes a run of each"),
        ("name=a,b", """a text with a comma needs quotes: 'name="a,b"'; -m makes"""),
        ("callbacks=EarlyStopping", "is not built in; trainer.patience=3 does that"),
        ("callbacks=[ModelCheckpoint]", "trainer.checkpoint_epochs=1 sets"),
        ("schedule=ReduceLROnPlateau", "did you mean cosine?"),
        ("metrics=[accuracy]", "loss and accuracy are always measured"),
        ("resume=True", "type resume=last"),
    ],
)
def test_a_value_of_another_library_leads_to_the_right_one(typed: str, right: str, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", typed)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert right in err
    assert err.count("type ") + err.count("did you mean") <= 1, "one remedy"
    if " " not in right and "resume" not in right:
        Composer().run([right]).config()


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
        (("--parts", "x.py", "train"), "--parts: options come after the command: mnist-ff train --parts x.py"),
        (("-m", "train", "seed=0,1"), "-m: options come after the command: mnist-ff train -m seed=0,1"),
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
