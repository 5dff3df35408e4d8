"""Bad input ends with exit code 2 and a few kind words, before any download, directory or import of torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from yaml import YAMLError

from mnist_ff.cli import main
from mnist_ff.config.yaml_io import _quick_yaml, read_yaml
from mnist_ff.errors import ConfigError
from tests.support.commands import Command

CASES = [
    (["optimizer.lrr=1"], ["optimizer.lrr", "did you mean optimizer.lr?"]),
    (["trainer.epoch=1"], ["trainer.epoch", "did you mean trainer.epochs?"]),
    (["model.hiden=[3]"], ["model.hiden", "did you mean model.hidden?"]),
    (["data.mirror=[]"], ["data.mirror", "did you mean data.mirrors?"]),
    (["sed=1"], ["sed=1", "did you mean seed?"]),
    (["+new=1"], ["+new=1", "no such key new"]),
    (["++model.layers=3"], ["model.layers", "no such key"]),
    (["~seed"], ["~seed", "cannot be removed"]),
    (["optimizer.lr=-1"], ["optimizer.lr=-1", "above 0"]),
    (["optimizer.lr=0"], ["optimizer.lr=0", "above 0"]),
    (["optimizer.lr=nan"], ["optimizer.lr=nan", "finite"]),
    (["optimizer.lr=inf"], ["optimizer.lr=inf", "finite"]),
    (["optimizer.lr=abc"], ["optimizer.lr=abc", "a number"]),
    (["trainer.epochs=0"], ["trainer.epochs=0", "at least 1"]),
    (["trainer.epochs=-1"], ["trainer.epochs=-1", "at least 1"]),
    (["trainer.epochs=1.5"], ["trainer.epochs=1.5", "an integer"]),
    (["trainer.epochs=true"], ["trainer.epochs=True", "an integer"]),
    (["trainer.epochs=null"], ["trainer.epochs=null", "an integer"]),
    (["trainer.batch_size=0"], ["trainer.batch_size=0", "at least 1"]),
    (["trainer.batch_size=60001"], ["trainer.batch_size=60001", "at most 60000", "data=mnist"]),
    (["trainer.batch_size=54001", "data.validation_split=0.1"], ["trainer.batch_size=54001", "at most 54000"]),
    (["trainer.batch_size=4001", "data=mnist_5k"], ["trainer.batch_size=4001", "at most 4000"]),
    (["trainer.sync_every=0"], ["trainer.sync_every=0", "at least 1, or null"]),
    (["trainer.plots=maybe"], ["trainer.plots=maybe", "true or false"]),
    (["model.dropout=-0.1"], ["model.dropout=-0.1", "at least 0"]),
    (["model.dropout=1.0"], ["model.dropout=1.0", "below 1"]),
    (["model.dropout=1.5"], ["model.dropout=1.5", "below 1"]),
    (["model.hidden=[0]"], ["model.hidden[0]=0", "at least 1"]),
    (["model.hidden=500"], ["model.hidden=500", "a list"]),
    (["model.activation=rely"], ["model.activation=rely", "did you mean relu?"]),
    (["model.init=glorot"], ["model.init=glorot", "glorot_uniform"]),
    (["optimizer=rmsprob"], ["optimizer=rmsprob", "adam, adamw, lion, nadam, rmsprop", "did you mean rmsprop?"]),
    (["data=minst"], ["data=minst", "did you mean mnist?"]),
    (["model=cnn"], ["model=cnn", "mlp"]),
    (["trainer=fast"], ["trainer=fast", "default"]),
    (["experiment=none"], ["experiment=none"]),
    (["optimizer.name=adam"], ["optimizer.name=adam", "use optimizer=adam"]),
    (["optimizer.momentum=0.9"], ["optimizer.momentum", "is not a key of optimizer=rmsprop", "optimizer=sgd"]),
    (["optimizer=adam", "optimizer.rho=0.9"], ["optimizer.rho", "is not a key of optimizer=adam", "optimizer=rmsprop"]),
    (["optimizer=sgd", "optimizer.nesterov=true"], ["optimizer.nesterov", "optimizer.momentum above 0"]),
    (["data=kmnist", "data.fallback=mnist_5k"], ["data.fallback", "is not a key of data=kmnist", "data=mnist"]),
    (["trainer.device=gpu"], ["trainer.device=gpu", "auto, cpu, cuda"]),
    (["data.validation_split=1"], ["data.validation_split=1", "below 1"]),
    (["data.validation_split=0.99999"], ["data.validation_split=0.99999", "leaves 1 image to train"]),
    (["seed=-1"], ["seed=-1", "at least 0"]),
    (["seed=x"], ["seed=x", "an integer, or null"]),
    (["seed=???"], ["seed: has no value; set it with seed=VALUE"]),
    (["-m", "seed=0,1", "hydra.launcher=null"], ["hydra.launcher=None", "a group of keys"]),
    (["optimizer.lr=0.1,0.2"], ["has several values; -m makes a run of each"]),
    (["foo"], ["foo", "KEY=VALUE"]),
    (["model.hidden=[500"], ["model.hidden=[500"]),
    (["--nosuch"], ["--nosuch"]),
    (["--experimental-rerun=x.pickle"], ["--experimental-rerun", "not supported"]),
    (["--config-dir=x"], ["--config-dir=x", "no such folder"]),
    (["trainer.threads=100000"], ["trainer.threads=100000", "at most 1024, auto or null"]),
    (["trainer.threads=fast"], ["trainer.threads=fast: must be an integer, auto or null"]),
    (["trainer.device=cuda:99999999999999999999"], ["trainer.device", "cuda:N"]),
    (["model.hidden=[99999999999]"], ["model.hidden[0]", "at most 1,000,000"]),
    (["data.instead_of=mnist", "data=mnist_5k"], ["data.instead_of"]),
    (["hydra.job.chdir=true"], ["hydra.job.chdir", "cannot be changed"]),
    (["hydra.mode=MULTIRUN"], ["hydra.mode", "use -m for a sweep"]),
    (["hydra/launcher=foo"], ["hydra/launcher"]),
    (["--resolve"], ["--cfg"]),
    (["--cfg", "job", "-m"], ["leave out -m"]),
    (["--cfg", "job", "optimizer.lr=-1"], ["optimizer.lr=-1", "above 0"]),
    (["-m", "hydra/sweeper=basic", "seed=0,1"], ["hydra/sweeper=basic", "checked"]),
    (["-m", "hydra.sweep.subdir=same", "seed=0,1"], ["hydra.sweep.subdir"]),
    (["-m", "seed=0,1,x"], ["seed=x", "no job was started"]),
    (["-m", "optimizer.rho=0.9,0.8", "optimizer=adam"], ["optimizer.rho", "no job was started"]),
    (["-m", "optimizer=adam,rmsprob"], ["optimizer=rmsprob", "did you mean rmsprop?"]),
    (["-m", "trainer.batch_size=10,60001"], ["60001", "no job was started"]),
]


@pytest.mark.parametrize(("words", "expected"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_bad_training_input(words: list[str], expected: list[str], mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", *words)
    assert code == 2, err
    assert "Traceback" not in err
    assert 1 <= len(err.strip().splitlines()) <= 4
    for text in expected:
        assert text in err
    assert out == ""
    assert list(Path().iterdir()) == []


def test_config_errors_come_before_torch() -> None:
    """Every fifth case once more in one fresh process, which must end without torch."""
    quick = [words for words, _ in CASES[::5]]
    code = (
        "import json, sys\nfrom mnist_ff.cli import main\n"
        "codes = [main(['train', *words]) for words in json.loads(sys.argv[1])]\n"
        "assert set(codes) == {2}, codes\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(quick)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_cuda_without_cuda(mnist_ff: Command) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    code, _, err = mnist_ff("train", "trainer.device=cuda")
    assert code == 2
    assert "PyTorch finds no CUDA device; use trainer.device=cpu" in err


@pytest.mark.parametrize("words", [["trian"], ["evalute", "x"], ["dat"]])
def test_a_wrong_command_suggests_the_nearest(words: list[str], mnist_ff: Command) -> None:
    code, _, err = mnist_ff(*words)
    assert code == 2
    right = {"trian": "train", "evalute": "evaluate", "dat": "data"}[words[0]]
    assert f"did you mean {right}?" in err


def foreign_directories(root: Path) -> dict[str, str]:
    """Paths that are no runs, and a word that the refusal must contain."""
    (root / "a file").write_text("x")
    (root / "empty").mkdir()
    for name, text in {
        "not yaml": ":\n  - [",
        "binary": "\0\1\2",
        "foreign": "lr: 3\n",
        "a list": "- 1\n",
        "half": "seed: 0\nname: null\n",
        "nothing": "",
    }.items():
        (root / name).mkdir()
        (root / name / "config.yaml").write_text(text)
    return {
        "missing": "does not exist",
        "a file": "is not a directory",
        "empty": "is not a run directory",
        "not yaml": "not readable as YAML",
        "binary": "config.yaml",
        "foreign": "lr: no such key",
        "a list": "config.yaml",
        "half": "is missing",
        "nothing": "config.yaml",
    }


def test_evaluate_refuses_what_is_no_finished_run(tmp_path: Path, mnist_ff: Command) -> None:
    for name, word in foreign_directories(tmp_path).items():
        code, _, err = mnist_ff("evaluate", name)
        assert code == 2, name
        assert word in err, (name, err)
        assert "Traceback" not in err
        assert len(err.strip().splitlines()) <= 4


def test_evaluate_refuses_unfinished_and_damaged_runs(mnist_ff: Command) -> None:
    assert main(["train", "data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"]) == 0
    weights = Path("run/model.safetensors")
    content = weights.read_bytes()
    for damaged in (content[: len(content) // 2], b"<html>", b"", content[:8] + b"\xff" * 100):
        weights.write_bytes(damaged)
        code, _, err = mnist_ff("evaluate", "run")
        assert code == 2, err
        assert "model.safetensors" in err
    weights.unlink()
    code, _, err = mnist_ff("evaluate", "run")
    assert code == 2
    assert "the run did not end normally" in err


def test_evaluate_names_a_diverged_run(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "optimizer=sgd", "optimizer.lr=1e20", "hydra.run.dir=run"]
    assert mnist_ff("train", *words)[0] == 1
    code, _, err = mnist_ff("evaluate", "run")
    assert code == 2
    assert "ended as diverged" in err


def test_evaluate_refuses_hostile_configs(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"]
    assert mnist_ff("train", *words)[0] == 0
    config = Path("run/config.yaml")
    good = config.read_text()
    for bad in ("[" * 5000, good.replace("root: ", "root: 'a\0b' #"), good.replace("- 500", "- 9999999999")):
        config.write_text(bad)
        code, _, err = mnist_ff("evaluate", "run")
        assert code == 2, err[-500:]
        assert "Traceback" not in err


def test_a_directory_is_never_shared(mnist_ff: Command) -> None:
    words = ["train", "data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"]
    assert mnist_ff(*words)[0] == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    code, _, err = mnist_ff(*words)
    assert code == 2
    assert "two runs never share a directory" in err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    Path("file").write_text("")
    code, _, err = mnist_ff("train", "data=mnist_5k", "hydra.run.dir=file/below")
    assert code == 2
    assert "Traceback" not in err


def test_python_m_and_help_need_no_torch() -> None:
    code = (
        "import sys; from mnist_ff.cli import main; main(['--help']); assert not {'torch','hydra'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    module = subprocess.run([sys.executable, "-m", "mnist_ff", "--help"], capture_output=True, text=True, check=True)
    assert module.stdout == done.stdout


def test_train_help_shows_every_group_option_and_key(mnist_ff: Command) -> None:
    from mnist_ff.config.keys import known_keys

    code, out, _ = mnist_ff("train", "--help")
    assert code == 0
    for word in ("rmsprop_torch", "fashion_mnist", "mlp", "experiment="):
        assert word in out
    for key, meaning in known_keys().items():
        assert key in out
        assert meaning, f"{key} has no sentence"
        assert meaning in " ".join(out.split()), "also where it is wrapped"
    assert known_keys()["schedule.final"] == "fraction of optimizer.lr at the end", "the key's own, not its type's"
    assert known_keys()["optimizer.weight_decay"] == "decoupled weight decay; weight decay", "of several optimizers"
    assert "_base" not in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_cfg_job_shows_the_config(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", "--cfg", "job", "optimizer.lr=0.5")
    assert code == 0
    assert "lr: 0.5" in out
    assert "hidden:" in out
    assert list(Path().iterdir()) == []


def test_nothing_is_left_of_a_refused_sweep(mnist_ff: Command) -> None:
    code, _, _ = mnist_ff("train", "-m", "seed=0,-1")
    assert code == 2
    assert os.listdir() == []


@pytest.mark.parametrize(
    "text",
    [
        "seed: 0\nmodel:\n  hidden:\n  - 500\n  dropout: 1e-3\nname: null\n",
        "seed:0\n",
        "model: &place\n  a: 1\ntrainer: *place\n",
        "trainer: *place\n",
        "seed: 0\nseed: 1\n",
        "model:\n  a: 1\n  a: 2\n",
        "model:\n\n  a: 1\n",
        "model:\n  a: [1,\n2]\nseed: 0\n",
        'name: "two\nseed: 1"\n',
        'name: "two\n  lines"\nseed: 1\n',
        "name: |\n  text\n  more\nseed: 1\n",
        "name: two\n  words: 1\n",
        "- seed: 0\n",
        "%YAML 1.1\n---\nseed: 0\n",
        "seed: 0\n---\nseed: 1\n",
        "null: 1\nyes: 2\n",
        "seed: 0",
        "seed: 0 # zero\n# more\n",
        "model:\n- a\n- b\n",
        "",
    ],
)
def test_reading_yaml_by_key_equals_reading_it_whole(text: str) -> None:
    path = Path("values.yaml")
    path.write_text(text)
    try:
        whole = _quick_yaml(text.encode())
    except YAMLError:
        with pytest.raises(ConfigError, match=r"values\.yaml"):
            read_yaml(path)
    else:
        assert read_yaml(path) == whole
