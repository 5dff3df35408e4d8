"""`help` and `show`: the same as --help; meaning, range, default and source of a key, at every width, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.cli import COMMANDS
from mnist_ff.commands.completion import candidates
from mnist_ff.config.describe import TYPED_WORDS, describe
from mnist_ff.config.description_text import description_lines
from mnist_ff.config.keys import known_keys, sweep_keys
from mnist_ff.config.options import options, using_folders
from mnist_ff.config.paths import conf_dir
from tests.support.commands import Command

WORDS = [*known_keys(), *sweep_keys(), *TYPED_WORDS, *options().files]
OWN = """
from dataclasses import dataclass
from typing import Annotated

import mnist_ff

@mnist_ff.register("schedule", "fade")
@dataclass(frozen=True)
class Fade:
    power: Annotated[float, "how late the rate falls", mnist_ff.Range(above=0)] = 2.0

    def build(self):
        return lambda progress: 1 - progress**self.power
"""


@pytest.fixture
def described() -> Iterator[Callable[[str], Any]]:
    with using_folders(()):
        yield lambda word: describe(word)[0]


def shown(mnist_ff: Command, *words: str) -> Any:
    code, out, err = mnist_ff("show", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_help_is_the_help_of_the_command(mnist_ff: Command) -> None:
    assert mnist_ff("help") == mnist_ff("--help")
    for command in COMMANDS:
        assert mnist_ff("help", command) == mnist_ff(command, "--help")
    code, _, err = mnist_ff("help", "trian")
    assert code == 2
    assert "did you mean train?" in err


def test_help_as_json(mnist_ff: Command) -> None:
    assert [found["name"] for found in json.loads(mnist_ff("help", "--json")[1])["commands"]] == list(COMMANDS)
    for command in COMMANDS:
        found = json.loads(mnist_ff("help", command, "--json")[1])
        assert found["command"] == command
        assert all(word["meaning"] for word in found["arguments"]), command
    flags = [flag for word in found["arguments"] for flag in word["flags"]]
    assert "--help" in flags


def test_a_key(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("show", "optimizer.lr")
    assert (code, err) == (0, "")
    for line in (
        "optimizer.lr\n  learning rate\n",
        "type      number\nrange     above 0\n",
        "default   0.001 of optimizer=rmsprop\nsource    conf/optimizer/rmsprop.yaml:3\n",
        "0.01 of optimizer=sgd (conf/optimizer/sgd.yaml:3)\n",
        "set it    mnist-ff train optimizer.lr=0.001\n",
    ):
        assert line in out
    assert mnist_ff("show", "lr") == (0, out, "lr: showing optimizer.lr\n")
    assert mnist_ff("show", "optimizer.lr=0.1") == (0, out, "")


def test_every_source_is_the_line_that_sets_the_key(described: Callable[[str], Any]) -> None:
    for key in [*known_keys(), *sweep_keys()][::2]:
        found = described(key)
        for source in filter(None, [found["source"], *(other["source"] for other in found["others"])]):
            file, _, line = source.rpartition(":")
            text = (conf_dir().parent / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
            assert text.strip().startswith(f"{key.rpartition('.')[2]}:"), (key, source)
        if key.partition(".")[2] not in ("name", "instead_of"):
            assert found["source"], key
            assert found["meaning"], key


def test_groups_and_options(mnist_ff: Command) -> None:
    found = shown(mnist_ff, "optimizer")
    assert (found["kind"], found["default"], found["source"]) == ("group", "rmsprop", "conf/config.yaml:6")
    assert [option["option"] for option in found["options"]] == options().names("optimizer")
    assert all(option["about"] for option in found["options"])
    assert {name: found["keys"][1][name] for name in ("key", "meaning", "value")} == {
        "key": "optimizer.rho",
        "meaning": "decay of a moving average",
        "value": 0.9,
    }
    clean = shown(mnist_ff, "experiment/clean")
    assert clean["chooses"] == ["optimizer=adamw", "schedule=linear"]
    assert {key["key"]: key["value"] for key in clean["keys"]}["trainer.epochs"] == 40
    assert shown(mnist_ff, "adam") == shown(mnist_ff, "optimizer=adam")
    assert [group["group"] for group in shown(mnist_ff)["groups"]] == list(options().files)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer.lrr", "did you mean optimizer.lr?"),
        ("optimzer", "did you mean optimizer?"),
        ("optimizer=adm", "did you mean adam?"),
        ("imgsz", "images keep the size"),
        ("hydra.launcher.n_job", "no such key, group or option; did you mean"),
        ("xyzzyx", "no such key, group or option; mnist-ff show lists the groups"),
    ],
)
def test_unknown_words(word: str, said: str, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("show", word)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(("word", "said"), [("lr", "show lr"), ("optimizer", "show optimizer"), ("fit", "train")])
def test_help_for_an_unknown_command_suggests_one(word: str, said: str, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("help", word)
    assert (code, out) == (2, "")
    assert err.endswith(f"; type mnist-ff {said}\n")


def test_the_command_of_a_switch_turns_it(described: Callable[[str], Any]) -> None:
    assert described("trainer.keep_best")["command"] == "mnist-ff train trainer.keep_best=true"
    assert described("trainer.shuffle")["command"] == "mnist-ff train trainer.shuffle=false"


def test_a_text_on_the_lines_below_its_key_is_not_a_key(mnist_ff: Command) -> None:
    lines = mnist_ff("show", "experiment=debug")[1].splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("  metrics="))
    assert lines[place + 1].startswith("    measured")


def test_own_parts_and_files(mnist_ff: Command) -> None:
    Path("fade.py").write_text(OWN, encoding="utf-8")
    Path("own/optimizer").mkdir(parents=True)
    Path("own/optimizer/slow.yaml").write_text("# A small rate. Of mine.\ndefaults: [sgd]\n# Slow.\nlr: 0.0001\n")
    power = shown(mnist_ff, "schedule.power", "--parts", "fade.py")
    assert (power["meaning"], power["range"], power["default"]) == ("how late the rate falls", "above 0", 2.0)
    assert power["source"].startswith("fade.py:")
    assert power["command"] == "mnist-ff train schedule=fade schedule.power=2.0"
    slow = shown(mnist_ff, "optimizer=slow", "--config-dir", "own")
    assert (slow["about"], slow["source"]) == ("A small rate", "own/optimizer/slow.yaml")
    assert {key["key"]: key["source"] for key in slow["keys"]}["optimizer.lr"] == "own/optimizer/slow.yaml:4"
    code, _, err = mnist_ff("show", "schedule.power")
    assert code == 2
    assert "no such key" in err


def test_every_text_fits_a_terminal(described: Callable[[str], Any]) -> None:
    """Only words longer than a line, such as paths, are wrapped by the terminal."""
    for word in [*WORDS[::3], *options().files]:
        found = described(word)
        for columns in (120, 80, 60, 40):
            for line in description_lines(found, columns):
                assert len(line) <= min(columns, 80) or len(line.split()) == 1, (word, columns, line)


def test_neither_needs_torch_nor_hydra() -> None:
    script = (
        "import sys; from mnist_ff.cli import main; main(['show', 'model.hidden']); main(['help', 'train', '--json']); "
        "main(['show', 'optimizer']); print(*sorted({'torch', 'hydra', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["hydra"], "train's own module imports it"


def test_tab_completes_their_arguments() -> None:
    assert candidates(["help"], "lr", COMMANDS) == ["lr-find "]
    assert candidates(["show"], "optimizer.l", COMMANDS) == ["optimizer.lr "]
    assert "optimizer " in candidates(["show"], "opt", COMMANDS)
    assert candidates(["show"], "optimizer=a", COMMANDS) == ["optimizer=adam ", "optimizer=adamw "]
    assert candidates(["show", "optimizer"], "--j", COMMANDS) == ["--json "]
