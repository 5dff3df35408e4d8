"""The Tab key: what is offered is what is accepted, in a real bash, zsh and fish, and it is there at once."""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_ff.cli import COMMANDS
from mnist_ff.commands.completion import SHELLS, TRAIN_OPTIONS, arguments_of, candidates
from mnist_ff.config.keys import known_keys
from mnist_ff.config.suggest import options_of
from tests.support.commands import Command


def offered(line: str) -> list[str]:
    """Candidates at the end of a line, which is split at spaces."""
    *before, current = line.split(" ")
    return candidates(before, current, COMMANDS)


@pytest.fixture
def places() -> None:
    """Two runs, one of them with a space in its name, and a sweep with a job."""
    for run in ("outputs/2026-01-01_a", "outputs/with space", "outputs/sweeps/s1/0", "elsewhere/deep/run"):
        Path(run).mkdir(parents=True)
        Path(run, "config.yaml").touch()
    Path("outputs/sweeps/s1/jobs.json").touch()
    Path("seven.png").touch()
    Path("outputs/lr_find/x").mkdir(parents=True)


def test_completed_options_are_those_of_argparse() -> None:
    assert offered("") == [*(f"{name} " for name in COMMANDS), "--help ", "--version "]
    assert offered("comp") == ["compare ", "completion "]
    for name in set(COMMANDS) - {"train", "completion"}:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"mnist_ff.commands.{name.replace('-', '_')}").add_arguments(parser)
        known = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
        assert {given for argument in arguments_of(name) for given in argument.names if given[0] == "-"} == known, name
        assert set(offered(f"{name} -")) == {f"{option} " for option in known | {"--help", "--parts"}}, name
    assert offered("evaluate run --split ") == ["test ", "train "]
    assert offered("export run --format ") == ["safetensors ", "onnx ", "torch "]
    assert offered("completion z") == ["zsh "]
    assert offered("nonsense ") == []


def test_options_of_train_are_accepted() -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module("mnist_ff.commands.train").add_arguments(parser)
    parser.add_argument("--parts")  # cli.py's own, for every command
    words = {
        "--parts": ["FILE"],
        "--cfg": ["job"],
        "--package": ["_global_", "--cfg", "job"],
        "--resolve": ["--cfg", "job"],
        "--config-of": ["RUN"],
        "--config-dir": ["DIR"],
    }
    flags = {flag for action in parser._actions for flag in action.option_strings if action.help != argparse.SUPPRESS}
    assert flags - set(TRAIN_OPTIONS) <= {"-h", "-c", "-p"}
    for option in TRAIN_OPTIONS:
        if option != "--help":
            parser.parse_intermixed_args([option, *words.get(option, [])])
    assert offered("train --cfg ") == ["job ", "hydra ", "all "]


def test_metrics_are_offered_as_a_list() -> None:
    assert "metrics=" in offered("train met")
    assert offered("train metrics=")[:2] == ["metrics=[calibration] ", "metrics=[dead_units] "]
    assert "metrics=[calibration,dead_units] " in offered("train metrics=[calibration,d")
    assert "metrics=[calibration,calibration] " not in offered("train metrics=[calibration,")
    assert {"trainer.monitor=validation_loss ", "trainer.monitor=validation_accuracy "} <= set(
        offered("train trainer.monitor=")
    )
    assert "callbacks=" not in offered("train ")  # there is none to choose


def test_every_offered_key_and_value_composes() -> None:
    """Hydra itself composes every group option, every listed value, and every key with and without ++."""
    from mnist_ff.config.compose import compose
    from mnist_ff.config.convert import config_to_dict, flat

    base = flat(config_to_dict(compose([])))
    given: dict[str, list[str]] = {}
    for word in offered("train "):
        key = word.rstrip("=")
        if word.endswith(" ") or key in ("resume", "hydra.run.dir"):
            continue
        given[key] = [value.rstrip(" ") for value in offered(f"train {word}")]
        if key in known_keys() and not given[key]:
            value = base[key]
            text = "null" if value is None else str(value).replace(" ", "")
            given[key] = [f"{key}={text}", f"++{key}={text}"]
        assert given[key], f"{key} is a group without options, or no key"
    keys = [words for key, words in given.items() if key in known_keys()]
    for words in itertools.zip_longest(*keys):  # one value of each key at a time
        compose([word for word in words if word is not None])
    parts = [given[group] for group in ("data", "model", "optimizer", "schedule", "augment", "logger", "trainer")]
    for words in itertools.zip_longest(*parts):  # likewise for the parts of a config
        compose([word for word in words if word is not None])
    for option in [word for words in given.values() if words not in [*keys, *parts] for word in words]:
        compose([option])
    pluses = offered("train +")
    assert pluses
    assert all(word.startswith("++") and word[2:].rstrip("=") in {*known_keys(), "hydra.run.dir"} for word in pluses)
    assert offered("train ~") == []


