"""Own config folders: --config-dir and MNIST_FF_CONFIG_DIR give options beside those of conf/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnist_ff.cli import COMMANDS
from mnist_ff.commands.completion import candidates
from mnist_ff.config.compose import Composer, compose
from mnist_ff.config.options import options, using_folders
from mnist_ff.errors import ConfigError
from tests.support.commands import Command

FILES = {
    "optimizer/slow.yaml": "defaults: [rmsprop]\nlr: 0.0005\n",
    "optimizer/slower.yaml": "defaults:\n  - slow\n  - _self_\nrho: 0.8\n",
    "optimizer/plain.yaml": "name: sgd\nlr: 0.5\nmomentum: 0.0\nnesterov: false\nweight_decay: 0.0\n",
    "trainer/quick.yaml": "defaults: [default]\nepochs: 1\nplots: false\nscore_train: 0\n",
    "data/tiny.yaml": "defaults: [mnist_5k]\nvalidation_split: 0.25\n",
    "schedule/wavy.yaml": "defaults: [/schedule/cosine@_here_]\nwarmup: 3\n",
    "logger/board.yaml": "defaults: [tensorboard]\n",
    "logger/server.yaml": "# @package logger.mlflow\ntracking_uri: sqlite:///mine.db\nexperiment: mine\n",
    "hydra/launcher/pair.yaml": "defaults: [joblib]\nn_jobs: 2\n",
    "hydra/sweeper/short.yaml": "defaults: [optuna]\nn_trials: 3\n",
    "sweep/pair.yaml": "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 1,2\n",
    "experiment/mine.yaml": """\
# @package _global_
defaults:
  - override /optimizer: slow
  - override /data: mnist_5k
  - override /trainer: quick
model:
  hidden: [8]
