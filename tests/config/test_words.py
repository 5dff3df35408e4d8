"""What people type: texts come back as they were, paths mean what a shell means, and a refusal says what to type."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mnist_ff.config.compose import Composer, compose, with_texts_kept
from mnist_ff.config.convert import config_from, config_to_dict, flat
from mnist_ff.config.float32 import check_float32
from mnist_ff.config.keys import leaves
from mnist_ff.config.paths import absolute, expanded, give_user_a_name, output_directory, user_folder
from mnist_ff.config.schema import Config
from mnist_ff.config.yaml_io import read_yaml, to_yaml
from mnist_ff.data.catalog import cache_root
from mnist_ff.errors import ConfigError
from mnist_ff.runs.directory import Run, check_saved

Command = Callable[..., tuple[int, str, str]]
Q5 = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false"]

TEXTS = [
    "null",
    "~",
    "1e3",
    "yes",
    "n",
    "0x10",
    "0o7",
    "010",
    "2026-01-01",
    "12:30:45",
    "=",
    "<<",
    ".inf",
    "nan",
    "1_000",
]
TEXTS += [
    " a",
    "a ",
    "  ",
    "\t",
    "\x85",
    "a\x85b",
    "\u2028",
    "a\u2029 b",
    "\ufeff",
    "\ufeffa",
    "\ufffe",
    "\uffff",
    "\x01",
]
TEXTS += [
    "\x7f",
    "\x9f",
    "\r",
    "a\r\nb",
    "\n\n",
    "${x}",
    "${",
    "a ${:",
    "\\${x}",
    "\\",
    "'",
    '"',
    "a: b",
    "a #b",
    "- a",
    "? a",
]
TEXTS += [
    "[a",
    "{a",
    "*a",
    "&a",
    "!a",
    "|",
    "> ",
    "@a",
    "`a",
    "%a",
    "--- a",
    "...",
    "李明",
    "\U0001f600",
    "a" * 5000,
    "True",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_every_text_is_read_back_as_it_was(text: str, small_config: Config) -> None:
    data = dataclasses.replace(small_config.data, root=text)
    config = dataclasses.replace(small_config, name=text, data=data)
    run = Run(Path())
    run.file("config.yaml").write_text(to_yaml(config), encoding="utf-8", newline="")
    values = read_yaml(run.file("config.yaml"))
    assert (values["name"], values["data"]["root"]) == (text, text)


@pytest.fixture(scope="module")
def small_config() -> Config:
    return compose(Q5)


def test_the_yaml_is_still_omegaconfs(small_config: Config) -> None:
    for name in ("plain", "1e3", "a: b", "李明", "null"):
        config = dataclasses.replace(small_config, name=name)
        assert to_yaml(config) == OmegaConf.to_yaml(OmegaConf.create(config_to_dict(config)))


def test_values_that_do_not_round_trip_are_refused(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check_saved(small_config)
    monkeypatch.setattr("mnist_ff.runs.directory.to_yaml", lambda config: to_yaml(dataclasses.replace(config, seed=5)))
    with pytest.raises(ConfigError, match=r"seed=0: cannot be stored in config\.yaml"):
        check_saved(small_config)


@pytest.mark.parametrize(
    "words",
    [
        ["name=caf\udce9"],
        ["data.root=caf\udce9"],
        ["name='a\ud800'"],
        ["hydra.run.dir=caf\udce9"],
        ["-m", "name=a,caf\udce9"],
        ["-m", "seed=0,1", "hydra/sweeper=optuna", "hydra.sweeper.study_name=caf\udce9"],
        ["-m", "seed=0,1", "sweep.rows=[{name: caf\udce9}]"],
    ],
    ids=ascii,
)
def test_bytes_that_are_no_utf8_are_refused(words: list[str], mnist_ff: Command) -> None:
    code, out, err = mnist_ff("train", *words, *Q5)
    assert (code, out, os.listdir()) == (2, "", []), err
    assert "UTF-8" in err
    assert "Traceback" not in err


def test_other_sources_of_bytes_are_refused_too(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in (("MNIST_FF_DATA", "data.root"), ("MLFLOW_TRACKING_URI", "logger.mlflow.tracking_uri")):
        with monkeypatch.context() as patch:
            patch.setenv(name, "sqlite:///caf\udce9")
            code, _, err = mnist_ff("train", *Q5, "logger=mlflow")
        assert code == 2
        assert key in err
        assert f"environment variable {name}" in err
    with pytest.raises(ConfigError, match=r"data\.root"):
        compose(["data.root='a\ud800'"])
    odd = os.fsdecode(b"caf\xe9")
    try:
        Path(odd).mkdir()
    except OSError:
        pytest.skip("this disk has no such names")
    monkeypatch.chdir(odd)
    with pytest.raises(ConfigError, match=r"trainer\.teacher=.*UTF-8"):
        absolute("trainer.teacher", "run")


REFUSED = [
    "epoch=9-step=8",
    "李明",
    "~/x",
    "a b(c",
    "a(b)",
    "it's",
    '"a',
    "#1",
    "a&b;c",
    "é",
    "`x`",
    "$(x)",
    "!x",
    "a{b",
    "\\'",
]


def advice(error: ConfigError) -> str:
    line = str(error).splitlines()[-1]
    assert line.startswith("in a shell: ")
    return line.removeprefix("in a shell: ")


def test_advice_for_a_refused_override_works_in_bash() -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("bash is not here")
    typed, composer = [], Composer()
    for text in REFUSED:
        with pytest.raises(ConfigError) as refusal:
            composer.parse(f"name={text}")
        assert "hydra.cc" not in str(refusal.value)
        typed.append(advice(refusal.value))
    script = "\n".join(f"printf '%s\\0' {word}" for word in typed)
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    assert [composer.parse(word).value for word in done.stdout.split("\0")[:-1]] == REFUSED


@pytest.mark.parametrize(
    ("word", "character"),
    [
        ("name=epoch=9-step=8", "= (character 11)"),
        ("name=李明", "李 (character 6)"),
        ("data.root=~/x", "~ (character 11)"),
        ("data.mirrors=[a,~/x]", "~ (character 17)"),
        ("na me=3", "the space (character 3) is not allowed in a key"),
        ("name=a\nb", "U+000A (character 7)"),
        ("optimizer.lr=3€", "€ (character 15)"),
        ("model.hidden=[500", "a bracket is open"),
    ],
    ids=ascii,
)
def test_a_refusal_names_the_character(word: str, character: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Composer().parse(word)
    assert character in str(refusal.value)


def test_no_advice_is_given_that_would_not_work() -> None:
    with pytest.raises(ConfigError, match="an override is KEY=VALUE") as refusal:
        Composer().parse("name=${x")
    assert "in a shell" not in str(refusal.value)


def test_a_config_is_read_back_without_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", None)
    check_saved(compose(["data=mnist_5k"]))


def test_the_advice_in_a_sweep_keeps_its_values(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *Q5, "name=a=1,b=2", "dry_run=true")
    assert code == 2
    assert """'name="a=1","b=2"'""" in err
    code, out, err = mnist_ff("train", "-m", *Q5, 'name="a=1","b=2"', "dry_run=true")
    assert code == 0, err
    assert "2 jobs" in out


@pytest.mark.parametrize(
    "typed", ["1e3", "007", "1_000", "true", "FALSE", "-0", "+5", "1.", "nan", "2026-01-01", "0x10"]
)
def test_a_text_stays_as_it_was_typed(typed: str) -> None:
    config = compose(["data=mnist", f"name={typed}", f"data.root={typed}", f"data.mirrors=[{typed},a]"])
    assert (config.name, config.data.root) == (typed, typed)
    assert config_to_dict(config)["data"]["mirrors"] == [typed, "a"]


def test_texts_of_sweeps_and_of_hydra_stay_too() -> None:
    words = ["name=1e3,'2e3',b", "name=choice(1e3,007)", "hydra.run.dir=1e3", "+hydra.launcher.account=1e5", "seed=1,2"]
    words += ["sweep.rows=[{name: 1e3, seed: 1}]", "name=null", "optimizer.lr=1e-3"]
    assert with_texts_kept(words) == [
        "name='1e3','2e3',b",
        "name=choice('1e3',007)",
        "hydra.run.dir='1e3'",
        "+hydra.launcher.account='1e5'",
        "seed=1,2",
        "sweep.rows=[{name: '1e3', seed: 1}]",
        "name=null",
        "optimizer.lr=1e-3",
    ]


def test_a_path_begins_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    assert expanded("k", "~") == "/home/of/mine"
    assert expanded("k", "~/a/~b") == "/home/of/mine/a/~b"
    assert [expanded("k", text) for text in ("./~", "a/~", "", "a~")] == ["./~", "a/~", "", "a~"]
    assert expanded("k", "~root/x") == os.path.expanduser("~root/x")
    with pytest.raises(ConfigError, match=r"k=~nobody-here/x: no such user nobody-here; use \./~nobody-here/x"):
        expanded("k", "~nobody-here/x")
    Path("~nobody-here").mkdir()
    assert expanded("k", "~nobody-here") == "~nobody-here"
    assert output_directory("hydra.run.dir", "~/zz") == Path("/home/of/mine/zz")
    assert cache_root(compose(["data.root='~/cache'"]).data) == Path("/home/of/mine/cache")


def test_every_command_expands_its_paths(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    for words in (
        ["evaluate", "~/r"],
        ["compare", "~/r"],
        ["report", "~/r"],
        ["export", "~/r", "--format=onnx"],
        ["predict", "~/r", "--index", "0"],
        ["runs", "~/r"],
        ["train", "resume=~/r"],
        ["train", "-m", "resume=~/r"],
        ["train", "--config-of", "~/r"],
        ["train", *Q5, "trainer.teacher='~/r'", "trainer.teacher_weight=0.5", "hydra.run.dir='~/s'"],
        ["reproduce", "tutorial", "--resume", "~/r"],
    ):
        code, _, err = mnist_ff(*words)
        assert code == 2, words
        assert "home/r" in err.replace("\n", ""), (words, err)
    assert os.listdir() == []


def test_missing_home_asks_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "MNIST_FF_DATA", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(ConfigError, match=r"data\.root=FOLDER or the environment variable MNIST_FF_DATA"):
        cache_root(compose(["data=mnist"]).data)
    with pytest.raises(ConfigError, match=r"data\.root=~/x: this user has no home folder"):
        expanded("data.root", "~/x")
    monkeypatch.setenv("HOME", "~")  # as a badly quoted line leaves it
    with pytest.raises(ConfigError, match="has no home folder"):
        user_folder("state", "the key")
    monkeypatch.setenv("LOGNAME", "")  # so that what is set is taken back
    give_user_a_name()
    assert os.environ["LOGNAME"] == f"uid{os.getuid()}"


@pytest.mark.slow
def test_a_user_without_name_or_home_trains() -> None:
    user = ["unshare", "-U", "--map-user=54321", "--map-group=54321"]
    if shutil.which("unshare") is None or subprocess.run([*user, "true"], capture_output=True).returncode:
        pytest.skip("this system makes no user namespaces")
    folder = Path("own")
    folder.mkdir()
    command = [*user, "env", "-i", f"PATH={os.environ['PATH']}", sys.executable, "-m", "mnist_ff"]
    done = subprocess.run([*command, "train", *Q5, "hydra.run.dir=r"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command, "data", "mnist"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert "MNIST_FF_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir()] == ["r"]


FRACTIONS = sorted(
    {
        key
        for key, value in flat(config_to_dict(compose(["trainer.clip_norm=1", "trainer.max_norm=1"]))).items()
        if isinstance(value, float)
    }
)


@pytest.mark.parametrize("key", FRACTIONS)
def test_every_fraction_must_be_one_of_float32(key: str) -> None:
    for value in (1e-300, 1e-46, 1e-39):
        with pytest.raises(ConfigError, match=rf"{key}=.*float32"):
            check_float32({key: value})
    check_float32({key: 0.5})


def test_old_runs_with_such_numbers_still_open() -> None:
    values = config_to_dict(compose(["data=mnist_5k"]))
    values["optimizer"]["eps"] = 1e-300
    assert flat(config_to_dict(config_from(values)))["optimizer.eps"] == 1e-300
    with pytest.raises(ConfigError, match=r"optimizer\.eps=1e-300: cannot be represented in float32"):
        compose(["optimizer.eps=1e-300"])
    with pytest.raises(ConfigError, match=r"model\.dropout=0\.9999999999: is 1 in float32"):
        compose(["model.dropout=0.9999999999"])
    with pytest.raises(ConfigError, match=r"optimizer\.lr=.*finite"):
        compose([f"optimizer.lr={'9' * 400}"])


def test_the_option_that_a_job_chose_is_named(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "-m", *Q5, "optimizer=sgd,adam", "optimizer.momentum=0.9", "dry_run=true")
    assert code == 2
    assert "is not a key of optimizer=adam" in err
    assert "key of optimizer=rmsprop" not in err
    for words in (["optimizer=sgd,rmsprop_torch"], ["sweep.rows=[{optimizer: sgd}]"]):
        code, _, err = mnist_ff("train", "-m", *Q5, *words, "optimizer.momentum=0.9", "seed=0,1", "dry_run=true")
        assert code == 0, err


def test_hydras_own_values_may_stand_in_paths(mnist_ff: Command) -> None:
    for place in ("${hydra:runtime.cwd}", "${hydra.runtime.cwd}"):
        words = [*Q5, f"data.root={place}/x", "name=n-${hydra:job.num}", f"hydra.sweep.dir={place}/s", "seed=0,1"]
        code, out, err = mnist_ff("train", "-m", *words, "dry_run=true")
        assert code == 0, err
        assert "2 jobs" in out
        assert compose(words[4:5]).data.root == f"{Path.cwd()}/x"


@pytest.mark.parametrize("launcher", ["submitit_slurm", "joblib"])
def test_dry_run_needs_no_cluster_or_extra(launcher: str, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["train", "-m", *Q5, f"hydra/launcher={launcher}", "logger=mlflow", "trainer.device=cpu", "seed=0,1"]
    code, out, err = mnist_ff(*words, "dry_run=true")
    assert code == 0, err
    assert "2 jobs" in out
    code, _, err = mnist_ff("train", "--cfg", "job", *Q5, "logger=[mlflow,wandb]")
    assert code == 0, err
    code, _, err = mnist_ff(*words)
    assert code == 2
    assert "is not installed" in err
    assert os.listdir() == []


def test_only_submitting_needs_sbatch(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    monkeypatch.setenv("PATH", "/nowhere")
    words = ["train", "-m", *Q5, "hydra/launcher=submitit_slurm", "seed=0,1"]
    assert mnist_ff(*words, "dry_run=true")[0] == 0
    code, _, err = mnist_ff(*words)
    assert code == 2
    assert "sbatch not found" in err
    assert os.listdir() == []


def test_a_search_is_described_without_optuna(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    words = [
        "train",
        "-m",
        *Q5,
        "hydra/sweeper=optuna",
        "data.validation_split=0.2",
        "optimizer.lr=interval(1e-4,1e-2)",
    ]
    code, out, err = mnist_ff(*words, "dry_run=true")
    assert code == 0, err
    assert "nothing was written" in out
    code, _, err = mnist_ff(*words)
    assert code == 2
    assert "mnist-ff[search]" in err
    assert os.listdir() == []


def test_recorded_command_is_what_was_typed(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", *Q5, "name=007", "hydra.run.dir=r"]
    monkeypatch.setattr(sys, "argv", ["mnist-ff", *words])
    assert mnist_ff(*words)[0] == 0
    assert Run(Path("r")).config().name == "007"
    assert json.loads(Path("r/environment.json").read_text())["argv"] == ["mnist-ff", *words]
    assert {key for key, _ in leaves(Config)} >= set(flat(config_to_dict(Run(Path("r")).config())))


def test_a_key_of_a_part_may_be_called_name_and_hold_a_list() -> None:
    check_float32({"callbacks.mine.name": [1, 2], "optimizer.name": "sgd", "optimizer.lr": 0.5})
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        check_float32({"callbacks.mine.name": [1, 2], "optimizer.name": "sgd", "optimizer.lr": 1e39})