def test_what_was_typed_before_decides_the_keys() -> None:
    assert "optimizer.rho=" in offered("train optimizer.")
    assert offered("train optimizer=sgd optimizer.") == [
        f"optimizer.{key}=" for key in ("lr", "momentum", "nesterov", "weight_decay")
    ]
    assert offered("train logger=[tensorboard,wandb] logger.") == [
        f"logger.{key}="
        for key in ("tensorboard.directory", *(f"wandb.{k}" for k in ("mode", "project", "entity", "directory")))
    ]
    assert offered("train logger=[wandb,m") == ["logger=[wandb,mlflow] "]
    assert offered("train -m optimizer=adam,sg") == ["optimizer=adam,sgd "]
    assert offered("train optimizer=adam,sg") == []
    assert offered("train trainer.plots=") == ["trainer.plots=true ", "trainer.plots=false "]
    assert offered("train model.activation=r") == ["model.activation=relu "]
    assert offered("train sweep") == []
    assert offered("train -m sweep=l") == ["sweep=lr "]
    assert offered("train -m hydra/launcher=jo") == ["hydra/launcher=joblib "]
    assert offered("train -m hydra/launcher=joblib hydra.launcher.") == ["hydra.launcher.n_jobs="]
    assert offered("lr-find optimizer=ad") == ["optimizer=adam ", "optimizer=adamw "]
    assert offered("profile optimizer=ad") == ["optimizer=adam ", "optimizer=adamw "]
    assert set(offered("data ")) >= {f"{name} " for name in options_of("data")} | {"data.root="}


@pytest.mark.usefixtures("places")
def test_run_directories() -> None:
    runs = ["outputs/2026-01-01_a ", "outputs/with space "]
    assert offered("evaluate ") == ["last ", "best ", *runs]
    assert offered("compare ") == ["last ", "best ", *runs, "outputs/sweeps/s1 "]
    assert offered("evaluate outputs/2") == runs[:1]
    assert offered("evaluate outputs/sweeps/s") == ["outputs/sweeps/s1/"]
    assert offered("evaluate outputs/sweeps/s1/") == ["outputs/sweeps/s1/0 "]
    assert offered("evaluate else") == ["elsewhere/"]
    assert offered("evaluate elsewhere/deep/") == ["elsewhere/deep/run "]
    assert offered("train resume=") == ["resume=last ", "resume=best ", *(f"resume={run}" for run in runs)]
    assert offered("train -m resume=") == ["resume=last ", "resume=outputs/sweeps/s1 "]
    assert offered("train --config-of ") == ["last ", "best ", *runs]
    for command in ("evaluate", "report", "export", "predict"):
        assert offered(f"{command} last ") == [], command
        assert "last " in offered(f"{command} "), command
    assert offered("export --softmax --format torch ") == ["last ", "best ", *runs]
    assert offered("export last --format torch ") == []
    assert offered("predict last --index 8 9 ") == []
    assert offered("predict last a.png ") == []
    assert offered("reproduce tut") == ["tutorial "]
    assert offered("reproduce tutorial optimizer=ad") == ["optimizer=adam ", "optimizer=adamw "]
    assert "outputs/sweeps/s1 " in offered("compare last ")
    assert offered("evaluate last --split tr") == ["train "]


def test_completion_script_for_each_shell(mnist_ff: Command) -> None:
    for shell, script in SHELLS.items():
        assert mnist_ff("completion", shell) == (0, script, "")
    assert "eval" in mnist_ff("completion", "--help")[1]
    for words in ((), ("csh",), ("bash", "zsh")):
        code, _, err = mnist_ff("completion", *words)
        assert code == 2
        assert "bash, zsh, fish" in err


