"""Configs after the first are those that Hydra alone would compose, and take from the files only what has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from mnist_ff.config import compose as composing
from mnist_ff.config.compose import Composer, compose
from mnist_ff.config.options import using_folders

OVERRIDES = [
    [],
    ["optimizer=adam", "optimizer.lr=0.1", "model.hidden=[8]", "name=a"],
    ["experiment=augmented", "seed=1"],
    ["experiment=augmented", "optimizer=sgd", "seed=2"],
    ["logger=[tensorboard,mlflow]", "metrics=[calibration]"],
    ["data=mnist_5k", "hydra.run.dir=elsewhere", "+hydra.job.env_set.A=1", "+trainer.steps=3"],
    ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "~schedule"],
]


def whole(composer: Composer, overrides: list[str], mode: RunMode) -> tuple[str, bool | None]:
    found = composer._load(overrides, mode)
    return OmegaConf.to_yaml(found), OmegaConf.is_struct(found)


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
def test_configs_are_those_of_hydra_alone(mode: RunMode, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [whole(Composer(), overrides, mode) for overrides in [*OVERRIDES, *OVERRIDES]]
    monkeypatch.setattr(composing, "KeptLoader", lambda search_path, state: ConfigLoaderImpl(search_path))
    alone = [whole(Composer(), overrides, mode) for overrides in OVERRIDES]
    assert kept == [*alone, *alone]
    assert len({text for text, _ in alone}) == len(OVERRIDES)


def test_a_changed_config_changes_no_other() -> None:
    first = Composer()._load(["optimizer=adam"], RunMode.RUN)
    with open_dict(first):
        first.optimizer.lr = 7
        first.optimizer.more = {"deep": 1}
        first.hydra.job.name = "other"
        del first["model"]
    second = Composer()._load(["optimizer=adam"], RunMode.RUN)
    assert second.optimizer.lr == compose(["optimizer=adam"]).optimizer.lr != 7
    assert "model" in second
    assert "more" not in second.optimizer
    assert second.hydra.job.name == "mnist-ff"


def test_unchanged_files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["data=mnist_5k", "optimizer=adam"]
    first = compose(words)
    read: list[object] = []
    load = OmegaConf.load
    monkeypatch.setattr(OmegaConf, "load", lambda file: read.append(file) or load(file))
    assert compose([*words, "seed=5"]).optimizer == first.optimizer
    assert read == []
    compose([*words, "optimizer=sgd"])
    assert len(read) <= 2


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "optimizer" / "slow.yaml"
    path.parent.mkdir(parents=True)

    def rate() -> float:
        with using_folders([tmp_path / "mine"]):
            return compose(["optimizer=slow"]).optimizer.lr

    path.write_text("defaults: [rmsprop]\nlr: 0.25\n")
    assert (rate(), rate()) == (0.25, 0.25)
    path.write_text("defaults: [rmsprop]\nlr: 0.5\n")
    assert rate() == 0.5
    other = path.with_suffix(".other")  # of the same size and time, renamed to its place
    other.write_text("defaults: [rmsprop]\nlr: 0.7\n")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert rate() == 0.7


def test_each_config_has_a_directory_of_its_own() -> None:
    """What is looked up once for a config, such as the time, is not looked up for all of them."""
    assert len({Composer().run(["optimizer=adam"]).directory for _ in range(5)}) == 5


def test_the_time_is_looked_up_for_each_config() -> None:
    words = ["hydra.run.dir=${now:%s_%f}"]  # seconds and microseconds
    first, second = (Composer().run(words).directory for _ in range(2))
    assert first < second


def test_the_working_folder_is_the_one_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose()
    monkeypatch.chdir(tmp_path)
    assert Composer().run([]).composed.hydra.runtime.cwd == str(tmp_path)