""",
}


def write(folder: str, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Path(folder).absolute()


@pytest.fixture
def own() -> Path:
    """A folder with one option of every group."""
    return write("own", FILES)


def offered(line: str) -> list[str]:
    *before, current = line.split(" ")
    return candidates(before, current, COMMANDS)


def test_a_part_has_several_files(own: Path) -> None:
    with using_folders([own]):
        assert options().part("optimizer", "slower") == "rmsprop"
        assert options().part("logger", "server") == "mlflow"
        slower = compose(["optimizer=slower"]).optimizer
        assert vars(slower) == vars(
            compose(["optimizer=rmsprop", "optimizer.lr=0.0005", "optimizer.rho=0.8"]).optimizer
        )
        assert compose(["optimizer=plain"]) == compose(["optimizer=sgd", "optimizer.lr=0.5"])
        assert compose(["schedule=wavy"]) == compose(["schedule=cosine", "schedule.warmup=3"])
        config = compose(["experiment=mine", "optimizer.rho=0.7"])
        assert (config.optimizer.name, config.optimizer.lr, config.data.name) == ("rmsprop", 0.0005, "mnist_5k")
        assert (vars(config.optimizer)["rho"], config.trainer.epochs) == (0.7, 1)
        assert [name for name, _ in compose(["logger=[board,server]"]).logger] == ["tensorboard", "mlflow"]
    with pytest.raises(ConfigError, match="optimizer=slow: must be one of"):
        compose(["optimizer=slow"])


def test_the_variable_and_the_flag_name_folders(mnist_ff: Command, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write("other", {"optimizer/other.yaml": "defaults: [adam]\nlr: 0.5\n"})
    monkeypatch.setenv("MNIST_FF_CONFIG_DIR", os.pathsep.join(["own", str(own), ""]))
    code, out, _ = mnist_ff("train", "--config-dir", "other", "--cfg", "job", "-p", "optimizer", "optimizer=other")
    assert (code, out.count("name: adam\n")) == (0, 1)
    assert compose(["optimizer=slow"]).optimizer.lr == 0.0005
    code, out, _ = mnist_ff("train", f"--config-dir={other}", "--help")
    assert code == 0
    assert "| other | plain |" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = mnist_ff("reproduce", "--help")
    assert "mine" in out


def test_unknown_options_name_the_nearest_of_all(mnist_ff: Command, own: Path) -> None:
    for word, advice in {
        "optimizer=slwo": "did you mean slow?",
        "experiment=mined": "did you mean mine?",
        "hydra/launcher=pairs": "did you mean pair?",
        "hydra/sweeper=shrt": "did you mean short?",
    }.items():
        code, out, err = mnist_ff("train", "-m", "--config-dir", "own", word, "seed=1,2")
        assert (code, out) == (2, "")
        assert advice in err, err
    assert not Path("outputs").exists()


def test_completion_knows_own_options(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "optimizer=slow " not in offered("train optimizer=s")
    for line in ("train --config-dir own ", "lr-find --config-dir=own ", "bench --config-dir own "):
        assert {"optimizer=slow ", "optimizer=slower ", "optimizer=sgd "} <= set(offered(f"{line}optimizer=s"))
    assert "mine " in offered("reproduce --config-dir own m")
    assert offered("train --config-dir own optimizer=slow optimizer.") == [
        f"optimizer.{key}=" for key in ("lr", "rho", "eps", "weight_decay")
    ]
    assert offered("train -m --config-dir own hydra/launcher=pair hydra.launcher.") == ["hydra.launcher.n_jobs="]
    assert "logger.mlflow.tracking_uri=" in offered("train --config-dir own logger=[server,board] logger.")
    assert offered("train --config-dir ") == []
    monkeypatch.setenv("MNIST_FF_CONFIG_DIR", "own")
    assert "experiment=mine " in offered("train experiment=m")
    monkeypatch.setenv("MNIST_FF_CONFIG_DIR", "nowhere")
    assert offered("train optimizer=sg") == ["optimizer=sgd "]


def _unreadable(own: Path) -> None:
    (own / "optimizer" / "bytes.yaml").write_bytes(b"lr: \xff\xfe")


def _loop(own: Path) -> None:
    (own / "optimizer" / "loop.yaml").symlink_to("loop.yaml")


def _group_loop(own: Path) -> None:
    (own / "model").symlink_to("model")


def _fifo(own: Path) -> None:
    os.mkfifo(own / "optimizer" / "pipe.yaml")


def _same_twice(own: Path) -> None:
    write("own2", {"optimizer/slow.yaml": "name: adam\n"})


BROKEN = {
    "a clash": (
        {"optimizer/adam.yaml": "name: adam\n"},
        ["own/optimizer/adam.yaml", "built-in", "conf/optimizer/adam.yaml"],
    ),
    "a clash of a part of others": ({"data/_base.yaml": "root: x\n"}, ["own/data/_base.yaml", "conf/data/_base.yaml"]),
    "a clash with Hydra": ({"hydra/launcher/basic.yaml": "n_jobs: 1\n"}, ["own/hydra/launcher/basic.yaml", "built in"]),
    "two folders": (_same_twice, ["own2/optimizer/slow.yaml", "own/optimizer/slow.yaml", "rename"]),
    "no YAML": ({"optimizer/bad.yaml": "a: [1\n"}, ["own/optimizer/bad.yaml", "not readable as YAML"]),
    "bytes": (_unreadable, ["own/optimizer/bytes.yaml", "not readable as YAML"]),
    "code": ({"optimizer/bad.yaml": "a: !!python/name:os.system\n"}, ["own/optimizer/bad.yaml", "not readable"]),
    "a list": ({"optimizer/bad.yaml": "- 1\n"}, ["own/optimizer/bad.yaml", "a group of keys"]),
    "defaults of a text": ({"optimizer/bad.yaml": "defaults: adam\n"}, ["own/optimizer/bad.yaml", "a list"]),
    "a link to itself": (_loop, ["own/optimizer/loop.yaml", "symbolic links"]),
    "a group that is a link to itself": (_group_loop, ["own/model", "symbolic links"]),
    "a pipe": (_fifo, ["own/optimizer/pipe.yaml", "is not a file"]),
    "a config.yaml": ({"config.yaml": "seed: 1\n"}, ["own/config.yaml", "groups"]),
    "another group": ({"optimiser/a.yaml": "lr: 1\n"}, ["own/optimiser", "did you mean optimizer?"]),
    "another group of Hydra's": ({"hydra/job_logging/a.yaml": "a: 1\n"}, ["own/hydra/job_logging", "no such group"]),
    "another ending": ({"optimizer/a.yml": "lr: 1\n"}, ["own/optimizer/a.yml", ".yaml"]),
    "a folder in a group": ({"optimizer/a/b.yaml": "lr: 1\n"}, ["own/optimizer/a", "no folders"]),
    "a name": ({"optimizer/a b.yaml": "lr: 1\n"}, ["own/optimizer/a b.yaml", "letters"]),
    "null": ({"optimizer/null.yaml": "lr: 1\n"}, ["own/optimizer/null.yaml", "letters"]),
    "no package": ({"experiment/a.yaml": "seed: 1\n"}, ["own/experiment/a.yaml", "# @package _global_"]),
    "a promise": (
        {"experiment/a.yaml": "# @package _global_\nhydra:\n  job:\n    chdir: true\n"},
        ["own/experiment/a.yaml", "hydra.job.chdir"],
    ),
    "a target": ({"hydra/launcher/a.yaml": "_target_: os.system\n"}, ["own/hydra/launcher/a.yaml", "_target_"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_cannot_be_used_is_one_line(mnist_ff: Command, own: Path, name: str) -> None:
    make, parts = BROKEN[name]
    if callable(make):
        make(own)
    else:
        write("own", make)
    code, out, err = mnist_ff("train", "--config-dir", "own", *(["--config-dir=own2"] if Path("own2").exists() else []))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err
    assert not Path("outputs").exists()


USED = {
    "optimizer=bad": ("optimizer/bad.yaml", "defaults: [rmsprop]\nrate: 0.1\n", ["optimizer.rate: no such key"]),
    "optimizer=off": ("optimizer/off.yaml", "defaults: [rmsprop]\nlr: -1\n", ["optimizer.lr=-1: must be above 0"]),
    "optimizer=none": ("optimizer/none.yaml", "name: nadamm\nlr: 1\n", ["optimizer.name=nadamm", "mean nadam?"]),
    "optimizer=nameless": ("optimizer/nameless.yaml", "lr: 0.1\n", ["optimizer.name=None: must be one of"]),
    "experiment=bad": (
        "experiment/bad.yaml",
        "# @package _global_\nmodel:\n  hiden: [3]\n",
        ["model.hiden", "did you mean hidden?"],
    ),
    "experiment=top": ("experiment/top.yaml", "# @package _global_\nsed: 1\n", ["sed: no such key"]),
    "optimizer=self": ("optimizer/self.yaml", "defaults: [self]\n", ["own/optimizer/self.yaml", "includes itself"]),
    "optimizer=ring": ("optimizer/ring.yaml", "defaults: [rung]\n", ["includes itself"]),
    "optimizer=gone": ("optimizer/gone.yaml", "defaults: [nothing]\n", ["optimizer/gone", "optimizer/nothing"]),
}


@pytest.mark.parametrize("word", USED)
def test_a_wrong_file_is_named(mnist_ff: Command, own: Path, word: str) -> None:
    name, text, parts = USED[word]
    write("own", {name: text})
    if word == "optimizer=ring":
        write("own", {"optimizer/rung.yaml": "defaults: [ring]\n"})
    for words in (["train", word], ["train", "-m", word, "seed=1,2"], ["train", "-m", f"{word},{word.split('=')[1]}"]):
        code, out, err = mnist_ff(*words, "--config-dir", "own")
        assert (code, out) == (2, ""), words
        assert "Traceback" not in err
        for part in [Path(name).stem, *parts]:
            assert part in err, err
    assert not Path("outputs").exists()


def test_a_typed_value_is_not_blamed_on_a_file(mnist_ff: Command, own: Path) -> None:
    code, _, err = mnist_ff("train", "--config-dir", "own", "optimizer=slow", "optimizer.lr=-1")
    assert code == 2
    assert err.startswith("error: optimizer.lr=-1: must be above 0")


@pytest.mark.parametrize("word", ["nowhere", "a_file", ""])
def test_a_missing_folder_is_one_line(mnist_ff: Command, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a_file").touch()
    for command in ("train", "lr-find", "bench", "reproduce"):
        code, out, err = mnist_ff(command, f"--config-dir={word}")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"error: --config-dir={word}: ")
    if word:
        monkeypatch.setenv("MNIST_FF_CONFIG_DIR", word)
        assert mnist_ff("train")[2].startswith(f"error: MNIST_FF_CONFIG_DIR={word}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_one_line(mnist_ff: Command, own: Path) -> None:
    (own / "optimizer").chmod(0)
    try:
        code, _, err = mnist_ff("train", "--config-dir", "own")
    finally:
        (own / "optimizer").chmod(0o755)
    assert (code, err) == (2, f"error: {own}/optimizer: Permission denied\n")


@pytest.mark.parametrize("flag", ["--config-name", "--config-path"])
def test_hydras_other_flags_stay_refused(mnist_ff: Command, flag: str) -> None:
    code, _, err = mnist_ff("train", flag, "x")
    assert (code, err) == (2, f"error: {flag}: is not supported; see mnist-ff train --help\n")


def test_a_password_in_an_own_file_is_refused(mnist_ff: Command, own: Path) -> None:
    write("own", {"logger/secret.yaml": FILES["logger/server.yaml"].replace("sqlite:///", "https://me:pa55@host/")})
    write("own", {"hydra/sweeper/secret.yaml": "defaults: [optuna]\nstorage: postgresql://me:pa55@host/db\n"})
    split = "data.validation_split=0.2"
    for words in (["logger=secret"], ["-m", "hydra/sweeper=secret", "model.dropout=0.1,0.2", split]):
        code, out, err = mnist_ff("train", "--config-dir", "own", "data=mnist_5k", *words)
        assert (code, out) == (2, "")
        assert "pa55" not in err
        assert "password" in err
    assert not Path("outputs").exists()


def test_a_launcher_file_needs_one_of_ours(mnist_ff: Command, own: Path) -> None:
    write("own", {"hydra/launcher/new.yaml": "n_jobs: 2\n"})
    code, _, err = mnist_ff("train", "-m", "--config-dir", "own", "hydra/launcher=new", "seed=1,2")
    assert (code, err.count("\n")) == (2, 1)
    assert "own/hydra/launcher/new.yaml: needs a defaults list with one of basic, joblib" in err


def test_a_composer_keeps_its_folders(own: Path) -> None:
    with using_folders([own]):
        composer = Composer()
    assert composer.run(["optimizer=slow"]).config().optimizer.lr == 0.0005