def test_it_needs_no_torch_hydra_or_yaml() -> None:
    code = (
        "import sys\nfrom mnist_ff.cli import main\nmain(['completion', '--words', 'train', 'optimizer.'])\n"
        "slow = {'torch', 'hydra', 'omegaconf', 'yaml', 'rich', 'numpy'} & set(sys.modules)\nassert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mnist-ff` on the PATH, of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "mnist-ff"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m mnist_ff "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("HOME", str(tmp_path))


class Shell:
    """A shell in a pseudo-terminal, driven by keys."""

    def __init__(self, *command: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", PS1="$ ", COLUMNS="200")
            os.execvp(command[0], command)

    def type(self, keys: str, until: str, seconds: float = 60) -> str:
        """Send keys and read until the pattern is there. Errors: AssertionError with what was seen."""
        os.write(self.terminal, keys.encode())
        seen, end = "", time.monotonic() + seconds
        while not re.search(until, seen):
            assert time.monotonic() < end, f"no {until!r} in {seen!r}"
            if select.select([self.terminal], [], [], 0.2)[0]:
                seen += os.read(self.terminal, 65536).decode("utf-8", "replace")
        return seen

    def close(self) -> None:
        """End the shell."""
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.mark.usefixtures("program", "places")
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("eva\t", "evaluate "),
        ("train optimizer=ada\tw", "train optimizer=adamw"),
        ("train trainer.plots=f\t", "train trainer.plots=false "),
        ("train model.act\tre\t", "train model.activation=relu "),
        ("train logger=[tensorboard,m\t", "train logger=[tensorboard,mlflow] "),
        ("train 'optimizer.r\t", "train optimizer.rho="),
        ("evaluate outputs/w\t", "evaluate outputs/with space "),
        ("train -m resume=outputs/sweeps/s\t", "train -m resume=outputs/sweeps/s1 "),
        ("train ++seed=1 optimizer.ep\t", "train ++seed=1 optimizer.eps="),
        ("predict outputs/2\tseve\t", "predict outputs/2026-01-01_a seven.png"),
        ("evaluate outputs/2\t--sp\tte\t", "evaluate outputs/2026-01-01_a --split test "),
    ],
)
def test_in_a_real_bash(typed: str, line: str) -> None:
    """The completed line is given to printf instead, so that it says each word as bash reads it."""
    shell = Shell("bash", "--norc", "--noprofile", "-i")
    try:
        shell.type('eval "$(mnist-ff completion bash)"; echo rea""dy\n', "ready")
        seen = shell.type(f"mnist-ff {typed}\x01printf '<%s>' \x05; echo d\"\"one\n", "done")
    finally:
        shell.close()
    words = re.findall(r"<([^>]*)>", seen.rsplit("\n<", 1)[-1].join(("<", "")))
    expected = line.replace("with space ", "with_space ").split()
    assert words[1:] == [word.replace("with_space", "with space") for word in expected], seen


@pytest.mark.usefixtures("program", "places")
def test_bash_lists_what_there_is() -> None:
    shell = Shell("bash", "--norc", "--noprofile", "-i")
    try:
        shell.type('eval "$(mnist-ff completion bash)"; echo rea""dy\n', "ready")
        seen = shell.type("mnist-ff train optimizer=\t\t", "sgd")
    finally:
        shell.close()
    for name in options_of("optimizer"):
        assert name in seen


@pytest.mark.usefixtures("program", "places")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("evaluate outputs/w", ["outputs/with space"]),
        ("train optimizer=ad", ["optimizer=adam", "optimizer=adamw"]),
        ("train -m optimizer=adam,sg", ["optimizer=adam,sgd"]),
        ("train trainer.ep", ["trainer.epochs="]),
        ("", [*COMMANDS, "--help", "--version"]),
    ],
)
def test_in_a_real_fish(typed: str, expected: list[str]) -> None:
    """fish itself says what it would offer."""
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = f"mnist-ff completion fish | source; complete -C 'mnist-ff {typed}'"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
    found = {line.split("\t")[0].replace("\\ ", " ") for line in done.stdout.splitlines()}
    assert found == set(expected), done.stdout


@pytest.mark.usefixtures("program", "places")
def test_in_a_real_zsh() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    shell = Shell("zsh", "-f", "-i")
    try:
        shell.type('eval "$(mnist-ff completion zsh)"; echo rea""dy\n', "ready")
        for typed, line in (
            ("train optimizer=rmsprop_\t", "train optimizer=rmsprop_torch "),
            ("train trainer.ep\t3", "train trainer.epochs=3"),
            ("evaluate outputs/w\t", r"evaluate outputs/with\\ space "),
        ):
            shell.type(f"mnist-ff {typed}", re.escape(line.rstrip()).replace(r"\\\\", r"\\"))
            shell.type('\x15echo cle""ared\n', "cleared")
    finally:
        shell.close()


OWN = str(Path(__file__).resolve().parents[1] / "parts" / "own.py")


@pytest.mark.parametrize("by_variable", [False, True])
@pytest.mark.parametrize(
    ("words", "current", "offered"),
    [
        (["train"], "model=", {"model=mlp ", "model=normed ", "model=small_cnn "}),
        (["train", "model=small_cnn"], "model.", {"model.channels="}),
        (["lr-find"], "optimizer=si", {"optimizer=signs "}),
        (["train", "-m"], "logger=li", {"logger=lines "}),
        (["data"], "strip", {"stripes "}),
    ],
)
def test_own_parts_are_offered(
    words: list[str], current: str, offered: set[str], by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [] if by_variable else ["--parts", OWN]
    if by_variable:
        monkeypatch.setenv("MNIST_FF_PARTS", OWN)
    assert set(candidates([*words, *given], current, COMMANDS)) == offered


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("completion",)])
def test_every_command_takes_parts(command: str) -> None:
    assert "--parts " in candidates([command], "--pa", COMMANDS)
    assert candidates([command, "--parts"], "", COMMANDS) == []


def test_a_parts_file_that_prints_or_fails_spoils_no_word() -> None:
    Path("noisy.py").write_text("print('noise')\nraise SystemExit\n")
    done = subprocess.run(
        [sys.executable, "-m", "mnist_ff", "completion", "--words", "train", "--parts", "noisy.py", "model=m"],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "model=mlp \n"
